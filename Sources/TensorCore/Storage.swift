import Foundation
import Synchronization

/// The element type of a tensor in memory.
public enum DType: Sendable, Hashable {
    case f32, bf16

    public var size: Int { self == .f32 ? 4 : 2 }
}

/// A block of memory that a tensor looks at: from the arena, or inside a mapped file that `owner` keeps open.
final class Storage {
    let pointer: UnsafeMutableRawPointer
    private let byteCount: Int
    private let owner: AnyObject?

    /// `byteCount` bytes, uninitialised, aligned to 64.
    init(byteCount: Int) {
        self.byteCount = byteCount
        pointer = Arena.shared.take(byteCount)
        owner = nil
    }

    init(mapped pointer: UnsafeRawPointer, owner: AnyObject) {
        byteCount = 0
        self.pointer = UnsafeMutableRawPointer(mutating: pointer)
        self.owner = owner
    }

    deinit {
        if owner == nil { Arena.shared.give(pointer, byteCount) }
    }
}

/// Keeps freed blocks for the next step, so that a training loop stops asking the system for pages after its first
/// step: fresh pages cost a fault and a clearing each.
final class Arena: Sendable {
    static let shared = Arena()
    private let free = Mutex<[Int: [UInt]]>([:])

    /// Sizes are rounded up to eighths of a power of two: few classes, at most 12.5 % lost.
    private static func sizeClass(_ byteCount: Int) -> Int {
        let bytes = max(byteCount, 512)
        let step = max(64, (1 << (Int.bitWidth - 1 - bytes.leadingZeroBitCount)) / 8)
        return (bytes + step - 1) / step * step
    }

    func take(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let size = Self.sizeClass(byteCount)
        if let address = free.withLock({ $0[size]?.popLast() }) { return UnsafeMutableRawPointer(bitPattern: address)! }
        var block: UnsafeMutableRawPointer?
        let status = posix_memalign(&block, size >= 1 << 16 ? 4096 : 64, size)
        precondition(status == 0 && block != nil, "out of memory: \(size) bytes")
        return block!
    }

    func give(_ pointer: UnsafeMutableRawPointer, _ byteCount: Int) {
        let address = UInt(bitPattern: pointer)
        free.withLock { $0[Self.sizeClass(byteCount), default: []].append(address) }
    }

    /// Returns the kept blocks to the system.
    func trim() {
        let blocks = free.withLock { table in
            defer { table.removeAll() }
            return table.values.flatMap { $0 }
        }
        for address in blocks { Foundation.free(UnsafeMutableRawPointer(bitPattern: address)) }
    }
}

/// Returns memory that tensors no longer use to the system, as between two models.
public func releaseUnusedMemory() { Arena.shared.trim() }
