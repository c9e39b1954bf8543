import Foundation
import Host
import TensorCore

extension TrainingRun {
    /// Refuses a run that cannot fit into the memory this process may use, before the model is read.
    ///
    /// Counts what the run needs at the least: the longest row alone in its micro-batch, activations recomputed where
    /// the recipe allows it, and of a mapped file's experts those that a token takes: a mixture larger than memory
    /// trains from its file.
    /// - Parameter longest: tokens of the longest row.
    /// - Throws: `RunError.notEnoughMemory` with the estimate and what would fit.
    func checkMemory(_ config: ModelConfig, teacher: ModelConfig?, dtype: DType, longest: Int) throws {
        let isFull = recipe.adapter.method == .full
        var plan = MemoryPlan(
            config, dtype: dtype, trainableCount: isFull ? config.parameterCount : 0, threads: pool.count,
            quantization: recipe.training.quantization)
        if let frozen = try frozenBytes(dtype) { (plan.weightBytes, plan.idleExpertBytes) = (frozen, 0) }
        if let teacher { plan.add(teacher: teacher, dtype: dtype) }
        try checkMemory(plan, dtype: dtype, longest: longest)
    }

    /// The same once the adapter is there, with its matrices, their gradients and moments. Those of experts take room
    /// when the first token comes: the share of experts that `tokens` reach, were they spread evenly, counts.
    func checkMemory(_ plan: MemoryPlan, _ config: ModelConfig, dtype: DType, longest: Int, tokens: Int) throws {
        var plan = plan
        if let router = config.mixture?.router {
            let missed = pow(1 - Double(router.active) / Double(router.experts), Double(tokens))
            plan.trainableBytes = Int(Double(plan.trainableBytes) * (1 - missed))
        }
        try checkMemory(plan, dtype: dtype, longest: longest)
    }

    private func checkMemory(_ plan: MemoryPlan, dtype: DType, longest: Int) throws {
        guard let limit = recipe.training.memoryBytes ?? ProcessMemory.limitBytes else { return }
        var plan = plan
        let isFull = recipe.adapter.method == .full
        let isCheckpointed = recipe.training.activationCheckpointing != .off
        let recomputed = isCheckpointed ? plan.layerCount : 0
        plan.variesInLength = false
        let needed = plan.workingSetBytes(microbatchTokens: longest, recomputed: recomputed)
        guard needed > limit else { return }
        func mebibytes(_ bytes: Int) -> String { "\(max(0, bytes) >> 20) MiB" }
        let fixed = plan.workingSetBytes(microbatchTokens: 0, recomputed: recomputed)
        var lines = [
            "not enough memory: about \(mebibytes(needed)) are needed (the weights and what learns "
                + "\(mebibytes(plan.weightBytes + plan.trainableBytes - plan.idleExpertBytes)), a row of \(longest) "
                + "tokens \(mebibytes(needed - fixed))), and \(mebibytes(limit)) may be used"
        ]
        if let limit = AddressSpace.limit, recipe.training.memoryBytes == nil {
            lines.append(
                "the address space is limited to \(mebibytes(limit)) (ulimit -v), of which libraries and stacks take "
                    + mebibytes(AddressSpace.idle))
        }
        let tokens = (limit - fixed) / max(1, plan.bytesPerToken(recomputed: plan.layerCount))
        if !isFull, plan.trainableBytes > limit / 4 {
            lines.append(
                "what learns takes \(mebibytes(plan.trainableBytes)): a lower adapter.rank or fewer adapter.targets "
                    + "need less")
        }
        if tokens >= 2 {
            lines.append("rows of at most \(tokens) tokens would fit: set data.max_length and data.overlong")
        } else if isFull {
            lines.append("adapter.method: lora needs far less")
        }
        if !isCheckpointed { lines.append("training.activation_checkpointing: true keeps less for the backward pass") }
        if dtype == .f32, supportsBF16Products { lines.append("training.precision: bf16 halves the weights") }
        // Experts that are quantised no longer lie in their file.
        if !isFull, plan.idleExpertBytes == 0, recipe.training.quantization == .none, try frozenBytes(dtype) == nil {
            lines.append("training.quantization: nf4 keeps the frozen weights in a quarter of the memory of bf16")
        }
        if let allowed = recipe.training.memoryBytes, ProcessMemory.limitBytes.map({ needed <= $0 }) ?? true {
            lines.append("training.memory allows \(mebibytes(allowed)); the machine has enough for this run")
        }
        throw RunError.notEnoughMemory(lines)
    }
}

extension TrainingData.Sample {
    static let longestAnswer = 128
    /// About how long the samples of one side of a run may take, in seconds.
    private static let budget = 15.0

    /// Tokens of an answer that the report can afford: making one reads every weight, at 8 GB a second or so.
    static func affordableTokens(_ model: DecoderModel, samples: Int) -> Int {
        let seconds = Double(model.config.parameterCount * model.dtype.size) / 8e9
        return max(16, min(longestAnswer, Int(budget / max(1e-9, seconds) / Double(max(1, samples)))))
    }
}
