internal import CKernels

extension Tape {
    /// residual + sum over a token's experts of weight * expert(x): tokens grouped by expert, so that each product has
    /// as many rows as its expert has tokens. Experts without tokens are not touched.
    ///
    /// - Parameters:
    ///   - x: `[T, C]`
    ///   - residual: `[T, C]`, f32, as is the result
    ///   - dropout: as for `linear`; the inputs of the down projection draw from a stream of their own.
    public func experts(
        _ x: Tensor, _ routing: Routing, _ experts: Experts, addedTo residual: Tensor, dropout: AdapterDropout? = nil
    ) -> Tensor {
        precondition(routing.weights.rows == x.rows && residual.rows == x.rows)
        precondition(residual.width == experts.down.outputWidth)
        let result = Tensor(residual.shape)
        let call = ExpertsCall(
            executor: executor, x: x, routing: routing, experts: experts,
            dropout: dropout.flatMap { $0.probability > 0 ? $0 : nil })
        call.forward(residual, into: result, squares: inputSquares)
        guard
            x.requiresGradient || residual.requiresGradient || routing.weights.requiresGradient
                || experts.isTrainable
        else { return result }
        record([result]) { [executor] in
            guard let d = result.takeGradient() else { return }
            // A copy even where the type stays: the residual's gradient goes on to change.
            let dOutput = executor.copy(d, to: x.dtype)
            if residual.requiresGradient { residual.addGradient(d, executor) }
            x.restoreContent(executor)
            executor.flush()
            call.backward(dOutput)
        }
        return result
    }
}

/// One call of `Tape.experts`, forward and backward. With dO the gradient at a slot's token, w its weight and a the
/// activated values: dw = a (dO W_down), da = w dO W_down, and so on down to dx, which is summed over a token's slots.
final class ExpertsCall {
    let executor: Executor
    let x: Tensor
    let routing: Routing
    let experts: Experts
    let dropout: AdapterDropout?
    let slots: ExpertSlots
    /// Gate and up values, `[slots, 2 F]`.
    let inner: Tensor
    /// What the adapters' A make of x and of the activated values, `[slots, sum of ranks]`.
    let hidden, hiddenDown: Tensor?
    /// The first column of each adapter in these.
    let columns, columnsDown: [Int]

    typealias Tile = ExpertSlots.Tile
    typealias Worker = WorkerPool.Worker
    var dtype: DType { x.dtype }
    var loops: UnsafePointer<graft_kernel_table> { kernels(dtype) }
    var width: Int { experts.innerWidth }

