import FileFormats
import Foundation
import Host
import Yams

/// A YAML value with the place it was read from: what a recipe is decoded from.
struct RecipeValue {
    indirect enum Content {
        case null
        /// `isPlain` is false for quoted text, which is never a number, a boolean or null.
        case scalar(String, isPlain: Bool)
        case sequence([RecipeValue])
        case mapping([(key: String, keyLocation: String, value: RecipeValue)])
    }
    var content: Content
    var location: String

    /// What stands there, for error texts.
    var kindName: String {
        switch content {
        case .null: "null"
        case .scalar(let text, let isPlain):
            isPlain ? String(quoted(text).dropFirst().dropLast()) : "the text \(quoted(text))"
        case .sequence: "a list"
        case .mapping: "a mapping"
        }
    }
}

/// Reads YAML from untrusted bytes: bounded size, depth and alias expansion.
struct RecipeDocument {
    static let maximumBytes = 1 << 20
    static let maximumDepth = 64
    static let maximumAliasNodes = 1000

    let path: String
    /// The place of each node that has been seen: an alias shows as a node at a known place.
    private var seen: Set<String> = []
    private var aliasNodes = 0
    private var fixedLocation: String?

    /// Parses `yaml`, the text of the file at `path`; `location` stands in for line numbers when given.
    static func parse(_ yaml: String, path: String, location: String? = nil) throws -> RecipeValue {
        guard yaml.utf8.count <= maximumBytes else {
            throw RecipeError.malformed(
                path: path, line: nil, reason: "\(yaml.utf8.count) bytes; a recipe has at most \(maximumBytes)")
        }
        try refuseAliasedKeys(yaml, path: path)
        return try withLargeStack {
            var document = RecipeDocument(path: path, fixedLocation: location)
            return try document.compose(yaml)
        }
    }

    private init(path: String, fixedLocation: String?) {
        self.path = path
        self.fixedLocation = fixedLocation
    }

    private mutating func compose(_ yaml: String) throws -> RecipeValue {
        let root: Node?
        do {
            root = try Yams.compose(yaml: yaml)
        } catch let error as YamlError {
            throw Self.malformed(error, yaml, path: path)
        }
        guard let root else { return RecipeValue(content: .null, location: fixedLocation ?? "line 1") }
        return try convert(root, depth: 1)
    }

    private mutating func convert(_ node: Node, depth: Int) throws -> RecipeValue {
        let line = node.mark?.line ?? 1
        guard depth <= Self.maximumDepth else {
            throw RecipeError.malformed(
                path: path, line: line, reason: "nested deeper than \(Self.maximumDepth) levels")
        }
        let location = fixedLocation ?? "line \(line)"
        switch node {
        case .scalar(let scalar):
            try count(scalar.mark, "s", line: line)
            let isPlain = scalar.style == .plain || scalar.style == .any
            let isNull = isPlain && ["", "~", "null", "Null", "NULL"].contains(scalar.string)
            return RecipeValue(
                content: isNull ? .null : .scalar(scalar.string, isPlain: isPlain), location: location)
        case .sequence(let sequence):
            try count(sequence.mark, "l", line: line)
            let items = try sequence.map { try convert($0, depth: depth + 1) }
            return RecipeValue(content: .sequence(items), location: location)
        case .mapping(let mapping):
            try count(mapping.mark, "m", line: line)
            var entries: [(key: String, keyLocation: String, value: RecipeValue)] = []
            for (key, value) in mapping {
                guard case .scalar(let name) = key else {
                    throw RecipeError.malformed(path: path, line: line, reason: "a key is not a word")
                }
                let keyLocation = fixedLocation ?? "line \(name.mark?.line ?? line)"
                entries.append((name.string, keyLocation, try convert(value, depth: depth + 1)))
            }
            return RecipeValue(content: .mapping(entries), location: location)
        case .alias:
            throw RecipeError.malformed(path: path, line: line, reason: "an alias that was not resolved")
        }
    }

    private mutating func count(_ mark: Mark?, _ kind: String, line: Int) throws {
        guard let mark, !seen.insert("\(mark.line):\(mark.column)\(kind)").inserted else { return }
        aliasNodes += 1
        guard aliasNodes <= Self.maximumAliasNodes else {
            throw RecipeError.malformed(
                path: path, line: line, reason: "aliases expand to more than \(Self.maximumAliasNodes) nodes")
        }
    }

