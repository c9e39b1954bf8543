import FileFormats
import Foundation
import Testing

@testable import FineTuning

@Suite struct ConfigTypesTests {
    private static func base(_ family: Family) -> JSONObject {
        var json = JSONObject([
            ("model_type", .string(family.rawValue)), ("vocab_size", 32), ("hidden_size", 32), ("head_dim", 8),
            ("intermediate_size", 16), ("num_hidden_layers", 4), ("num_attention_heads", 4),
            ("num_key_value_heads", 2), ("max_position_embeddings", 512),
        ])
        if family == .gptOSS { json["rope_parameters"] = ["rope_type": "default", "rope_theta": 10_000] }
        return json
    }

    private func problems(_ json: JSONObject) -> [String] {
        do {
            _ = try ModelConfig(json: json, path: "config.json")
            return []
        } catch FineTuningError.unsupportedModel(_, let problems) {
            return problems
        } catch {
            return ["\(error)"]
        }
    }

    private static let numbers = [
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "initializer_range", "rope_theta",
        "partial_rotary_factor", "original_max_position_embeddings",
    ]
    private static let flags = ["tie_word_embeddings", "is_causal"]
    private static let objects = ["rope_scaling", "rope_parameters", "quantization_config"]
    private static let ids = ["bos_token_id", "eos_token_id", "pad_token_id"]
    private static let wrong: [JSONValue] = ["x", "8", ["a": 1], [[1]], true, 7, .double(1.5)]

    @Test("a value of the wrong type is told by its key and never counts as absent", arguments: Family.allCases)
    func wrongTypes(family: Family) {
        #expect(problems(Self.base(family)).isEmpty)
        func check(_ keys: [String], _ isWrong: (JSONValue) -> Bool) {
            for key in keys {
                for value in Self.wrong where isWrong(value) {
                    var json = Self.base(family)
                    json[key] = value
                    let found = problems(json).filter { $0.hasPrefix(key) && $0.contains("expected") }
                    #expect(!found.isEmpty, "\(key): \(JSONWriter.text(value)) gives \(problems(json))")
                }
            }
        }
        check(Self.numbers) { $0.doubleValue == nil }
        check(Self.flags) { $0.boolValue == nil }
        check(Self.objects) { $0.objectValue == nil }
        check(Self.ids) { $0.intValue == nil }
        check(["eos_token_id[0]"].map { String($0.prefix(12)) }) { $0.arrayValue != nil }
    }

    @Test(
        "keys of single families, and nested ones",
        arguments: [
            (Family.llama, "hidden_act", 32, "hidden_act: expected a string, found 32"),
            (.llama, "hidden_act", .null, "hidden_act: expected a string, found null"),
            (.llama, "rms_norm_eps", .null, "rms_norm_eps: expected a number from 0, found null"),
            (.llama, "hidden_size", .double(32.5), "hidden_size: expected an integer from 1 to 1048576, found 32.5"),
            (.qwen3, "layer_types", "x", "layer_types: expected a list, found \"x\""),
            (
                .gemma2, "layer_types", ["full_attention", 3, "x", "x"],
                "layer_types[1]: expected full_attention or sliding_attention, found 3"
            ),
            (.llama, "rope_scaling", ["rope_type": 7], "rope_scaling.rope_type: expected a string, found 7"),
            (
                .llama, "rope_scaling", ["type": "llama3", "factor": 2, "low_freq_factor": "1", "high_freq_factor": 4],
                "rope_scaling.low_freq_factor: expected a positive number, found \"1\""
            ),
            (
                .llama, "rope_scaling", ["type": "yarn", "factor": 2, "truncate": "no"],
                "rope_scaling.truncate: expected true or false, found \"no\""
            ),
            (.smollm3, "no_rope_layers", ["a", 1, 1, 1], "no_rope_layers[0]: expected 0 or 1, found \"a\""),
            (.qwen3MoE, "mlp_only_layers", "x", "mlp_only_layers: expected an integer or a list of them, found \"x\""),
            (.granite, "logits_scaling", "2", "logits_scaling: expected a positive number, found \"2\""),
            (.deepseekV3, "topk_method", 3, "topk_method: expected a string, found 3"),
            (.llama, "model_type", 3, "model_type: expected a string, found 3"),
        ] as [(Family, String, JSONValue, String)])
    func single(family: Family, key: String, value: JSONValue, expected: String) {
        var json = Self.base(family)
        json[key] = value
        #expect(problems(json).contains { $0.hasPrefix(expected) }, "\(problems(json))")
    }

    @Test("all of them are told at once") func together() {
        var json = Self.base(.llama)
        for key in ["hidden_act", "rms_norm_eps", "tie_word_embeddings", "rope_scaling"] { json[key] = ["x"] }
        #expect(problems(json).count == 4)
    }

    @Test("sound spellings: whole numbers with a point, null for a default, integers for real numbers")
    func sound() {
        var json = Self.base(.llama)
        for (key, value) in [
            ("vocab_size", .double(32)), ("rope_theta", 10_000), ("rms_norm_eps", 0), ("rope_scaling", .null),
            ("num_key_value_heads", .null), ("eos_token_id", [1, 2]), ("layer_types", .null), ("attention_bias", .null),
        ] as [(String, JSONValue)] { json[key] = value }
        #expect(problems(json).isEmpty, "\(problems(json))")
    }

    @Test("a multimodal model's text part is named, and a type that is nearly right")
    func otherTypes() {
        func problem(_ changes: JSONObject) -> String { problems(changes).joined() }
        let text: JSONValue = ["model_type": "gemma3_text"]
        let gemma = problem(JSONObject([("model_type", "gemma3"), ("text_config", text), ("vision_config", ["a": 1])]))
        #expect(gemma.contains("multimodal") && gemma.contains("(text_config) is gemma3_text, which graft runs"))
        let other = JSONObject([("model_type", "llama4"), ("text_config", ["model_type": "llama4_text"])])
        #expect(problem(other).contains("'llama4_text'; graft runs"))
        #expect(problem(JSONObject([("model_type", "qwen2_vl"), ("vision_config", ["a": 1])])).contains("multimodal"))
        #expect(problem(JSONObject([("model_type", "Llama")])).contains("did you mean 'llama'"))
        #expect(problem(JSONObject([("architectures", ["Qwen3ForCausalLM"])])).contains("it is \"qwen3\""))
    }

    @Test("end tokens of a generation_config.json that are no ids")
    func stops() throws {
        let folder = NSTemporaryDirectory() + "/graft-stops-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let tokenizer = #"{"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}"#
        try AtomicFile.write(Array(tokenizer.utf8), to: folder + "/tokenizer.json")
        func load(_ eos: String) throws -> TextResources {
            let text = #"{"eos_token_id": \#(eos)}"#
            try AtomicFile.write(Array(text.utf8), to: folder + "/generation_config.json", replacing: true)
            return try TextResources(path: folder)
        }
        #expect(try load("[1, 0]").stopTokens == [0, 1])
        for wrong in ["\"b\"", "1.5", "[1, \"b\"]", "{}", "true"] {
            let error = #expect(throws: FineTuningError.self) { try load(wrong) }
            #expect(error?.description.contains("eos_token_id") == true, "\(wrong)")
        }
    }
}
