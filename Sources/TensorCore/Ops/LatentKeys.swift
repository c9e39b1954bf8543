internal import CKernels

extension Tape {
    /// Keys and values of all heads from what a latent gives each head and the turned part of a key that they share.
    ///
    /// - Parameters:
    ///   - plain: `[T, heads * (plainDim + valueDim)]`, for each head the plain part of its key and then its value
    ///   - turned: `[T, rotaryDim]`
    /// - Returns: keys `[T, heads * (plainDim + rotaryDim)]` and values `[T, heads * valueDim]`
    public func latentKeysValues(
        _ plain: Tensor, _ turned: Tensor, heads: Int, plainDim: Int, valueDim: Int
    ) -> (keys: Tensor, values: Tensor) {
        precondition(plain.width == heads * (plainDim + valueDim) && plain.rows == turned.rows)
        let (rows, size, rotaryDim) = (plain.rows, plain.dtype.size, turned.width)
        let (headDim, stride) = (plainDim + rotaryDim, plainDim + valueDim)
        let keys = Tensor([rows, heads * headDim], plain.dtype), values = Tensor([rows, heads * valueDim], plain.dtype)
        let loops = kernels(plain.dtype), bytes = (keys.width + values.width) * size
        executor.rows(rows, .attention, bytesPerRow: 2 * bytes) { first, count, _ in
            for head in 0..<heads {
                let source = plain.row(first) + head * stride * size, target = keys.row(first) + head * headDim * size
                loops.pointee.copy_rows(target, keys.width, source, plain.width, count, plainDim)
                loops.pointee.copy_rows(
                    target + plainDim * size, keys.width, turned.row(first), rotaryDim, count, rotaryDim)
                loops.pointee.copy_rows(
                    values.row(first) + head * valueDim * size, values.width, source + plainDim * size, plain.width,
                    count, valueDim)
            }
        }
        guard plain.requiresGradient || turned.requiresGradient else { return (keys, values) }
        record([keys, values]) { [executor] in
            guard let dKeys = keys.takeGradient(), let dValues = values.takeGradient() else { return }
            let dPlain = Tensor(plain.shape, plain.dtype), dTurned = Tensor(turned.shape, turned.dtype)
            executor.rows(rows, .attentionBackward, bytesPerRow: 2 * bytes) { first, count, worker in
                let sum = worker.floats(1, count: rotaryDim)
                for head in 0..<heads {
                    let target = dPlain.row(first) + head * stride * size
                    loops.pointee.copy_rows(
                        target, plain.width, dKeys.row(first) + head * headDim * size, dKeys.width, count, plainDim)
                    loops.pointee.copy_rows(
                        target + plainDim * size, plain.width, dValues.row(first) + head * valueDim * size,
                        dValues.width, count, valueDim)
                }
                for row in first..<first + count {
                    sum.update(repeating: 0, count: rotaryDim)
                    for head in 0..<heads {
                        loops.pointee.accumulate_f32(
                            sum, dKeys.row(row) + (head * headDim + plainDim) * size, rotaryDim)
                    }
                    loops.pointee.from_f32(dTurned.row(row), sum, rotaryDim)
                }
            }
            if plain.requiresGradient { plain.addGradient(dPlain, executor) }
            if turned.requiresGradient { turned.addGradient(dTurned, executor) }
        }
        return (keys, values)
    }
}
