import ArgumentParser
import FileFormats
import FineTuning
import Foundation
import TextData

struct Text: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Plumbing between text and token ids: lines in, lines of JSON out.",
        discussion: """
            Meant for pipes and for comparing graft with other programs. The model is a folder or a single file: \
            tokenizer.json, tekken.json, vocab.json beside merges.txt, a SentencePiece or tiktoken model, or a GGUF \
            file. Output keeps the order of the input, line for line.

              echo '"Hello"' | graft text encode --model M          [9906]
              echo '[9906]'  | graft text decode --model M          "Hello"
              echo '{"messages": [{"role": "user", "content": "Hi"}]}' \\
                | graft text render --model M               "<|user|>..."

            See the help of each: graft help text encode
            """,
        subcommands: [Encode.self, Decode.self, Render.self, Stats.self, TrainTokenizer.self])
}

/// The tokenizer a text command works with.
struct TokenizerOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("A model folder or a single tokenizer file.", valueName: "path"),
        transform: HubCache.snapshot)
    var model: String
}

/// Standard input as JSON documents, one a line; empty lines are passed over.
private func forEachLine(_ body: (JSONValue, Int) throws -> Void) throws {
    var number = 0
    while let line = readLine(strippingNewline: true) {
        number += 1
        if line.utf8.allSatisfy({ [0x20, 0x09, 0x0D].contains($0) }) { continue }
        let value: JSONValue
        do { value = try JSONParser.parse(line) } catch let error as JSONError {
            throw LineError(line: number, reason: error.description)
        }
        try body(value, number)
    }
}

struct LineError: GraftError {
    var line: Int
    var reason: String
    var exitStatus: ExitStatus { .badInput }
    var description: String {
        "standard input, line \(line): \(reason)\n  correct the line; earlier lines were answered"
    }
}

/// Prints answers: a line each, or all of them as one JSON array.
private struct Answers {
    let isOneDocument: Bool
    private var all: [JSONValue] = []

    init(_ output: OutputOptions) { isOneDocument = output.json }

    mutating func add(_ value: JSONValue) throws {
        if isOneDocument { all.append(value) } else { try Output.line(JSONWriter.text(value, .compact)) }
    }

    func finish() throws {
        if isOneDocument { try Output.line(JSONWriter.text(.array(all), .compact)) }
    }
}

