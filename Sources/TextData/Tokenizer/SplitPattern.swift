import FileFormats

/// What a `Split` or `Replace` looks for.
enum SplitPattern: Sendable {
    case literal([UInt8])
    case scanner(SplitScanner)
    case regex(OnigurumaRegex)
    /// One scalar at a time, of any of these classes.
    case scalars(ScalarClass)
    /// One scalar.
    case scalar(UInt32)
    /// `\w+|[^\w\s]+`
    case words
    /// Runs of one script, as of Unicode 9. Spaces and scalars without a script join the run before them, kana count as
    /// Han.
    case scripts

    /// A pattern of a `Split` or `Replace`: `{"String": ...}` or `{"Regex": ...}`.
    static func regularExpression(_ pattern: String) throws -> SplitPattern {
        if let scanner = SplitScanner(pattern: pattern) { return .scanner(scanner) }
        return .regex(try OnigurumaRegex(pattern))
    }

    /// Appends the matches in `bytes[range]`, and what lies between them, in order and without gaps.
    func findAll(_ bytes: Span<UInt8>, _ range: Range<Int>, into segments: inout [Segment]) throws {
        switch self {
        case .scanner(let scanner):
            var i = range.lowerBound
            let table = ScalarClassTable.shared
            while i < range.upperBound {
                let end = scanner.matchEnd(bytes, i, range.upperBound, table)
                segments.append(Segment(start: i, end: end, isMatch: true))
                i = end
            }
        case .literal(let needle):
            var gaps = GapFiller(range)
            guard !needle.isEmpty else {
                gaps.finish(&segments)
                return
            }
            Self.forEachOccurrence(of: needle, bytes, range) { gaps.match($0..<$0 + needle.count, &segments) }
            gaps.finish(&segments)
        case .regex(let regex):
            // An empty text has no matches, not even of patterns that match nothing.
            guard !range.isEmpty else { return }
            var gaps = GapFiller(range)
            let offset = range.lowerBound
            var found: [Range<Int>] = []
            try bytes.withUnsafeBufferPointer { buffer in
                try regex.forEachMatch(in: UnsafeBufferPointer(rebasing: buffer[range])) { found.append($0) }
            }
            for match in found {
                gaps.match(match.lowerBound + offset..<match.upperBound + offset, &segments)
            }
            gaps.finish(&segments)
        case .scalars(let wanted):
            let table = ScalarClassTable.shared
            findScalars(bytes, range, into: &segments) { !table[$0].isDisjoint(with: wanted) }
        case .scalar(let wanted):
            findScalars(bytes, range, into: &segments) { $0 == wanted }
        case .words:
            findWords(bytes, range, into: &segments)
        case .scripts:
            findScripts(bytes, range, into: &segments)
        }
    }

    private func findScripts(_ bytes: Span<UInt8>, _ range: Range<Int>, into segments: inout [Segment]) {
        let table = ScriptTable.preTokenizer
        var gaps = GapFiller(range)
        var (start, last) = (-1, ScriptTable.unknown)
        var i = range.lowerBound
        while i < range.upperBound {
            let scalar = decodeScalar(bytes, at: i)
            let script = table[scalar.value]
            if script != ScriptTable.unknown, script != last {
                if start >= 0 { gaps.match(start..<i, &segments) }
                start = i
                last = script
            }
            i += scalar.length
        }
        if start >= 0 { gaps.match(start..<range.upperBound, &segments) }
        gaps.finish(&segments)
    }

    /// Calls `body` with where `needle` stands, from the left, without overlaps.
    static func forEachOccurrence(
        of needle: [UInt8], _ bytes: Span<UInt8>, _ range: Range<Int>, _ body: (Int) -> Void
    ) {
        guard !needle.isEmpty, needle.count <= range.count else { return }
        guard needle.count <= StringMatcher.shortLength else {
            forEachOccurrence(ofLong: needle, bytes, range, body)
            return
        }
        var i = range.lowerBound
        while i + needle.count <= range.upperBound {
            if bytes[i] == needle[0], matches(bytes, at: i, needle) {
                body(i)
                i += needle.count
            } else {
                i += 1
            }
        }
    }

    /// Knuth, Morris and Pratt's search (DOI 10.1137/0206024), which never goes back in the text.
    private static func forEachOccurrence(
        ofLong needle: [UInt8], _ bytes: Span<UInt8>, _ range: Range<Int>, _ body: (Int) -> Void
    ) {
        var borders = [Int](repeating: 0, count: needle.count)
        var length = 0
        for k in 1..<needle.count {
            while length > 0, needle[k] != needle[length] { length = borders[length - 1] }
            if needle[k] == needle[length] { length += 1 }
            borders[k] = length
        }
        length = 0
        for i in range {
            while length > 0, bytes[i] != needle[length] { length = borders[length - 1] }
            if bytes[i] == needle[length] { length += 1 }
            if length == needle.count {
                body(i + 1 - length)
                length = 0
            }
        }
    }

