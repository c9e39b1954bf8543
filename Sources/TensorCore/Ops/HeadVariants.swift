internal import CKernels
import Foundation

extension LowRankAdapter {
    /// Whether a head with it goes through `wholeCrossEntropy`.
    public var needsWholeLogits: Bool { magnitude != nil || bias != nil }
}

extension Tape {
    /// Cross-entropy of a head whose products are not simply x W^T, such as one with DoRA: all logits exist at once.
    func wholeCrossEntropy(
        _ x: Tensor, _ head: Projection, _ targets: [Int32], _ shape: LogitShape, _ factors: LossFactors?
    ) -> [Double] {
        let logits = logits(x, head: head, shape: LogitShape())
        let vocabulary = head.outputWidth
        let losses = Tensor([max(1, targets.count)])
        let gradient = isRecording && logits.requiresGradient ? Tensor(logits.shape) : nil
        executor.rows(targets.count, .headAndLoss) { first, count, _ in
            shape.apply(logits.f32 + first * vocabulary, count * vocabulary)
            for row in first..<first + count {
                losses.f32[row] = Float(
                    kernels(.f32).pointee.cross_entropy(
                        gradient?.row(row), logits.f32 + row * vocabulary, vocabulary, targets[row], 1))
                if let gradient {
                    shape.applyBackward(gradient.row(row), .f32, shaped: logits.f32 + row * vocabulary, vocabulary)
                }
            }
        }
        executor.flush()
        if let gradient {
            record([]) { [executor] in
                if let factors { gradient.scaleRows(factors.checked(targets.count), executor) }
                logits.addGradient(gradient, executor)
            }
        }
        return targets.indices.map { Double(losses.f32[$0]) }
    }

    /// The gradients of the rows that stand in for the head's own (`TableRows`), when they learn.
    ///
    /// - Parameter losses: of each row of x, in nats: log sum exp(logits) = loss + logit of the target.
    func recordRowGradients(
        _ x: Tensor, _ head: Projection, _ targets: [Int32], _ losses: Tensor, _ shape: LogitShape,
        _ factors: LossFactors?
    ) {
        guard let rows = head.weight.rows, rows.content.isTrainable, !targets.isEmpty else { return }
        record([]) { [executor] in
            x.restoreContent(executor)
            executor.flush()
            guard let gradient = rows.content.gradient else { return }
            let factors = factors?.checked(targets.count)
            let logSums = Tensor([targets.count])
            let count = targets.count
            let table = head.weight.value
            executor.loop((count + 63) / 64, .headAndLoss) { item, worker in
                for t in item * 64..<min(count, item * 64 + 64) {
                    let score = worker.floats(1, count: 1)
                    worker.multiply(
                        Matrix(x).rows(t, 1), Matrix(table).rows(Int(targets[t]), 1).transposed,
                        into: Matrix(score, rows: 1, columns: 1, .f32))
                    shape.apply(score, 1)
                    logSums.f32[t] = losses.f32[t] + score[0]
                }
            }
            // Blocks of rows, each with a copy of its own in the products' type.
            let block = 16
            executor.loop((rows.indices.count + block - 1) / block, .headAndLoss) { item, worker in
                let first = item * block
                let height = min(block, rows.indices.count - first)
                let content = Matrix(rows.content.value).rows(first, height)
                let scores = worker.floats(1, count: height * count)
                worker.multiply(
                    content, Matrix(x).rows(0, count).transposed,
                    into: Matrix(scores, rows: height, columns: count, .f32))
                shape.apply(scores, height * count)
                for r in 0..<height {
                    for t in 0..<count {
                        let score = scores[r * count + t]
                        let p = exp(score - logSums.f32[t])
                        let isTarget = Int(targets[t]) == rows.indices[first + r]
                        scores[r * count + t] = (isTarget ? p - 1 : p) * shape.slope(score) * (factors?[t] ?? 1)
                    }
                }
                let d = worker.scratch(2, byteCount: height * count * x.dtype.size)
                kernels(x.dtype).pointee.from_f32(d, scores, height * count)
                worker.multiply(
                    Matrix(d, rows: height, columns: count, x.dtype), Matrix(x).rows(0, count),
                    into: Matrix(gradient).rows(first, height), accumulate: true)
            }
        }
    }
}
