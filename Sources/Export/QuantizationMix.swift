import FileFormats
import FineTuning

/// The types of a GGUF file's tensors, by the name that llama.cpp gives the mix.
///
/// `q4_0` to `q8_0`, `q6_k` and the `iq4` types are one type for most matrices; the letters S, M and L say how many of
/// the matrices that suffer most get more bits.
public enum GGUFOutputType: String, CaseIterable, Sendable {
    case f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q4_k_m, q4_k_s, q3_k_l, q3_k_m, q3_k_s, q2_k
    case iq4_nl, iq4_xs, q5_1, q5_0, q4_1, q4_0, mxfp4

    /// By name in either case, with llama.cpp's short forms.
    public init?(name: String) {
        let lowercase = String(decoding: name.utf8.map { $0 >= 0x41 && $0 <= 0x5A ? $0 + 0x20 : $0 }, as: UTF8.self)
        let short = ["q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m", "mxfp4_moe": "mxfp4"]
        self.init(rawValue: short[lowercase] ?? lowercase)
    }

    /// What most matrices become.
    var mainType: GGMLType {
        switch self {
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        case .q4_0: .q4_0
        case .q4_1: .q4_1
        case .q5_0: .q5_0
        case .q5_1: .q5_1
        case .q8_0: .q8_0
        case .q2_k: .q2_K
        case .q3_k_s, .q3_k_m, .q3_k_l: .q3_K
        case .q4_k_s, .q4_k_m: .q4_K
        case .q5_k_s, .q5_k_m: .q5_K
        case .q6_k: .q6_K
        case .iq4_nl: .iq4_nl
        case .iq4_xs: .iq4_xs
        case .mxfp4: .mxfp4
        }
    }

    /// `general.file_type`.
    var fileType: UInt32 {
        switch self {
        case .f32: 0
        case .f16: 1
        case .q4_0: 2
        case .q4_1: 3
        case .q8_0: 7
        case .q5_0: 8
        case .q5_1: 9
        case .q2_k: 10
        case .q3_k_s: 11
        case .q3_k_m: 12
        case .q3_k_l: 13
        case .q4_k_s: 14
        case .q4_k_m: 15
        case .q5_k_s: 16
        case .q5_k_m: 17
        case .q6_k: 18
        case .iq4_nl: 25
        case .iq4_xs: 30
        case .bf16: 32
        case .mxfp4: 38
        }
    }
}

/// Which type each tensor of a file gets: llama.cpp's choices (src/llama-quant.cpp there), so that files of one name
/// are alike.
struct QuantizationMix {
    private enum Role {
        case tokenEmbedding, head, attentionQuery, attentionKey, attentionValue, attentionOutput, feedForwardDown, other
    }

    private let output: GGUFOutputType
    private let hasImportance: Bool
    private let isFalcon: Bool
    private let widensValues: Bool
    private let expertCount: Int
    private let queryHeadsPerKey: Int
    private let layerCount: Int
    private var isTied = true
    private var valueCount = 0
    /// How many tensors of these roles came so far.
    private var values = 0, downs = 0

    /// - Parameter metadata: of the file to be written.
    init(_ output: GGUFOutputType, metadata: [(key: String, value: GGUFValue)], hasImportance: Bool) {
        self.output = output
        self.hasImportance = hasImportance
        func value(_ key: String) -> GGUFValue? { metadata.first { $0.key.hasSameBytes(as: key) }?.value }
        let architecture = value("general.architecture")?.stringValue ?? ""
        func number(_ key: String) -> Int? {
            let found = value(architecture + "." + key)
            return found?.intValue ?? found?.intsValue?.first
        }
        let heads = number("attention.head_count") ?? 0
        let keyHeads = number("attention.head_count_kv") ?? heads
        isFalcon = architecture.hasSameBytes(as: "falcon")
        expertCount = number("expert_count") ?? 0
        layerCount = number("block_count") ?? 0
        queryHeadsPerKey = keyHeads > 0 ? heads / keyHeads : 0
        let layers = layerCount
        widensValues = Family.allCases.contains {
            $0.gguf.architecture.hasSameBytes(as: architecture) && $0.gguf.widensValues(layers, heads != keyHeads)
        }
    }

