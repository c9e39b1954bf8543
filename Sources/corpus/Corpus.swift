import ArgumentParser
import Foundation

@main
struct Corpus: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "corpus",
        abstract: "Writes the shipped base's pre-training rows and the sample jobs' rows.",
        discussion: "Every file is a function of its seed: the same command writes the same bytes on every machine.",
        subcommands: [Text.self, Words.self, Intake.self, Farm.self])
}

struct LinesOptions: ParsableArguments {
    @Option(help: "Seed of the random draws.") var seed: UInt64 = 1
    @Option(help: "The JSONL file to write; one that exists is replaced.") var out: String

    /// Writes rows 0 ..< count.
    func write(_ count: Int, _ row: @escaping (_ index: Int, _ seed: UInt64) -> Row) throws {
        guard (1...50_000_000).contains(count) else { throw ValidationError("--rows must be 1 to 50000000.") }
        try writeLines(to: out, (0..<count).lazy.map { row($0, seed).line })
    }
}

extension Corpus {
    struct Text: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Pre-training rows in English, Hindi and Tamil.")

        @OptionGroup var options: LinesOptions
        @Option(help: "Number of rows.") var rows = 250_000

        func run() throws {
            try options.write(rows) { PretrainingText.row($0, seed: $1) }
        }
    }

    struct Words: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Rows to train the tokenizer on.")

        @OptionGroup var options: LinesOptions
        @Option(help: "Number of rows.") var rows = 40_000

        func run() throws {
            try options.write(rows) { PretrainingText.tokenizerRow($0, seed: $1) }
        }
    }
}

/// Writes one line after the other; the file appears under its name only when it is complete.
func writeLines(to path: String, _ lines: some Sequence<String>) throws {
    let temporary = path + ".tmp"
    guard FileManager.default.createFile(atPath: temporary, contents: nil),
        let handle = FileHandle(forWritingAtPath: temporary)
    else { throw CorpusError.cannotWrite(path) }
    var buffer: [UInt8] = []
    for line in lines {
        buffer += line.utf8
        buffer.append(0x0A)
        if buffer.count > 1 << 20 {
            try handle.write(contentsOf: buffer)
            buffer.removeAll(keepingCapacity: true)
        }
    }
    try handle.write(contentsOf: buffer)
    try handle.synchronize()
    try handle.close()
    guard rename(temporary, path) == 0 else { throw CorpusError.cannotWrite(path) }
}

enum CorpusError: Error, CustomStringConvertible {
    case cannotWrite(String)
    /// A value of a held-out row that a training row has too.
    case overlap(job: String, what: String, values: [String])

    var description: String {
        switch self {
        case .cannotWrite(let path):
            return "\(path): cannot be written. Check that its folder exists and may be written to."
        case .overlap(let job, let what, let values):
            return "\(job): training and held-out rows share \(what): \(values.prefix(5).joined(separator: ", "))."
        }
    }
}
