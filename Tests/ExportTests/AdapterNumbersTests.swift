import FileFormats
import FineTuning
import Foundation
import TensorCore
import Testing

@testable import Export

/// Adapters and models whose numbers, names or types are not what they should be.
@Suite struct AdapterNumbersTests {
    let scratch = Scratch()
    let pool = WorkerPool(threads: 2)
    private let module = "model.layers.0.self_attn.q_proj"
    private var keyB: String { "base_model.model.\(module).lora_B.weight" }

    /// Writes a safetensors file again with other names, types or values.
    private func rewrite(
        _ path: String, name: (String) -> String? = { $0 }, type: ElementType = .f32,
        values: (String, [Float]) -> [Float] = { $1 }, adding: [(name: String, shape: [Int], values: [Float])] = []
    ) throws {
        let file = try SafetensorsFile(path: path)
        let kept = file.entries.compactMap { entry in name(entry.name).map { ($0, entry) } }
        let contents =
            kept.map { (name: $0.0, shape: $0.1.shape, values: values($0.1.name, file.floats(of: $0.1))) } + adding
        let writer = try SafetensorsWriter(
            path: path + ".new", tensors: contents.map { .init(name: $0.name, type: type, shape: $0.shape) })
        for content in contents {
            if type == .f32 {
                try writer.append(content.values, to: content.name)
            } else {
                try writer.append([UInt8](repeating: 1, count: content.values.count * type.size), to: content.name)
            }
        }
        try writer.finish()
        try #require(rename(path + ".new", path) == 0)
    }

    private func tensors(_ name: String) -> String { scratch(name + "/adapter_model.safetensors") }

    private func adapter(_ name: String, seed: UInt64 = 1, extra: JSONObject = JSONObject()) throws -> String {
        try TinyModel().writeAdapter(to: scratch(name), modules: [(module, 4)], extra: extra, seed: seed)
        return scratch(name)
    }