    /// The type of each tensor.
    ///
    /// - Parameter tensors: names and row-major shapes.
    mutating func types(of tensors: [(name: String, shape: [Int])]) -> [GGMLType] {
        let roles = tensors.map { Self.role($0.name) }
        isTied = !roles.contains(.head)
        valueCount = roles.count { $0 == .attentionValue }
        (values, downs) = (0, 0)
        var types = [GGMLType](repeating: .f32, count: tensors.count)
        // Some choices go by how many tensors of a kind came before: layer by layer, by name within one.
        let order = tensors.indices.sorted { a, b in
            let (first, second) = (Self.layer(tensors[a].name), Self.layer(tensors[b].name))
            return first == second ? ByteString(tensors[a].name) < ByteString(tensors[b].name) : first < second
        }
        for index in order where Self.isQuantized(tensors[index].name, tensors[index].shape) {
            let (name, shape) = tensors[index]
            guard output.mainType.blockLength > 1 else {
                types[index] = output.mainType
                continue
            }
            types[index] = Self.fitting(wanted(roles[index], name, shape), row: shape[shape.count - 1])
        }
        return types
    }

    // MARK: by name

    private static func role(_ name: String) -> Role {
        func has(_ part: String) -> Bool { contains(name, part) }
        if name.hasSameBytes(as: "output.weight") { return .head }
        if name.hasSameBytes(as: "token_embd.weight") || name.hasSameBytes(as: "per_layer_token_embd.weight") {
            return .tokenEmbedding
        }
        if has("attn_qkv.weight") || has("attn_kv_b.weight") || has("attn_v.weight") { return .attentionValue }
        if has("attn_k.weight") { return .attentionKey }
        if has("attn_q.weight") { return .attentionQuery }
        if has("attn_output.weight") { return .attentionOutput }
        return has("ffn_down") ? .feedForwardDown : .other
    }

    /// The number in `blk.N.`, -1 elsewhere.
    private static func layer(_ name: String) -> Int {
        guard name.utf8.starts(with: "blk.".utf8) else { return -1 }
        let digits = name.utf8.dropFirst(4).prefix { (0x30...0x39).contains($0) }
        return Int(String(decoding: digits, as: UTF8.self)) ?? -1
    }

    private static func contains(_ name: String, _ part: String) -> Bool {
        let bytes = Array(name.utf8), wanted = Array(part.utf8)
        guard bytes.count >= wanted.count else { return false }
        return (0...bytes.count - wanted.count).contains { bytes[$0..<$0 + wanted.count].elementsEqual(wanted) }
    }

    /// Matrices whose errors would cost more than their bytes, and what is no matrix, stay f32.
    private static let kept = [
        "_norm.weight", "ffn_gate_inp.weight", "altup", "laurel", "per_layer_model_proj", "ssm_conv1d",
        "shortconv.conv.weight", "position_embd", "token_types",
    ]

    private static func isQuantized(_ name: String, _ shape: [Int]) -> Bool {
        // One row, as a shared expert's gate has, counts as a vector.
        guard shape.drop(while: { $0 == 1 }).count >= 2, name.utf8.suffix(6).elementsEqual("weight".utf8) else {
            return false
        }
        return !kept.contains { contains(name, $0) }
    }

    // MARK: the choices

    private func getsMoreBits(_ index: Int, of count: Int) -> Bool {
        index < count / 8 || index >= 7 * count / 8 || (index - count / 8) % 3 == 2
    }

    private mutating func wanted(_ role: Role, _ name: String, _ shape: [Int]) -> GGMLType {
        let main = output.mainType
        if role == .head || role == .tokenEmbedding && isTied {
            if output == .mxfp4 || main == .q8_0 || isFalcon || shape[shape.count - 1] % main.blockLength != 0 {
                return .q8_0
            }
            return .q6_K
        }
        if output == .mxfp4 { return shape.count == 3 && shape[0] > 1 ? .mxfp4 : .q8_0 }
        switch role {
        case .attentionValue:
            defer { values += 1 }
            return value(main)
        case .attentionKey: return expertCount == 8 ? .q8_0 : main
        case .feedForwardDown:
            defer { downs += 1 }
            return down(main, expertCount > 1 ? Self.layer(name) : downs)
        case .attentionOutput: return attentionOutput(main)
        case .head, .tokenEmbedding, .attentionQuery, .other: return main
        }
    }

