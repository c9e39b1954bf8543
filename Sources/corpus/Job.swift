import ArgumentParser

/// What one side of a job's rows must not share with the other.
struct JobRow {
    let row: Row
    /// Value lists by what they are: names, phone numbers, combinations of figures.
    let distinct: [(what: String, values: [String])]
}

/// A sample fine-tuning job: rows drawn on the training side and on the held-out side of the split.
struct Job: Sendable {
    let name: String
    let draw: @Sendable (inout RandomSource, Split) -> JobRow

    /// Writes both files, unless a value that must differ occurs on both sides.
    func write(seed: UInt64, train: (path: String, rows: Int), eval: (path: String, rows: Int)) throws {
        let training = rows(seed: seed, count: train.rows, .training)
        let heldOut = rows(seed: seed &+ 0x5EED, count: eval.rows, .heldOut)
        try refuseOverlap(training, heldOut)
        try writeLines(to: train.path, training.map(\.row.line))
        try writeLines(to: eval.path, heldOut.map(\.row.line))
    }

    func rows(seed: UInt64, count: Int, _ split: Split) -> [JobRow] {
        (0..<count).map { index in
            var random = RandomSource(seed: seed, row: index)
            return draw(&random, split)
        }
    }

    /// The split makes the sides disjoint; this proves it on the rows themselves.
    func refuseOverlap(_ training: [JobRow], _ heldOut: [JobRow]) throws {
        for kind in training.first?.distinct.map(\.what) ?? [] {
            func values(_ rows: [JobRow]) -> Set<String> {
                Set(rows.flatMap { row in row.distinct.filter { $0.what == kind }.flatMap(\.values) })
            }
            let shared = values(training).intersection(values(heldOut))
            guard shared.isEmpty else {
                throw CorpusError.overlap(job: name, what: kind, values: shared.sorted())
            }
        }
    }
}

struct JobOptions: ParsableArguments {
    @Option(help: "Seed of the random draws.") var seed: UInt64 = 1
    @Option(help: "The file of training rows to write.") var train: String
    @Option(help: "The file of held-out rows to write.") var eval: String
    @Option(help: "Number of training rows.") var trainRows = 3000
    @Option(help: "Number of held-out rows.") var evalRows = 150

    func validate() throws {
        guard (1...10_000_000).contains(trainRows), (1...10_000_000).contains(evalRows) else {
            throw ValidationError("--train-rows and --eval-rows must be 1 to 10000000.")
        }
    }

    func write(_ job: Job) throws {
        try job.write(seed: seed, train: (train, trainRows), eval: (eval, evalRows))
    }
}

extension Job {
    static var intake: Job {
        Job(name: "intake") { random, split in
            let visit = IntakeVisit.draw(&random, split)
            return JobRow(
                row: visit.row(&random),
                distinct: [
                    ("names", [visit.person.given[visit.language], visit.person.surname[visit.language]]),
                    ("phone numbers", [visit.phone].compactMap { $0 }), ("readings", [visit.combination]),
                ])
        }
    }

    static var farm: Job {
        Job(name: "farm") { random, split in
            let call = FarmCall.draw(&random, split)
            return JobRow(
                row: call.row(&random),
                distinct: [
                    ("names", [call.person.given[call.language], call.person.surname[call.language]]),
                    ("villages", [call.village[call.language]]), ("phone numbers", [call.phone].compactMap { $0 }),
                    ("figures", [call.combination]),
                ])
        }
    }
}

extension Corpus {
    struct Intake: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Clinic intake notes in English and Hindi, each with its JSON record.")
        @OptionGroup var options: JobOptions

        func run() throws {
            try options.write(.intake)
        }
    }

    struct Farm: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Farm help-line calls in Tamil and English, each with its JSON record.")
        @OptionGroup var options: JobOptions

        func run() throws {
            try options.write(.farm)
        }
    }
}
