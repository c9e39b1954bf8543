import FileFormats

extension ConfigReader {
    /// The family that `model_type` names; nil with a problem that says why there is none.
    mutating func family() -> Family? {
        let type = text("model_type")
        if let family = type.flatMap(Family.init(rawValue:)) { return family }
        guard problems.isEmpty else { return nil }
        if let type { report(reason(notToRun: type)) } else { report(missingType()) }
        return nil
    }

    private static var known: String { "graft runs " + Family.allCases.map(\.rawValue).joined(separator: ", ") }

    private mutating func missingType() -> String {
        let classes = list("architectures").compactMap(\.stringValue)
        let family = Family.allCases.first { family in classes.contains { $0.hasSameBytes(as: family.className) } }
        return "model_type is missing; "
            + (family.map { "for \($0.className), which architectures names, it is \"\($0.rawValue)\"" } ?? Self.known)
    }

    /// Where models of several media hold the configuration of the part that reads and writes text.
    private static let textParts = ["text_config", "llm_config", "language_config", "thinker_config"]
    private static let otherParts = ["vision_config", "visual", "audio_config", "vision_tower", "mm_vision_tower"]

    private mutating func reason(notToRun type: String) -> String {
        let start = "model_type is '\(type)'"
        for key in Self.textParts {
            guard isObject(key), let part = object(key) else { continue }
            let name = part["model_type"]?.stringValue
            guard let name, let family = Family(rawValue: name) else {
                return "\(start), a multimodal model; its text part (\(key)) is "
                    + (name.map { "'\($0)'" } ?? "of a type that it does not name") + "; \(Self.known)"
            }
            return "\(start), a multimodal model; its text part (\(key)) is "
                + "\(family.rawValue), which graft runs. Give that part alone: a folder with the tokenizer, a config.json "
                + "that is what stands under \(key), and the text part's tensors, named from 'model.' on; Transformers "
                + "writes one with \(family.className)'s save_pretrained"
        }
        if Self.otherParts.contains(where: has) {
            return "\(start), a multimodal model; \(Self.known), which take text alone"
        }
        let near = nearest(to: type.lowercased(), among: Family.allCases.map(\.rawValue))
        return start + (near.map { "; did you mean '\($0)'? " } ?? "; ") + Self.known
    }
}
