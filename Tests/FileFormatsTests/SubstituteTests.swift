import Foundation
import Testing

@testable import FileFormats

@Suite struct SubstituteTests {
    private let scratch = Scratch()

    private static let pointer = """
        version https://git-lfs.github.com/spec/v1
        oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
        size 12345

        """

    @Test(
        "what downloads leave in a file's place is named",
        arguments: [
            (pointer, "Git LFS pointer, which stands for a file of 12345 bytes"),
            ("<!DOCTYPE html><html>", "HTML page"), ("\u{FEFF}\n <HTML lang=en>", "HTML page"),
            ("<?xml version=\"1.0\"?><Error>", "HTML page"), ("/annex/objects/SHA256E-s1--x", "git-annex"),
            ("Entry not found", "\"Entry not found\""),
        ])
    func named(text: String, expected: String) throws {
        for name in ["model.safetensors", "model.gguf", "config.json"] {
            let path = scratch.write(name, text)
            let error = #expect(throws: FileError.self) {
                switch name {
                case "model.safetensors": _ = try SafetensorsFile(path: path)
                case "model.gguf": _ = try GGUFFile(path: path)
                default: _ = try readJSON(path, limit: 1 << 20)
                }
            }
            #expect(error?.description.contains(expected) == true && error?.exitStatus == .badInput)
        }
    }

    @Test("weights in another format are named", arguments: [("GGUF\u{3}\0\0\0", "GGUF"), ("PK\u{3}\u{4}", "zip")])
    func otherFormats(start: String, expected: String) {
        let path = scratch.write("model.safetensors", start + String(repeating: "x", count: 40))
        let error = #expect(throws: FileError.self) { try SafetensorsFile(path: path) }
        #expect(error?.description.contains(expected) == true && error?.description.contains("damaged") == false)
    }

    @Test(
        "files that only look like one are left alone",
        arguments: ["{\"version\": \"https://git-lfs.github.com/spec/\"}", "versions differ", "[\"<html>\"]", ""])
    func others(text: String) {
        #expect(Substitute(head: Array(text.utf8)) == nil)
    }

    @Test("every type of the format is known by its size, packed ones too", arguments: ElementType.allCases)
    func types(type: ElementType) throws {
        let path = scratch.write(
            "t.safetensors",
            safetensorsBytes(
                #"{"t":{"dtype":"\#(type.rawValue)","shape":[4,2],"data_offsets":[0,\#(type.bits)]}}"#,
                data: [UInt8](repeating: 0, count: type.bits)))
        let entry = try #require(try SafetensorsFile(path: path).entries.first)
        #expect(entry.type == type && entry.elementCount == 8)
        // Seven elements of 4 or 6 bits end inside a byte.
        #expect((type.byteCount(of: [7]) == nil) == (type.bits % 8 != 0))
    }

    @Test func partOfAByte() throws {
        let bytes = safetensorsBytes(#"{"t":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#, data: [0, 0])
        let path = scratch.write("t.safetensors", bytes)
        guard
            case .safetensors(_, .partialByte)? = #expect(
                throws: FileError.self,
                performing: {
                    try SafetensorsFile(path: path)
                })
        else {
            Issue.record()
            return
        }
    }

    // MARK: folders of weights

    private func file(_ tensors: String...) -> [UInt8] {
        let members = tensors.enumerated().map {
            #""\#($1)":{"dtype":"U8","shape":[1],"data_offsets":[\#($0),\#($0 + 1)]}"#
        }
        return safetensorsBytes(
            "{\(members.joined(separator: ","))}", data: [UInt8](repeating: 7, count: tensors.count))
    }

    @Test(
        "weights under other names are missing ones, and named",
        arguments: [
            (["model-00001-of-00002.safetensors"], "model.safetensors.index.json is missing"),
            (["weights.safetensors"], "\"weights.safetensors\""), (["q8.gguf"], "--model q8.gguf"), ([], "neither"),
        ])
    func otherNames(names: [String], expected: String) {
        mkdir(scratch("m"), 0o777)
        for name in names { scratch.write("m/" + name, file("a")) }
        let error = #expect(throws: FileError.self) { try SafetensorsFolder(path: scratch("m")) }
        #expect(error?.exitStatus == .missingInput && error?.description.contains(expected) == true)
    }

    @Test("a single file counts before an index, with a note where they differ")
    func singleFileAndIndex() throws {
        mkdir(scratch("m"), 0o777)
        scratch.write("m/model.safetensors", file("a", "b"))
        func notes(_ map: String) throws -> Int {
            scratch.write("m/model.safetensors.index.json", #"{"weight_map":{\#(map)}}"#)
            let folder = try SafetensorsFolder(path: scratch("m"))
            #expect(folder.entries.count == 2)
            return folder.notes.count
        }
        #expect(try notes(#""a":"model.safetensors","b":"model.safetensors""#) == 0)
        #expect(try notes(#""a":"model.safetensors""#) == 1)
        #expect(try notes(#""a":"1.safetensors","b":"model.safetensors""#) == 1)
        #expect(try notes("") == 1)
    }

    // MARK: paths

    @Test("an output below what a shell would have replaced is not made", arguments: ["~/runs/x", "${RUNS}/x"])
    func unexpandedOutputs(path: String) {
        #expect(throws: FileError.self) { try refuseUnexpanded(scratch(path)) }
        #expect(throws: Never.self) { try refuseUnexpanded(scratch("a~/$x")) }
    }

    @Test("a file in a folder's place is told as such")
    func fileForAFolder() {
        let path = scratch.write("x.gguf", "GGUF")
        let error = #expect(throws: FileError.self) { try SafetensorsFolder(path: path) }
        #expect(error?.exitStatus == .badInput && error?.description.contains("where a folder is expected") == true)
    }

    @Test(
        "a path that a shell would have expanded, and a name on a hub",
        arguments: [
            ("~/models/x", "expands no \"~\""), ("${HOME}/x", "expands no \"${HOME}\""), ("Qwen/Qwen3-0.6B", "hub"),
            ("Qwen/Qwen3-0.6B/adapter_config.json", "Qwen3-0.6B --local-dir"),
            ("data/x.jsonl", "typing errors, and that"),
            ("x.jsonl", "typing errors, and that"),
        ])
    func missing(path: String, expected: String) {
        let error = #expect(throws: FileError.self) { try readFile(scratch(path), limit: 10) }
        #expect(error?.exitStatus == .missingInput && error?.description.contains(expected) == true)
    }
}
