import FileFormats
import Foundation

@testable import TextData

/// A tokenizer of single bytes with the special tokens of ChatML; built in memory.
func byteTokenizer(specials: [String] = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"], addsBOS: Bool = false) throws
    -> Tokenizer
{
    // The printable alphabet of byte-level tokenizers: bytes that print stand for themselves, others from U+0100 on.
    var vocabulary = JSONObject()
    var next: UInt32 = 0x100
    for byte in UInt32(0)...255 {
        let isPrintable = (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE
        let scalar = Unicode.Scalar(isPrintable ? byte : next) ?? "?"
        if !isPrintable { next += 1 }
        vocabulary[String(scalar)] = .integer(Int(byte))
    }
    let added = specials.enumerated().map { i, content -> JSONValue in
        [
            "id": .integer(256 + i), "content": .string(content), "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        ]
    }
    var json: JSONObject = JSONObject([
        ("version", "1.0"), ("truncation", .null), ("padding", .null), ("added_tokens", .array(added)),
        ("normalizer", .null),
        ("pre_tokenizer", ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true]),
        ("post_processor", .null),
        ("decoder", ["type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true]),
        (
            "model",
            [
                "type": "BPE", "dropout": .null, "unk_token": .null, "continuing_subword_prefix": .null,
                "end_of_word_suffix": .null, "fuse_unk": false, "byte_fallback": false, "vocab": .object(vocabulary),
                "merges": [],
            ]
        ),
    ])
    if addsBOS {
        json["post_processor"] = [
            "type": "TemplateProcessing",
            "single": [["SpecialToken": ["id": "<s>", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]]],
            "pair": [],
            "special_tokens": ["<s>": ["id": "<s>", "ids": [256], "tokens": ["<s>"]]],
        ]
    }
    return try Tokenizer(
        json: .object(json),
        config: ["bos_token": "<s>", "eos_token": .string(specials.contains("</s>") ? "</s>" : "")])
}

let chatML = """
    {% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
    """

/// The texts of the trained runs of an example.
func trainedRuns(_ example: TokenizedExample, _ tokenizer: Tokenizer) -> [String] {
    var runs: [[Int32]] = []
    var wasTrained = false
    for (id, isTrained) in zip(example.ids, example.isTrained) {
        if isTrained { if wasTrained { runs[runs.count - 1].append(id) } else { runs.append([id]) } }
        wasTrained = isTrained
    }
    return runs.map { tokenizer.decode($0, skipSpecialTokens: false) }
}

/// A folder that is removed when the test is over.
final class TemporaryFolder {
    let path: String
    init() throws {
        path = NSTemporaryDirectory() + "graft-text-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ name: String, _ text: String) throws -> String { try write(name, bytes: Array(text.utf8)) }
    func write(_ name: String, bytes: [UInt8]) throws -> String {
        let file = path + "/" + name
        try Data(bytes).write(to: URL(fileURLWithPath: file))
        return file
    }
}
