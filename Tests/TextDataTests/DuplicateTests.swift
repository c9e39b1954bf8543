import Testing

@testable import TextData

@Suite struct DuplicateTests {
    /// Words that are drawn with a seed.
    struct Draw: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
    }
    let words: [String] = {
        var draw = Draw(state: 11)
        return (0..<800).map { i in
            let letters = Array((i % 2 == 0 ? "abcdefghiklmnoprstuv" : "कखगघचजटडतदनपबमयरलवसह").unicodeScalars)
            return String(String.UnicodeScalarView((0..<5).map { _ in letters.randomElement(using: &draw)! }))
        }
    }()

    func text(_ count: Int, _ draw: inout Draw) -> [String] {
        (0..<count).map { _ in words.randomElement(using: &draw)! }
    }
    func fingerprint(_ text: [String], id: Int) -> RowFingerprint {
        RowFingerprint(ids: [Int32(id)], texts: [text.joined(separator: " ")])
    }
    func page(_ rows: [RowFingerprint], from first: Int = 0) -> FingerprintPage {
        FingerprintPage(rows.enumerated().map { (UInt64(first + $0.offset), $0.element) })
    }
    func similarity(_ a: [String], _ b: [String]) -> Double {
        func grams(_ text: [String]) -> Set<[String]> { Set((0...text.count - 5).map { Array(text[$0..<$0 + 5]) }) }
        let (a, b) = (grams(a), grams(b))
        return Double(a.intersection(b).count) / Double(a.union(b).count)
    }

    /// One word of a hundred replaced leaves over nine tenths of the 5-grams.
    @Test func plantedNearDuplicatesAreFoundAndDistinctRowsAreNot() throws {
        var draw = Draw(state: 3)
        var texts = (0..<2_000).map { _ in text(Int.random(in: 20...200, using: &draw), &draw) }
        var planted: [Int: Int] = [:]
        for i in 0..<200 {
            let of = Int.random(in: 0..<2_000, using: &draw)
            var copy = text(100, &draw)
            if texts[of].count >= 100 { copy = texts[of] }
            texts[of] = copy
            var changed = copy
            changed[Int.random(in: 0..<changed.count, using: &draw)] = "changed\(i)"
            planted[texts.count] = of
            texts.append(changed)
        }
        // The later of two copies of one text is near either.
        let rows = texts.enumerated().map { fingerprint($1, id: $0) }
        let found = try DuplicateFinder([page(rows)]).near(excluding: RowSet())
        #expect(try DuplicateFinder([page(rows)]).exact().rows.count == 0)
        for row in planted.keys { #expect(found.rows.contains(UInt64(row)), "row \(row)") }
        #expect(found.rows.count == planted.count)
        for pair in found.pairs {
            #expect(similarity(texts[Int(pair.slot.index)], texts[Int(pair.earlier.index)]) > 0.6)
        }
    }

    /// Half of the words in common is not near.
    @Test func rowsThatShareHalfOfTheirTextAreDistinct() throws {
        var draw = Draw(state: 5)
        let shared = text(60, &draw)
        let rows = (0..<300).map { fingerprint(shared + text(60, &draw), id: $0) }
        #expect(try DuplicateFinder([page(rows)]).near(excluding: RowSet()).rows.count == 0)
    }

    @Test func caseAndPunctuationDoNotCountButSymbolsAndMarksDo() {
        func bands(_ text: String) -> [UInt64] { RowFingerprint(ids: [], texts: [text]).bands }
        #expect(bands("What is this? A farm.") == bands("what is  THIS a farm"))
        #expect(bands("2 + 3") != bands("2 * 3"))
        #expect(bands("की") != bands("का"))
        #expect(bands("मैं गाँव जाता हूँ।") == bands("मैं गाँव जाता हूँ"))
        #expect(bands("你好世界今天") != bands("你好世界昨天"))
        #expect(bands("?!") == [UInt64](repeating: 0, count: MinHash.bandCount))
        // A conversation's parts are one text, whatever their borders.
        #expect(RowFingerprint(ids: [], texts: ["a b c", "d e f"]).bands == bands("a b c d e f"))
    }

    @Test(arguments: [1_000_000, 7, 1]) func passesDoNotChangeTheResult(limit: Int) throws {
        var draw = Draw(state: 8)
        let texts = (0..<60).map { _ in text(40, &draw) }
        let rows = (0..<180).map { fingerprint(texts[$0 % 60], id: $0 % 90) }
        var finder = DuplicateFinder([page(Array(rows[..<70])), page([]), page(Array(rows[70...]), from: 70)])
        finder.entryLimit = limit
        let exact = try finder.exact()
        #expect(exact.rows.count == 90 && !exact.rows.contains(89) && exact.rows.contains(90))
        #expect(exact.pairs.map(\.row) == (90..<180).map(UInt64.init))
        #expect(exact.pairs[0].slot == .init(page: 2, index: 20) && exact.pairs[0].earlier == .init(page: 0, index: 0))
        let near = try finder.near(excluding: exact.rows)
        #expect(near.pairs.map(\.row) == (60..<90).map(UInt64.init))
        #expect(exact.rows.union(near.rows).count == 120)
    }

    @Test func queriesAreFoundAmongOthersAndNotAmongThemselves() throws {
        var draw = Draw(state: 21)
        let texts = (0..<50).map { _ in text(80, &draw) }
        let train = page(texts[..<40].enumerated().map { fingerprint($1, id: $0) })
        var near = texts[3]
        near[10] = "other"
        // 0 and 1 are alike and not in the training rows; 2 is equal to row 7, 3 is near row 3.
        let eval = page([
            fingerprint(texts[45], id: 100), fingerprint(texts[45], id: 100), fingerprint(texts[7], id: 7),
            fingerprint(near, id: 101),
        ])
        let finder = DuplicateFinder(of: [eval], among: [train])
        let exact = try finder.exact()
        #expect(exact.pairs.map(\.row) == [2] && exact.pairs.first?.earlier == .init(page: 0, index: 7))
        let found = try finder.near(excluding: exact.rows)
        #expect(found.pairs.map(\.row) == [3] && found.pairs.first?.earlier == .init(page: 0, index: 3))
    }
}
