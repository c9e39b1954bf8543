import FileFormats
import TensorCore
import Testing

@testable import FineTuning

@Suite struct FamilyConfigTests {
    private static func base(_ family: Family) -> JSONObject {
        JSONObject([
            ("model_type", .string(family.rawValue)), ("vocab_size", 32), ("hidden_size", 32), ("head_dim", 8),
            ("intermediate_size", 16), ("num_hidden_layers", 6), ("num_attention_heads", 4),
            ("num_key_value_heads", 2), ("max_position_embeddings", 512),
        ])
    }

    private func config(_ family: Family, _ changes: KeyValuePairs<String, JSONValue>) throws -> ModelConfig {
        var json = Self.base(family)
        for (key, value) in changes { json[key] = value }
        return try ModelConfig(json: json, path: "config.json")
    }

    private func problems(_ family: Family, _ changes: KeyValuePairs<String, JSONValue>) -> [String] {
        do {
            _ = try config(family, changes)
            return []
        } catch FineTuningError.unsupportedModel(_, let problems) {
            return problems
        } catch {
            return ["\(error)"]
        }
    }

    private static let dense: [Family] = [
        .llama, .mistral, .qwen2, .qwen3, .gemma, .gemma2, .gemma3, .phi3, .smollm3, .olmo2, .granite, .glm4,
    ]

    @Test("a key that no family is known to ignore is named", arguments: dense)
    func unknownKey(family: Family) {
        #expect(problems(family, [:]).isEmpty)
        let found = problems(family, ["alibi_slopes": 3, "clip_qkv": .double(8), "use_cache": true, "new_key": .null])
        #expect(found.count == 2 && found.contains { $0.hasPrefix("alibi_slopes is 3") })
        #expect(found.contains { $0.hasPrefix("clip_qkv is 8") })
    }

    @Test("keys that Transformers gives a meaning in every family", arguments: dense)
    func sharedKeys(family: Family) {
        #expect(problems(family, ["is_causal": false]) == ["is_causal is false: graft trains causal models"])
        let turnsPartly = [.phi3, .glm4].contains(family)
        #expect(problems(family, ["partial_rotary_factor": .double(0.25)]).isEmpty == turnsPartly)
        #expect(problems(family, ["partial_rotary_factor": .double(1)]).isEmpty)
        let nested: JSONValue = ["full_attention": ["rope_type": "default", "rope_theta": 10_000]]
        let found = problems(family, ["rope_parameters": nested, "rope_scaling": ["type": "linear", "factor": 2]])
        #expect(found.contains { $0.hasPrefix("rope_scaling: rope_parameters says the same") })
    }

    @Test("an option of another family is no option here")
    func otherFamiliesOptions() {
        #expect(problems(.llama, ["residual_multiplier": .double(0.5)]).count == 1)
        #expect(problems(.qwen3, ["final_logit_softcapping": .double(30)]).count == 1)
        #expect(problems(.gemma2, ["use_bidirectional_attention": true]).count == 1)
        #expect(problems(.gemma3, ["attn_logit_softcapping": .double(50)]).count == 1)
        #expect(problems(.phi3, ["hidden_act": "gelu"]).count == 1)
    }

    @Test("what Transformers and training tools write changes nothing", arguments: dense)
    func inertKeys(family: Family) {
        let found = problems(
            family,
            [
                "architectures": ["X"], "torch_dtype": "bfloat16", "dtype": "bfloat16", "use_cache": true,
                "transformers_version": "5.0", "attention_dropout": .double(0), "pretraining_tp": 1,
                "_name_or_path": "x", "unsloth_version": "1", "bos_token_id": 1, "eos_token_id": [1, 2],
                "rope_scaling": .null, "sep_token_id": .null, "initializer_range": .double(0.02),
            ])
        #expect(found.isEmpty)
    }