    private static func matches(_ bytes: Span<UInt8>, at position: Int, _ needle: [UInt8]) -> Bool {
        for k in 0..<needle.count where bytes[position + k] != needle[k] { return false }
        return true
    }

    @inline(__always)
    private func findScalars(
        _ bytes: Span<UInt8>, _ range: Range<Int>, into segments: inout [Segment], where isMatch: (UInt32) -> Bool
    ) {
        var gaps = GapFiller(range)
        var i = range.lowerBound
        while i < range.upperBound {
            let scalar = decodeScalar(bytes, at: i)
            if isMatch(scalar.value) { gaps.match(i..<i + scalar.length, &segments) }
            i += scalar.length
        }
        gaps.finish(&segments)
    }

    private func findWords(_ bytes: Span<UInt8>, _ range: Range<Int>, into segments: inout [Segment]) {
        let table = ScalarClassTable.shared
        var gaps = GapFiller(range)
        var i = range.lowerBound
        while i < range.upperBound {
            let scalar = decodeScalar(bytes, at: i)
            let kind = table[scalar.value].intersection([.word, .space])
            let start = i
            i += scalar.length
            // A scalar may be both alphabetic and white space in principle; a word comes first.
            if kind == .space { continue }
            let isWord = kind.contains(.word)
            while i < range.upperBound {
                let next = decodeScalar(bytes, at: i)
                let nextKind = table[next.value].intersection([.word, .space])
                if isWord ? !nextKind.contains(.word) : !nextKind.isEmpty { break }
                i += next.length
            }
            gaps.match(start..<i, &segments)
        }
        gaps.finish(&segments)
    }
}

/// A match, or what lies between two.
struct Segment {
    var start: Int
    var end: Int
    var isMatch: Bool
}

/// Turns matches into segments that cover the whole range.
private struct GapFiller {
    private var position: Int
    private let end: Int

    init(_ range: Range<Int>) {
        position = range.lowerBound
        end = range.upperBound
    }
    @inline(__always)
    mutating func match(_ range: Range<Int>, _ segments: inout [Segment]) {
        if position != range.lowerBound {
            segments.append(Segment(start: position, end: range.lowerBound, isMatch: false))
        }
        segments.append(Segment(start: range.lowerBound, end: range.upperBound, isMatch: true))
        position = range.upperBound
    }
    @inline(__always)
    mutating func finish(_ segments: inout [Segment]) {
        if position != end { segments.append(Segment(start: position, end: end, isMatch: false)) }
    }
}

/// What becomes of the matches of a split.
enum SplitBehavior: String, Sendable {
    case removed = "Removed"
    case isolated = "Isolated"
    case mergedWithPrevious = "MergedWithPrevious"
    case mergedWithNext = "MergedWithNext"
    case contiguous = "Contiguous"

    /// Appends the pieces that the segments of one piece make.
    func apply(_ segments: [Segment], inverted: Bool, into pieces: inout [Piece]) {
        func add(_ start: Int, _ end: Int) {
            if start < end { pieces.append(Piece(start: start, end: end)) }
        }
        switch self {
        case .isolated:
            for segment in segments { add(segment.start, segment.end) }
        case .removed:
            for segment in segments where segment.isMatch == inverted { add(segment.start, segment.end) }
        case .contiguous:
            // The first segment joins nothing, whatever it is.
            var i = 0
            while i < segments.count {
                var end = segments[i].end
                var next = i + 1
                while next < segments.count, segments[next].isMatch == segments[i].isMatch {
                    end = segments[next].end
                    next += 1
                }
                add(segments[i].start, end)
                i = next
            }
        case .mergedWithPrevious:
            var open: (start: Int, end: Int)?
            var previousIsMatch = false
            for segment in segments {
                let isMatch = segment.isMatch != inverted
                if isMatch, !previousIsMatch, let current = open {
                    open = (current.start, segment.end)
                } else {
                    if let current = open { add(current.start, current.end) }
                    open = (segment.start, segment.end)
                }
                previousIsMatch = isMatch
            }
            if let current = open { add(current.start, current.end) }
        case .mergedWithNext:
            var merged: [(start: Int, end: Int)] = []
            var previousIsMatch = false
            for segment in segments.reversed() {
                let isMatch = segment.isMatch != inverted
                if isMatch, !previousIsMatch, !merged.isEmpty {
                    merged[merged.count - 1].start = segment.start
                } else {
                    merged.append((segment.start, segment.end))
                }
                previousIsMatch = isMatch
            }
            for part in merged.reversed() { add(part.start, part.end) }
        }
    }
}
