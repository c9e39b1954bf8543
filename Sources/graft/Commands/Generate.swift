import ArgumentParser
import FileFormats
import FineTuning
import Foundation
import TensorCore
import TextData

struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Continue a text, or answer a chat message.",
        discussion: """
            Without --chat the prompt is continued as it stands, and the whole text is printed. With --chat the \
            prompt is a user's message: the model's chat template is put around it and only the answer is printed. \
            Text appears as it is made. The text ends at an end token, after --max-tokens, or where the model's context \
            does.

            Temperature 0 always takes the most likely token; above 0 tokens are drawn, the same ones for the same \
            --seed. Keys and values of earlier tokens are kept, so that each token costs one pass over the weights.

            Examples:
              graft generate --model base --prompt "Once upon a time" --max-tokens 100
              graft generate --model base --adapter runs/x/adapter --chat --prompt "Hello"
              graft generate --model model.gguf --chat --prompt - < letter.txt
              graft generate --model base --prompt "Dear" --temperature 0.8 --top-p 0.95

            \(exitStatusHelp)
            """)

    @OptionGroup var base: ModelOptions

    @Option(
        help: ArgumentHelp("The text to continue, or the message to answer; - reads standard input.", valueName: "text")
    )
    var prompt: String

    @Flag(help: "Take the prompt for a user's message and answer it by the chat template.")
    var chat = false

    @Option(help: ArgumentHelp("A system message before it; needs --chat.", valueName: "text"))
    var system: String?

    @Option(help: ArgumentHelp("Tokens to make at most.", valueName: "n"))
    var maxTokens = 256

    @Option(help: ArgumentHelp("0 takes the most likely token; logits are divided by anything above.", valueName: "t"))
    var temperature = 0.0

    @Option(help: ArgumentHelp("Draw from the k most likely tokens only.", valueName: "k"))
    var topK: Int?

    @Option(
        help: ArgumentHelp("Draw from the most likely tokens that together reach this probability.", valueName: "p"))
    var topP: Double?

    @Option(help: ArgumentHelp("Decides what is drawn.", valueName: "n"))
    var seed: UInt64 = 42

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if !(1...1_000_000).contains(maxTokens) {
            throw ValidationError("--max-tokens must be from 1 to 1000000, not \(maxTokens)")
        }
        if !(temperature >= 0 && temperature.isFinite) { throw ValidationError("--temperature must be at least 0") }
        if let topK, topK < 1 { throw ValidationError("--top-k must be at least 1") }
        if let topP, !(topP > 0 && topP <= 1) { throw ValidationError("--top-p must be above 0 and at most 1") }
        if system != nil, !chat { throw ValidationError("--system needs --chat") }
    }

    func run() throws {
        guard let text = try base.text() else {
            throw FineTuningError.badInput([
                "\(base.model): the folder has no tokenizer, so there is no text to go on with; add tokenizer.json"
            ])
        }
        let ids = try promptIDs(text)
        guard !ids.isEmpty else {
            throw ValidationError("the prompt is empty, and this tokenizer puts nothing before a text")
        }
        let model = try base.load(compute, output.messages)
        try model.config.checkIDs(ids)
        try base.attachAdapters(to: model)
        var options = GenerationOptions()
        options.maxTokens = maxTokens
        options.stopTokens = text.stopTokens
        if chat { options.stopTokens.formUnion(try endOfTurn(text)) }
        options.sampling.temperature = temperature
        options.sampling.topK = topK
        options.sampling.topP = topP
        options.sampling.seed = seed

        options.context = model.config.context
        if let context = options.context, ids.count >= context {
            output.messages.note(
                "note: the prompt has \(ids.count) tokens, the model's context (max_position_embeddings) is \(context): "
                    + "positions beyond it are new to the model; shorten the prompt")
        }

        let printer = StreamPrinter(text.tokenizer, prompt: chat ? [] : ids, isSilent: output.json)
        try printer.advance(nil)
        var failure: (any Error)?
        let made = model.generate(prompt: ids, options: options, pool: compute.pool) { token in
            do { try printer.advance(token) } catch { failure = error }
            return failure == nil && !Output.isReaderGone
        }
        if let failure { throw failure }
        if made.isBroken {
            throw FineTuningError.badInput([
                "\(base.model): the logits are not numbers: the weights of the model or the adapter hold numbers that "
                    + "are infinite or NaN"
            ])
        }
        if made.reachedContext {
            output.messages.note(
                "note: stopped at the model's context of \(model.config.maxPositions) tokens (max_position_embeddings)")
        }
        if output.json {
            let completion = text.tokenizer.decode(made.tokens, skipSpecialTokens: true)
            return Output.json(
                .object(
                    JSONObject([
                        ("text", .string(printer.wholeText)), ("completion", .string(completion)),
                        ("prompt_ids", .array(ids.map { .integer(Int($0)) })),
                        ("ids", .array(made.tokens.map { .integer(Int($0)) })),
                        ("stop", made.stopToken != nil ? "end" : made.reachedContext ? "context" : "length"),
                        ("stop_id", made.stopToken.map { .integer(Int($0)) } ?? .null),
                        ("prompt_tokens_per_second", .double(Double(ids.count) / max(1e-9, made.promptSeconds))),
                        ("tokens_per_second", .double(Double(made.tokens.count - 1) / max(1e-9, made.seconds))),
                    ])))
        }
        try printer.finish()
    }

    private func promptIDs(_ text: TextResources) throws -> [Int32] {
        var prompt = prompt
        if prompt == "-" {
            let bytes = try ByteStream.standardInput.rest(limit: 256 << 20)
            guard let input = String(validating: bytes, as: UTF8.self) else {
                throw FineTuningError.badInput(["standard input is not UTF-8"])
            }
            prompt = input
        }
        guard chat else { return try text.tokenizer.encoding(of: prompt, addSpecialTokens: true).ids }
        guard let template = text.template else { throw TextError.noTemplate(folder: base.model) }
        var messages: [JSONValue] = [["role": "user", "content": .string(prompt)]]
        if let system { messages.insert(["role": "system", "content": .string(system)], at: 0) }
        let rendered = try template.render(messages: messages, addGenerationPrompt: true)
        // The template writes BOS itself: no specials are added, or there would be two.
        return try text.tokenizer.encoding(of: rendered.text, addSpecialTokens: false).ids
    }

    /// The special token that the template puts after an assistant's message.
    private func endOfTurn(_ text: TextResources) throws -> [Int32] {
        guard let template = text.template else { return [] }
        let marker = "x"
        let messages: [JSONValue] = [
            ["role": "user", "content": .string(marker)], ["role": "assistant", "content": .string(marker)],
        ]
        guard let rendered = try? template.render(messages: messages).text,
            let end = rendered.range(of: marker, options: [.backwards, .literal])?.upperBound
        else { return [] }
        let tail = try text.tokenizer.encoding(of: String(rendered[end...]), addSpecialTokens: false).ids
        return tail.first(where: text.tokenizer.isSpecial).map { [$0] } ?? []
    }
}

