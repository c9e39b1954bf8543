internal import CKernels

extension ExpertsCall {
    /// What the backward pass of the tiles leaves for the gradients of weights and of x.
    private struct Gradients {
        /// `[slots, 2 F]`; `[slots, C]` of x.
        var inner: Tensor
        var input: Tensor?
        /// Gradients of what A gives; those of the down projection are times the slot's weight.
        var hidden, hiddenDown: Tensor?
        /// `[T, active]`, f32
        var weights: Tensor
    }

    func backward(_ dOutput: Tensor) {
        let count = max(1, slots.count)
        let gradients = Gradients(
            inner: Tensor([count, 2 * width], dtype),
            input: x.requiresGradient ? Tensor([count, x.width], dtype) : nil,
            hidden: hidden.map { Tensor($0.shape, $0.dtype) },
            hiddenDown: hiddenDown.map { Tensor($0.shape, $0.dtype) },
            weights: Tensor([x.rows, slots.active]))
        let tiles = slots.tiles.sorted { $0.rows > $1.rows }
        executor.loop(tiles.count, .expertsBackward) { [self] i, worker in
            propagate(tiles[i], dOutput, gradients, worker)
        }
        let work = slots.experts.flatMap {
            weightGradients($0.expert, Array(slots.tiles[$0.tiles]), dOutput, gradients)
        }
        executor.loop(work.count, .weightGradients) { i, worker in work[i](worker) }
        if routing.weights.requiresGradient { routing.weights.addGradient(gradients.weights, executor) }
        guard let dInput = gradients.input else { return }
        let dx = Tensor(x.shape, dtype), width = x.width
        executor.rows(x.rows, .expertsBackward, bytesPerRow: (slots.active + 1) * width * dtype.size) {
            [self] first, count, worker in
            let sum = worker.floats(1, count: width)
            for row in first..<first + count {
                sum.update(repeating: 0, count: width)
                for choice in row * slots.active..<(row + 1) * slots.active {
                    loops.pointee.accumulate_f32(sum, dInput.row(Int(slots.slots[choice])), width)
                }
                loops.pointee.from_f32(dx.row(row), sum, width)
            }
        }
        x.addGradient(dx, executor)
    }

    private func propagate(_ tile: Tile, _ dOutput: Tensor, _ gradients: Gradients, _ worker: Worker) {
        let d = gather(dOutput, tile, worker, slot: 1)
        let dActive = Matrix(worker.floats(3, count: tile.rows * width), rows: tile.rows, columns: width, .f32)
        multiplyBack(d, experts.down, tile.expert, into: dActive, accumulate: false, worker)
        propagateAdapters(
            experts.downAdapters, columnsDown, gradients.hiddenDown, d, tile, into: dActive, worker, isDown: true)
        let scales = weigh(tile, d, dActive, gradients, worker)
        let scaled = Matrix(
            worker.scratch(4, byteCount: tile.rows * width * dtype.size), rows: tile.rows, columns: width, dtype)
        loops.pointee.store_rows(
            scaled.pointer, width, dActive.pointer.assumingMemoryBound(to: Float.self), width, scales, tile.rows, width)
        let dInner = Matrix(gradients.inner).rows(tile.first, tile.rows)
        activateBackward(tile, scaled, into: dInner, worker)
        let sum = Matrix(worker.floats(5, count: tile.rows * x.width), rows: tile.rows, columns: x.width, .f32)
        if gradients.input != nil {
            var column = 0
            for projection in experts.gateUp {
                multiplyBack(
                    dInner.columns(column, projection.outputWidth), projection, tile.expert, into: sum,
                    accumulate: column > 0, worker)
                column += projection.outputWidth
            }
        }
        propagateAdapters(
            experts.gateUpAdapters, columns, gradients.hidden, dInner, tile,
            into: gradients.input == nil ? nil : sum, worker, isDown: false)
        if let dInput = gradients.input {
            loops.pointee.from_f32(
                dInput.row(tile.first), sum.pointer.assumingMemoryBound(to: Float.self), tile.rows * x.width)
        }
    }

