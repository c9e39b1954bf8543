/// A read-only trie over byte strings with a value each.
///
/// Nodes are numbered breadth first, so the children of a node are neighbours and a child's number is that of its label
/// plus one: three flat arrays, whatever the number of strings.
struct PieceTrie: Sendable {
    private var labels: [UInt8] = []
    /// Where the labels of each node's children begin; the next node's begin where they end.
    private var firstChild: [UInt32] = [0, 0]
    private var values: [Int32] = [-1]
    /// Children of the root by byte, or 0: every search passes here.
    private var roots = [UInt32](repeating: 0, count: 256)

    var isEmpty: Bool { labels.isEmpty }

    init() {}

    /// The value of each string is its index in `table`; `isIncluded` leaves strings out. Empty strings are left out.
    init(_ table: ByteTable, where isIncluded: (Int) -> Bool = { _ in true }) {
        var order: [Int32] = []
        order.reserveCapacity(table.count)
        for i in 0..<table.count where !table.range(i).isEmpty && isIncluded(i) { order.append(Int32(i)) }
        let storage = table.storage.span
        order.sort { Self.precedes(storage, table.range(Int($0)), table.range(Int($1))) }

        firstChild = []
        values = []
        var queue: [(low: Int, high: Int, depth: Int)] = [(0, order.count, 0)]
        var next = 0
        while next < queue.count {
            var (low, high, depth) = queue[next]
            next += 1
            var value: Int32 = -1
            if low < high, depth > 0, table.range(Int(order[low])).count == depth {
                value = order[low]
                low += 1
                // Of equal strings the first stays.
                while low < high, table.range(Int(order[low])).count == depth { low += 1 }
            }
            values.append(value)
            firstChild.append(UInt32(labels.count))
            while low < high {
                let byte = storage[table.offsets[Int(order[low])] + depth]
                var end = low + 1
                while end < high, storage[table.offsets[Int(order[end])] + depth] == byte { end += 1 }
                labels.append(byte)
                queue.append((low, end, depth + 1))
                low = end
            }
            high = low
        }
        firstChild.append(UInt32(labels.count))
        for k in 0..<Int(firstChild[1]) { roots[Int(labels[k])] = UInt32(k + 1) }
    }

    private static func precedes(_ storage: Span<UInt8>, _ a: Range<Int>, _ b: Range<Int>) -> Bool {
        let shared = min(a.count, b.count)
        for k in 0..<shared {
            let x = storage[a.lowerBound + k]
            let y = storage[b.lowerBound + k]
            if x != y { return x < y }
        }
        return a.count < b.count
    }

    /// The node that a string's first byte leads to, or 0.
    @inline(__always)
    func start(_ byte: UInt8) -> Int { Int(roots[Int(byte)]) }

    /// The node that `byte` leads to from `node`, or 0.
    @inline(__always)
    func child(_ node: Int, _ byte: UInt8) -> Int {
        var low = Int(firstChild[node])
        var high = Int(firstChild[node + 1])
        while high - low > 8 {
            let middle = (low + high) / 2
            if labels[middle] <= byte { low = middle } else { high = middle }
        }
        while low < high {
            if labels[low] == byte { return low + 1 }
            low += 1
        }
        return 0
    }

    var nodeCount: Int { values.count }

    /// Calls `body` with the labels and the numbers of the nodes that follow `node`; they are greater than its own.
    func forEachChild(of node: Int, _ body: (_ byte: UInt8, _ child: Int) -> Void) {
        for k in Int(firstChild[node])..<Int(firstChild[node + 1]) { body(labels[k], k + 1) }
    }

    /// The value of the string that ends at `node`, or -1.
    @inline(__always)
    func value(_ node: Int) -> Int { Int(values[node]) }

    /// The longest string that `bytes` has at `start`, and its end.
    func longestMatch(_ bytes: Span<UInt8>, at start: Int, to end: Int) -> (value: Int, end: Int)? {
        guard start < end else { return nil }
        var node = self.start(bytes[start])
        var position = start + 1
        var best: (value: Int, end: Int)?
        while node != 0 {
            if values[node] >= 0 { best = (Int(values[node]), position) }
            guard position < end else { break }
            node = child(node, bytes[position])
            position += 1
        }
        return best
    }
}