extension Text {
    struct Encode: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "JSON strings to arrays of token ids.",
            discussion: """
                Reads one JSON string a line from standard input and prints one JSON array of token ids a line.

                Examples:
                  echo '"Hello"' | graft text encode --model models/base
                  graft text encode --model tokenizer.json --no-special < in.jsonl > ids.jsonl

                \(exitStatusHelp)
                """)

        @OptionGroup var source: TokenizerOptions

        @Flag(name: .customLong("no-special"), help: "Leave out what the post-processor adds (BOS and so on).")
        var noSpecial = false

        @Flag(help: "Take text that looks like a special token as ordinary text.")
        var literal = false

        @Flag(
            help: """
                Print only the number of texts, bytes and tokens and the seconds that encoding took, by the clock and \
                the CPU's.
                """)
        var count = false

        @OptionGroup var output: OutputOptions

        func run() throws {
            let tokenizer = try TextResources.tokenizer(at: source.model)
            if count { return try printCounts(tokenizer) }
            var answers = Answers(output)
            try forEachLine { value, line in
                guard let text = value.stringValue else {
                    throw LineError(line: line, reason: "expected a JSON string, found \(value.kindName)")
                }
                let ids = try tokenizer.encoding(
                    of: text, addSpecialTokens: !noSpecial, parseSpecialTokens: !literal
                ).ids
                try answers.add(.array(ids.map { .integer(Int($0)) }))
            }
            try answers.finish()
        }

        /// All texts are read, and the tokenizer has been used, before the clock starts.
        private func printCounts(_ tokenizer: Tokenizer) throws {
            var texts: [String] = []
            try forEachLine { value, line in
                guard let text = value.stringValue else {
                    throw LineError(line: line, reason: "expected a JSON string, found \(value.kindName)")
                }
                texts.append(text)
            }
            // Tables that are made at first use are no part of the rate.
            _ = try tokenizer.encoding(of: "a \u{E9}\u{915}\u{301}", addSpecialTokens: false)
            var tokens = 0
            let start = ContinuousClock.now
            let startCPU = clock()
            for text in texts {
                tokens += try tokenizer.encoding(
                    of: text, addSpecialTokens: !noSpecial, parseSpecialTokens: !literal
                ).ids.count
            }
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            let counts: JSONValue = [
                "texts": .integer(texts.count), "bytes": .integer(texts.reduce(0) { $0 + $1.utf8.count }),
                "tokens": .integer(tokens), "seconds": .double(seconds),
                "cpu_seconds": .double(Double(clock() - startCPU) / Double(CLOCKS_PER_SEC)),
            ]
            try Output.line(JSONWriter.text(counts, .compact))
        }
    }

    struct Decode: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Arrays of token ids to JSON strings.",
            discussion: """
                Reads one JSON array of token ids a line from standard input and prints one JSON string a line.

                Example:
                  echo '[1, 9906]' | graft text decode --model models/base --skip-special

                \(exitStatusHelp)
                """)

        @OptionGroup var source: TokenizerOptions

        @Flag(help: "Leave special tokens out of the text.")
        var skipSpecial = false

        @OptionGroup var output: OutputOptions

        func run() throws {
            let tokenizer = try TextResources.tokenizer(at: source.model)
            var answers = Answers(output)
            try forEachLine { value, line in
                guard let elements = value.arrayValue else {
                    throw LineError(line: line, reason: "expected a JSON array of ids, found \(value.kindName)")
                }
                let ids = try elements.map { element in
                    guard let id = element.intValue, id >= 0, id < tokenizer.vocabularySize else {
                        throw LineError(
                            line: line,
                            reason: "\(JSONWriter.text(element)) is no id of this tokenizer, which has "
                                + "\(tokenizer.vocabularySize) tokens")
                    }
                    return Int32(id)
                }
                try answers.add(.string(tokenizer.decode(ids, skipSpecialTokens: skipSpecial)))
            }
            try answers.finish()
        }
    }

    struct Render: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Conversations through the chat template to JSON strings.",
            discussion: """
                Reads one JSON object a line from standard input and prints one JSON string a line: the text that \
                the model's chat template makes of it. Keys of the object:

                  messages                 the conversation, as in data rows (required)
                  tools                    function definitions for the template
                  add_generation_prompt    true starts the assistant's next message
                  continue_final_message   true leaves the last message open
                  any other key            a variable of the template

                Examples:
                  echo '{"messages": [{"role": "user", "content": "Hi"}]}' \\
                    | graft text render --model models/base
                  graft text render --model base --now 2024-07-26T10:00:00 < chats.jsonl

                \(exitStatusHelp)
                """)

        @OptionGroup var source: TokenizerOptions

        @Option(
            help: ArgumentHelp(
                "The time that templates see, such as 2024-07-26T10:00:00; the clock's by default.", valueName: "time"))
        var now: String?

        @OptionGroup var output: OutputOptions

        func validate() throws {
            if let now, CivilTime(iso: now) == nil {
                throw ValidationError("--now must be a time such as 2024-07-26 or 2024-07-26T10:00:00, not '\(now)'")
            }
        }

        func run() throws {
            guard let template = try TextResources.template(at: source.model) else {
                throw TextError.noTemplate(folder: source.model)
            }
            let now = now.flatMap { CivilTime(iso: $0) } ?? CivilTime.now()
            var answers = Answers(output)
            try forEachLine { value, line in
                guard let object = value.objectValue, let messages = object["messages"]?.arrayValue, !messages.isEmpty
                else {
                    throw LineError(line: line, reason: "expected an object with a list of at least one message")
                }
                func flag(_ key: String) throws -> Bool {
                    guard let value = object[key], !value.isNull else { return false }
                    guard let flag = value.boolValue else {
                        throw LineError(line: line, reason: "\(key) must be true or false, not \(value.kindName)")
                    }
                    return flag
                }
                let known = ["messages", "tools", "add_generation_prompt", "continue_final_message"]
                let extra = object.entries.filter { entry in !known.contains { $0.hasSameBytes(as: entry.key) } }
                let tools = object["tools"].flatMap { $0.isNull ? nil : $0 }
                let rendered = try template.render(
                    messages: messages, tools: tools, addGenerationPrompt: try flag("add_generation_prompt"),
                    continueFinalMessage: try flag("continue_final_message"), extra: JSONObject(extra), now: now)
                try answers.add(.string(rendered.text))
            }
            try answers.finish()
        }
    }
}