    /// The gradients of the slots' weights; then the weights of the tile's slots, by which the hidden values of the
    /// down projection and their gradients are multiplied, since these gradients were made from an unweighted dO.
    private func weigh(
        _ tile: Tile, _ d: Matrix, _ dActive: Matrix, _ gradients: Gradients, _ worker: Worker
    ) -> UnsafePointer<Float> {
        let active = activate(tile, worker), values = dActive.pointer.assumingMemoryBound(to: Float.self)
        let plain = worker.scratch(4, byteCount: tile.rows * width * dtype.size)
        loops.pointee.from_f32(plain, values, tile.rows * width)
        let dots = worker.floats(6, count: tile.rows), scales = worker.floats(8, count: tile.rows)
        loops.pointee.row_dots(dots, plain, width, active.pointer, width, tile.rows, width)
        scales.update(repeating: 0, count: tile.rows)
        let bias = experts.down.biases.map { biases -> UnsafeMutableRawPointer in
            let count = d.columns, copy = worker.scratch(9, byteCount: count * dtype.size)
            loops.pointee.from_f32(copy, biases.value.f32 + tile.expert * count, count)
            return copy
        }
        for i in 0..<tile.used {
            let choice = Int(slots.choices[tile.first + i])
            scales[i] = routing.weights.f32[choice]
            var ofBias: Float = 0
            if let bias {
                loops.pointee.row_dots(
                    &ofBias, d.pointer + i * d.columns * dtype.size, d.columns, bias, d.columns, 1, d.columns)
            }
            gradients.weights.f32[choice] = dots[i] + ofBias
        }
        for low in [hiddenDown, gradients.hiddenDown].compactMap({ $0 }) {
            for i in 0..<tile.rows {
                let row = low.row(tile.first + i)
                loops.pointee.scale(row, row, scales[i], low.width)
            }
        }
        return UnsafePointer(scales)
    }

    /// dh = dy scale B of a tile, and with it dh A added to `sum`.
    private func propagateAdapters(
        _ adapters: [ExpertAdapter], _ columns: [Int], _ dHidden: Tensor?, _ dy: Matrix, _ tile: Tile,
        into sum: Matrix?, _ worker: Worker, isDown: Bool
    ) {
        for i in adapters.indices {
            guard let dHidden else { return }
            let all = Matrix(dHidden).rows(tile.first, tile.rows).columns(columns[i], adapters[i].rank)
            guard let adapter = adapters[i].parts[tile.expert] else {
                all.fillZero()
                continue
            }
            let low = all.columns(0, adapter.rank)
            worker.multiply(dy.columns(adapters[i].column, adapter.outputWidth), Matrix(adapter.scaledB), into: low)
            guard let sum else { continue }
            guard let dropout else {
                worker.multiply(low, Matrix(adapter.a.value), into: sum, accumulate: true)
                continue
            }
            let masked = Matrix(
                worker.floats(7, count: tile.rows * sum.columns), rows: tile.rows, columns: sum.columns, .f32)
            worker.multiply(low, Matrix(adapter.a.value), into: masked)
            for i in 0..<tile.used {
                let choice = Int(slots.choices[tile.first + i]), offset = i * sum.columns
                kernels(.f32).pointee.dropout_backward(
                    sum.pointer.assumingMemoryBound(to: Float.self) + offset,
                    masked.pointer.assumingMemoryBound(to: Float.self) + offset, key(isDown: isDown),
                    counter(choice, isDown: isDown), dropout.probability, sum.columns)
            }
        }
    }

    // MARK: gradients of weights, each item the owner of what it adds to