    @Test("unknown parameters of the rotary embedding are named")
    func unknownRotaryKeys() {
        #expect(problems(.llama, ["rope_scaling": ["rope_type": "ntk-parts", "factor": 2]]).count == 1)
        let new: JSONValue = ["rope_theta": .double(5e5)], old: JSONValue = ["rope_type": "linear", "factor": 2]
        let lost = problems(.llama, ["rope_parameters": new, "rope_scaling": old])
        #expect(lost.contains { $0.contains("lose the rope_theta") })
        let kept = problems(.llama, ["rope_parameters": new, "rope_scaling": old, "rope_theta": .double(5e5)])
        #expect(kept.isEmpty)
        #expect(problems(.llama, ["rope_scaling": ["rope_type": "linear", "factor": 2, "bend": 1]]).count == 1)
        #expect(problems(.llama, ["rope_parameters": ["rope_type": "longrope", "factor": 2]]).count == 2)
        #expect(problems(.llama, ["partial_rotary_factor": .double(0.1)]).count == 1)
    }

    @Test("rotary parameters that implementations pass over, or that no number can stand for, are named")
    func misplacedRotaryParameters() throws {
        let flat: JSONValue = ["rope_type": "default", "rope_theta": 500]
        let nested: JSONValue = ["full_attention": flat, "sliding_attention": flat]
        for family in Self.dense {
            let isLayered = family == .gemma3
            #expect(problems(family, ["rope_parameters": nested]).isEmpty == isLayered)
            #expect(problems(family, ["rope_parameters": flat]).isEmpty != isLayered)
        }
        let mixed = problems(.gemma3, ["rope_parameters": ["full_attention": flat, "rope_theta": 500]])
        #expect(mixed.count == 1 && mixed[0].hasPrefix("rope_parameters.rope_theta"))
        #expect(problems(.gemma3, ["rope_parameters": ["full_attention": flat, "sliding_attention": .null]]).isEmpty)
        #expect(problems(.gemma3, ["rope_scaling": ["rope_type": "dynamic", "factor": 2]]).count == 1)
        let none: JSONValue = ["rope_type": "default", "partial_rotary_factor": 0]
        #expect(problems(.glm4, ["rope_parameters": none]).first?.contains("partial_rotary_factor: expected") == true)
        let unrounded: JSONValue = ["rope_type": "yarn", "factor": 2, "truncate": .null]
        if case .yarn(_, _, _, _, _, let truncates) = try config(.llama, ["rope_scaling": unrounded]).rotaries[0]
            .scaling
        {
            #expect(!truncates, "null is false")
        }
        let old: JSONValue = ["type": "linear", "factor": 2]
        #expect(problems(.gemma3, ["rope_scaling": old]).first?.hasPrefix("rope_scaling.type is 'linear'") == true)
        #expect(problems(.llama, ["rope_scaling": old]).isEmpty)

        for value: JSONValue in [0, -1, "x"] {
            let yarn: JSONValue = ["rope_type": "yarn", "factor": 2, "attention_factor": value]
            #expect(problems(.llama, ["rope_scaling": yarn]).first?.hasPrefix("rope_scaling.attention_factor") == true)
        }
        let zeros: JSONValue = ["rope_type": "yarn", "factor": 2, "mscale": 0, "beta_fast": 0]
        #expect(problems(.llama, ["rope_scaling": zeros]).isEmpty)
        #expect(problems(.llama, ["rope_scaling": ["type": "linear"]]) == ["rope_scaling.factor is missing"])
    }

    @Test("biases that llama.cpp has no place for are reasons against a GGUF file, by the key's name")
    func biasesWithoutAPlace() throws {
        for key in ["attention_bias", "mlp_bias"] {
            for family: Family in [.llama, .granite, .smollm3] {
                let config = try config(family, [key: true])
                let found = family.definition.gguf.problems(config).contains { $0.hasPrefix(key) }
                #expect(found == (family == .smollm3))
            }
        }
    }

    @Test("null is false, where Transformers takes it at all")
    func nullFlags() throws {
        let absent = try config(.deepseekV3, [:]), null = try config(.deepseekV3, ["norm_topk_prob": .null])
        #expect(absent.mixture?.router.normalizes == true && null.mixture?.router.normalizes == false)
    }