    init(executor: Executor, x: Tensor, routing: Routing, experts: Experts, dropout: AdapterDropout?) {
        self.executor = executor
        self.x = x
        self.routing = routing
        self.experts = experts
        self.dropout = dropout
        executor.flush()
        slots = ExpertSlots(routing, experts: experts.count, width: executor.pool.width)
        // Experts that no token comes to do without values.
        for (expert, _) in slots.experts {
            for projection in experts.gateUp + [experts.down] { projection.make(expert) }
            for adapter in experts.gateUpAdapters + experts.downAdapters { adapter.parts[expert]?.make() }
        }
        let count = slots.count
        func allocate(_ adapters: [ExpertAdapter]) -> (Tensor?, [Int]) {
            let columns = adapters.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1.rank) }
            return (columns.last! > 0 ? Tensor([max(1, count), columns.last!], x.dtype) : nil, columns)
        }
        inner = Tensor([max(1, count), 2 * experts.innerWidth], x.dtype)
        (hidden, columns) = allocate(experts.gateUpAdapters)
        (hiddenDown, columnsDown) = allocate(experts.downAdapters)
    }

    // MARK: forward

    func forward(_ residual: Tensor, into result: Tensor, squares: InputSquares?) {
        let output = Tensor([max(1, slots.count), result.width], dtype)
        let tiles = slots.tiles.sorted { $0.rows > $1.rows }
        let sums = squares.map { _ in TileSquares(tiles: tiles.count, x.width, width) }
        executor.loop(tiles.count, .experts) { [self] i, worker in
            let tile = tiles[i], input = gather(x, tile, worker, slot: 1)
            let inner = Matrix(inner).rows(tile.first, tile.rows)
            var column = 0
            for projection in experts.gateUp {
                multiply(input, projection, tile, into: inner.columns(column, projection.outputWidth), worker)
                column += projection.outputWidth
            }
            addAdapters(experts.gateUpAdapters, columns, hidden, dropped(input, tile, worker), tile, to: inner, worker)
            let active = activate(tile, worker), y = Matrix(output).rows(tile.first, tile.rows)
            if let sums {
                sumSquares(of: input, tile, into: sums.inputs, at: i)
                sumSquares(of: active, tile, into: sums.active, at: i)
            }
            multiply(active, experts.down, tile, into: y, worker)
            addAdapters(
                experts.downAdapters, columnsDown, hiddenDown, droppedDown(active, tile, worker), tile, to: y, worker)
        }
        if let squares, let sums { add(sums, of: tiles, to: squares) }
        let weights = routing.weights
        executor.rows(result.rows, .experts, bytesPerRow: result.width * (8 + slots.active * dtype.size)) {
            [self] first, count, _ in
            for row in first..<first + count {
                let target = result.f32 + row * result.width
                target.update(from: residual.f32 + row * result.width, count: result.width)
                for choice in row * slots.active..<(row + 1) * slots.active {
                    loops.pointee.accumulate_scaled_f32(
                        target, output.row(Int(slots.slots[choice])), weights.f32[choice], result.width)
                }
            }
        }
    }

    /// Sums of squares of each tile's columns, f32.
    private struct TileSquares {
        /// Of gate's and up's inputs, `[tiles, C]`, and of down's, `[tiles, F]`.
        let inputs, active: Tensor

        init(tiles: Int, _ inputWidth: Int, _ innerWidth: Int) {
            (inputs, active) = (Tensor.zeros([max(1, tiles), inputWidth]), Tensor.zeros([max(1, tiles), innerWidth]))
        }
    }

    /// The filling of a tile is no input: its activated values are those of the biases.
    private func sumSquares(of values: Matrix, _ tile: Tile, into sums: Tensor, at index: Int) {
        loops.pointee.rms_norm_weight_backward(
            sums.f32 + index * sums.width, values.pointer, values.pointer, tile.used, sums.width, 0, sums.width)
    }

    private func add(_ sums: TileSquares, of tiles: [Tile], to squares: InputSquares) {
        func row(_ tensor: Tensor, _ index: Int) -> [Float] {
            Array(UnsafeBufferPointer(start: tensor.f32 + index * tensor.width, count: tensor.width))
        }
        for (i, tile) in tiles.enumerated() {
            for projection in experts.gateUp {
                squares.add(row(sums.inputs, i), rows: tile.used, projection, expert: tile.expert, of: experts.count)
            }
            squares.add(row(sums.active, i), rows: tile.used, experts.down, expert: tile.expert, of: experts.count)
        }
    }

    func multiply(
        _ input: Matrix, _ projection: ExpertProjection, _ tile: Tile, into output: Matrix, _ worker: Worker
    ) {
        if projection.isQuantized {
            forQuantizedRows(of: projection, tile.expert, worker) { weight, first in
                multiply(input, weight.transposed, into: output.columns(first, weight.rows), worker)
            }
        } else {
            multiply(input, projection.matrix(tile.expert), into: output, worker)
        }
        if let biases = projection.biases {
            loops.pointee.add_bias(
                output.pointer, output.rowStride, biases.value.f32 + tile.expert * output.columns, tile.rows,
                output.columns)
        }
    }

    func multiply(_ input: Matrix, _ weight: Matrix, into output: Matrix, _ worker: Worker) {
        guard input.rows == 1, weight.rowStride == 1, weight.rows > 1 else {
            return worker.multiply(input, weight, into: output)
        }
        let y = worker.floats(3, count: output.columns)
        matrixVector(dtype)(y, weight.pointer, input.pointer, output.columns, input.columns)
        worker.count(bytes: output.columns * input.columns * dtype.size)
        loops.pointee.from_f32(output.pointer, y, output.columns)
    }

    /// Decodes the rows of an expert's W, `[rows, in]`, so many at a time that they stay in a core's cache.
    private func forQuantizedRows(
        of projection: ExpertProjection, _ expert: Int, _ worker: Worker, _ body: (_ rows: Matrix, _ first: Int) -> Void
    ) {
        let total = projection.outputWidth, block = max(16, (1 << 20) / (projection.inputWidth * dtype.size) / 16 * 16)
        for first in stride(from: 0, to: total, by: block) {
            body(projection.rows(expert, first, min(block, total - first), worker), first)
        }
    }

    /// dy W of an expert, f32, in `sum` or added to it.
    func multiplyBack(
        _ dy: Matrix, _ projection: ExpertProjection, _ expert: Int, into sum: Matrix, accumulate: Bool,
        _ worker: Worker
    ) {
        guard projection.isQuantized else {
            return worker.multiply(dy, projection.matrix(expert).transposed, into: sum, accumulate: accumulate)
        }
        forQuantizedRows(of: projection, expert, worker) { weight, first in
            worker.multiply(dy.columns(first, weight.rows), weight, into: sum, accumulate: accumulate || first > 0)
        }
    }

    private func addAdapters(
        _ adapters: [ExpertAdapter], _ columns: [Int], _ hidden: Tensor?, _ input: Matrix, _ tile: Tile,
        to output: Matrix, _ worker: Worker
    ) {
        for i in adapters.indices {
            guard let adapter = adapters[i].parts[tile.expert], let hidden else { continue }
            let low = Matrix(hidden).rows(tile.first, tile.rows).columns(columns[i], adapter.rank)
            worker.multiply(input, Matrix(adapter.a.value).transposed, into: low)
            worker.multiply(
                low, Matrix(adapter.scaledB).transposed,
                into: output.columns(adapters[i].column, adapter.outputWidth), accumulate: true)
        }
    }

    // MARK: a tile's rows

    /// The rows of a tile's tokens, zeros in the filling; each times its slot's weight if `isWeighted`.
    func gather(
        _ source: Tensor, _ tile: Tile, _ worker: Worker, slot: Int, isWeighted: Bool = false
    ) -> Matrix {
        let rowBytes = source.width * dtype.size
        let memory = worker.scratch(slot, byteCount: tile.rows * rowBytes)
        for i in 0..<tile.used {
            let choice = Int(slots.choices[tile.first + i]), row = source.row(choice / slots.active)
            if isWeighted {
                loops.pointee.scale(memory + i * rowBytes, row, routing.weights.f32[choice], source.width)
            } else {
                (memory + i * rowBytes).copyMemory(from: row, byteCount: rowBytes)
            }
        }
        (memory + tile.used * rowBytes).initializeMemory(
            as: UInt8.self, repeating: 0, count: (tile.rows - tile.used) * rowBytes)
        return Matrix(memory, rows: tile.rows, columns: source.width, dtype)
    }

    /// The activated values of a tile, `[rows, F]`, in the worker's slot 2.
    func activate(_ tile: Tile, _ worker: Worker) -> Matrix {
        let rowBytes = width * dtype.size
        let memory = worker.scratch(2, byteCount: tile.rows * rowBytes)
        worker.measured(.activation) {
            switch experts.activation {
            case .swiGLU:
                for i in 0..<tile.rows {
                    let row = inner.row(tile.first + i)
                    loops.pointee.swiglu(memory + i * rowBytes, row, row + rowBytes, width)
                }
            case .clampedSwiGLU(let alpha, let limit):
                loops.pointee.clamped_swiglu(memory, inner.row(tile.first), alpha, limit, tile.rows * width)
            }
            worker.count(bytes: 3 * tile.rows * rowBytes)
        }
        return Matrix(memory, rows: tile.rows, columns: width, dtype)
    }

    /// dInner of a tile from the gradient of its activated values, both in x's type.
    func activateBackward(_ tile: Tile, _ d: Matrix, into dInner: Matrix, _ worker: Worker) {
        let rowBytes = width * dtype.size
        worker.measured(.activationBackward) {
            switch experts.activation {
            case .swiGLU:
                for i in 0..<tile.rows {
                    let row = inner.row(tile.first + i), target = dInner.pointer + 2 * i * rowBytes
                    loops.pointee.swiglu_backward(
                        target, target + rowBytes, d.pointer + i * rowBytes, row, row + rowBytes, width)
                }
            case .clampedSwiGLU(let alpha, let limit):
                loops.pointee.clamped_swiglu_backward(
                    dInner.pointer, d.pointer, inner.row(tile.first), alpha, limit, tile.rows * width)
            }
            worker.count(bytes: 5 * tile.rows * rowBytes)
        }
    }

    /// The counter of the first element of a row of a tile: of the token's row of x, or of the slot's activated values.
    func counter(_ choice: Int, isDown: Bool) -> UInt64 {
        guard isDown else { return dropout!.counter(row: choice / slots.active, width: x.width) }
        return UInt64((dropout!.firstRow * slots.active + choice) * width)
    }

    func key(isDown: Bool) -> UInt64 { isDown ? CounterRNG(dropout!.key, 1).key : dropout!.key }

    private func drop(_ input: Matrix, _ tile: Tile, _ worker: Worker, isDown: Bool) -> Matrix {
        guard let dropout else { return input }
        let rowBytes = input.columns * dtype.size
        let memory = worker.scratch(7, byteCount: tile.rows * rowBytes)
        for i in 0..<tile.rows {
            let choice = max(0, Int(slots.choices[tile.first + i]))
            loops.pointee.dropout(
                memory + i * rowBytes, input.pointer + i * rowBytes, key(isDown: isDown),
                counter(choice, isDown: isDown), dropout.probability, input.columns)
        }
        return Matrix(memory, rows: tile.rows, columns: input.columns, dtype)
    }

    func dropped(_ input: Matrix, _ tile: Tile, _ worker: Worker) -> Matrix {
        experts.gateUpAdapters.isEmpty ? input : drop(input, tile, worker, isDown: false)
    }

    func droppedDown(_ input: Matrix, _ tile: Tile, _ worker: Worker) -> Matrix {
        experts.downAdapters.isEmpty ? input : drop(input, tile, worker, isDown: true)
    }
}
