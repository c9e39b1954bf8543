import FileFormats
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
        let entries = Self.entries(of: model.config, squares)
        self.init(
            entries: entries, dataSets: dataSets, chunkCount: (total + chunkSize - 1) / chunkSize, chunkSize: chunkSize)
    }

    /// By the names of GGUF tensors, in the table's order; experts' joined to one entry, as their matrices are.
    private static func entries(
        of config: ModelConfig, _ squares: InputSquares
    ) -> [(name: String, entry: Entry)] {
        var entries: [(name: String, entry: Entry)] = [], places: [ByteString: Int] = [:]
        let count = config.mixture?.router.experts ?? 1
        for parameter in ParameterTable(config).parameters {
            guard let sums = squares.byWeight[parameter.name] else { continue }
            let entry = Entry(sums: sums.sums.map { Float($0) }, counts: sums.rows.map { Float($0) })
            if parameter.isStack {
                entries += parameter.stackNames.map { ($0, entry) }
            } else if let expert = parameter.expert {
                let width = entry.sums.count, name = ByteString(parameter.ggufName)
                let place = places[name] ?? entries.count
                if place == entries.count {
                    places[name] = place
                    // Experts that saw no token have zeros and a count of zero.
                    let none = Entry(
                        sums: [Float](repeating: 0, count: count * width),
                        counts: [Float](repeating: 0, count: count))
                    entries.append((parameter.ggufName, none))
                }
                entries[place].entry.sums.replaceSubrange(expert * width..<(expert + 1) * width, with: entry.sums)
                entries[place].entry.counts[expert] = entry.counts[0]
            } else {
                entries.append((parameter.ggufName, entry))
            }
        }
        return entries
    }
}
