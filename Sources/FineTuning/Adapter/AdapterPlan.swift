import FileFormats

/// What an adapter's configuration asks for on a given base: PEFT's matching of names, once for training, loading,
/// merging and export.
public struct AdapterPlan: Sendable {
    /// The low-rank update of one site.
    public struct Update: Sendable {
        public var site: AdapterSite
        public var rank: Int
        public var alpha: Double
        /// alpha / r, or alpha / sqrt(r).
        public var scale: Double
        public var hasMagnitude: Bool
        /// Whether B has a bias.
        public var hasBias: Bool

        /// What its keys begin with.
        public var module: String { site.module }
        public var isEmbedding: Bool { if case .embedding = site.place { true } else { false } }
        public var isHead: Bool { if case .head = site.place { true } else { false } }
        /// The parameter that it changes, where it is one.
        public var parameter: String { site.isParameter ? site.target : site.target + ".weight" }
        public var isOfExperts: Bool {
            switch site.place {
            case .expert, .experts: true
            default: false
            }
        }
    }

    /// A parameter of the base that learns, or that the adapter's file brings, whole.
    public struct Replacement: Sendable {
        /// Such as `model.norm.weight`.
        public var parameter: String
        /// Its name in the adapter's file.
        public var key: String
        public var shape: [Int]
    }

    /// Rows of an embedding or head that learn.
    public struct Rows: Sendable {
        public var module: String
        public var indices: [Int]
        public var width: Int
        public var key: String { AdapterKeys.prefix + module + AdapterKeys.tokenRows }
    }

    public private(set) var updates: [Update] = []
    public private(set) var replacements: [Replacement] = []
    public private(set) var rows: [Rows] = []
    /// Embedding and head, which the base ties, stay one with what the adapter does to them.
    public private(set) var keepsTie = false
    /// The base's embedding `[vocabulary, hidden]`, and whether it is the head, too.
    let table: (shape: [Int], isTied: Bool)
    /// What graft cannot do.
    public private(set) var problems: [String] = []
    /// Names that the base lacks: mistakes in a recipe; in a file, which its tensors decide, of no account.
    public private(set) var unknownNames: [String] = []

    /// - Parameter modules: what the adapter's file has updates of, which then decides; nil for a new adapter
    public init(_ asked: AdapterConfig, base: ModelConfig, modules: [String]? = nil) {
        let table = ParameterTable(base)
        self.table = ([base.vocabularySize, base.hiddenSize], base.tiesEmbeddings)
        var config = asked
        if modules == nil { config.adoptParameters(table.adapterSites(nil)) }
        addUpdates(config, table, modules)
        addReplacements(config, base, table)
        addRows(config, base)
        keepsTie = base.tiesEmbeddings && config.ensuresWeightTying
        if keepsTie { tie(base) }
        checkNames(config, base, table)
        checkCombinations()
        if modules == nil { checkExperts() }
    }

    // MARK: updates

    private mutating func addUpdates(_ config: AdapterConfig, _ table: ParameterTable, _ modules: [String]?) {
        let sites = table.adapterSites(config)
        var chosen = sites.filter { config.targets($0) }
        if let modules {
            let present = Set(modules.map { ByteString($0) })
            let known = Set(sites.map { ByteString($0.module) })
            chosen = sites.filter { present.contains(ByteString($0.module)) }
            problems += AdapterFile.told(
                modules.filter { !known.contains(ByteString($0)) }.map { "the base has no module \($0)" }
            ) { "nor \($0) more that the file has matrices for" }
            problems += AdapterFile.told(Self.absentees(config, sites, present)) {
                "and \($0) more that are targeted and have none"
            }
        }
        updates = chosen.map { site in
            let (rank, alpha) = config.rankAndAlpha(of: site.target)
            return Update(
                site: site, rank: rank, alpha: alpha, scale: config.scale(rank: rank, alpha: alpha),
                hasMagnitude: config.usesDoRA, hasBias: config.hasUpdateBias)
        }
    }

    /// Sites that the configuration targets and the file leaves out. Experts may be there one by one or stacked.
    private static func absentees(_ config: AdapterConfig, _ sites: [AdapterSite], _ present: Set<ByteString>)
        -> [String]
    {
        var experts: Set<[Int]> = []
        for site in sites where present.contains(ByteString(site.module)) { experts.formUnion(site.expertLayers) }
        // Where PEFT does not turn names into the experts' parameters, they mean the dense and shared layers alone.
        let ends = Set(
            sites.filter { $0.expertLayers.isEmpty && present.contains(ByteString($0.module)) }.map {
                ByteString($0.lastName)
            })
        return sites.filter { site in
            if case .expert = site.place, experts.isEmpty, ends.contains(ByteString(site.lastName)) { return false }
            return config.targets(site) && !present.contains(ByteString(site.module))
                && (site.expertLayers.isEmpty || site.expertLayers.isDisjoint(with: experts))
        }.map { "\($0.target) is targeted by adapter_config.json but has no matrices" }
    }

