/// The linear layers of a block.
public enum LinearRole: Hashable, Sendable {
    case attentionQuery, attentionKey, attentionValue, attentionOutput
    /// q, k and v, one under the other.
    case attentionQueryKeyValue
    case feedForwardGate, feedForwardUp, feedForwardDown
    /// gate over up.
    case feedForwardGateUp
    /// From x to the latents of queries and of keys and values, and from these to the heads.
    case queryDown, queryUp, keyValueDown, keyValueUp
    /// A mixture's router, its shared expert and what multiplies that.
    case router, sharedGate, sharedUp, sharedDown, sharedScale

    /// Layers that read the same input, so that their adapters' A are worth laying next to each other.
    static let sharingInput: [[LinearRole]] = [
        [.attentionQuery, .attentionKey, .attentionValue], [.feedForwardGate, .feedForwardUp],
        [.sharedGate, .sharedUp], [.attentionQuery, .keyValueDown], [.queryDown, .keyValueDown],
    ]
}

/// The norms of a block: of what goes into attention and feed-forward, of what comes out before it is added to the
/// residual stream, and of queries and keys.
public enum NormRole: Hashable, Sendable {
    case attentionInput, attentionOutput, feedForwardInput, feedForwardOutput
    case query, key
    case queryLatent, keyValueLatent
}

/// The names of a block's parts: Hugging Face's, after `model.layers.N.`, which families may have otherwise, and
/// llama.cpp's, after `blk.N.`.
enum ParameterNames {
    static func hugging(_ role: LinearRole) -> String {
        switch role {
        case .attentionQuery: "self_attn.q_proj"
        case .attentionKey: "self_attn.k_proj"
        case .attentionValue: "self_attn.v_proj"
        case .attentionQueryKeyValue: "self_attn.qkv_proj"
        case .attentionOutput: "self_attn.o_proj"
        case .feedForwardGate: "mlp.gate_proj"
        case .feedForwardUp: "mlp.up_proj"
        case .feedForwardGateUp: "mlp.gate_up_proj"
        case .feedForwardDown: "mlp.down_proj"
        case .queryDown: "self_attn.q_a_proj"
        case .queryUp: "self_attn.q_b_proj"
        case .keyValueDown: "self_attn.kv_a_proj_with_mqa"
        case .keyValueUp: "self_attn.kv_b_proj"
        case .router, .sharedGate, .sharedUp, .sharedDown, .sharedScale:
            preconditionFailure("the names of mixtures are in MixtureNames")
        }
    }

    static func gguf(_ role: LinearRole) -> String {
        switch role {
        case .attentionQuery: "attn_q"
        case .attentionKey: "attn_k"
        case .attentionValue: "attn_v"
        case .attentionQueryKeyValue: "attn_qkv"
        case .attentionOutput: "attn_output"
        case .feedForwardGate: "ffn_gate"
        // llama.cpp tells gate over up from up alone by the number of rows.
        case .feedForwardUp, .feedForwardGateUp: "ffn_up"
        case .feedForwardDown: "ffn_down"
        case .queryDown: "attn_q_a"
        case .queryUp: "attn_q_b"
        case .keyValueDown: "attn_kv_a_mqa"
        case .keyValueUp: "attn_kv_b"
        case .router: "ffn_gate_inp"
        case .sharedGate: "ffn_gate_shexp"
        case .sharedUp: "ffn_up_shexp"
        case .sharedDown: "ffn_down_shexp"
        case .sharedScale: "ffn_gate_inp_shexp"
        }
    }

    /// The halves of `.keyValueUp` in newer files of llama.cpp.
    static let keyUp = "attn_k_b", valueUp = "attn_v_b"

    static func hugging(_ role: NormRole) -> String {
        switch role {
        case .attentionInput: "input_layernorm"
        case .attentionOutput: "post_attention_layernorm"
        // The name says where it stands in the block, not what it normalises.
        case .feedForwardInput: "post_attention_layernorm"
        case .feedForwardOutput: "post_feedforward_layernorm"
        case .query: "self_attn.q_norm"
        case .key: "self_attn.k_norm"
        case .queryLatent: "self_attn.q_a_layernorm"
        case .keyValueLatent: "self_attn.kv_a_layernorm"
        }
    }

    /// The experts' matrices of a part, all in one tensor.
    static func gguf(_ part: ExpertPart) -> String {
        switch part {
        case .gate: "ffn_gate_exps"
        case .up: "ffn_up_exps"
        case .gateUp: "ffn_gate_up_exps"
        case .down: "ffn_down_exps"
        }
    }

    static func gguf(_ role: NormRole) -> String {
        switch role {
        case .attentionInput: "attn_norm"
        case .attentionOutput: "post_attention_norm"
        case .feedForwardInput: "ffn_norm"
        case .feedForwardOutput: "post_ffw_norm"
        case .query: "attn_q_norm"
        case .key: "attn_k_norm"
        case .queryLatent: "attn_q_a_norm"
        case .keyValueLatent: "attn_kv_a_norm"
        }
    }
}
