import FileFormats
import FineTuning
import Testing

@Suite struct ModelConfigTests {
    private static let small: [(key: String, value: JSONValue)] = [
        ("model_type", "qwen2"), ("vocab_size", 8), ("hidden_size", 8), ("intermediate_size", 8),
        ("num_hidden_layers", 3), ("num_attention_heads", 2),
    ]

    private func config(_ changes: [(key: String, value: JSONValue)]) throws -> ModelConfig {
        var json = JSONObject(Self.small)
        for (key, value) in changes { json[key] = value }
        return try ModelConfig(json: json, path: "config.json")
    }

    @Test(
        "numbers too large to count with are refused, and do not trap",
        arguments: [
            [("max_window_layers", .double(1e300)), ("use_sliding_window", true), ("sliding_window", 4)],
            [("num_attention_heads", 65_536), ("head_dim", 65_536)],
            [("num_hidden_layers", 4096), ("hidden_size", 1_048_576), ("intermediate_size", 4_194_304)],
            [("hidden_size", .double(1e19))], [("num_hidden_layers", -1)],
        ] as [[(key: String, value: JSONValue)]])
    func hugeNumbers(changes: [(key: String, value: JSONValue)]) {
        #expect(throws: FineTuningError.self) { try config(changes) }
    }

    @Test func slidingLayers() throws {
        let config = try config([("max_window_layers", 1), ("use_sliding_window", true), ("sliding_window", 4)])
        #expect(config.windows == [nil, 4, 4])
    }
}
