import FileFormats
public import TensorCore

extension DecoderModel {
    /// The plan of a configuration for this model.
    public func plan(_ config: AdapterConfig) -> AdapterPlan { AdapterPlan(config, base: self.config) }

    /// Puts a PEFT folder on the model: its updates, and the modules and rows that it brings.
    ///
    /// - Returns: the folder's configuration.
    /// - Throws: `FineTuningError.adapterMismatch` with every key that is unknown, missing or misshapen.
    @discardableResult
    public func attachAdapter(folder: String) throws -> AdapterConfig {
        let file = try AdapterFile(folder: folder)
        let plan = file.plan(config)
        let problems = file.mismatches(plan)
        guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: folder, problems: problems) }
        untieHead(plan, copies: file.baseCopies(plan))
        for copy in file.baseCopies(plan) { substitute(copy, file.tensor(copy.key)) }
        for replacement in plan.replacements { train(replacement, file.tensor(replacement.key)) }
        for rows in plan.rows { substitute(rows, file.tensor(rows.key)) }
        attached = (plan, [])
        for update in plan.updates {
            let (a, b) = file.matrices(of: update)
            if file.config.initialization.takesOutOfBase {
                let part = BasePart(of: baseWeight(update).floats, update, file.config.initialization)
                takeOut(part, update)
                attached?.parts.append((update.module, part))
            }
            attach(
                update, UpdateStart(a, b, update), magnitude: file.magnitude(of: update), bias: file.bias(of: update),
                plan)
        }
        stackAdapters()
        return file.config
    }

    /// Puts several folders on the model together, each with a weight; they do not go on training.
    ///
    /// - Throws: `FineTuningError.adapterMismatch` as for one, and for what cannot go together.
    public func attachAdapters(_ folders: [(path: String, weight: Double)]) throws {
        guard folders.count > 1 || folders.first?.weight != 1 else {
            if let folder = folders.first { try attachAdapter(folder: folder.path) }
            return
        }
        let stack = try AdapterStack(folders, base: config)
        for member in stack.members {
            let (file, plan) = (member.file, member.plan)
            untieHead(plan, copies: file.baseCopies(plan))
            for copy in file.baseCopies(plan) { substitute(copy, file.tensor(copy.key)) }
            for replacement in plan.replacements { train(replacement, file.tensor(replacement.key)) }
            for rows in plan.rows { substitute(rows, file.tensor(rows.key)) }
        }
        for module in stack.modules {
            let parts = stack.parts(of: module)
            var update = parts[0].update
            guard update.site.expertCount == 1 else {
                for part in parts {
                    let (a, b) = part.member.file.matrices(of: part.update)
                    update.scale = part.update.scale * part.member.weight
                    attach(update, UpdateStart(a, b, update), magnitude: nil, part.member.plan)
                }
                continue
            }
            let (a, b, scale) = AdapterStack.joined(parts) { baseWeight(update).floats }
            (update.rank, update.scale, update.alpha) = (a.rows, Double(scale), Double(scale) * Double(a.rows))
            attach(update, UpdateStart(a, b, update), magnitude: nil, stack.members[0].plan)
        }
        stackAdapters()
    }

    /// Takes all that adapters did off: the base's own output again.
    public func detachAdapters() {
        for module in table.linearModules { layers[module.layer][module.role]?.adapter = nil }
        for layer in layers.indices {
            layers[layer].experts?.gateUpAdapters = []
            layers[layer].experts?.downAdapters = []
        }
        head.adapter = nil
        embeddingAdapter = nil
        attached = nil
        for weight in weights { weight.restore() }
        if config.tiesEmbeddings { head.weight = embedding }
        head.weight.restore()
    }

    // MARK: the parts

    /// Makes the modules and rows of a plan learn, from what the base has.
    func prepareBase(_ plan: AdapterPlan) {
        untieHead(plan, copies: [])
        for replacement in plan.replacements { train(replacement, nil) }
        for rows in plan.rows { substitute(rows, nil) }
    }

    /// Gives the head a weight of its own where the adapter changes only one of embedding and head.
    private func untieHead(_ plan: AdapterPlan, copies: [AdapterPlan.Replacement]) {
        guard config.tiesEmbeddings else { return }
        let names = [ParameterTable.embedding, ParameterTable.head]
        let changed = (plan.replacements + copies).filter { change in
            names.contains(where: change.parameter.hasSameBytes)
        }
        // Rows of the embedding alone hold for the head, too; rows that differ part the two.
        let parts = plan.rows.contains { row in
            row.module.hasSameBytes(as: ParameterTable.headModule)
                && plan.rows.first { $0.module.hasSameBytes(as: ParameterTable.embeddingModule) }?.indices
                    != row.indices
        }
        let staysTied = plan.keepsTie && copies.isEmpty
        if (!changed.isEmpty && !staysTied) || parts {
            head.weight = Weight(frozen: embedding.value, name: ParameterTable.head)
        }
    }

    private func weight(named name: String) -> Weight {
        if name.hasSameBytes(as: ParameterTable.head) { return head.weight }
        guard let weight = weights.first(where: { $0.name.hasSameBytes(as: name) }) else {
            preconditionFailure("the plan names \(name), which the model lacks")
        }
        return weight
    }

    private func train(_ replacement: AdapterPlan.Replacement, _ values: Tensor?) {
        let weight = weight(named: replacement.parameter)
        // A tied head and embedding are one weight, which learns once.
        if !weight.isTrainable { weight.train(from: values) }
    }

    private func substitute(_ copy: AdapterPlan.Replacement, _ values: Tensor) {
        weight(named: copy.parameter).substitute(values)
    }

    private func substitute(_ rows: AdapterPlan.Rows, _ values: Tensor?) {
        let isHead = rows.module.hasSameBytes(as: ParameterTable.headModule)
        let table = isHead ? head.weight : embedding
        guard table.rows == nil else { return }
        let start = values ?? table.value.selectedRows(rows.indices)
        table.substitute(
            TableRows(
                indices: rows.indices, content: Weight(trainable: start, name: rows.key, dtype: table.value.dtype)))
    }

    /// The base's weight under an update.
    func baseWeight(_ update: AdapterPlan.Update) -> Weight {
        weight(named: update.parameter)
    }

    func takeOut(_ part: BasePart, _ update: AdapterPlan.Update) {
        let weight = baseWeight(update)
        weight.substitute(part.residual(of: weight.floats))
    }

    /// - Parameters:
    ///   - magnitude: f32 `[out]`, of an embedding `[hidden]`; nil takes the lengths that there are
    ///   - bias: of B, f32 `[out]`; nil starts at zero
    func attach(
        _ update: AdapterPlan.Update, _ start: UpdateStart, magnitude: Tensor?, bias: Tensor? = nil, _ plan: AdapterPlan
    ) {
        if update.isHead, plan.keepsTie, let embeddingAdapter {
            // A of the head is the embedding's B transposed, and B its A: with the layout used here, the same.
            head.adapter = embeddingAdapter
            return
        }
        let adapters = (0..<update.site.expertCount).map {
            adapter(update, start, expert: $0, magnitude: magnitude, bias: bias)
        }
        switch update.site.place {
        case .embedding: embeddingAdapter = adapters[0]
        case .head: head.adapter = adapters[0]
        case .linear(let layer, let role): layers[layer][role]?.adapter = adapters[0]
        case .expert(let layer, let part, let expert): layers[layer].experts?.attach(adapters[0], part, expert: expert)
        case .experts(let layer, let part): layers[layer].experts?.attach(adapters, part)
        }
    }

    private func adapter(
        _ update: AdapterPlan.Update, _ start: UpdateStart, expert: Int, magnitude: Tensor?, bias: Tensor?
    ) -> LowRankAdapter {
        let rank = update.rank, (output, input) = (update.site.outputWidth, update.site.inputWidth)
        // The names of stacked experts' updates are those of checkpoints alone.
        let end = update.site.expertCount > 1 ? ".\(expert)" : ""
        let module = update.module, turned = update.isEmbedding
        let keyA = turned ? AdapterKeys.b(module, isEmbedding: true) : AdapterKeys.a(module, isEmbedding: false)
        let keyB = turned ? AdapterKeys.a(module, isEmbedding: true) : AdapterKeys.b(module, isEmbedding: false)
        let a = Weight(trainable: [rank, input], name: keyA + end, dtype: dtype) { start.a(expert) }
        // Operations read B through its scaled copy alone.
        let b = Weight(trainable: [output, rank], name: keyB + end, dtype: .f32) { start.b(expert) }
        let base = update.hasMagnitude ? baseWeight(update) : nil
        let scale = Float(update.scale)
        if !update.isOfExperts || base != nil {
            a.make()
            b.make()
        }
        let lengths = base.map { base in
            Weight(
                trainable: magnitude ?? updatedLengths(base, a.stored, b.stored, scale, ofColumns: turned),
                name: AdapterKeys.prefix + module + AdapterKeys.magnitude, dtype: .f32)
        }
        return LowRankAdapter(
            a: a, b: b, scale: scale, magnitude: lengths, base: base,
            bias: update.hasBias
                ? Weight(
                    trainable: bias ?? .zeros([output]), name: AdapterKeys.prefix + module + AdapterKeys.updateBias,
                    dtype: .f32) : nil,
            isEmbedding: turned)
    }

    /// The adapters that an update stands for: one, or those of all experts; none where it is not attached.
    func adapters(of update: AdapterPlan.Update) -> [LowRankAdapter] {
        let found: [LowRankAdapter?] =
            switch update.site.place {
            case .embedding: [embeddingAdapter]
            case .head: [head.adapter]
            case .linear(let layer, let role): [layers[layer][role]?.adapter]
            case .expert(let layer, let part, let expert):
                [layers[layer].experts?.adapters(part, isStacked: false)[expert]]
            case .experts(let layer, let part): layers[layer].experts?.adapters(part, isStacked: true) ?? []
            }
        return found.compactMap { $0 }
    }

    /// Puts other matrices in an update's place, as another file has them; they do not learn.
    ///
    /// - Parameters: a: f32 `[r, in]`; b: f32 `[out, r]`; scale: of B A
    public func attachFrozen(_ update: AdapterPlan.Update, a: Tensor, b: Tensor, scale: Double) {
        let adapter = LowRankAdapter(
            a: Weight(frozen: a, name: update.module), b: Weight(frozen: b, name: update.module), scale: Float(scale))
        switch update.site.place {
        case .head: head.adapter = adapter
        case .linear(let layer, let role): layers[layer][role]?.adapter = adapter
        default: preconditionFailure("an update of \(update.module) is no pair of matrices of a linear layer")
        }
    }

    /// Lays the matrices A that read the same input next to each other.
    func stackAdapters() {
        for layer in layers {
            for roles in LinearRole.sharingInput {
                Weight.stack(roles.compactMap { layer[$0]?.adapter?.a })
            }
        }
    }
}

/// What A `[r, in]` and B `[out, r]` of an update start as, f32: of the one module, or of each of the experts that it
/// stacks. Those of experts are asked for when a token first comes to one.
struct UpdateStart {
    let a, b: (_ expert: Int) -> Tensor

    /// - Parameters: a: `[E r, in]`; b: `[out, r E]`, as adapters' files have them
    init(_ a: Tensor, _ b: Tensor, _ update: AdapterPlan.Update) {
        let count = update.site.expertCount
        self.a = { StackedExperts.a(a, expert: $0, of: count) }
        self.b = { StackedExperts.b(b, expert: $0, of: count) }
    }

    init(a: @escaping (Int) -> Tensor, b: @escaping (Int) -> Tensor) {
        self.a = a
        self.b = b
    }
}
