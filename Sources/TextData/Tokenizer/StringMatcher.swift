/// Strings that are looked for in a text, at each place the longest, in time that is linear in the text whatever the
/// strings are.
///
/// Strings of ordinary length are walked to from each place in a trie. From longer ones, a walk at each place that comes to
/// nothing near their end would take their length times that of the text: those are found in one pass before.
struct StringMatcher: Sendable {
    /// The longest string in bytes that is walked to.
    static let shortLength = 256

    private var short = PieceTrie()
    private var long: LongStrings?

    var isEmpty: Bool { short.isEmpty && long == nil }

    init() {}

    /// The value of each string is its index in `table`; `isIncluded` leaves strings out. Empty strings are left out.
    init(_ table: ByteTable, where isIncluded: (Int) -> Bool = { _ in true }) {
        short = PieceTrie(table) { table.range($0).count <= Self.shortLength && isIncluded($0) }
        long = LongStrings(table) { table.range($0).count > Self.shortLength && isIncluded($0) }
    }

    /// What `longestMatch` and `next` need to know of the text that they go over.
    func prepare(_ bytes: Span<UInt8>, _ range: Range<Int>) -> LongMatches {
        long?.matches(bytes, range) ?? LongMatches()
    }

    /// The longest string at `start`, and its end.
    @inline(__always)
    func longestMatch(
        _ bytes: Span<UInt8>, at start: Int, to end: Int, _ prepared: LongMatches
    ) -> (value: Int, end: Int)? {
        if !prepared.isEmpty, let long, let found = long.longest(prepared, at: start) { return found }
        return short.longestMatch(bytes, at: start, to: end)
    }

    /// The leftmost match at or after `start`, the longest there.
    func next(
        _ bytes: Span<UInt8>, from start: Int, to end: Int, _ prepared: LongMatches
    ) -> (value: Int, start: Int, end: Int)? {
        var i = start
        while i < end {
            if short.start(bytes[i]) != 0 || !prepared.isEmpty,
                let match = longestMatch(bytes, at: i, to: end, prepared)
            {
                return (match.value, i, match.end)
            }
            i += 1
        }
        return nil
    }
}

/// Where long strings begin in a text; empty where there are none to look for.
struct LongMatches {
    /// For each byte the node of the longest string that begins there, or 0.
    fileprivate var nodes: [Int32] = []
    fileprivate var base = 0

    var isEmpty: Bool { nodes.isEmpty }
}

/// Finds strings by the automaton of Aho and Corasick (DOI 10.1145/360825.360855), run from the end of the text over the
/// strings reversed: what ends at a place then is what begins there.
struct LongStrings: Sendable {
    private let trie: PieceTrie
    /// By node: that of the longest proper end of its string that begins another one, and that of the next shorter string
    /// which is an end of it; 0 for none.
    private var fallback: [Int32]
    private var shorter: [Int32]
    /// By value of the reversed strings.
    private let values: [Int32]
    private let lengths: [Int]
    private let shortest: Int

    /// - Returns: nil when there are no strings.
    init?(_ table: ByteTable, where isIncluded: (Int) -> Bool) {
        var reversed = ByteTable()
        var values: [Int32] = []
        for i in 0..<table.count where !table.range(i).isEmpty && isIncluded(i) {
            if reversed.insert(Array(table[i].reversed())).isNew { values.append(Int32(i)) }
        }
        guard !values.isEmpty else { return nil }
        self.values = values
        lengths = values.map { table.range(Int($0)).count }
        shortest = lengths.min() ?? 0
        let trie = PieceTrie(reversed)
        var fallback = [Int32](repeating: 0, count: trie.nodeCount)
        var shorter = fallback
        // Nodes are numbered breadth first: those nearer to the root are done before.
        for node in 0..<trie.nodeCount {
            trie.forEachChild(of: node) { byte, child in
                guard node != 0 else { return }
                let end = Self.step(trie, fallback, Int(fallback[node]), byte)
                fallback[child] = Int32(end)
                shorter[child] = trie.value(end) >= 0 ? Int32(end) : shorter[end]
            }
        }
        (self.trie, self.fallback, self.shorter) = (trie, fallback, shorter)
    }

    @inline(__always)
    private static func step(_ trie: PieceTrie, _ fallback: [Int32], _ node: Int, _ byte: UInt8) -> Int {
        var node = node
        while node != 0 {
            let next = trie.child(node, byte)
            if next != 0 { return next }
            node = Int(fallback[node])
        }
        return trie.start(byte)
    }

    func matches(_ bytes: Span<UInt8>, _ range: Range<Int>) -> LongMatches {
        guard range.count >= shortest else { return LongMatches() }
        var found = LongMatches(nodes: [Int32](repeating: 0, count: range.count), base: range.lowerBound)
        var node = 0
        var i = range.upperBound
        while i > range.lowerBound {
            i -= 1
            node = Self.step(trie, fallback, node, bytes[i])
            found.nodes[i - range.lowerBound] = trie.value(node) >= 0 ? Int32(node) : shorter[node]
        }
        return found
    }

    func longest(_ matches: LongMatches, at start: Int) -> (value: Int, end: Int)? {
        let node = Int(matches.nodes[start - matches.base])
        guard node != 0 else { return nil }
        let value = trie.value(node)
        return (Int(values[value]), start + lengths[value])
    }

    /// Calls `body` with each string that begins at `start`, and its end.
    func forEach(_ matches: LongMatches, at start: Int, _ body: (_ value: Int, _ end: Int) -> Void) {
        var node = Int(matches.nodes[start - matches.base])
        while node != 0 {
            let value = trie.value(node)
            body(Int(values[value]), start + lengths[value])
            node = Int(shorter[node])
        }
    }
}
