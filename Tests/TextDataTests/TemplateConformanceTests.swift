import FileFormats
import Foundation
import Testing

@testable import TextData

/// Reference data that is not part of the repository; tests that need it report as skipped without it.
enum Conformance {
    static let root: URL = {
        if let path = ProcessInfo.processInfo.environment["GRAFT_CONFORMANCE"] { return URL(fileURLWithPath: path) }
        let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return package.deletingLastPathComponent().appendingPathComponent("shared/conformance")
    }()
    static var hasTemplates: Bool {
        FileManager.default.fileExists(atPath: root.appendingPathComponent("chat_templates/index.json").path)
    }
    static func json(_ path: String) throws -> JSONValue {
        try JSONParser.parse(Array(try Data(contentsOf: root.appendingPathComponent(path))))
    }
}

@Suite(.enabled(if: Conformance.hasTemplates))
struct TemplateConformanceTests {
    static var names: [String] {
        guard let index = try? Conformance.json("chat_templates/index.json") else { return [] }
        return index.arrayValue?.compactMap { $0["name"]?.stringValue }.filter {
            let path = Conformance.root.appendingPathComponent("chat_templates/cases/\($0).json").path
            return FileManager.default.fileExists(atPath: path)
        } ?? []
    }

    @Test(arguments: names)
    func rendersAsTransformers(_ name: String) throws {
        let cases = try Conformance.json("chat_templates/cases/\(name).json")
        let file = try #require(cases["template_file"]?.stringValue)
        let source = try String(
            contentsOf: Conformance.root.appendingPathComponent("chat_templates").appendingPathComponent(file),
            encoding: .utf8)
        let now = try #require(CivilTime(iso: "2026-01-15T09:30:00"))
        let template = try ChatTemplate(
            source: source, name: name,
            constants: JSONObject([
                ("bos_token", cases["bos_token"] ?? ""), ("eos_token", cases["eos_token"] ?? ""),
            ]))
        let conversations = try Conformance.json("chat_templates/conversations.json")["conversations"]?.arrayValue ?? []
        for item in cases["cases"]?.arrayValue ?? [] {
            let wanted = item["conversation"]?.stringValue ?? ""
            let conversation = try #require(conversations.first { $0["name"]?.stringValue == wanted })
            let result = Result {
                try template.render(
                    messages: conversation["messages"]?.arrayValue ?? [], tools: conversation["tools"],
                    addGenerationPrompt: conversation["add_generation_prompt"]?.boolValue ?? false,
                    continueFinalMessage: conversation["continue_final_message"]?.boolValue ?? false,
                    extra: conversation["kwargs"]?.objectValue ?? JSONObject(), now: now)
            }
            switch result {
            case .success(let rendered):
                let expected = item["expected"]?.stringValue
                let isSame = expected.map { rendered.text.hasSameBytes(as: $0) } ?? false
                #expect(
                    isSame,
                    "\(name)/\(wanted)\nfound:    \(rendered.text.debugDescription)\nexpected: \(expected?.debugDescription ?? "error \(item["error"]?.stringValue ?? "")")"
                )
                if let spans = item["generation_spans_code_points"]?.arrayValue {
                    let text = Text(rendered.text)
                    let found = rendered.generationSpans?.map {
                        [text.scalarIndex(ofByte: $0.lowerBound), text.scalarIndex(ofByte: $0.upperBound)]
                    }
                    #expect(found == spans.map { $0.arrayValue?.compactMap(\.intValue) ?? [] })
                }
            case .failure(let error):
                let expected = item["error"]?.stringValue
                #expect(expected != nil, "\(name)/\(wanted): \(error)\nexpected \(item["expected"]?.stringValue ?? "")")
                if case TextError.templateRaised(_, _, let message) = error {
                    #expect(expected?.hasSuffix(message) == true, "\(name)/\(wanted): \(message) | \(expected ?? "")")
                }
            }
        }
    }

    @Test func rendersLlamaCppVectors() throws {
        let vectors = try Conformance.json("chat_templates/llamacpp_test_vectors.json")
        let messages = try #require(vectors["conversation"]?.arrayValue)
        for vector in vectors["cases"]?.arrayValue ?? [] {
            let template = try ChatTemplate(
                source: vector["template"]?.stringValue ?? "", name: vector["name"]?.stringValue ?? "",
                constants: JSONObject([
                    ("bos_token", vector["bos_token"] ?? ""), ("eos_token", vector["eos_token"] ?? ""),
                ]))
            guard let expected = vector["transformers"]?.stringValue else { continue }
            let extra = vector["extra_conversation"]?.arrayValue ?? []
            let text = try template.render(messages: messages + extra, addGenerationPrompt: true).text
            #expect(text.hasSameBytes(as: expected), "\(template.name)")
        }
    }
}
