import FileFormats
import FineTuning
import TensorCore
import TextData

/// One comparison of a written model with base and adapters.
struct ModelComparison {
    let base: ParityBase
    let text: TextResources?
    var sample: ParitySample
    let pool: WorkerPool
    var report = ParityReport()
    var problems: [String] = []
    /// The first kind of problem that was found.
    var cause: ParityCause?
    /// Those of the coarsest type of a matrix.
    var bounds = ParityBounds(.f32)

    init(base: ParityBase, text: TextResources?, sample: ParitySample, pool: WorkerPool) {
        self.base = base
        self.text = text
        self.sample = sample
        self.pool = pool
    }

    mutating func compare(_ path: String, isOwn: Bool) throws {
        guard TextResources.isGGUF(path) else { return try compareFolder(path) }
        let file = try GGUFFile(path: path)
        if file["general.type"]?.stringValue?.hasSameBytes(as: "adapter") == true {
            try compareAdapter(file)
        } else {
            try compareGGUF(path, file, isOwn: isOwn)
        }
        try file.checkUnchanged()
    }

    private mutating func compareGGUF(_ path: String, _ file: GGUFFile, isOwn: Bool) throws {
        let options = GGUFExportOptions(type: nil)
        let plan =
            TextResources.isGGUF(base.path)
            ? try GGUFPlan(gguf: base.path, adapters: base.adapters, options: options)
            : try GGUFPlan(folder: base.path, adapters: base.adapters, options: options)
        try compareWeights(plan.tensors.map(\.tensor), names: plan.tensors.map(\.name)) { name in
            file.tensor(named: name).map { .gguf(file, $0) }
        }
        compareExtras(plan, file)
        compareMetadata(plan, file, isOwn: isOwn)
        try compareText(path, isGGUF: true)
        guard var config = base.config else {
            report.notes.append("logits were not compared, since graft does not run the base: \(base.reason ?? "")")
            return
        }
        guard problems.isEmpty else { return }
        if plan.tensors.contains(where: { $0.name.hasSameBytes(as: "output.weight") }) { config.tiesEmbeddings = false }
        let written = try GGUFModel(path: path)
        compareSizes(config, written.config)
        let windows = zip(config.windows, written.config.windows).filter { $0 != $1 }
        for case (let expected?, let found?) in windows.prefix(1) {
            problems.append("the attention's window is \(found), expected \(expected)")
        }
        if let window = windows.flatMap({ [$0, $1] }).compactMap({ $0 }).min() {
            sample.cut(to: window)
            report.notes.append(
                "the file's attention has another window than the model's: logits were compared up to \(window) tokens "
                    + "of context")
        }
        try compareLogits { DecoderModel(config: written.config, dtype: .f32, stream: $0, read: written.read) }
    }

    private mutating func compareFolder(_ path: String) throws {
        let source = try WeightSource(model: base.path, adapters: base.adapters)
        let files = try SafetensorsFolder(path: path)
        let config = try ModelConfig(path: path, files: files)
        compareSizes(source.config, config)
        problems += DecoderModel.mismatches(config, files)
        guard problems.isEmpty else { return }
        let parameters = source.table.parameters.compactMap { parameter in
            source.files.entry(named: parameter.name).map {
                WeightSource.Output(name: parameter.name, entry: $0, updates: source.updates(of: parameter.name))
            }
        }
        let outputs = parameters + [source.untiedHead].compactMap { $0 }
        try compareWeights(outputs.map { source.streamed($0, as: .f32) }, names: outputs.map(\.name)) { name in
            guard let file = files.file(of: name), let entry = files.entry(named: name) else { return nil }
            return .safetensors(file, entry)
        }
        try compareText(path, isGGUF: false)
        try compareLogits { try DecoderModel(folder: path, dtype: .f32, stream: $0) }
        for file in files.files { try file.checkUnchanged() }
    }

    // MARK: the parts