    // MARK: whole parameters

    private mutating func addReplacements(_ config: AdapterConfig, _ base: ModelConfig, _ table: ParameterTable) {
        var parameters = table.parameters.map { (name: $0.name, shape: $0.shape) }
        if base.tiesEmbeddings {
            parameters.append((ParameterTable.head, [base.vocabularySize, base.hiddenSize]))
        }
        let targeted = Set(updates.map { ByteString($0.site.target) })
        for (name, shape) in parameters {
            let module = AdapterKeys.module(of: name)
            let isTargeted = targeted.contains(ByteString(module))
            // PEFT looks at the ends of the names of all modules, those that hold others included.
            let isSaved = AdapterKeys.enclosing(module).contains { module in
                config.modulesToSave.contains { module.hasBytes(atEnd: $0) }
            }
            if isSaved {
                replacements.append(Replacement(parameter: name, key: AdapterKeys.prefix + name, shape: shape))
            } else if name.hasBytes(atEnd: ".bias"), config.bias == .all || (config.bias == .targeted && isTargeted) {
                let key = AdapterKeys.prefix + module + (isTargeted ? ".base_layer" : "") + ".bias"
                replacements.append(Replacement(parameter: name, key: key, shape: shape))
            }
        }
    }

    private mutating func addRows(_ config: AdapterConfig, _ base: ModelConfig) {
        for module in [ParameterTable.embeddingModule, ParameterTable.headModule] {
            guard let indices = config.tokenIndices(of: module) else { continue }
            if let bad = indices.first(where: { $0 >= base.vocabularySize }) {
                problems.append(
                    "trainable_token_indices: \(bad) is outside the vocabulary of \(base.vocabularySize) tokens")
                continue
            }
            rows.append(Rows(module: module, indices: indices, width: base.hiddenSize))
        }
    }

    /// The head of a model that ties it follows the embedding.
    private mutating func tie(_ base: ModelConfig) {
        let shape = [base.vocabularySize, base.hiddenSize]
        if replacements.contains(where: { $0.parameter.hasSameBytes(as: ParameterTable.embedding) }),
            !replacements.contains(where: { $0.parameter.hasSameBytes(as: ParameterTable.head) })
        {
            replacements.append(
                Replacement(
                    parameter: ParameterTable.head, key: AdapterKeys.prefix + ParameterTable.head, shape: shape))
        }
        if var update = updates.first(where: \.isEmbedding), !updates.contains(where: \.isHead) {
            update.site.place = .head
            update.site.module = ParameterTable.headModule
            update.site.target = ParameterTable.headModule
            updates.append(update)
        }
    }

    // MARK: what does not fit

    private mutating func checkNames(_ config: AdapterConfig, _ base: ModelConfig, _ table: ParameterTable) {
        let sites = table.adapterSites(config)
        let modules = sites.map(\.target)
        if case .names(let names) = config.targets {
            for name in names where !config.targets(parameter: name) {
                if sites.contains(where: { ModuleNames.names([name]).contains($0.isParameter ? $0.module : $0.target) })
                {
                    continue
                }
                unknownNames.append(
                    "target_modules: no module is called '\(name)'; there are \(Self.names(sites))"
                        + Self.suggestion(name, modules))
            }
        }
        var named = base.tiesEmbeddings ? [ParameterTable.headModule] : []
        for parameter in table.parameters { named += AdapterKeys.enclosing(AdapterKeys.module(of: parameter.name)) }
        for name in config.modulesToSave where !named.contains(where: { $0.hasBytes(atEnd: name) }) {
            unknownNames.append("modules_to_save: no module's name ends in '\(name)'" + Self.suggestion(name, named))
        }
        for (module, _) in config.tokenIndices {
            if ![ParameterTable.embeddingModule, ParameterTable.headModule].contains(where: {
                $0.hasBytes(atEnd: module)
            }) {
                unknownNames.append("trainable_token_indices: '\(module)' is neither the embedding nor the head")
            }
        }
        if updates.isEmpty, replacements.isEmpty, rows.isEmpty {
            unknownNames.append("target_modules matches no module; there are \(Self.names(sites))")
        }
        for layer in config.layers ?? [] where layer >= base.layerCount {
            unknownNames.append("layers_to_transform: there is no layer \(layer); the model has \(base.layerCount)")
        }
    }

