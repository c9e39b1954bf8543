internal import CKernels

extension Executor {
    /// target += addend, for f32 targets and any addend, and for bf16 targets with bf16 addends.
    func addInPlace(_ target: Tensor, _ addend: Tensor) {
        precondition(target.count == addend.count)
        let width = target.width
        let bytes = width * (2 * target.dtype.size + addend.dtype.size)
        rows(target.rows, .other, bytesPerRow: bytes) { first, count, worker in
            if target.dtype == .f32 {
                kernels(addend.dtype).pointee.accumulate_f32(
                    target.f32 + first * width, addend.row(first), count * width)
                return
            }
            let buffer = worker.floats(1, count: width)
            for row in first..<first + count {
                kernels(.bf16).pointee.to_f32(buffer, target.row(row), width)
                kernels(addend.dtype).pointee.accumulate_f32(buffer, addend.row(row), width)
                kernels(.bf16).pointee.from_f32(target.row(row), buffer, width)
            }
        }
    }

    /// A copy of `tensor` in `dtype`.
    func copy(_ tensor: Tensor, to dtype: DType) -> Tensor {
        let result = Tensor(tensor.shape, dtype), width = tensor.width
        rows(tensor.rows, .other, bytesPerRow: width * (tensor.dtype.size + dtype.size)) { first, count, _ in
            switch (tensor.dtype, dtype) {
            case (.f32, .bf16):
                kernels(.bf16).pointee.from_f32(result.row(first), tensor.f32 + first * width, count * width)
            case (.bf16, .f32):
                kernels(.bf16).pointee.to_f32(result.f32 + first * width, tensor.row(first), count * width)
            default: result.row(first).copyMemory(from: tensor.row(first), byteCount: count * width * dtype.size)
            }
        }
        return result
    }
}

extension Tape {
    /// Rows `indices` of `x`, in ascending order; `[N, C]`. The gradient of the other rows is zero.
    public func selectRows(_ x: Tensor, _ indices: [Int]) -> Tensor {
        precondition(indices.allSatisfy { 0..<x.rows ~= $0 } && zip(indices, indices.dropFirst()).allSatisfy(<))
        let result = Tensor([indices.count, x.width], x.dtype)
        let rowBytes = x.width * x.dtype.size
        executor.flush()
        executor.rows(indices.count, .other, bytesPerRow: 2 * rowBytes) { first, count, _ in
            for i in first..<first + count {
                result.row(i).copyMemory(from: x.row(indices[i]), byteCount: rowBytes)
            }
        }
        guard x.requiresGradient else { return result }
        record([result]) { [executor] in
            guard let d = result.takeGradient() else { return }
            let dx = Tensor(x.shape, d.dtype), dBytes = d.width * d.dtype.size
            executor.flush()
            executor.rows(x.rows, .other, bytesPerRow: 2 * dBytes) { first, count, _ in
                var next = indices.partitioningIndex(from: first)
                for row in first..<first + count {
                    if next < indices.count, indices[next] == row {
                        dx.row(row).copyMemory(from: d.row(next), byteCount: dBytes)
                        next += 1
                    } else {
                        dx.row(row).initializeMemory(as: UInt8.self, repeating: 0, count: dBytes)
                    }
                }
            }
            x.addGradient(dx, executor)
        }
        return result
    }
}

extension [Int] {
    /// The place of the first element that is at least `value`, in an ascending array.
    fileprivate func partitioningIndex(from value: Int) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if self[middle] < value { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
