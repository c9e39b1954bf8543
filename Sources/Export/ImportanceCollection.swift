public import FineTuning
public import TensorCore
public import TextData

extension ImportanceMatrix {
    /// Runs a model over examples and gathers what its matrices are multiplied with; every token counts. Embedding and
    /// head are left out, as llama.cpp leaves them out.
    ///
    /// - Parameters:
    ///   - dataSets: the names that the file gives for the examples
    ///   - chunkSize: tokens a chunk, by which llama.cpp counts them
    ///   - progress: called with the tokens done so far and in all
    public init(
        _ model: DecoderModel, examples: [TokenizedExample], dataSets: [String], chunkSize: Int = 512,
        pool: WorkerPool, progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
    ) {
        let total = examples.reduce(0) { $0 + $1.ids.count }, squares = InputSquares()
        var done = 0
        for batch in microbatches(examples, tokens: 2048) {
            progress(done, total)
            model.gather(squares, batch, pool: pool)
            done += batch.count
        }
        let entries = ParameterTable(model.config).parameters.compactMap { parameter -> (name: String, entry: Entry)? in
            guard let sums = squares.byWeight[parameter.name] else { return nil }
            return (parameter.ggufName, Entry(sums: sums.sums.map { Float($0) }, counts: [Float(sums.rows)]))
        }
        self.init(
            entries: entries, dataSets: dataSets, chunkCount: (total + chunkSize - 1) / chunkSize, chunkSize: chunkSize)
    }
}
