import Foundation

/// What a loop works on, for the profile.
public enum Operation: Int, CaseIterable, Sendable {
    case embedding, normalization, linear, rotary, attention, activation, routing, experts, headAndLoss
    case normalizationBackward, linearBackward, rotaryBackward, attentionBackward, activationBackward
    case routingBackward, expertsBackward
    case packing, decoding, weightGradients, optimizer, other

    public var name: String {
        switch self {
        case .embedding: "embedding"
        case .normalization: "normalization"
        case .linear: "linear"
        case .rotary: "rotary"
        case .attention: "attention"
        case .activation: "activation"
        case .routing: "routing"
        case .experts: "experts"
        case .headAndLoss: "head and loss"
        case .normalizationBackward: "normalization backward"
        case .linearBackward: "linear backward"
        case .rotaryBackward: "rotary backward"
        case .attentionBackward: "attention backward"
        case .activationBackward: "activation backward"
        case .routingBackward: "routing backward"
        case .expertsBackward: "experts backward"
        case .packing: "packing of weights"
        case .decoding: "decoding of weights"
        case .weightGradients: "gradients of weights"
        case .optimizer: "optimizer"
        case .other: "other"
        }
    }
}

/// Where the time of a pool's loops goes, by operation.
public struct Profile: Sendable {
    /// The sums of one operation over all workers.
    public struct Entry: Sendable {
        /// Time of workers; with two workers, twice the time on the clock.
        public var seconds = 0.0
        /// The part of `seconds` inside matrix products.
        public var productSeconds = 0.0
        /// Floating-point operations of the products, multiplications and additions counted apart.
        public var productOperations = 0.0
        /// What the loops read and wrote: operands of products, rows of element-wise loops. What comes from a cache
        /// counts as much as what comes from memory.
        public var bytes = 0.0

        public init(seconds: Double = 0) { self.seconds = seconds }

        static func += (sum: inout Entry, addend: Entry) {
            sum.seconds += addend.seconds
            sum.productSeconds += addend.productSeconds
            sum.productOperations += addend.productOperations
            sum.bytes += addend.bytes
        }
    }

    public init() {}

    public var threads = 1
    public var entries: [Operation: Entry] = [:]
    /// Time on the clock since the profile began, and the part of it inside loops.
    public var seconds = 0.0
    public var loopSeconds = 0.0
    public var loops = 0

    /// Workers' time inside loops without work: the end of a loop comes when its last item does.
    public var waitingSeconds: Double {
        max(0, loopSeconds * Double(threads) - entries.values.reduce(0) { $0 + $1.seconds })
    }
    /// Time on the clock outside loops, when one thread works at most.
    public var serialSeconds: Double { max(0, seconds - loopSeconds) }
}

/// What one worker, or the pool itself, has measured; touched by one thread at a time.
final class Ledger {
    var entries = [Profile.Entry](repeating: .init(), count: Operation.allCases.count)
    /// The operation that runs, as an index into `entries`.
    var current = Operation.other.rawValue

    /// Times `body` as a part of `operation`.
    func time(_ operation: Int, _ body: () -> Void) {
        current = operation
        let began = Ledger.now
        body()
        entries[operation].seconds += Ledger.now - began
    }

    /// Seconds of a clock that only runs forward.
    static var now: Double { Double(DispatchTime.now().uptimeNanoseconds) * 1e-9 }
}

extension WorkerPool.Worker {
    /// Runs `body`, timed as a part of `operation` while the pool is profiled; the loop around it is not.
    func measured(_ operation: Operation, _ body: () -> Void) {
        guard let ledger else { return body() }
        let outer = ledger.current, began = Ledger.now
        ledger.current = operation.rawValue
        body()
        let elapsed = Ledger.now - began
        ledger.entries[operation.rawValue].seconds += elapsed
        ledger.entries[outer].seconds -= elapsed
        ledger.current = outer
    }

    /// Counts bytes read and written for the operation that runs.
    func count(bytes: Int) {
        guard let ledger else { return }
        ledger.entries[ledger.current].bytes += Double(bytes)
    }
}
