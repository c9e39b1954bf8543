internal import FileFormats

/// How tokenizers take a text, per script or other group. Sums, from which the ratios come.
public struct TokenCounts: Sendable, Equatable {
    /// UTF-8 bytes of the texts, white space included.
    public var bytes = 0
    /// Runs of other than white space.
    public var words = 0
    /// Pieces of the pre-tokenizer.
    public var pieces = 0
    public var tokens = 0
    /// Tokens that are one byte of a character of several.
    public var byteTokens = 0
    /// Tokens that stand for text without any other token.
    public var unknownTokens = 0

    public init() {}

    /// Tokens a word.
    public var fertility: Double { ratio(tokens, words) }
    public var bytesPerToken: Double { ratio(bytes, tokens) }
    /// Pieces a word: the fertility that no vocabulary with this pre-tokenizer can go below.
    public var preTokenFloor: Double { ratio(pieces, words) }
    public var byteFallbackShare: Double { ratio(byteTokens, tokens) }
    public var unknownShare: Double { ratio(unknownTokens, tokens) }

    private func ratio(_ a: Int, _ b: Int) -> Double { b == 0 ? 0 : Double(a) / Double(b) }

    static func += (a: inout TokenCounts, b: TokenCounts) {
        a.bytes += b.bytes
        a.words += b.words
        a.pieces += b.pieces
        a.tokens += b.tokens
        a.byteTokens += b.byteTokens
        a.unknownTokens += b.unknownTokens
    }
}

/// What one tokenizer does with texts.
public struct TextStatistics: Sendable {
    /// By script, file or value of a key.
    public var groups: [String: TokenCounts] = [:]
    public var total = TokenCounts()
    public var texts = 0
    /// Texts that do not come back when their tokens are decoded, and the first rows that hold one.
    public var failures = 0
    public var failedRows: [(file: String, row: Int)] = []
}

/// What texts are told apart by.
public enum TextGrouping: Sendable {
    /// The script of each word; digits, punctuation and white space go with the word they stand at.
    case script
    case file
    /// The value of a key of the rows, such as their language.
    case key(String)
}

/// Goes over rows once, with several tokenizers, in bounded memory.
public struct TextSurvey: Sendable {
    public var tokenizers: [Tokenizer]
    public var grouping = TextGrouping.script
    public var columns: [ColumnName] = []
    public var format: RowShape?
    /// How many rows are worked on at a time; 0 takes all processors. Does not change the result.
    public var threads = 0
    private static let batchSize = 512
    private static let faultLimit = 20

    public init(tokenizers: [Tokenizer]) { self.tokenizers = tokenizers }

    /// - Returns: statistics for each tokenizer, in order.
    /// - Throws: `TextError.badRows` naming rows that are none, or what is wrong with a file.
    public func run(files patterns: [String], progress: (Int) -> Void = { _ in }) throws -> [TextStatistics] {
        var source = RowSource(paths: try expandedPaths(patterns), columns: columns)
        var result = tokenizers.map { _ in TextStatistics() }
        let counters = tokenizers.map { TextCounter($0, byScript: grouping.isScript) }
        var faults: [RowFault] = []
        var (faultCount, rowCount) = (0, 0)
        while true {
            let rows = try source.next(Self.batchSize)
            if rows.isEmpty { break }
            rowCount += rows.count
            progress(rowCount)
            for outcome in concurrentMap(rows.count, threads: threads, { outcome(of: rows[$0], counters) }) {
                switch outcome {
                case .failure(let fault):
                    faultCount += 1
                    if faults.count < Self.faultLimit { faults.append(fault) }
                case .success(let found):
                    for (i, statistics) in found.enumerated() { result[i].add(statistics) }
                }
            }
        }
        guard faultCount == 0 else { throw TextError.badRows(faults: faults, total: faultCount) }
        return result
    }

    private func outcome(of raw: RawRow, _ counters: [TextCounter]) -> Result<[TextStatistics], RowFault> {
        do {
            let value = try ColumnName.renamed(try raw.value(), columns)
            let texts = try Row.texts(of: value, as: format)
            var group: String?
            switch grouping {
            case .script: break
            case .file: group = raw.file
            case .key(let key):
                guard let name = value[key]?.stringValue else { throw RowError("no text under \"\(key)\"") }
                group = name
            }
            return .success(
                counters.map { counter in
                    var statistics = TextStatistics()
                    for text in texts where !text.utf8.isEmpty {
                        statistics.texts += 1
                        if !counter.count(text, group, &statistics) {
                            statistics.failures += 1
                            statistics.failedRows = [(raw.file, raw.number)]
                        }
                    }
                    return statistics
                })
        } catch {
            let reason = (error as? RowError)?.reason ?? "\(error)"
            return .failure(RowFault(file: raw.file, row: raw.number, reason: reason))
        }
    }
}

extension RowFault: Error {}

extension TextGrouping {
    fileprivate var isScript: Bool { if case .script = self { true } else { false } }
}

extension TextStatistics {
    private static let failedRowLimit = 20

    fileprivate mutating func add(_ other: TextStatistics) {
        groups.merge(other.groups) { $0 + $1 }
        total += other.total
        texts += other.texts
        failures += other.failures
        failedRows += other.failedRows.prefix(max(0, Self.failedRowLimit - failedRows.count))
    }
}

extension TokenCounts {
    fileprivate static func + (a: TokenCounts, b: TokenCounts) -> TokenCounts {
        var sum = a
        sum += b
        return sum
    }
}

