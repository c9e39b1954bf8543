import Foundation

@testable import FileFormats
@testable import TextData

/// The folder in memory where inputs stand for readers that take paths.
struct ScratchFolder: Sendable {
    let folder: String

    init() {
        folder = "/dev/shm/graft-fuzz-\(getpid())"
        try? FileManager.default.createDirectory(atPath: folder + "/index", withIntermediateDirectories: true)
        let path = folder
        scratchPath = strdup(path)
        atexit {
            // An input that is refused leaves its file; the folder goes with the process.
            if let scratchPath { removeTree(String(cString: scratchPath)) }
        }
    }

    func path(_ name: String) -> String { folder + "/" + name }

    /// Writes a file in place, which is faster than to make it anew.
    func write(_ name: String, _ bytes: [UInt8]) -> String {
        let path = path(name)
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        require(file >= 0, "the scratch folder cannot be written")
        defer { close(file) }
        require(bytes.withUnsafeBytes { pwrite(file, $0.baseAddress, $0.count, 0) } == bytes.count)
        require(ftruncate(file, off_t(bytes.count)) == 0)
        return path
    }
}

nonisolated(unsafe) private var scratchPath: UnsafeMutablePointer<CChar>?
let scratch = ScratchFolder()

/// What is the same for every input.
enum Fixed {
    static let now = CivilTime(year: 2026, month: 1, day: 15, hour: 9, minute: 30)

    /// Ordinary text, scripts with marks, spaces of all kinds, special tokens, bytes that few vocabularies have.
    static let texts = [
        "", " ", "The quick brown fox doesn't jump 12345 times!\r\n\n  def f(x):\n\treturn x",
        "नमस्ते दुनिया தமிழ் e\u{301} \u{212B} ﬁ 👩‍👩‍👧 🇮🇳 \u{3000}\u{A0}\u{0}\u{7F}",
        "<s>a</s><unk><|im_start|>ab  abc▁ab<0x41>aXY\u{10FFFF}",
    ]

    static let variables: JSONObject = {
        let text = """
            {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b>"},
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "id": "c1", "function":
            {"name": "f", "arguments": {"a": [1, 2.5, null, "x"]}}}]}, {"role": "tool", "content": "नमस्ते"},
            {"role": "assistant", "content": "ok", "reasoning_content": "hm"}],
            "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters":
            {"type": "object", "properties": {"a": {"type": "array"}}}}}],
            "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true}
            """
        return (try? JSONParser.parse(text))?.objectValue ?? JSONObject()
    }()

    /// Tokenizers of each kind, and whether what is decoded is what was encoded.
    static let tokenizers: [(Tokenizer, isLossless: Bool)] = Seeds.tokenizerDocuments.map { document in
        do {
            return (try Tokenizer(json: try JSONParser.parse(document.text)), document.isLossless)
        } catch {
            fail("the tokenizer \(document.name) is refused: \(error)")
        }
    }

    private static let constants = JSONObject([("bos_token", "<s>"), ("eos_token", "</s>")])

    static let builders: [ExampleBuilder] = Seeds.templates.map { source in
        guard let template = try? ChatTemplate(source: source, constants: constants)
        else {
            fail("a template is not read: \(source)")
        }
        var options = ExampleOptions()
        options.threads = 1
        return ExampleBuilder(tokenizer: tokenizers[0].0, template: template, options: options)
    }

    static let patches = StorePatches((try? Seeds.store()) ?? [])

    static func prepare() {
        _ = scratch.folder
        _ = builders.count
        guard let shard = try? Seeds.safetensors() else { return }
        for name in ["a.safetensors", "b.safetensors"] { _ = scratch.write("index/" + name, shard) }
    }
}