/// Prints text as tokens come, holding back bytes that are not yet a whole character.
private final class StreamPrinter {
    private let tokenizer: Tokenizer
    private let isSilent: Bool
    private var ids: [Int32]
    private var printed = ""

    init(_ tokenizer: Tokenizer, prompt: [Int32], isSilent: Bool) {
        self.tokenizer = tokenizer
        self.isSilent = isSilent
        ids = prompt
    }

    var wholeText: String { tokenizer.decode(ids, skipSpecialTokens: true) }

    func advance(_ token: Int32?) throws {
        if let token { ids.append(token) }
        guard !isSilent else { return }
        let text = wholeText
        // A replacement character at the end may be the first bytes of a character to come.
        guard text.unicodeScalars.last != "\u{FFFD}" else { return }
        try printRest(of: text)
        try Output.flush()
    }

    private func printRest(of text: String) throws {
        guard text.utf8.starts(with: printed.utf8) else { return }
        let rest = String(decoding: text.utf8.dropFirst(printed.utf8.count), as: UTF8.self)
        // A program takes the text as it is; a terminal must not be steered by it.
        try isatty(STDOUT_FILENO) == 1 ? Output.write(rest) : Output.writeStyled(rest)
        printed = text
    }

    func finish() throws {
        try printRest(of: wholeText)
        try Output.write("\n")
    }
}
