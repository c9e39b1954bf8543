import Foundation
import Host
import Synchronization

/// Memory of zeros that takes up none until it is written: what may stay zero for a whole run, as the gradients and
/// moments of experts that no token comes to, costs nothing.
final class ZeroPages: Sendable {
    private static let regionSize = 64 << 20
    private static let noHugePages: Int32 = 15  // MADV_NOHUGEPAGE
    /// The region that is being given out, and how much of it is.
    private static let current = Mutex<(region: ZeroPages?, used: Int)>((nil, 0))

    private let address: UInt
    private let size: Int

    private init(size: Int) {
        let block = mmap(
            nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let block, block != MAP_FAILED else { endOutOfMemory(size) }
        // A huge page would come whole with the first number that is written to it.
        madvise(block, size, Self.noHugePages)
        (address, self.size) = (UInt(bitPattern: block), size)
    }

    deinit { munmap(UnsafeMutableRawPointer(bitPattern: address), size) }

    /// `byteCount` zeros, aligned to 64 bytes; the region lives as long as `owner`.
    static func take(_ byteCount: Int) -> (pointer: UnsafeMutableRawPointer, owner: ZeroPages) {
        let size = (max(1, byteCount) + 63) / 64 * 64
        return current.withLock { state in
            let region: ZeroPages
            if let open = state.region, state.used + size <= open.size {
                region = open
            } else {
                region = ZeroPages(size: max(size, regionSize))
                state = (region, 0)
            }
            defer { state.used += size }
            return (UnsafeMutableRawPointer(bitPattern: region.address)! + state.used, region)
        }
    }
}

extension Tensor {
    /// Zeros that take up no memory until they are written.
    public static func untouchedZeros(_ shape: [Int], _ dtype: DType = .f32) -> Tensor {
        let (pointer, owner) = ZeroPages.take(shape.reduce(1, *) * dtype.size)
        return Tensor(mapped: pointer, shape: shape, dtype: dtype, owner: owner)
    }

    /// Copies the content of another tensor of as many bytes; zeros that come upon zeros write nothing.
    public func copyContent(of bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count == byteCount)
        if bytes.allZero, UnsafeRawBufferPointer(start: raw, count: byteCount).allZero { return }
        bytes.baseAddress.map { raw.copyMemory(from: $0, byteCount: byteCount) }
    }
}

extension UnsafeRawBufferPointer {
    /// Reading stops at the first byte that is not zero.
    var allZero: Bool {
        guard let first, first == 0 else { return isEmpty }
        return memcmp(baseAddress!, baseAddress! + 1, count - 1) == 0
    }
}
