import ArgumentParser
import FileFormats
import FineTuning
import Foundation
import TextData

extension Text {
    struct TrainTokenizer: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "train-tokenizer",
            abstract: "Train a byte-level BPE tokenizer on data rows.",
            discussion: """
                Learns merges from the texts of the files (all texts of a JSONL row but roles and names, or the \
                lines of any other file) and writes a folder with tokenizer.json and tokenizer_config.json, and \
                chat_template.jinja when one is given. Every byte has a token, so nothing is unknown in any language.

                Example:
                  graft text train-tokenizer --data corpus.jsonl --vocab-size 4096 \\
                    --special '<|endoftext|>' --special '<|im_start|>' \\
                    --special '<|im_end|>' --eos '<|im_end|>' \\
                    --chat-template chatml.jinja --out tok

                Sizes are in tokens. The same files and options give the same bytes. The output must not exist.

                \(exitStatusHelp)
                """)

        @Option(parsing: .upToNextOption, help: ArgumentHelp("Files or globs of rows or text.", valueName: "file"))
        var data: [String]

        @Option(help: ArgumentHelp("Tokens of the vocabulary, special ones included.", valueName: "n"))
        var vocabSize: Int

        @Option(help: ArgumentHelp("The folder to write.", valueName: "dir"))
        var out: String

        @Option(
            parsing: .singleValue,
            help: ArgumentHelp(
                "A special token; may be repeated, ids follow the order. By default those of ChatML.",
                valueName: "token"))
        var special: [String] = []

        @Option(help: ArgumentHelp("The special token that begins a text; none by default.", valueName: "token"))
        var bos: String?

        @Option(help: ArgumentHelp("The special token that ends a text; the last one by default.", valueName: "token"))
        var eos: String?

        @Option(
            help: ArgumentHelp("The special token that fills rows up; the first one by default.", valueName: "token"))
        var pad: String?

        @Option(help: ArgumentHelp("A Jinja chat template to put into the folder.", valueName: "file.jinja"))
        var chatTemplate: String?

        @Option(help: ArgumentHelp("Pairs that occur less often are not merged.", valueName: "n"))
        var minCount = 2

        @Flag(help: "Make every digit a token of its own.")
        var splitDigits = false

        @OptionGroup var output: OutputOptions

        private var specialTokens: [String] {
            special.isEmpty ? ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] : special
        }

        func validate() throws {
            for (flag, token) in [("--bos", bos), ("--eos", eos), ("--pad", pad)] {
                if let token, !specialTokens.contains(where: { $0.hasSameBytes(as: token) }) {
                    throw ValidationError(
                        "\(flag) '\(token)' is not one of the special tokens; add --special '\(token)'")
                }
            }
        }

        func run() throws {
            try refuseExisting(out)
            let messages = output.messages
            let template = try chatTemplate.map { path in
                let bytes = try readFile(path, limit: 1 << 20)
                _ = try ChatTemplate(source: String(decoding: bytes, as: UTF8.self), name: path)
                return bytes
            }
            var texts: [String] = []
            for path in try expandedPaths(data) {
                messages.progress("reading \(path)")
                try Self.collectTexts(path, &texts)
            }
            guard !texts.isEmpty else { throw FineTuningError.badInput(["the files hold no text"]) }
            messages.progress("learning merges from \(texts.count) texts")
            let tokenizer = try trainByteLevelBPE(
                texts: texts, vocabularySize: vocabSize, specialTokens: specialTokens, minimumCount: minCount,
                splitsDigits: splitDigits)
            messages.clearProgress()

            let folder = try AtomicFolder(path: out)
            let document = JSONWriter.text(tokenizer, .pretty) + "\n"
            try AtomicFile.write(Array(document.utf8), to: folder.path(of: "tokenizer.json"))
            let config = JSONWriter.text(tokenizerConfig, .init(indent: 2, sortsKeys: true)) + "\n"
            try AtomicFile.write(Array(config.utf8), to: folder.path(of: "tokenizer_config.json"))
            if let template { try AtomicFile.write(template, to: folder.path(of: "chat_template.jinja")) }
            try folder.commit()

            let size = try Tokenizer(path: out).vocabularySize
            if output.json {
                Output.json(["out": .string(out), "vocabulary": .integer(size), "texts": .integer(texts.count)])
            } else {
                messages.note("\(out): \(size) tokens from \(texts.count) texts")
                if size < vocabSize { messages.note("note: the texts have no more pairs to merge") }
            }
        }

        private var tokenizerConfig: JSONValue {
            [
                "add_bos_token": .bool(bos != nil), "bos_token": bos.map { .string($0) } ?? .null,
                "clean_up_tokenization_spaces": false,
                "eos_token": .string(eos ?? specialTokens[specialTokens.count - 1]),
                "pad_token": .string(pad ?? specialTokens[0]), "tokenizer_class": "PreTrainedTokenizerFast",
                "unk_token": .null,
            ]
        }

        /// Keys whose texts are names of things rather than language.
        private static let nameKeys = ["role", "from", "type", "name", "id", "tool_call_id"]

        private static func collectTexts(_ path: String, _ texts: inout [String]) throws {
            let isRows = path.hasSuffix(".jsonl")
            let lines = try readFile(path, limit: 1 << 34).split(
                separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            for (index, line) in lines.enumerated() {
                guard line.contains(where: { ![0x20, 0x09, 0x0D].contains($0) }) else { continue }
                if isRows {
                    do { collect(try JSONParser.parse(Array(line)), &texts) } catch let error as JSONError {
                        throw InspectError.badRow(path: path, row: index + 1, reason: error.description)
                    }
                } else if let text = String(validating: line, as: UTF8.self) {
                    texts.append(text + "\n")
                } else {
                    throw InspectError.badRow(path: path, row: index + 1, reason: "the line is not UTF-8")
                }
            }
        }

        private static func collect(_ value: JSONValue, _ texts: inout [String]) {
            switch value {
            case .string(let text): texts.append(text)
            case .array(let elements): for element in elements { collect(element, &texts) }
            case .object(let object):
                for (key, member) in object.entries where !nameKeys.contains(where: { $0.hasSameBytes(as: key) }) {
                    collect(member, &texts)
                }
            default: break
            }
        }
    }
}
