import FileFormats
import Foundation
import Testing

/// How many mutated inputs each fuzz test takes: a few in the test suite, `GRAFT_FUZZ_CASES` of them for a long run.
let fuzzCases = ProcessInfo.processInfo.environment["GRAFT_FUZZ_CASES"].flatMap { Int($0) } ?? 150
/// `GRAFT_FUZZ_SEED` draws other ones.
let fuzzSeed = ProcessInfo.processInfo.environment["GRAFT_FUZZ_SEED"].flatMap { UInt64($0) } ?? 1

/// Changes to valid files: the sort of damage that finds unchecked arithmetic.
struct Mutator {
    var generator: SeededGenerator
    init(_ seed: UInt64) { generator = SeededGenerator(seed) }

    mutating func number(_ limit: Int) -> Int { limit <= 0 ? 0 : Int.random(in: 0..<limit, using: &generator) }

    /// A few bytes flipped, replaced, cut out, doubled, or spliced in from elsewhere.
    mutating func mutate(_ whole: [UInt8], splices: [[UInt8]] = []) -> [UInt8] {
        var bytes = whole
        for _ in 0...number(4) {
            let at = number(bytes.count + 1)
            switch number(8) {
            case 0 where !bytes.isEmpty: bytes[at % bytes.count] ^= 1 << UInt8(number(8))
            case 1 where !bytes.isEmpty:
                bytes[at % bytes.count] = [0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x5C].randomElement(using: &generator)!
            case 2: bytes.removeSubrange(at..<min(bytes.count, at + 1 + number(20)))
            case 3: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + number(60))], at: number(bytes.count + 1))
            case 4: bytes.removeLast(number(bytes.count / 4 + 1))
            case 5:
                let value = [0, 1, -1, Int(Int32.max), Int.max, Int.min, 1 << 40].randomElement(using: &generator)!
                for k in 0..<8 where at + k < bytes.count {
                    bytes[at + k] = UInt8(truncatingIfNeeded: value >> (8 * k))
                }
            case 6 where !splices.isEmpty:
                bytes.insert(contentsOf: splices.randomElement(using: &generator)!, at: at)
            default:
                bytes.insert(
                    contentsOf: (0..<number(6)).map { _ in UInt8.random(in: 0...255, using: &generator) }, at: at)
            }
        }
        return bytes
    }

    /// A document with some of its values replaced, taken away or moved.
    mutating func mutate(_ value: JSONValue) -> JSONValue {
        var nodes = 0
        Self.count(value, &nodes)
        var chosen = Set((0...number(3)).map { _ in number(nodes) })
        var index = 0
        return change(value, &index, &chosen)
    }

    private static func count(_ value: JSONValue, _ nodes: inout Int) {
        nodes += 1
        for value in value.arrayValue ?? [] { count(value, &nodes) }
        for (_, value) in value.objectValue?.entries ?? [] { count(value, &nodes) }
    }

    private mutating func change(_ value: JSONValue, _ index: inout Int, _ chosen: inout Set<Int>) -> JSONValue {
        let isChosen = chosen.contains(index)
        index += 1
        if let values = value.arrayValue {
            var changed = values.map { change($0, &index, &chosen) }
            if isChosen {
                switch number(5) {
                case 0: changed = []
                case 1: changed += changed
                case 2: changed.reverse()
                case 3 where !changed.isEmpty: changed.remove(at: number(changed.count))
                default: return scalar()
                }
            }
            return .array(changed)
        }
        if let object = value.objectValue {
            var changed = JSONObject()
            for (key, value) in object.entries {
                let value = change(value, &index, &chosen)
                if isChosen, number(4) == 0 { continue }
                changed[isChosen && number(4) == 0 ? key + "x" : key] = value
            }
            return isChosen && number(5) == 0 ? scalar() : .object(changed)
        }
        return isChosen ? scalar() : value
    }

    private mutating func scalar() -> JSONValue {
        let values: [JSONValue] = [
            .null, .bool(true), .bool(false), 0, 1, -1, .integer(.max), .integer(.min), .integer(1 << 40),
            .double(1e308),
            .double(-0.5), "", "▁", "a", "\u{0}", "Sequence", "ByteLevel", "Metaspace", "NFKC", "Split", "(a|b)*",
            "[^\\s]+",
            .string(String(repeating: "ab", count: 300)), [], [:], [["a", "b"]], ["type": "Lowercase"], "A", "é",
        ]
        return values.randomElement(using: &generator)!
    }
}

/// Runs `body` for each case and sees that none takes long and that memory stays within bounds. A crash ends the test
/// process, which no one overlooks.
func fuzz(_ name: String, slowest: Duration = .seconds(20), _ body: (inout Mutator, Int) throws -> Void) rethrows {
    for i in 0..<fuzzCases {
        var mutator = Mutator(fuzzSeed &* 1_000_003 &+ UInt64(i))
        let start = ContinuousClock.now
        try body(&mutator, i)
        let took = ContinuousClock.now - start
        #expect(took < slowest, "\(name), case \(i), took \(took)")
    }
    #expect(peakMemory() < 3 << 30, "\(name)")
}

private func peakMemory() -> Int {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    guard let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }) else { return 0 }
    return (line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) << 10
}