    private func weightGradients(_ expert: Int, _ tiles: [Tile], _ dOutput: Tensor, _ gradients: Gradients)
        -> [(Worker) -> Void]
    {
        var work: [(Worker) -> Void] = []
        var column = 0
        for projection in experts.gateUp {
            let (first, count) = (column, projection.outputWidth)
            column += count
            work += weightWork(of: projection, expert, tiles) { [self] tile, worker in
                (
                    Matrix(gradients.inner).rows(tile.first, tile.rows).columns(first, count),
                    gather(x, tile, worker, slot: 1)
                )
            }
        }
        work += weightWork(of: experts.down, expert, tiles) { [self] tile, worker in
            (gather(dOutput, tile, worker, slot: 1, isWeighted: true), activate(tile, worker))
        }
        work += adapterWork(of: experts.gateUpAdapters, columns, hidden, gradients.hidden, expert, tiles) {
            [self] tile, adapter, worker in
            (
                Matrix(gradients.inner).rows(tile.first, tile.rows).columns(adapter.column, adapter.width),
                { self.dropped(self.gather(self.x, tile, worker, slot: 1), tile, worker) }
            )
        }
        work += adapterWork(of: experts.downAdapters, columnsDown, hiddenDown, gradients.hiddenDown, expert, tiles) {
            [self] tile, _, worker in
            (
                gather(dOutput, tile, worker, slot: 1),
                { self.droppedDown(self.activate(tile, worker), tile, worker) }
            )
        }
        return work
    }

    /// - Parameter operands: dy and the input of a tile.
    private func weightWork(
        of projection: ExpertProjection, _ expert: Int, _ tiles: [Tile],
        _ operands: @escaping (Tile, Worker) -> (dy: Matrix, input: Matrix)
    ) -> [(Worker) -> Void] {
        let weight = projection.gradient(expert), bias = projection.biases?.gradient
        guard weight != nil || bias != nil else { return [] }
        return [
            { [self] worker in
                for tile in tiles {
                    let (dy, input) = operands(tile, worker)
                    if let weight, weight.columnStride == 1 {
                        worker.multiply(input.transposed, dy, into: weight, accumulate: true)
                    } else if let weight {
                        worker.multiply(dy.transposed, input, into: weight.transposed, accumulate: true)
                    }
                    if let bias {
                        for i in 0..<tile.rows {
                            loops.pointee.accumulate_f32(
                                bias.f32 + expert * dy.columns, dy.pointer + i * dy.rowStride * dtype.size, dy.columns)
                        }
                    }
                }
            }
        ]
    }

    /// - Parameter operands: dy of the columns that the adapter adds to, and what makes its input.
    private func adapterWork(
        of adapters: [ExpertAdapter], _ columns: [Int], _ hidden: Tensor?, _ dHidden: Tensor?, _ expert: Int,
        _ tiles: [Tile],
        _ operands: @escaping (Tile, (column: Int, width: Int), Worker) -> (dy: Matrix, input: () -> Matrix)
    ) -> [(Worker) -> Void] {
        adapters.indices.compactMap { i in
            guard let hidden, let dHidden, let adapter = adapters[i].parts[expert], adapter.isTrainable
            else { return nil }
            return { worker in
                let rank = adapter.rank, output = adapter.outputWidth
                let piece = Matrix(worker.floats(10, count: output * rank), rows: output, columns: rank, .f32)
                for (number, tile) in tiles.enumerated() {
                    let (dy, input) = operands(tile, (adapters[i].column, output), worker)
                    func low(_ tensor: Tensor) -> Matrix {
                        Matrix(tensor).rows(tile.first, tile.rows).columns(columns[i], rank)
                    }
                    worker.multiply(dy.transposed, low(hidden), into: piece, accumulate: number > 0)
                    guard let dA = adapter.a.gradient else { continue }
                    worker.multiply(
                        low(dHidden).transposed, input(), into: Matrix(dA), accumulate: true)
                }
                adapter.addGradientOfB(
                    piece.pointer.assumingMemoryBound(to: Float.self), first: 0, count: output)
            }
        }
    }
}
