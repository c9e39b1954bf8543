import TensorCore

/// The rate of products of a [512, 1024] batch with a [1024, 1024] weight, over about a second, in GFLOP/s.
func productRate(_ dtype: DType, _ pool: WorkerPool) -> Double {
    let (rows, width) = (512, 1024)
    func filled(_ shape: [Int]) -> Tensor {
        let count = shape.reduce(1, *)
        return Tensor(shape, values: (0..<count).map { Float($0 % 17) / 17 - 0.5 }).converted(to: dtype)
    }
    let projection = Projection(weight: Weight(frozen: filled([width, width]), name: "benchmark"))
    let input = filled([rows, width])
    let tape = Tape(pool: pool, recording: false)
    for _ in 0..<3 { _ = tape.linear(input, [projection]) }
    let start = ContinuousClock.now
    var products = 0
    while ContinuousClock.now - start < .seconds(1) {
        _ = tape.linear(input, [projection])
        products += 1
    }
    let elapsed = (ContinuousClock.now - start) / .seconds(1)
    return 2 * Double(rows * width * width) * Double(products) / elapsed / 1e9
}