    @Test("layers that slide where the switch is off, or where a family has one kind alone")
    func contradictoryWindows() {
        let sliding: JSONValue = "sliding_attention", full: JSONValue = "full_attention"
        let types: JSONValue = [sliding, full, sliding, full, sliding, full]
        for family: Family in [.qwen2, .qwen3, .smollm3, .qwen3MoE] {
            #expect(problems(family, ["layer_types": types, "sliding_window": 8]).count == 1)
        }
        let on: KeyValuePairs<String, JSONValue> = [
            "layer_types": types, "sliding_window": 8, "use_sliding_window": true,
        ]
        #expect(problems(.qwen2, on).isEmpty && problems(.smollm3, on).isEmpty && problems(.qwen3MoE, on).count == 1)
    }

    @Test("older and newer spellings mean the same")
    func spellings() throws {
        let old = try config(
            .llama, ["rope_theta": .double(5e5), "rope_scaling": ["type": "linear", "factor": .double(4)]])
        let new = try config(
            .llama, ["rope_parameters": ["rope_type": "linear", "rope_theta": .double(5e5), "factor": .double(4)]])
        #expect(old.rotaries[0].inverseFrequencies() == new.rotaries[0].inverseFrequencies())

        let pattern = try config(
            .gemma3,
            [
                "sliding_window_pattern": 3, "sliding_window": 16, "rope_theta": .double(1e6),
                "rope_local_base_freq": .double(2e4), "rope_scaling": ["rope_type": "linear", "factor": .double(8)],
            ])
        let sliding: JSONValue = "sliding_attention", full: JSONValue = "full_attention"
        let types = try config(
            .gemma3,
            [
                "layer_types": [sliding, sliding, full, sliding, sliding, full], "sliding_window": 16,
                "rope_parameters": [
                    "full_attention": ["rope_type": "linear", "rope_theta": .double(1e6), "factor": .double(8)],
                    "sliding_attention": ["rope_type": "default", "rope_theta": .double(2e4)],
                ],
            ])
        #expect(pattern.windows == [16, 16, nil, 16, 16, nil] && types.windows == pattern.windows)
        #expect(pattern.layers.map(\.rotary) == [1, 1, 0, 1, 1, 0])
        for (a, b) in zip(pattern.rotaries, types.rotaries) {
            #expect(a.inverseFrequencies() == b.inverseFrequencies())
        }

        let partial = try config(.glm4, ["partial_rotary_factor": .double(0.5)])
        let nested = try config(.glm4, ["rope_parameters": ["partial_rotary_factor": .double(0.5)]])
        #expect(partial.rotaries[0].dimensions == 4 && nested.rotaries[0].dimensions == 4)
        #expect(try config(.glm4, [:]).rotaries[0].dimensions == 4)
        #expect(try config(.smollm3, [:]).layers.map { $0.rotary == nil } == [false, false, false, true, false, false])
    }

    @Test("LongRoPE's divisors change where a sequence outgrows the first context")
    func longrope() throws {
        let config = try config(
            .phi3,
            [
                "original_max_position_embeddings": 64,
                "rope_scaling": [
                    "type": "su", "short_factor": [1, 1, 1, 1], "long_factor": [2, 4, 8, 16],
                ],
            ])
        let rotary = config.rotaries[0]
        #expect(rotary.variant(ofLength: 64) == 0 && rotary.variant(ofLength: 65) == 1)
        #expect(rotary.outdatesKeys(from: 64, to: 65) && !rotary.outdatesKeys(from: 65, to: 66))
        let ratios = zip(rotary.inverseFrequencies(variant: 0), rotary.inverseFrequencies(variant: 1)).map { $0 / $1 }
        #expect(ratios == [2, 4, 8, 16])
        // sqrt(1 + log(512 / 64) / log(64))
        #expect(abs(rotary.attentionFactor - 1.2247448713915892) < 1e-12)
        let rows = RotaryTables([rotary]).rotations(positions: [0, 1, 0, 1], lengths: [64, 64, 65, 65])[0].rows
        #expect(rows == [0, 1, 256, 257])
    }
}