    private mutating func checkCombinations() {
        for update in updates where update.hasMagnitude && update.isOfExperts {
            problems.append("use_dora on \(update.site.target): PEFT and graft have no DoRA of experts")
        }
        for update in updates where update.hasBias && (update.isEmbedding || update.isOfExperts) {
            problems.append("lora_bias on \(update.site.target): PEFT and graft have it for linear layers alone")
        }
        if keepsTie, let update = updates.first(where: { $0.isEmbedding && $0.hasMagnitude }) {
            problems.append("ensure_weight_tying: with use_dora, \(update.site.target) and the head cannot stay one")
        }
        for row in rows where updates.contains(where: { $0.module.hasSameBytes(as: row.module) }) {
            problems.append("trainable_token_indices and target_modules both name \(row.module)")
        }
    }

    /// What PEFT could not load: it makes updates of all experts from those of single ones, and one from the gates'
    /// and the ups'.
    private mutating func checkExperts() {
        var stacked: [Int: Update] = [:], single: [Int: Update] = [:]
        var halves: [[Int]: [(isUp: Bool, update: Update)]] = [:]
        for update in updates {
            switch update.site.place {
            case .experts(let layer, _): stacked[layer] = update
            case .expert(let layer, let part, let expert):
                single[layer] = update
                if part != .down { halves[[layer, expert], default: []].append((part == .up, update)) }
            case .linear, .embedding, .head: break
            }
        }
        if let (layer, one) = single.filter({ stacked[$0.key] != nil }).min(by: { $0.key < $1.key }),
            let all = stacked[layer]
        {
            problems.append(
                "\(one.site.target) is of one expert and \(all.site.target) of all: PEFT does not load both; name the "
                    + "experts' layers one by one, or together")
        }
        let uneven = halves.values.filter { pair in
            pair.count != 2 || pair[0].update.rank != pair[1].update.rank
                || pair[0].update.alpha != pair[1].update.alpha
        }
        if let target = uneven.compactMap({ $0.first?.update.site.target }).min() {
            problems.append(
                "\(target): PEFT loads the updates of an expert's gate and up layers together; name both, with the same "
                    + "rank and alpha, or neither")
        }
    }

    private static func names(_ sites: [AdapterSite]) -> String {
        var seen: [String] = []
        for site in sites where !seen.contains(where: site.shortName.hasSameBytes) { seen.append(site.shortName) }
        return seen.joined(separator: ", ")
    }

    private static func suggestion(_ name: String, _ modules: [String]) -> String {
        let ends = Set(
            modules.map { String(decoding: $0.utf8.split(separator: UInt8(ascii: ".")).last ?? [], as: UTF8.self) })
        return nearest(to: name, among: ends.sorted()).map { "; did you mean '\($0)'?" } ?? ""
    }
}

extension ModelConfig {
    /// Where updates may sit, by the last part of names and in the model's order: what `all-linear` takes, with the
    /// parameters that learn for each rank, and what has to be named.
    public var adapterTargets:
        (allLinear: [(name: String, count: Int)], others: [(name: String, count: Int)], width: Int)
    {
        let config = AdapterConfig(rank: 1, alpha: 1, dropout: 0, targets: .allLinear, baseModel: nil)
        let chosen = AdapterPlan(config, base: self).updates.map(\.site)
        let names = Set(chosen.map { ByteString($0.target) })
        func counted(_ sites: [AdapterSite]) -> [(name: String, count: Int)] {
            var result: [(name: String, count: Int)] = []
            for site in sites {
                let name = site.shortName
                if let place = result.firstIndex(where: { $0.name.hasSameBytes(as: name) }) {
                    result[place].count += 1
                } else {
                    result.append((name, 1))
                }
            }
            return result
        }
        let others = ParameterTable(self).adapterSites(nil).filter { !names.contains(ByteString($0.target)) }
        let width = chosen.reduce(0) { $0 + $1.expertCount * ($1.inputWidth + $1.outputWidth) }
        return (counted(chosen), counted(others), width)
    }
}

/// The names of an adapter file's tensors.
enum AdapterKeys {
    static let prefix = "base_model.model."
    static let tokenRows = ".token_adapter.trainable_tokens_delta"
    static let magnitude = ".lora_magnitude_vector"
    static let updateBias = ".lora_B.bias"

    static func a(_ module: String, isEmbedding: Bool) -> String {
        prefix + module + (isEmbedding ? ".lora_embedding_A" : ".lora_A.weight")
    }

    static func b(_ module: String, isEmbedding: Bool) -> String {
        prefix + module + (isEmbedding ? ".lora_embedding_B" : ".lora_B.weight")
    }

    /// The module that holds a parameter.
    static func module(of parameter: String) -> String {
        let end = parameter.utf8.lastIndex(of: UInt8(ascii: ".")) ?? parameter.endIndex
        return String(parameter[..<end])
    }

    /// A module and those that hold it.
    static func enclosing(_ module: String) -> [String] {
        var result = [module]
        while let end = result.last?.utf8.lastIndex(of: UInt8(ascii: ".")) {
            result.append(String(result.last![..<end]))
        }
        return result
    }
}