    private func value(_ main: GGMLType) -> GGMLType {
        if expertCount == 8 { return .q8_0 }
        var type = main
        switch output {
        case .q2_k: type = queryHeadsPerKey >= 4 ? .q4_K : .q3_K
        case .q3_k_m: type = values < 2 ? .q5_K : .q4_K
        case .q3_k_l: type = .q5_K
        case .iq4_nl, .iq4_xs: if queryHeadsPerKey >= 4 { type = .q5_K }
        case .q4_k_m, .q5_k_m: if getsMoreBits(values, of: valueCount) { type = .q6_K }
        case .q4_k_s: if values < 4 { type = .q5_K }
        default: break
        }
        // Eight query heads share a value head there: more bits cost little.
        return widensValues && (type == .q3_K || type == .q4_K) ? .q5_K : type
    }

    private func down(_ main: GGMLType, _ layer: Int) -> GGMLType {
        let more = getsMoreBits(layer, of: layerCount), isEarly = layer < layerCount / 8
        switch output {
        case .q2_k: return .q3_K
        case .q3_k_m: return layer < layerCount / 16 ? .q5_K : !isFalcon || more ? .q4_K : .q3_K
        case .q3_k_l: return isFalcon ? .q4_K : .q5_K
        case .q4_k_m:
            if isFalcon { return layer < layerCount / 16 ? .q6_K : more ? .q5_K : .q4_K }
            return more ? .q6_K : main
        case .q5_k_m: return more ? .q6_K : main
        case .q4_k_s: return isEarly && !isFalcon ? .q5_K : main
        case .iq4_nl, .iq4_xs: return isEarly && !hasImportance ? .q5_K : main
        case .q4_0: return isEarly && hasImportance ? .q4_1 : main
        case .q5_0: return isEarly && hasImportance ? .q5_1 : main
        default: return main
        }
    }

    private func attentionOutput(_ main: GGMLType) -> GGMLType {
        if isFalcon { return output == .q3_k_l ? .q4_K : main }
        if expertCount == 8 {
            let raised: [GGUFOutputType] = [.q2_k, .q3_k_s, .q3_k_m, .q4_k_s, .q4_k_m, .iq4_nl, .iq4_xs]
            return raised.contains(output) ? .q5_K : main
        }
        switch output {
        case .q2_k: return .q3_K
        case .q3_k_m: return .q4_K
        case .q3_k_l: return .q5_K
        default: return main
        }
    }

    /// `wanted`, or what stands in for it where rows are no whole number of its blocks.
    private static func fitting(_ wanted: GGMLType, row: Int) -> GGMLType {
        guard row % wanted.blockLength != 0 else { return wanted }
        let replacement: GGMLType =
            switch wanted {
            case .q2_K, .q3_K: .q4_0
            case .q4_K: .q5_0
            case .q5_K: .q5_1
            case .q6_K: .q8_0
            case .iq4_xs: .iq4_nl
            default: .f16
            }
        return row % replacement.blockLength == 0 ? replacement : .f16
    }

    /// Tells of matrices whose rows are no whole number of blocks, when there are any.
    static func warnings(
        _ tensors: [(name: String, shape: [Int])], _ types: [GGMLType], _ output: GGUFOutputType
    ) -> [String] {
        let length = output.mainType.blockLength
        let uneven = tensors.indices.filter { index in
            let (name, shape) = tensors[index]
            return isQuantized(name, shape) && shape[shape.count - 1] % length != 0
        }
        guard let first = uneven.first else { return [] }
        let found = Set(uneven.map { types[$0].name }).sorted().joined(separator: ", ")
        return [
            "\(uneven.count) tensors become \(found), because their rows are no multiple of \(length): "
                + "\(tensors[first].name)..."
        ]
    }
}
