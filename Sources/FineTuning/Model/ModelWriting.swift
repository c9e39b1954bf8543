import FileFormats
import Foundation
public import TensorCore

extension DecoderModel {
    /// Writes the base as a Hugging Face folder: `config.json` and `model.safetensors`.
    ///
    /// - Parameters:
    ///   - folder: an existing folder, as inside an `AtomicFolder`
    ///   - dtype: the type of the matrices and vectors in the file
    public func writeFolder(_ folder: String, dtype: DType) throws {
        var json = config.json
        json["torch_dtype"] = nil
        json["dtype"] = .string(dtype == .bf16 ? "bfloat16" : "float32")
        if json["architectures"] == nil {
            json["architectures"] = .array([.string(config.family.className)])
        }
        let text = JSONWriter.text(.object(json), .init(indent: 2, sortsKeys: true)) + "\n"
        try AtomicFile.write(Array(text.utf8), to: folder + "/config.json", replacing: true)
        let type: ElementType = dtype == .bf16 ? .bf16 : .f32
        let writer = try SafetensorsWriter(
            path: folder + "/model.safetensors",
            tensors: weights.map { .init(name: $0.name, type: type, shape: $0.shape) }, replacing: true)
        for weight in weights {
            try weight.stored.converted(to: dtype).withBytes {
                try writer.appendFinite(UnsafeRawBufferPointer($0), of: type, to: weight.name)
            }
        }
        try writer.finish()
    }
}

extension SafetensorsWriter {
    /// Appends numbers of a run, which are never published when one is infinite or NaN.
    ///
    /// - Throws: `FineTuningError.diverged`, `FileError`.
    func appendFinite(_ bytes: UnsafeRawBufferPointer, of type: ElementType, to name: String) throws {
        guard ElementConversion.firstNonFinite(bytes, as: type) == nil else {
            throw FineTuningError.diverged(step: nil, detail: "\(name) holds a number that is infinite or NaN")
        }
        try append(bytes, to: name)
    }
}

/// Copies the files by which a model folder turns text into ids, so that they travel with what was trained. Of a GGUF
/// file, whose tokenizer stays in it, the template alone.
public func copyTokenizerFiles(from source: String, to folder: String) throws {
    if TextResources.isGGUF(source), let template = try GGUFFile(path: source)["tokenizer.chat_template"]?.bytesValue {
        return try AtomicFile.write(Array(template.bytes), to: folder + "/chat_template.jinja", replacing: true)
    }
    for name in RunManifest.tokenizerNames.sorted() {
        guard isPlainFile(source + "/" + name) else { continue }
        try AtomicFile.write(try readSideFile(name, in: source), to: folder + "/" + name, replacing: true)
    }
}