    /// All that reads an adapter refuses it, with what the text has to hold, and writes nothing.
    private func expectRefused(
        _ adapter: String, _ words: [String], _ location: SourceLocation = #_sourceLocation
    ) throws {
        let model = scratch("m"), out = scratch("out"), good = scratch("good")
        if !scratch.names.contains("m") {
            try TinyModel().write(to: model)
            _ = try self.adapter("good", seed: 9)
        }
        let svd = AdapterCombination(method: .svd)
        let uses: [(String, () throws -> Void)] = [
            ("resize", { _ = try resizeAdapter(adapter, rank: 2, to: out) }),
            ("scale", { try scaleAdapter(adapter, by: 2, to: out) }),
            ("svd", { try svd.write([(good, 1), (adapter, 1)], to: out, pool: pool) }),
            ("cat", { try AdapterCombination(method: .cat).write([(adapter, 1)], to: out, pool: pool) }),
            ("mlx", { try MLXAdapter.write(adapter, to: out) }),
            ("gguf", { _ = try exportGGUFAdapter(model: model, adapter: adapter, output: out) }),
            ("lora", { _ = try convertToPlainLoRA(adapter, model: model, rank: nil, to: out, pool: pool) }),
            ("merge", { _ = try mergeModel(model: model, adapter: adapter, output: out, pool: pool) }),
            (
                "attach",
                { try DecoderModel(folder: model, dtype: .f32).attachAdapters([(adapter, 1), (good, 1)]) }
            ),
        ]
        for (name, use) in uses {
            do {
                try use()
                Issue.record("\(name) took the adapter", sourceLocation: location)
            } catch let error as any GraftError {
                #expect(error.exitStatus == .badInput, "\(name)", sourceLocation: location)
                for word in words {
                    #expect(error.description.contains(word), "\(name): \(error)", sourceLocation: location)
                }
            }
            #expect(!FileManager.default.fileExists(atPath: out), "\(name)", sourceLocation: location)
        }
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity]) func numbersThatAreNone(value: Float) throws {
        let adapter = try adapter("a")
        func damaged(_ name: String, _ values: [Float]) -> [Float] {
            name.hasSuffix("lora_B.weight") ? values.dropLast() + [value] : values
        }
        try rewrite(tensors("a"), values: damaged)
        try expectRefused(adapter, [keyB, "infinite or NaN"])
        let object = try AdapterObject(folder: adapter, refusesNonFinite: false)
        #expect(!object.norm(object.pairs[0]).isFinite)
        #expect(try object.file.nonFiniteTensors() == [keyB])
    }

    @Test(arguments: [ElementType.i64, .i32, .u8, .bool, .f64]) func typesThatAreNoWeights(type: ElementType) throws {
        let adapter = try adapter("a")
        try rewrite(tensors("a"), type: type)
        try expectRefused(adapter, ["lora_A.weight", type.rawValue])
    }

    @Test(arguments: [
        "model.", "_orig_mod.base_model.model.", "module.base_model.model.", "base_model.model._orig_mod.",
        "base_model.model._fsdp_wrapped_module.", "",
    ]) func namesUnderOtherPrefixes(prefix: String) throws {
        let adapter = try adapter("a")
        try rewrite(tensors("a"), name: { prefix + $0.dropFirst("base_model.model.".count) })
        try expectRefused(adapter, ["no LoRA pair that graft knows", prefix + "model.layers.0", "base_model.model."])
    }

    @Test func adapterNamesInTheKeys() throws {
        let adapter = try adapter("a")
        try rewrite(tensors("a"), name: { $0.dropLast("weight".count) + "default.weight" })
        try expectRefused(adapter, ["lora_A.default.weight"])
    }

    @Test func oneTensorThatNothingExplains() throws {
        let adapter = try adapter("a")
        try rewrite(
            tensors("a"), adding: [("base_model.model.score.weight", [2, 16], [Float](repeating: 0, count: 32))])
        try expectRefused(adapter, ["1 tensors are no part", "base_model.model.score.weight"])
    }

    @Test func emptyTensorsOfZeRO3() throws {
        let adapter = try adapter("a")
        let names = try SafetensorsFile(path: tensors("a")).entries.map(\.name)
        let writer = try SafetensorsWriter(
            path: tensors("a"), tensors: names.map { .init(name: $0, type: .f32, shape: [0]) }, replacing: true)
        try writer.finish()
        try expectRefused(adapter, ["all 2 tensors are empty", "ZeRO-3"])
    }

    @Test func otherForms() throws {
        let adapter = try adapter("a")
        try #require(rename(tensors("a"), adapter + "/adapter_model.bin") == 0)
        try expectRefused(adapter, ["adapter_model.bin", "run code", "save_pretrained"])
        try #require(rename(adapter + "/adapter_model.bin", adapter + "/adapters.safetensors") == 0)
        try expectRefused(adapter, ["mlx-lm", "graft adapter convert \(adapter) --to peft"])
    }

    @Test func factorsThatGoBeyondF32() throws {
        let adapter = try adapter("a")
        #expect(throws: ExportError.self) { try scaleAdapter(adapter, by: 1e300, to: scratch("o")) }
        #expect(throws: ExportError.self) {
            try AdapterCombination(method: .svd).write([(adapter, 1e300)], to: scratch("o"), pool: pool)
        }
        #expect(scratch.names == ["a"])
    }

    // MARK: bases

    @Test(arguments: [ElementType.f32, .f16, .bf16]) func damagedBases(type: ElementType) throws {
        var model = TinyModel()
        model.type = type
        try model.write(to: scratch("good"))
        try model.write(to: scratch("m"))
        // The last element of a tensor that no adapter changes, so that its bytes are passed on.
        let path = scratch("m/model.safetensors")
        let file = try SafetensorsFile(path: path)
        let entry = try #require(file.entry(named: "model.layers.1.self_attn.k_proj.weight"))
        var all = try readFile(path, limit: 1 << 20)
        let start = all.count - file.entries.reduce(0) { max($0, $1.byteRange.upperBound) }
        for i in 0..<type.size { all[start + entry.byteRange.upperBound - 1 - i] = 0xFF }
        try AtomicFile.write(all, to: path, replacing: true)
        let adapter = try adapter("a")
        let uses: [(String, () throws -> Void)] =
            [
                (
                    "merge",
                    { _ = try mergeModel(model: scratch("m"), adapter: adapter, output: scratch("o"), pool: pool) }
                ),
                ("copy", { _ = try mergeModel(model: scratch("m"), adapter: nil, output: scratch("o"), pool: pool) }),
                (
                    "extract",
                    {
                        _ = try extractAdapter(base: scratch("good"), tuned: scratch("m"), rank: 2, to: scratch("o"))
                    }
                ),
                (
                    "nf4",
                    {
                        _ = try DecoderModel(
                            folder: scratch("m"), dtype: .f32, training: .frozen, quantization: .nf4, pool: pool)
                    }
                ),
            ]
            + [GGUFOutputType.q8_0, .q4_0, .f16, .f32].map { type in
                (
                    String(describing: type),
                    {
                        _ = try exportGGUF(
                            model: scratch("m"), adapter: nil, output: scratch("o"), options: .init(type: type),
                            pool: pool)
                    }
                )
            }
        for (name, use) in uses {
            do {
                try use()
                Issue.record("\(name) took the base")
            } catch let error as any GraftError {
                #expect(error.exitStatus == .badInput)
                #expect(
                    error.description.contains("k_proj") || error.description.contains("attn_k"), "\(name): \(error)")
            }
            #expect(scratch.names == ["a", "good", "m"], "\(name)")
        }
    }

    @Test func startsFromADamagedBase() throws {
        try TinyModel().write(to: scratch("m"))
        func damaged(_ name: String, _ values: [Float]) -> [Float] {
            name.contains("layers.1.self_attn.q_proj") ? values.map { _ in .nan } : values
        }
        try rewrite(scratch("m/model.safetensors"), values: damaged)
        for name in ["pissa", "olora"] {
            let model = try DecoderModel(folder: scratch("m"), dtype: .f32)
            var problems: [String] = []
            let config = AdapterConfig(
                json: JSONObject([
                    ("peft_type", "LORA"), ("r", 2), ("lora_alpha", 4), ("target_modules", ["q_proj"]),
                    ("init_lora_weights", .string(name)),
                ]), problems: &problems)
            do {
                try model.attachNewAdapters(config, seed: 1, pool: pool)
                Issue.record("\(name) took the base")
            } catch let error as FineTuningError {
                #expect(error.exitStatus == .badInput && error.description.contains("layers.1.self_attn.q_proj"))
            }
        }
    }

    // MARK: tables of a vocabulary

    /// PEFT puts whole tables into the file where the vocabulary was, or could have been, resized.
    @Test(arguments: [false, true]) func tablesOfTheVocabulary(isTied: Bool) throws {
        var model = TinyModel()
        model.isTied = isTied
        try model.write(to: scratch("m"))
        let adapter = try adapter("a")
        let table = (0..<20 * 16).map { Float($0) / 320 }
        try rewrite(tensors("a"), adding: [("base_model.model.model.embed_tokens.weight", [20, 16], table)])
        _ = try mergeModel(model: scratch("m"), adapter: adapter, output: scratch("o"), pool: pool)
        let merged = try SafetensorsFolder(path: scratch("o"))
        let embedding = try #require(merged.entry(named: "model.embed_tokens.weight"))
        #expect(merged.floats(of: embedding) == table)
        if isTied {
            // What the embedding is, the head of a tied model is as well.
            let head = merged.entry(named: "lm_head.weight").map { merged.floats(of: $0) }
            #expect(head == nil || head == table)
        }
        let (attached, whole) = (
            try DecoderModel(folder: scratch("m"), dtype: .f32), try DecoderModel(folder: scratch("o"), dtype: .f32)
        )
        try attached.attachAdapter(folder: adapter)
        let difference = largestDifference(
            attached.logits(tokens: [1, 5, 19], pool: pool).floats(),
            whole.logits(tokens: [1, 5, 19], pool: pool).floats())
        #expect(difference < 1e-4)
    }

    @Test func resizedTablesAreNamed() throws {
        try TinyModel().write(to: scratch("m"))
        let adapter = try adapter("a")
        try rewrite(
            tensors("a"),
            adding: [("base_model.model.model.embed_tokens.weight", [22, 16], [Float](repeating: 0, count: 352))])
        do {
            _ = try mergeModel(model: scratch("m"), adapter: adapter, output: scratch("o"), pool: pool)
            Issue.record("a table of another vocabulary was taken")
        } catch let error as FineTuningError {
            #expect(error.description.contains("22 rows") && error.description.contains("resize"))
        }
    }

    // MARK: configurations

    @Test func pythonPatternsInFiles() throws {
        try TinyModel().write(to: scratch("m"))
        for (index, pattern) in [
            #"(?P<layer>model\.layers\.0)\.self_attn\.(?P<proj_1>q_proj)\Z"#, #".*\.0\..*(?P<a>q)_(?P<b>p)roj"#,
            #"(?i).*\.0\..*Q_PROJ"#, #".*(?P<x>0).*q_proj(?P=x)?"#, #"(?a:.*\.0\..*q_proj)"#,
            "what (does not compile",
        ].enumerated() {
            let adapter = try adapter("a\(index)", extra: JSONObject([("target_modules", .string(pattern))]))
            let report = try mergeModel(
                model: scratch("m"), adapter: adapter, output: scratch("o\(index)"), pool: pool)
            #expect(report.mergedModules == 1, "\(pattern)")
        }
    }

    @Test func whatMakesNoDifferenceIsTaken() throws {
        try TinyModel().write(to: scratch("m"))
        let adapter = try adapter(
            "a",
            extra: JSONObject([
                ("fan_in_fan_out", true), ("alora_invocation_tokens", .null), ("arrow_config", .null),
                ("corda_config", .null), ("layer_replication", .null), ("lora_ga_config", .null),
                ("megatron_config", .null), ("megatron_core", "megatron.core"), ("peft_version", "0.21.2"),
                ("qalora_group_size", 16), ("runtime_config", ["ephemeral_gpu_offload": false]), ("use_bdlora", .null),
                ("use_qalora", false), ("target_parameters", .null), ("task_type", .null), ("eva_config", .null),
            ]))
        let report = try mergeModel(model: scratch("m"), adapter: adapter, output: scratch("o"), pool: pool)
        #expect(report.mergedModules == 1 && report.largestChange > 0)
    }

    @Test(
        arguments: [
            ("alora_invocation_tokens", [1]), ("arrow_config", ["top_k": 1]), ("layer_replication", [[0, 1]]),
            ("megatron_config", ["a": 1]), ("use_bdlora", ["a": 1]), ("use_qalora", true),
            ("init_lora_weights", "lora_ga"),
            ("init_lora_weights", 3), ("bias", [1, 2]), ("lora_dropout", "much"), ("base_model_name_or_path", 7),
            ("fan_in_fan_out", "yes"), ("eva_config", 5), ("r", 0), ("r", -1), ("r", 4_611_686_018_427_387_904),
            ("r", 2.5), ("lora_alpha", 1e308), ("lora_alpha", "8"), ("lora_alpha", .double(.leastNonzeroMagnitude)),
            ("rank_pattern", ["q_proj": 4_611_686_018_427_387_904]), ("alpha_pattern", ["q_proj": 1e300]),
            ("rank_pattern", [1]), ("trainable_token_indices", ["embed_tokens": [9_223_372_036_854_775_807]]),
            ("layers_to_transform", "all"), ("revision", 1), ("exclude_modules", 4), ("modules_to_save", ["a": 1]),
        ] as [(String, JSONValue)]) func settingsAreNamed(key: String, value: JSONValue) throws
    {
        try TinyModel().write(to: scratch("m"))
        let adapter = try adapter("a", extra: JSONObject([(key, value)]))
        do {
            _ = try mergeModel(model: scratch("m"), adapter: adapter, output: scratch("o"), pool: pool)
            Issue.record("\(key) was taken")
        } catch let error as any GraftError {
            #expect(error.exitStatus == .badInput && error.description.contains(key), "\(error)")
        }
    }

    // MARK: text

    @Test func aVocabularyAloneKeepsTheBasesTemplate() throws {
        for (name, text) in [
            ("m/chat_template.jinja", "t"), ("m/tokenizer_config.json", "{}"), ("m/tokenizer.json", "base"),
            ("a/tokenizer.json", "own"), ("b/chat_template.jinja", "own"), ("c/tokenizer.json", "own"),
            ("c/tokenizer_config.json", #"{"chat_template": "own"}"#), ("n/tokenizer_config.json", "{}"),
        ] {
            mkdir(scratch(String(name.prefix(1))), 0o777)
            try AtomicFile.write(Array(text.utf8), to: scratch(name))
        }
        func places(_ model: String, _ adapter: String?) -> [String] {
            let sources = TextSources(model: scratch(model), adapter: adapter.map { scratch($0) })
            return [sources.vocabulary, sources.settings, sources.template].map { String($0.suffix(1)) }
        }
        #expect(places("m", nil) == ["m", "m", "m"])
        #expect(places("m", "a") == ["a", "m", "m"])
        #expect(places("m", "b") == ["m", "m", "b"])
        #expect(places("m", "c") == ["c", "c", "c"])
        #expect(places("n", "a") == ["a", "n", "n"])
    }
}