    /// What decides shapes and arithmetic, as far as a short sample could hide it.
    private mutating func compareSizes(_ config: ModelConfig, _ found: ModelConfig) {
        var expected = config
        if base.untiesHead { expected.tiesEmbeddings = false }
        func check<Value: Equatable>(_ name: String, _ value: (ModelConfig) -> Value) {
            guard value(expected) != value(found) else { return }
            problems.append("\(name) is \(value(found)), expected \(value(expected))")
        }
        check("the vocabulary") { $0.vocabularySize }
        check("the hidden size") { $0.hiddenSize }
        check("the number of layers") { $0.layerCount }
        check("whether the head is the embedding") { $0.tiesEmbeddings }
        check("the context") { $0.maxPositions }
        check("the number of active experts") { $0.mixture?.router.active }
        // Files round these, or hold what they divide by.
        let numbers: [(name: String, value: (ModelConfig) -> Float?)] = [
            ("the norms' epsilon", \.rmsNormEps), ("the scores' cap", \.scoreCap), ("the logits' cap", \.logitCap),
            ("the embedding's scale", \.embeddingScale), ("the residual scale", \.residualScale),
            ("the logits' scale", \.logitScale),
        ]
        for (name, value) in numbers {
            let (a, b) = (value(expected), value(found))
            guard a != b, !(abs((a ?? 0) - (b ?? 0)) <= 1e-5 * abs(a ?? 0)) else { continue }
            problems.append("\(name) is \(b.map { "\($0)" } ?? "missing"), expected \(a.map { "\($0)" } ?? "none")")
        }
        for (layer, (a, b)) in zip(expected.layers, found.layers).enumerated() {
            guard let a = a.rotary.map({ expected.rotaries[$0] }), let b = b.rotary.map({ found.rotaries[$0] }) else {
                if (a.rotary == nil) != (b.rotary == nil) { problems.append("layer \(layer): other positions") }
                continue
            }
            let pairs = zip(a.inverseFrequencies(), b.inverseFrequencies())
            let largest = pairs.reduce(Float(0)) { max($0, abs($1.0 / $1.1 - 1)) }
            guard !(largest <= 1e-3) || a.dimensions != b.dimensions else { continue }
            problems.append("layer \(layer): rotary frequencies differ by up to \(decimal(Double(largest)))")
            return
        }
    }

    private mutating func compareWeights(
        _ tensors: [StreamedTensor], names: [String], _ written: (String) -> TensorSource?
    ) throws {
        var coarsest = GGMLType.f32
        var pairs: [WeightComparison.Pair] = []
        for (tensor, name) in zip(tensors, names) {
            guard let source = written(name) else {
                problems.append("\(name) is missing")
                continue
            }
            pairs.append(.init(expected: tensor, written: source))
            let isCoarser = ParityBounds(source.type).klDivergence > ParityBounds(coarsest).klDivergence
            if source.shape.count > 1, isCoarser { coarsest = source.type }
        }
        var comparison = WeightComparison(pool: pool)
        try comparison.compare(pairs)
        problems += comparison.problems
        if let problem = comparison.shareProblem(coarsest) {
            // Too little of the change is rounding's work; twice the change is not.
            if problems.isEmpty, comparison.result.adapterShare ?? 1 < 1 {
                let onLattice = tensors.contains { !$0.updates.isEmpty && $0.base.type.blockLength > 1 }
                cause = .rounding(type: coarsest.name, onLattice: onLattice)
            }
            problems.append(problem)
        }
        note(.weights)
        report.weights = comparison.result
        report.type = coarsest.name
        bounds = ParityBounds(coarsest)
        if base.config?.mixture != nil { bounds.allowOtherExperts() }
        if let share = comparison.result.adapterShare, share < 0.9, ParityBounds.rounding(coarsest) != nil {
            report.notes.append(
                "rounding to \(coarsest.name) leaves \(Int((share * 100).rounded())) % of the adapter's change; a "
                    + "finer type keeps all of it")
        }
    }

    /// Tensors that no checkpoint has, such as divisors of frequencies.
    private mutating func compareExtras(_ plan: GGUFPlan, _ file: GGUFFile) {
        for (name, values) in plan.extras {
            guard let tensor = file.tensor(named: name), tensor.shape == [values.count] else {
                problems.append("\(name) is missing")
                continue
            }
            let found = TensorSource.gguf(file, tensor).floats().floats()
            if zip(values, found).contains(where: { !(abs($0 - $1) <= 1e-5 * abs($0)) }) {
                problems.append("\(name) holds other values")
            }
        }
    }

    mutating func compareLogits(_ written: (WeightStream) throws -> DecoderModel) throws {
        let kept = base.config.map(base.stream().keptBytes) ?? 0
        if let available = ProcessMemory.availableBytes, kept > available / 2 {
            report.notes.append(
                "logits were not compared: the experts take \(kept >> 30) GiB in f32, more than there is memory for")
            return
        }
        let stream = base.stream()
        report.logits = try ParityReport.Logits(
            sample.sequences, expected: { [base] in try base.model(stream) }, found: { try written(stream) }, pool: pool
        )
        try stream.check()
        problems += report.logits.problems(bounds, type: report.type)
        note(.logits)
    }

    private mutating func compareText(_ path: String, isGGUF: Bool) throws {
        guard let text else {
            report.notes.append("the model has no tokenizer: texts and templates were not compared")
            return
        }
        let comparison = TextComparison(
            expected: text, found: try TextResources(path: path), sample: sample, isGGUF: isGGUF)
        report.text = comparison.result
        report.notes += comparison.notes
        problems += comparison.problems
        note(.text)
    }

    /// Takes a part's kind for the cause where it was the first with a problem.
    private mutating func note(_ kind: ParityCause) {
        if cause == nil, !problems.isEmpty { cause = kind }
    }
}