    /// Refuses aliases inside keys before the YAML library sees them: it hashes keys, which expands every alias.
    ///
    /// A key stands on one line before a colon, or after a question mark; nothing in a recipe is written that way.
    private static func refuseAliasedKeys(_ yaml: String, path: String) throws {
        let bytes = Array(yaml.utf8)
        func isSpace(_ i: Int) -> Bool { i >= bytes.count || [0x20, 0x09, 0x0A, 0x0D].contains(bytes[i]) }
        func startsToken(_ i: Int) -> Bool { i == 0 || isSpace(i - 1) || Array("[{,:?-".utf8).contains(bytes[i - 1]) }
        func isIndicator(_ mark: UInt8, _ i: Int) -> Bool { bytes[i] == mark && startsToken(i) && !isSpace(i + 1) }
        let usesAliases = bytes.indices.contains { isIndicator(UInt8(ascii: "*"), $0) }
        guard usesAliases, bytes.indices.contains(where: { isIndicator(UInt8(ascii: "&"), $0) }) else { return }
        var line = 1
        for i in bytes.indices {
            if bytes[i] == 0x0A { line += 1 }
            var isKey = bytes[i] == UInt8(ascii: "?") && startsToken(i) && isSpace(i + 1)
            if isIndicator(UInt8(ascii: "*"), i) || [UInt8(ascii: "]"), UInt8(ascii: "}")].contains(bytes[i]) {
                var j = i + 1
                if bytes[i] == UInt8(ascii: "*") {
                    while j < bytes.count, !isSpace(j), !Array(",[]{}".utf8).contains(bytes[j]) { j += 1 }
                    isKey = bytes[j - 1] == UInt8(ascii: ":")
                }
                while j < bytes.count, bytes[j] == 0x20 || bytes[j] == 0x09 { j += 1 }
                isKey = isKey || (j < bytes.count && bytes[j] == UInt8(ascii: ":"))
            }
            if isKey {
                throw RecipeError.malformed(path: path, line: line, reason: "a key holds an alias or a collection")
            }
        }
    }

    private static func malformed(_ error: YamlError, _ yaml: String, path: String) -> RecipeError {
        switch error {
        case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            let lines = yaml.utf8.split(separator: 0x0A, maxSplits: mark.line, omittingEmptySubsequences: false)
            let line = mark.line >= 1 && mark.line <= lines.count ? lines[mark.line - 1] : ""[...].utf8
            if line.prefix(while: { $0 == 0x20 || $0 == 0x09 }).contains(0x09) {
                return .malformed(
                    path: path, line: mark.line, reason: "the line begins with a tab; YAML indents with spaces alone")
            }
            let place = context.map { " \($0.text)" } ?? ""
            return .malformed(
                path: path, line: mark.line, reason: "not valid YAML\(place): \(problem) (column \(mark.column))")
        case .reader(let problem, _, _, _):
            return .malformed(path: path, line: nil, reason: "not valid YAML: \(problem)")
        case .duplicatedKeysInMapping(let duplicates, let context):
            let names = duplicates.map { "'\($0)'" }.joined(separator: ", ")
            return .malformed(
                path: path, line: context.mark.line, reason: "the key \(names) occurs twice; keep one of them")
        default:
            return .malformed(path: path, line: nil, reason: "not valid YAML: \(error)")
        }
    }
}

/// Runs `body` on a thread of its own with a 64 MiB stack: the YAML library recurses once per level, up to its limit
/// of a thousand, which is more than a worker thread's stack holds.
private func withLargeStack(_ body: @escaping @Sendable () throws -> RecipeValue) throws -> RecipeValue {
    // Written before the signal and read after it.
    nonisolated(unsafe) var outcome: Result<RecipeValue, any Error>?
    let done = DispatchSemaphore(value: 0)
    let code = startThread(stackSize: 64 << 20) {
        outcome = Result { try body() }
        done.signal()
    }
    guard code == 0 else { throw RecipeError.noThread(code: code) }
    done.wait()
    return try outcome!.get()
}
