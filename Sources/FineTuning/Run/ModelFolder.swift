public import FileFormats
import Foundation
import TensorCore

/// Writes Hugging Face model folders of models whose base was trained.
public enum ModelFolder {
    /// Writes `config.json` and `model.safetensors` into an existing folder, weights in the type the model computes
    /// with (norms too), read from the f32 masters.
    ///
    /// - Throws: `FileError`.
    public static func write(_ model: DecoderModel, into folder: String) throws {
        let type: ElementType = model.dtype == .f32 ? .f32 : .bf16
        var json = model.config.json
        json["architectures"] = [.string(architecture(model.config.family))]
        // Old readers know the first key, new ones the second.
        json["torch_dtype"] = .string(type == .f32 ? "float32" : "bfloat16")
        json["dtype"] = .string(type == .f32 ? "float32" : "bfloat16")
        let text = JSONWriter.text(.object(json), .init(indent: 2)) + "\n"
        try AtomicFile.write(Array(text.utf8), to: folder + "/config.json")
        let writer = try SafetensorsWriter(
            path: folder + "/model.safetensors",
            tensors: model.weights.map { .init(name: $0.name, type: type, shape: $0.shape) },
            metadata: [("format", "pt")])
        for weight in model.weights {
            let source = weight.master ?? weight.value
            let stored = source.converted(to: model.dtype)
            try stored.withBytes { try writer.append(UnsafeRawBufferPointer($0), to: weight.name) }
        }
        try writer.finish()
    }

    private static func architecture(_ family: ModelConfig.Family) -> String {
        switch family {
        case .llama: "LlamaForCausalLM"
        case .mistral: "MistralForCausalLM"
        case .qwen2: "Qwen2ForCausalLM"
        }
    }
}
