import ArgumentParser
import FileFormats
import FineTuning
import Foundation
import TextData

extension Text {
    struct Stats: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "How well tokenizers fit texts: tokens a word and more, per script, side by side.",
            discussion: """
                Reads rows of any shape, plain text included, once, and prints for each script (or file, or value of a \
                key of the rows) and each tokenizer:

                  words        runs of characters other than white space
                  tokens/word  fertility: 1 is a token a word; twice as much is twice the compute and half the context
                  bytes/token  UTF-8 bytes of the text a token stands for, white space included
                  floor        pieces a word that the pre-tokenizer cuts before any merge; no vocabulary can bring the \
                fertility below it. Above 1.2 or so, the pre-tokenizer tears words apart (vowel signs of Indic scripts)
                  byte share   tokens that are a single byte of a longer character, of all tokens: near or above one \
                half the tokenizer does not know the script
                  unknown      tokens that stand for text without any other token, of all tokens
                  lossy        texts that do not come back byte for byte when their tokens are decoded

                Special tokens are not parsed and none are added. Digits, punctuation and emoji count with the script \
                of the word before them.

                Examples:
                  graft text stats --model models/a --model models/b --data train.jsonl
                  graft text stats --model tokenizer.json --data text:- < book.txt
                  graft text stats --model base --data rows.jsonl --by language --json

                \(exitStatusHelp)
                """)

        @Option(
            parsing: .singleValue,
            help: ArgumentHelp("A model folder or a single tokenizer file; repeat to compare.", valueName: "path"),
            transform: HubCache.snapshot)
        var model: [String] = []

        @Option(
            help: ArgumentHelp(
                "Files of rows or globs, separated by commas; '-' is standard input (csv:-, tsv:- or text:- for what "
                    + "is no JSON).", valueName: "file,..."))
        var data: String

        @Option(
            help: ArgumentHelp(
                "What texts are told apart by: script, file, or a key of the rows whose value is text.",
                valueName: "what"))
        var by = "script"

        @Option(help: ArgumentHelp("What every row has to be; by default its keys tell.", valueName: "shape"))
        var format: RowFormat = .auto

        @Option(
            help: ArgumentHelp(
                "Names that the files have for keys of rows, as in text=body.", valueName: "key=column,..."))
        var columns: ColumnMap?

        @Option(help: ArgumentHelp("Threads; all processors by default.", valueName: "n"))
        var threads = 0

        @OptionGroup var output: OutputOptions

        func validate() throws {
            if model.isEmpty { throw ValidationError("--model names at least one tokenizer") }
            if data.split(separator: ",").isEmpty { throw ValidationError("--data names no file") }
            if !(0...1024).contains(threads) { throw ValidationError("--threads must be from 1 to 1024") }
        }

        func run() throws {
            let messages = output.messages
            var survey = TextSurvey(tokenizers: try model.map { try TextResources.tokenizer(at: $0) })
            survey.grouping = by == "script" ? .script : by == "file" ? .file : .key(by)
            survey.format = format.shape
            survey.columns = columns?.names ?? []
            survey.threads = threads
            let found = try survey.run(files: data.split(separator: ",").map(String.init)) {
                messages.progress("\($0) rows")
            }
            messages.clearProgress()
            guard found.contains(where: { $0.texts > 0 }) else {
                throw FineTuningError.badInput(["\(data): the rows hold no text"])
            }
            if output.json { return Output.json(json(found)) }
            try Output.line(table(cells(found)))
            for (path, statistics) in zip(model, found) where statistics.failures > 0 {
                let rows = statistics.failedRows.map { "\($0.file), row \($0.row)" }.prefix(5).joined(separator: "; ")
                messages.note("\(path): \(statistics.failures) of \(statistics.texts) texts are lossy: \(rows)")
            }
        }

        /// Groups by their words, the largest first; all tokenizers see the same words.
        private func groups(_ found: [TextStatistics]) -> [String] {
            let first = found.first?.groups ?? [:]
            return Set(found.flatMap(\.groups.keys)).sorted {
                let (a, b) = (first[$0]?.words ?? 0, first[$1]?.words ?? 0)
                return a == b ? $0 < $1 : a > b
            }
        }

        private func cells(_ found: [TextStatistics]) -> [[String]] {
            var rows = [
                [
                    by == "script" || by == "file" ? by : "\(by)", "tokenizer", "words", "tokens/word", "bytes/token",
                    "floor", "byte share", "unknown", "lossy",
                ]
            ]
            func row(_ name: String, _ path: String, _ counts: TokenCounts, lossy: String) -> [String] {
                [
                    name, path, "\(counts.words)", String(format: "%.3f", counts.fertility),
                    String(format: "%.2f", counts.bytesPerToken), String(format: "%.3f", counts.preTokenFloor),
                    String(format: "%.4f", counts.byteFallbackShare), String(format: "%.4f", counts.unknownShare),
                    lossy,
                ]
            }
            for group in groups(found) {
                for (i, (path, statistics)) in zip(model, found).enumerated() {
                    let counts = statistics.groups[group] ?? TokenCounts()
                    rows.append(row(i == 0 ? group : "", shortName(path), counts, lossy: ""))
                }
            }
            for (i, (path, statistics)) in zip(model, found).enumerated() {
                rows.append(
                    row(i == 0 ? "all" : "", shortName(path), statistics.total, lossy: "\(statistics.failures)"))
            }
            return rows
        }

        /// The last two parts of a path tell tokenizers apart.
        private func shortName(_ path: String) -> String { path.split(separator: "/").suffix(2).joined(separator: "/") }

        private func json(_ found: [TextStatistics]) -> JSONValue {
            func object(_ counts: TokenCounts) -> JSONObject {
                JSONObject([
                    ("words", .integer(counts.words)), ("bytes", .integer(counts.bytes)),
                    ("tokens", .integer(counts.tokens)), ("pieces", .integer(counts.pieces)),
                    ("byte_tokens", .integer(counts.byteTokens)), ("unknown_tokens", .integer(counts.unknownTokens)),
                    ("fertility", .double(counts.fertility)), ("bytes_per_token", .double(counts.bytesPerToken)),
                    ("pre_token_floor", .double(counts.preTokenFloor)),
                    ("byte_fallback_share", .double(counts.byteFallbackShare)),
                    ("unknown_share", .double(counts.unknownShare)),
                ])
            }
            let names = groups(found)
            let models = zip(model, found).map { path, statistics -> JSONValue in
                .object(
                    JSONObject([
                        ("model", .string(path)), ("texts", .integer(statistics.texts)),
                        ("round_trip_failures", .integer(statistics.failures)),
                        (
                            "failed_rows",
                            .array(
                                statistics.failedRows.map { ["file": .string($0.file), "row": .integer($0.row)] })
                        ), ("total", .object(object(statistics.total))),
                        (
                            "groups",
                            .object(
                                JSONObject(
                                    names.map { name in
                                        (
                                            key: name,
                                            value: .object(object(statistics.groups[name] ?? TokenCounts()))
                                        )
                                    }))
                        ),
                    ]))
            }
            return ["by": .string(by), "models": .array(models)]
        }
    }
}
