import FileFormats
import Foundation
import Testing

@testable import Export

@Suite struct QuantizationMixTests {
    /// Tensors of small models and the types that llama.cpp gave them for each mix.
    static let models: [JSONValue] = {
        let path = fixturesFolder + "/quantised/mixes.json"
        return (try? JSONParser.parse(readFile(path, limit: 1 << 20)))?.arrayValue ?? []
    }()

    @Test func typesAreLlamaCppsTensorByTensor() throws {
        #expect(Self.models.count == 5)
        for model in Self.models {
            let architecture = try #require(model["architecture"]?.stringValue)
            func number(_ key: String) -> UInt32 { UInt32(model[key]?.intValue ?? 0) }
            let metadata: [(key: String, value: GGUFValue)] = [
                ("general.architecture", .string(architecture)),
                (architecture + ".block_count", .uint32(number("block_count"))),
                (architecture + ".attention.head_count", .uint32(number("heads"))),
                (architecture + ".attention.head_count_kv", .uint32(number("key_heads"))),
                (architecture + ".expert_count", .uint32(number("experts"))),
            ]
            let tensors = (model["tensors"]?.arrayValue ?? []).map { tensor in
                let parts = tensor.arrayValue ?? []
                return (name: parts[0].stringValue ?? "", shape: parts[1].arrayValue?.compactMap(\.intValue) ?? [])
            }
            let mixes = model["types"]?.objectValue?.entries ?? []
            #expect(mixes.count == 20 && tensors.count > 30)
            for (name, types) in mixes {
                let parts = name.split(separator: "+")
                let output = try #require(GGUFOutputType(name: String(parts[0])))
                var mix = QuantizationMix(output, metadata: metadata, hasImportance: parts.count > 1)
                let found = mix.types(of: tensors).map(\.name).joined(separator: " ")
                #expect(found == types.stringValue, "\(model["name"]?.stringValue ?? "") \(name)")
            }
        }
    }

    @Test func namesInEitherCase() {
        #expect(GGUFOutputType(name: "Q4_K_M") == .q4_k_m && GGUFOutputType(name: "q4_k") == .q4_k_m)
        #expect(GGUFOutputType(name: "IQ4_XS") == .iq4_xs && GGUFOutputType(name: "MXFP4_MOE") == .mxfp4)
        #expect(GGUFOutputType(name: "q9_9") == nil && GGUFOutputType(name: "") == nil)
    }

    @Test func matricesOfOneRowStayExact() {
        var mix = QuantizationMix(.q4_0, metadata: [], hasImportance: false)
        let types = mix.types(of: [
            ("blk.0.ffn_gate_inp_shexp.weight", [1, 256]), ("blk.0.ffn_up_exps.weight", [1, 64, 256]),
        ])
        #expect(types == [.f32, .q4_0])
    }
}
