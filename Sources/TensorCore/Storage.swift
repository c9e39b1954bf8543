import Foundation
import Host
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
///
/// Micro-batches differ in length, so a block also serves somewhat smaller requests, and what stays idle is bounded.
final class Arena: Sendable {
    private typealias Block = (address: UInt, size: Int)
    private struct State {
        /// Idle blocks by size class.
        var free: [Int: [UInt]] = [:]
        /// The class of a block that was given out for a smaller one.
        var borrowed: [UInt: Int] = [:]
        var idleBytes = 0
        var usedBytes = 0
        var peakBytes = 0

        mutating func use(_ bytes: Int) {
            usedBytes += bytes
            peakBytes = max(peakBytes, usedBytes)
        }
    }

    static let shared = Arena()
    /// When a request finds no block, idle ones are returned until used and idle bytes together exceed the most that
    /// was ever used by an eighth and this at most.
    private static let idleAllowance = 64 << 20
    private static let hugePages: Int32 = 14  // MADV_HUGEPAGE
    private static let hugePageSize = 1 << 21
    private static let mappedSize = 1 << 16
    private let state = Mutex(State())

    /// Sizes are rounded up to eighths of a power of two: few classes, at most 12.5 % lost.
    private static func sizeClass(_ byteCount: Int) -> Int {
        let bytes = max(byteCount, 512)
        let step = max(64, (1 << (Int.bitWidth - 1 - bytes.leadingZeroBitCount)) / 8)
        return (bytes + step - 1) / step * step
    }

    func take(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let size = Self.sizeClass(byteCount)
        let (address, surplus) = state.withLock { state -> (UInt?, [Block]) in
            if let (address, found) = Self.find(size, in: &state) {
                state.idleBytes -= found
                state.use(found)
                if found != size { state.borrowed[address] = found }
                return (address, [])
            }
            state.use(size)
            return (nil, Self.removeIdle(state.peakBytes / 8 * 9 + Self.idleAllowance - state.usedBytes, &state))
        }
        for block in surplus { Self.release(block) }
        return address.map { UnsafeMutableRawPointer(bitPattern: $0)! } ?? Self.allocate(size)
    }

    /// Blocks of the system's own pages come from it directly: in the C library's heap, those of changing sizes would
    /// leave holes that no one can use, and memory would grow from step to step.
    private static func allocate(_ size: Int) -> UnsafeMutableRawPointer {
        var block: UnsafeMutableRawPointer?
        guard size >= mappedSize else {
            let status = posix_memalign(&block, 64, size)
            guard status == 0, let block else { endOutOfMemory(size) }
            return block
        }
        let isLarge = size >= hugePageSize, margin = isLarge ? hugePageSize : 0
        let address = mmap(nil, size + margin, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let address, address != MAP_FAILED else { endOutOfMemory(size + margin) }
        guard isLarge else { return address }
        // Huge pages spare the products most misses of the translation buffer; where there are none, nothing changes.
        let before = (margin - Int(bitPattern: address) % margin) % margin
        if before > 0 { munmap(address, before) }
        if margin > before { munmap(address + before + size, margin - before) }
        madvise(address + before, size, hugePages)
        return address + before
    }

    private static func release(_ block: Block) {
        let pointer = UnsafeMutableRawPointer(bitPattern: block.address)!
        if block.size >= mappedSize { munmap(pointer, block.size) } else { Foundation.free(pointer) }
    }

    /// A block of the class, or the smallest of at most a quarter more.
    private static func find(_ size: Int, in state: inout State) -> (address: UInt, size: Int)? {
        if let address = state.free[size]?.popLast() { return (address, size) }
        let fitting = state.free.lazy.filter { $0.key > size && $0.key <= size + size / 4 && !$0.value.isEmpty }
        guard let best = fitting.map(\.key).min(), let address = state.free[best]?.popLast() else { return nil }
        return (address, best)
    }

    /// Takes out idle blocks, the largest first, until `kept` bytes of them are left.
    private static func removeIdle(_ kept: Int, _ state: inout State) -> [Block] {
        var removed: [Block] = []
        guard state.idleBytes > kept else { return removed }
        for size in state.free.keys.sorted(by: >) {
            while state.idleBytes > kept, let address = state.free[size]?.popLast() {
                removed.append((address, size))
                state.idleBytes -= size
            }
        }
        return removed
    }

    func give(_ pointer: UnsafeMutableRawPointer, _ byteCount: Int) {
        let address = UInt(bitPattern: pointer)
        state.withLock { state in
            let size = state.borrowed.removeValue(forKey: address) ?? Self.sizeClass(byteCount)
            state.free[size, default: []].append(address)
            state.idleBytes += size
            state.usedBytes -= size
        }
    }

    /// Returns the kept blocks to the system.
    func trim() {
        let blocks = state.withLock { Self.removeIdle(0, &$0) }
        for block in blocks { Self.release(block) }
    }
}

/// Returns memory that tensors no longer use to the system, as between two models.
public func releaseUnusedMemory() { Arena.shared.trim() }
