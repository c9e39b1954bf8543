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
///
/// Micro-batches differ in length, so a block also serves requests of down to half its size, and what stays idle is
/// bounded.
final class Arena: Sendable {
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
    /// When a request finds no block, and used and idle bytes together exceed the most that was ever used by an eighth
    /// and this, the idle ones are returned.
    private static let idleAllowance = 128 << 20
    private static let hugePages: Int32 = 14  // MADV_HUGEPAGE
    private let state = Mutex(State())

    /// Sizes are rounded up to eighths of a power of two: few classes, at most 12.5 % lost.
    private static func sizeClass(_ byteCount: Int) -> Int {
        let bytes = max(byteCount, 512)
        let step = max(64, (1 << (Int.bitWidth - 1 - bytes.leadingZeroBitCount)) / 8)
        return (bytes + step - 1) / step * step
    }

    func take(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let size = Self.sizeClass(byteCount)
        let (address, surplus) = state.withLock { state -> (UInt?, [UInt]) in
            if let (address, found) = Self.find(size, in: &state) {
                state.idleBytes -= found
                state.use(found)
                if found != size { state.borrowed[address] = found }
                return (address, [])
            }
            state.use(size)
            let kept = state.peakBytes + state.peakBytes / 8 + Self.idleAllowance
            guard state.usedBytes + state.idleBytes > kept else { return (nil, []) }
            return (nil, Self.removeIdle(&state))
        }
        for block in surplus { Foundation.free(UnsafeMutableRawPointer(bitPattern: block)) }
        if let address { return UnsafeMutableRawPointer(bitPattern: address)! }
        var block: UnsafeMutableRawPointer?
        let isLarge = size >= 1 << 21
        let status = posix_memalign(&block, isLarge ? 1 << 21 : size >= 1 << 16 ? 4096 : 64, size)
        precondition(status == 0 && block != nil, "out of memory: \(size) bytes")
        // Huge pages spare the products most misses of the translation buffer; where there are none, nothing changes.
        if isLarge { madvise(block, size, Self.hugePages) }
        return block!
    }

    /// A block of the class, or the smallest of at most twice its size.
    private static func find(_ size: Int, in state: inout State) -> (address: UInt, size: Int)? {
        if let address = state.free[size]?.popLast() { return (address, size) }
        let fitting = state.free.lazy.filter { $0.key > size && $0.key <= 2 * size && !$0.value.isEmpty }
        guard let best = fitting.map(\.key).min(), let address = state.free[best]?.popLast() else { return nil }
        return (address, best)
    }

    private static func removeIdle(_ state: inout State) -> [UInt] {
        defer {
            state.free.removeAll()
            state.idleBytes = 0
        }
        return state.free.values.flatMap { $0 }
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
        let blocks = state.withLock { Self.removeIdle(&$0) }
        for address in blocks { Foundation.free(UnsafeMutableRawPointer(bitPattern: address)) }
    }
}

/// Returns memory that tensors no longer use to the system, as between two models.
public func releaseUnusedMemory() { Arena.shared.trim() }
