/// The linear layers of a block.
public enum LinearRole: Hashable, Sendable {
    case attentionQuery, attentionKey, attentionValue, attentionOutput
    /// q, k and v, one under the other.
    case attentionQueryKeyValue
    case feedForwardGate, feedForwardUp, feedForwardDown
    /// gate over up.
    case feedForwardGateUp

    /// Layers that read the same input, so that their adapters' A are worth laying next to each other.
    static let sharingInput: [[LinearRole]] = [
        [.attentionQuery, .attentionKey, .attentionValue], [.feedForwardGate, .feedForwardUp],
    ]
}

/// The norms of a block: of what goes into attention and feed-forward, of what comes out before it is added to the
/// residual stream, and of queries and keys.
public enum NormRole: Hashable, Sendable {
    case attentionInput, attentionOutput, feedForwardInput, feedForwardOutput
    case query, key
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
        }
    }

    static func hugging(_ role: NormRole) -> String {
        switch role {
        case .attentionInput: "input_layernorm"
        case .attentionOutput: "post_attention_layernorm"
        // The name says where it stands in the block, not what it normalises.
        case .feedForwardInput: "post_attention_layernorm"
        case .feedForwardOutput: "post_feedforward_layernorm"
        case .query: "self_attn.q_norm"
        case .key: "self_attn.k_norm"
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
        }
    }
}
