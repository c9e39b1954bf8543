import Foundation
import Testing

@testable import corpus

private let allJobs: [Job] = [.intake, .farm]

@Suite struct RandomSourceTests {
    /// The first outputs of SplitMix64 for the state 1234567, as published with the generator.
    @Test func matchesTheReferenceSequence() {
        var random = RandomSource(seed: 1_234_567)
        #expect(random.next() == 6_457_827_717_110_365_317)
        #expect(random.next() == 3_203_168_211_198_807_973)
    }

    @Test func smallNumbersReachEveryValueAndNoOther() {
        var random = RandomSource(seed: 1)
        let drawn = Set((0..<1000).map { _ in random.number(3...7) })
        #expect(drawn == [3, 4, 5, 6, 7])
    }

    @Test func shufflingKeepsTheElements() {
        var random = RandomSource(seed: 2)
        #expect(random.shuffled(Array(0..<50)).sorted() == Array(0..<50))
        #expect(random.sample(Array(0..<50), 7).count == 7)
    }
}

@Suite struct JobTests {
    @Test(arguments: allJobs.indices, [UInt64(1), 7, 99]) func sidesShareNothing(_ job: Int, _ seed: UInt64) throws {
        let job = allJobs[job]
        let training = job.rows(seed: seed, count: 1500, .training)
        let heldOut = job.rows(seed: seed, count: 150, .heldOut)
        try job.refuseOverlap(training, heldOut)
        for kind in training[0].distinct.indices {
            let seen = Set(training.flatMap { $0.distinct[kind].values })
            #expect(seen.isDisjoint(with: heldOut.flatMap { $0.distinct[kind].values }))
        }
    }

    @Test func anOverlapIsRefused() {
        let job = Job.intake
        let rows = job.rows(seed: 1, count: 5, .training)
        #expect(throws: CorpusError.self) { try job.refuseOverlap(rows, rows) }
    }

    @Test(arguments: allJobs.indices) func aSeedGivesTheSameRows(_ job: Int) {
        let job = allJobs[job]
        let lines = job.rows(seed: 5, count: 40, .training).map(\.row.line)
        #expect(lines == job.rows(seed: 5, count: 40, .training).map(\.row.line))
        #expect(lines != job.rows(seed: 6, count: 40, .training).map(\.row.line))
    }

    /// Names, numbers and readings of a record stand in its note as they are written in the record.
    @Test func recordsCopyWhatNotesSay() {
        var random = RandomSource(seed: 3)
        for _ in 0..<500 {
            let visit = IntakeVisit.draw(&random, .training)
            let note = visit.note(&random)
            var copied = [visit.person.full(visit.language), String(visit.age)]
            copied += [visit.phone, visit.temperature, visit.pressure, visit.daysInWords ?? "\(visit.days)"].compactMap
            { $0 }
            for value in copied {
                #expect(note.contains(value))
                if value != visit.daysInWords { #expect(visit.record.contains(value)) }
            }
        }
    }
}

@Suite struct PretrainingTextTests {
    private let lines = (0..<3000).map { PretrainingText.row($0, seed: 11).line }

    @Test func aRowDependsOnItsSeedAndNumberAlone() {
        #expect(PretrainingText.row(77, seed: 11).line == lines[77])
        #expect(PretrainingText.row(77, seed: 12).line != lines[77])
    }

    @Test func textIsComposed() {
        for line in lines { #expect(Array(line.utf8) == Array(line.precomposedStringWithCanonicalMapping.utf8)) }
    }

    @Test func jobsAreNotInIt() {
        for line in lines {
            for mark in [IntakeVisit.system, FarmCall.system, "\"complaints\\\":[", "temp_f", "crop_days", "Walk-in"] {
                #expect(!line.contains(mark))
            }
        }
    }

    /// Given names on the held-out side are never drawn for the corpus.
    @Test func peopleAreOfTheTrainingSide() {
        var random = RandomSource(seed: 4)
        for _ in 0..<2000 {
            let person = Names.person(&random)
            for language in Language.allCases {
                #expect(Split.training.holds(person.given[language]))
                #expect(Split.training.holds(person.surname[language]))
            }
        }
    }
}

@Suite struct JSONTests {
    @Test func writesCompactAndSpaced() {
        let value = JSON.object([("a", .number("1.5")), ("b", .array([.null, .bool(true)])), ("c", .string("\"\\\n"))])
        #expect(value.text() == #"{"a":1.5,"b":[null,true],"c":"\"\\\n"}"#)
        #expect(value.text(spaced: true) == #"{"a": 1.5, "b": [null, true], "c": "\"\\\n"}"#)
    }

    @Test func fillsTemplatesOnce() {
        #expect("{a} and {b}, {a}".filled([("a", "{b}"), ("b", "x")]) == "{b} and x, {b}")
    }
}
