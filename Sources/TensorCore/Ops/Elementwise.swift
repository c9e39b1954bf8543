internal import CKernels

/// How T rows are cut into tiles. The cut depends on T alone, never on the number of threads, so that results do not.
struct RowTiles {
    let count: Int
    private let size: Int
    private let total: Int

    /// Large enough for products at full speed, small enough that a tile's rows stay in cache.
    init(_ rows: Int, largest: Int = 256) {
        total = rows
        size = rows >= largest * 8 ? largest : min(largest, max(16, (rows / 8 + 15) / 16 * 16))
        count = (rows + size - 1) / size
    }

    func first(_ tile: Int) -> Int { tile * size }
    func rows(_ tile: Int) -> Int { min(size, total - tile * size) }
}

extension WorkerPool {
    /// Calls `body` with ranges that cover `0..<count`, each a multiple of 16 long but the last.
    func forRanges(_ count: Int, atLeast smallest: Int = 4096, _ body: (Int, Int) -> Void) {
        guard count > 0 else { return }
        let pieces = max(1, min(64, count / smallest))
        let size = ((count + pieces - 1) / pieces + 15) / 16 * 16
        parallelFor((count + size - 1) / size) { i, _ in body(i * size, min(size, count - i * size)) }
    }

    /// target += addend, for f32 targets and any addend, and for bf16 targets with bf16 addends.
    func addInPlace(_ target: Tensor, _ addend: Tensor) {
        precondition(target.count == addend.count)
        forRanges(target.count) { first, count in
            if target.dtype == .f32 {
                kernels(addend.dtype).pointee.accumulate_f32(
                    target.f32 + first, addend.raw + first * addend.dtype.size, count)
            } else {
                withUnsafeTemporaryAllocation(of: Float.self, capacity: 4096) { buffer in
                    for start in stride(from: first, to: first + count, by: 4096) {
                        let length = min(4096, first + count - start)
                        kernels(.bf16).pointee.to_f32(buffer.baseAddress, target.raw + start * 2, length)
                        kernels(addend.dtype).pointee.accumulate_f32(
                            buffer.baseAddress, addend.raw + start * addend.dtype.size, length)
                        kernels(.bf16).pointee.from_f32(target.raw + start * 2, buffer.baseAddress, length)
                    }
                }
            }
        }
    }

    /// `tensor` in another type; the same tensor where it has that type.
    func converted(_ tensor: Tensor, to dtype: DType) -> Tensor {
        guard tensor.dtype != dtype else { return tensor }
        let result = Tensor(tensor.shape, dtype)
        forRanges(tensor.count) { first, count in
            if dtype == .bf16 {
                kernels(.bf16).pointee.from_f32(result.raw + first * 2, tensor.f32 + first, count)
            } else {
                kernels(.bf16).pointee.to_f32(result.f32 + first, tensor.raw + first * 2, count)
            }
        }
        return result
    }
}

extension Tape {
    /// SwiGLU (arXiv:2002.05202): silu(gate) * up, all `[T, F]`.
    public func swiGLU(gate: Tensor, up: Tensor) -> Tensor {
        precondition(gate.shape == up.shape && gate.dtype == up.dtype)
        let result = Tensor(gate.shape, gate.dtype)
        let (loops, size) = (kernels(gate.dtype), gate.dtype.size)
        pool.forRanges(gate.count) { first, count in
            let offset = first * size
            loops.pointee.swiglu(result.raw + offset, gate.raw + offset, up.raw + offset, count)
        }
        guard gate.requiresGradient || up.requiresGradient else { return result }
        record([result]) { [pool] in
            guard let d = result.takeGradient() else { return }
            let (dGate, dUp) = (Tensor(gate.shape, gate.dtype), Tensor(up.shape, up.dtype))
            pool.forRanges(gate.count) { first, count in
                let offset = first * size
                loops.pointee.swiglu_backward(
                    dGate.raw + offset, dUp.raw + offset, d.raw + offset, gate.raw + offset, up.raw + offset, count)
            }
            if gate.requiresGradient { gate.addGradient(dGate, pool) }
            if up.requiresGradient { up.addGradient(dUp, pool) }
        }
        return result
    }

    /// Rows `indices` of `x`, which may repeat; `[N, C]`. The gradient of the other rows is zero.
    public func selectRows(_ x: Tensor, _ indices: [Int]) -> Tensor {
        let result = Tensor([indices.count, x.width], x.dtype)
        let rowBytes = x.width * x.dtype.size
        precondition(indices.allSatisfy { 0..<x.rows ~= $0 })
        for (i, index) in indices.enumerated() { result.row(i).copyMemory(from: x.row(index), byteCount: rowBytes) }
        guard x.requiresGradient else { return result }
        record([result]) { [pool] in
            guard let d = result.takeGradient() else { return }
            let dx = Tensor.zeros(x.shape)
            for (i, index) in indices.enumerated() {
                kernels(d.dtype).pointee.accumulate_f32(dx.f32 + index * d.width, d.row(i), d.width)
            }
            x.addGradient(pool.converted(dx, to: d.dtype), pool)
        }
        return result
    }
}
