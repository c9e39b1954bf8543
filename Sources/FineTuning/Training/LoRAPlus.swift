import FileFormats

/// LoRA+ (arXiv:2402.12354): B learns faster than A. The groups are those of PEFT's `create_loraplus_optimizer`.
public struct LoRAPlus: Sendable, Equatable {
    /// The learning rate of B, and of vectors, over that of A.
    public var ratio: Double
    /// The learning rate of updates of the embedding, over that of A.
    public var embeddingFactor: Double

    public init(ratio: Double, embeddingFactor: Double) {
        self.ratio = ratio
        self.embeddingFactor = embeddingFactor
    }

    func group(name: String, dimensions: Int) -> AdamW.Group {
        var group = AdamW.Group()
        func has(_ part: String) -> Bool { name.utf8.firstRange(of: part.utf8) != nil }
        if has(".lora_embedding_") {
            group.rateFactor = embeddingFactor
        } else if has(".lora_B.") || dimensions == 1 {
            group.rateFactor = ratio
        }
        if has("bias") { group.weightDecay = 0 }
        return group
    }
}
