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
        guard x.requiresGradient || residual.requiresGradient || routing.weights.requiresGradient
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
private final class ExpertsCall {
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

    private typealias Tile = ExpertSlots.Tile
    private typealias Worker = WorkerPool.Worker
    private var dtype: DType { x.dtype }
    private var loops: UnsafePointer<graft_kernel_table> { kernels(dtype) }
    private var width: Int { experts.innerWidth }

    init(executor: Executor, x: Tensor, routing: Routing, experts: Experts, dropout: AdapterDropout?) {
        self.executor = executor
        self.x = x
        self.routing = routing
        self.experts = experts
        self.dropout = dropout
        executor.flush()
        slots = ExpertSlots(routing, experts: experts.count, width: executor.pool.width)
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

    private func multiply(
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

    private func multiply(_ input: Matrix, _ weight: Matrix, into output: Matrix, _ worker: Worker) {
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
    private func multiplyBack(
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
        for (i, part) in zip(adapters.indices, adapters.map { $0.part(tile.expert) }) {
            guard let (adapter, expert) = part, let hidden else { continue }
            let low = Matrix(hidden).rows(tile.first, tile.rows).columns(columns[i], adapter.rank)
            worker.multiply(input, adapter.matrixA(expert).transposed, into: low)
            worker.multiply(
                low, adapter.matrixB(expert).transposed,
                into: output.columns(adapters[i].column, adapter.outputWidth), accumulate: true)
        }
    }

    // MARK: a tile's rows

    /// The rows of a tile's tokens, zeros in the filling; each times its slot's weight if `isWeighted`.
    private func gather(
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
    private func activate(_ tile: Tile, _ worker: Worker) -> Matrix {
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
    private func activateBackward(_ tile: Tile, _ d: Matrix, into dInner: Matrix, _ worker: Worker) {
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
    private func counter(_ choice: Int, isDown: Bool) -> UInt64 {
        guard isDown else { return dropout!.counter(row: choice / slots.active, width: x.width) }
        return UInt64((dropout!.firstRow * slots.active + choice) * width)
    }

    private func key(isDown: Bool) -> UInt64 { isDown ? CounterRNG(dropout!.key, 1).key : dropout!.key }

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

    private func dropped(_ input: Matrix, _ tile: Tile, _ worker: Worker) -> Matrix {
        experts.gateUpAdapters.isEmpty ? input : drop(input, tile, worker, isDown: false)
    }

    private func droppedDown(_ input: Matrix, _ tile: Tile, _ worker: Worker) -> Matrix {
        experts.downAdapters.isEmpty ? input : drop(input, tile, worker, isDown: true)
    }

    // MARK: backward

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
        for (i, part) in zip(adapters.indices, adapters.map { $0.part(tile.expert) }) {
            guard let dHidden else { return }
            let all = Matrix(dHidden).rows(tile.first, tile.rows).columns(columns[i], adapters[i].rank)
            guard let (adapter, expert) = part else { all.fillZero(); continue }
            let low = all.columns(0, adapter.rank)
            worker.multiply(dy.columns(adapters[i].column, adapter.outputWidth), adapter.matrixB(expert), into: low)
            guard let sum else { continue }
            guard let dropout else {
                worker.multiply(low, adapter.matrixA(expert), into: sum, accumulate: true)
                continue
            }
            let masked = Matrix(
                worker.floats(7, count: tile.rows * sum.columns), rows: tile.rows, columns: sum.columns, .f32)
            worker.multiply(low, adapter.matrixA(expert), into: masked)
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
            guard let hidden, let dHidden, let (adapter, place) = adapters[i].part(expert), adapter.isTrainable
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
                        low(dHidden).transposed, input(), into: Matrix(dA).rows(place * rank, rank), accumulate: true)
                }
                adapter.addGradientOfB(
                    piece.pointer.assumingMemoryBound(to: Float.self), expert: place, first: 0, count: output)
            }
        }
    }
}