extension Row {
    /// The texts of a row of any shape, those that are not trained on included.
    static func texts(of value: JSONValue, as shape: RowShape?) throws -> [String] {
        if let text = value.stringValue { return [text] }
        guard let object = value.objectValue else {
            throw RowError("expected an object or a string, found \(value.kindName)")
        }
        switch shape ?? RowShape(of: object) {
        case .preference?, .kto?:
            return ["prompt", "chosen", "rejected", "completion"].flatMap { key in
                (object[key]?.arrayValue ?? [object[key] ?? .null]).compactMap {
                    $0.stringValue ?? $0["content"]?.stringValue
                }
            }
        case .tokens?: throw RowError("the row is tokenised already; there is no text to measure")
        default: return try Row(value, as: shape).texts
        }
    }
}

/// Counts with one tokenizer.
private struct TextCounter: Sendable {
    let tokenizer: Tokenizer
    let byScript: Bool
    private let isByte: [Bool]

    init(_ tokenizer: Tokenizer, byScript: Bool) {
        self.tokenizer = tokenizer
        self.byScript = byScript
        isByte = tokenizer.byteTokens
    }

    /// - Returns: whether the text came back from its tokens.
    func count(_ text: String, _ group: String?, _ statistics: inout TextStatistics) -> Bool {
        guard let (encoding, pieces) = try? tokenizer.encodingAndPieces(of: text) else { return false }
        let bytes = Array(text.utf8)
        let scripts = byScript ? ScriptRuns(bytes) : nil
        var counts: [UInt8: TokenCounts] = [:]
        func add(_ change: (inout TokenCounts) -> Void, at place: Int) {
            change(&counts[scripts?.script(at: min(place, bytes.count - 1)) ?? 0, default: TokenCounts()])
        }
        Self.forEachWord(bytes) { start in add({ $0.words += 1 }, at: start) }
        for start in pieces { add({ $0.pieces += 1 }, at: start) }
        for (id, range) in zip(encoding.ids, encoding.byteRanges) {
            let isSingle = Int(id) < isByte.count && isByte[Int(id)]
            let isUnknown = id == tokenizer.unkID
            add(
                {
                    $0.tokens += 1
                    if isSingle { $0.byteTokens += 1 }
                    if isUnknown { $0.unknownTokens += 1 }
                }, at: range.lowerBound)
        }
        if let scripts {
            for run in scripts.runs { counts[run.script, default: TokenCounts()].bytes += run.range.count }
        } else {
            counts[0, default: TokenCounts()].bytes += bytes.count
        }
        for (script, found) in counts {
            statistics.groups[group ?? ScriptTable.shared.name(script), default: TokenCounts()] += found
            statistics.total += found
        }
        return tokenizer.decode(encoding.ids, skipSpecialTokens: false).hasSameBytes(as: text)
    }

    /// Calls `body` with the place of each word's first letter, or of its start where it has none.
    private static func forEachWord(_ bytes: [UInt8], _ body: (Int) -> Void) {
        let span = bytes.span
        let table = ScalarClassTable.shared
        var (i, word, letter) = (0, -1, -1)
        func end() {
            if word >= 0 { body(letter >= 0 ? letter : word) }
            (word, letter) = (-1, -1)
        }
        while i < bytes.count {
            let scalar = decodeScalar(span, at: i)
            let classes = table[scalar.value]
            if classes.contains(.space) {
                end()
            } else {
                if word < 0 { word = i }
                if letter < 0, classes.contains(.letter) { letter = i }
            }
            i += scalar.length
        }
        end()
    }
}

/// A text in runs of one script. What scripts share goes with the script before it, white space with the one after.
struct ScriptRuns {
    private(set) var runs: [(range: Range<Int>, script: UInt8)] = []

    init(_ bytes: [UInt8]) {
        let span = bytes.span
        let table = ScriptTable.shared
        let classes = ScalarClassTable.shared
        var (i, spaceStart) = (0, -1)
        while i < bytes.count {
            let scalar = decodeScalar(span, at: i)
            let script = table[scalar.value]
            let start = i
            i += scalar.length
            if classes[scalar.value].contains(.space) {
                if spaceStart < 0 { spaceStart = start }
                continue
            }
            let isShared = script <= ScriptTable.inherited
            guard !isShared || runs.isEmpty else {
                // After white space, digits and punctuation stay with the script before it.
                extend(to: i)
                spaceStart = -1
                continue
            }
            let from = spaceStart >= 0 ? spaceStart : start
            spaceStart = -1
            let shown = isShared ? ScriptTable.common : script
            if let last = runs.last, last.script == shown {
                extend(to: i)
            } else if let last = runs.last, last.script == ScriptTable.common {
                // A text that begins with what scripts share: it goes with the first script.
                runs[runs.count - 1] = (last.range.lowerBound..<i, shown)
            } else {
                runs.append((runs.isEmpty ? 0..<i : from..<i, shown))
            }
        }
        guard !bytes.isEmpty else { return }
        if runs.isEmpty { runs = [(0..<bytes.count, ScriptTable.common)] }
        extend(to: bytes.count)
    }

    private mutating func extend(to end: Int) {
        guard let last = runs.last else { return }
        runs[runs.count - 1].range = last.range.lowerBound..<end
    }

    func script(at place: Int) -> UInt8 {
        var (low, high) = (0, runs.count - 1)
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].range.upperBound <= place { low = middle + 1 } else { high = middle }
        }
        return runs.isEmpty ? ScriptTable.common : runs[low].script
    }
}
