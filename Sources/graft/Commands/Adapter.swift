public import ArgumentParser
public import Export
import FileFormats
import FineTuning
import Foundation
import TensorCore

struct AdapterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "adapter",
        abstract: "Look at adapters, combine, resize, extract and convert them.",
        discussion: """
            An adapter is a PEFT folder. What these commands write is one, too, in f32, and the same bytes each time.

            Examples:
              graft adapter info runs/x/adapter
              graft adapter combine --adapter A --adapter B --weight 0.7 --weight 0.3 --out C
              graft adapter resize A --rank 8 --out small
              graft adapter extract --model base --tuned checkpoint --rank 32 --out A
              graft adapter convert A --to mlx --out A-mlx

            \(exitStatusHelp)
            """,
        subcommands: [
            AdapterInfo.self, AdapterDiff.self, AdapterScale.self, AdapterCombine.self, AdapterResize.self,
            AdapterExtract.self, AdapterConvert.self,
        ])
}

struct AdapterInfo: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "info", abstract: "Show what an adapter changes: modules, ranks, scales and the sizes of updates.",
        discussion: "Norms are Frobenius norms of scale B A.\n\n\(exitStatusHelp)")

    @Argument(help: ArgumentHelp("The PEFT adapter folder.", valueName: "dir")) var adapter: String
    @OptionGroup var output: OutputOptions

    func run() throws {
        let object = try AdapterObject(folder: adapter, refusesNonFinite: false)
        let config = object.config
        let norms = object.pairs.map(object.norm)
        let damaged = try object.file.nonFiniteTensors()
        if !damaged.isEmpty {
            output.messages.note(
                "warning: \(damaged.count) tensors hold numbers that are infinite or NaN, such as \(damaged[0]): no "
                    + "command will use this adapter")
        }
        let parameters =
            object.pairs.reduce(0) { $0 + $1.rank * ($1.inner.x + $1.inner.y) }
            + object.others.reduce(0) { $0 + $1.elementCount }
        let kind =
            (object.pairs.contains(where: \.hasMagnitude) ? "DoRA" : "LoRA")
            + (config.usesRankStabilisedScale ? ", rank-stabilised" : "")
            + (config.initialization.takesOutOfBase ? ", \(config.initialization) on a changed base" : "")
        if output.json {
            return Output.json([
                "path": .string(adapter), "kind": .string(kind), "rank": .integer(config.rank),
                "alpha": .double(config.alpha), "base_model": config.baseModel.map { .string($0) } ?? .null,
                "parameters": .integer(parameters),
                "modules": .array(
                    zip(object.pairs, norms).map { pair, norm in
                        [
                            "module": .string(pair.module), "rank": .integer(pair.rank), "alpha": .double(pair.alpha),
                            "scale": .double(pair.scale), "norm": norm.isFinite ? .double(norm) : .null,
                            "magnitude": .bool(pair.hasMagnitude),
                        ]
                    }), "whole_tensors": .array(object.others.map { .string($0.name) }),
                "not_finite": .array(damaged.map { .string($0) }),
            ])
        }
        try Output.line("\(kind), rank \(config.rank), alpha \(config.alpha), \(countText(parameters)) parameters")
        if let base = config.baseModel { try Output.line("base: \(base)") }
        let rows = zip(object.pairs, norms).map { pair, norm in
            [
                pair.module, "\(pair.rank)", String(format: "%g", pair.scale),
                norm.isNaN ? "NaN" : String(format: "%.4g", norm),
            ]
        }
        try Output.line(table([["module", "rank", "scale", "norm"]] + rows))
        for entry in object.others { try Output.line("whole: \(entry.name) \(entry.shape)") }
    }
}

struct AdapterDiff: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff", abstract: "Compare the updates of two adapters, module by module.",
        discussion: """
            Shows the relative difference |first - second| / |first| of the updates scale B A and the cosine between \
            them: two adapters may differ in A and B and do the same.

            \(exitStatusHelp)
            """)

    @Argument(help: ArgumentHelp("An adapter folder.", valueName: "dir")) var first: String
    @Argument(help: ArgumentHelp("Another.", valueName: "dir")) var second: String
    @OptionGroup var output: OutputOptions

    func run() throws {
        let comparison = try AdapterComparison(AdapterObject(folder: first), AdapterObject(folder: second))
        func number(_ value: Double?) -> JSONValue { value.map { .double($0) } ?? .null }
        func text(_ value: Double?) -> String { value.map { String(format: "%.4g", $0) } ?? "-" }
        if output.json {
            return Output.json([
                "settings": .object(
                    JSONObject(comparison.settings.map { ($0.name, [.string($0.first), .string($0.second)]) })),
                "modules": .array(
                    comparison.modules.map {
                        [
                            "module": .string($0.name), "first_norm": number($0.norms.first),
                            "second_norm": number($0.norms.second), "relative": number($0.relative),
                            "cosine": number($0.cosine),
                        ]
                    }),
            ])
        }
        for setting in comparison.settings { try Output.line("\(setting.name): \(setting.first) | \(setting.second)") }
        let rows = comparison.modules.map {
            [$0.name, text($0.norms.first), text($0.norms.second), text($0.relative), text($0.cosine)]
        }
        try Output.line(table([["module", "first", "second", "difference", "cosine"]] + rows))
    }
}

struct AdapterScale: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scale", abstract: "Make an adapter's updates stronger or weaker.",
        discussion: "Multiplies B, so that every reader sees it.\n\n\(exitStatusHelp)")

    @Argument(help: ArgumentHelp("The adapter folder.", valueName: "dir")) var adapter: String
    @Option(parsing: .unconditional, help: ArgumentHelp("The factor.", valueName: "x")) var by: Double
    @Option(help: ArgumentHelp("The folder to write.", valueName: "dir")) var out: String
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if !by.isFinite { throw ValidationError("--by must be a finite number") }
    }

    func run() throws {
        try scaleAdapter(adapter, by: by, to: out)
        try written(out, [], output)
    }
}

struct AdapterCombine: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "combine", abstract: "Make one adapter of several, each with a weight.",
        discussion: """
            The methods are those of PEFT's add_weighted_adapter. cat is exact and adds up the ranks; svd cuts the \
            sum of the updates to a rank; linear adds A and B each for itself, which is rough; ties \
            (arXiv:2306.01708), dare_linear and dare_ties (arXiv:2311.03099) and magnitude_prune keep a part of the \
            entries, --density; with _svd they work on whole updates.

            \(exitStatusHelp)
            """)

    @OptionGroup var adapters: WeightedAdapters
    @Option(help: ArgumentHelp("How.", valueName: "method")) var method = AdapterCombination.Method.cat
    @Option(help: ArgumentHelp("The part of the entries that is kept.", valueName: "0-1")) var density: Double?
    @Option(help: ArgumentHelp("What elects signs: total or frequency.", valueName: "how"))
    var majoritySign = AdapterCombination.MajoritySign.total
    @Option(help: ArgumentHelp("The rank of the svd methods; the largest of the adapters' by default.", valueName: "r"))
    var rank: Int?
    @Option(help: ArgumentHelp("The seed of dare.", valueName: "n")) var seed: UInt64 = 42
    @Option(help: ArgumentHelp("The folder to write.", valueName: "dir")) var out: String
    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if adapters.uses.isEmpty { throw ValidationError("give the adapters, each with --adapter") }
        if method.prunes, density == nil { throw ValidationError("--method \(method.rawValue) needs --density") }
        if let density, !(density > 0 && density <= 1) {
            throw ValidationError("--density must be above 0 and at most 1, not \(density)")
        }
        if let rank, !(1...65_536).contains(rank) { throw ValidationError("--rank must be from 1 to 65536") }
    }

    func run() throws {
        var combination = AdapterCombination(method: method, rank: rank, density: density ?? 1, seed: seed)
        combination.majoritySign = majoritySign
        try combination.write(adapters.uses, to: out, pool: compute.pool)
        try written(out, [], output)
    }
}

struct AdapterResize: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resize", abstract: "Cut an adapter to a smaller rank, and tell what that loses.",
        discussion: "The error is |cut - whole| / |whole| of the updates, in the Frobenius norm.\n\n\(exitStatusHelp)")

    @Argument(help: ArgumentHelp("The adapter folder.", valueName: "dir")) var adapter: String
    @Option(help: ArgumentHelp("The new rank.", valueName: "r")) var rank: Int
    @Option(help: ArgumentHelp("The folder to write.", valueName: "dir")) var out: String
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if !(1...65_536).contains(rank) { throw ValidationError("--rank must be from 1 to 65536, not \(rank)") }
    }

    func run() throws { try written(out, try resizeAdapter(adapter, rank: rank, to: out), output) }
}

struct AdapterExtract: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "extract", abstract: "Turn the difference of two checkpoints into a LoRA.",
        discussion: """
            Each linear layer's difference is cut to the rank by SVD; what other tensors changed is told and left \
            out. The error is |cut - whole| / |whole|, in the Frobenius norm.

            \(exitStatusHelp)
            """)

    @Option(
        help: ArgumentHelp("The base model's folder.", valueName: "dir"),
        transform: HubCache.snapshot) var model: String
    @Option(
        help: ArgumentHelp("The tuned model's folder.", valueName: "dir"),
        transform: HubCache.snapshot) var tuned: String
    @Option(help: ArgumentHelp("The rank.", valueName: "r")) var rank: Int
    @Option(help: ArgumentHelp("The folder to write.", valueName: "dir")) var out: String
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if !(1...65_536).contains(rank) { throw ValidationError("--rank must be from 1 to 65536, not \(rank)") }
    }

    func run() throws {
        let report = try extractAdapter(base: model, tuned: tuned, rank: rank, to: out)
        try written(out, report.errors, output, leftOut: report.leftOut)
    }
}

struct AdapterConvert: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "convert", abstract: "Turn adapters of one form into another.",
        discussion: """
            --to lora makes DoRA, PiSSA and OLoRA plain (needs --model; DoRA by SVD, with the error told); --to peft \
            reads mlx-lm's adapter folders and GGUF adapters (these need --model); --to mlx and --to gguf write them \
            (gguf needs --model).

            \(exitStatusHelp)
            """)

    enum Form: String, ExpressibleByArgument, CaseIterable { case lora, peft, mlx, gguf }

    @Argument(help: ArgumentHelp("An adapter folder, or a GGUF adapter.", valueName: "dir|file.gguf")) var adapter:
        String
    @Option(help: ArgumentHelp("lora, peft, mlx or gguf.", valueName: "form")) var to: Form
    @Option(
        help: ArgumentHelp("The base model's folder.", valueName: "dir"),
        transform: HubCache.snapshot) var model: String?
    @Option(help: ArgumentHelp("The rank of a DoRA made plain; twice the adapter's by default.", valueName: "r"))
    var rank: Int?
    @Option(help: ArgumentHelp("The folder or file to write.", valueName: "dir|file.gguf")) var out: String
    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    private var needsModel: Bool { to == .lora || to == .gguf || (to == .peft && !MLXAdapter.isOne(adapter)) }

    func validate() throws {
        if needsModel, model == nil { throw ValidationError("--to \(to.rawValue) needs --model here") }
        if let rank, !(1...65_536).contains(rank) { throw ValidationError("--rank must be from 1 to 65536") }
    }

    func run() throws {
        try refuseExisting(out)
        var errors: [RankError] = []
        switch to {
        case .lora: errors = try convertToPlainLoRA(adapter, model: model!, rank: rank, to: out, pool: compute.pool)
        case .peft where MLXAdapter.isOne(adapter): try MLXAdapter.convert(adapter, model: model, to: out)
        case .peft: try convertGGUFAdapter(adapter, model: model!, to: out)
        case .mlx: try MLXAdapter.write(adapter, to: out)
        case .gguf: _ = try exportGGUFAdapter(model: model!, adapter: adapter, output: out)
        }
        try written(out, errors, output)
    }
}

extension AdapterCombination.Method: ExpressibleByArgument {}
extension AdapterCombination.MajoritySign: ExpressibleByArgument {}

/// Tells what was written, and what cuts to a rank lost.
private func written(_ path: String, _ errors: [RankError], _ output: OutputOptions, leftOut: [String] = []) throws {
    if output.json {
        return Output.json([
            "out": .string(path), "relative_error": errors.isEmpty ? .null : .double(errors.relative),
            "modules": .array(
                errors.map {
                    ["module": .string($0.module), "rank": .integer($0.rank), "relative_error": .double($0.relative)]
                }), "left_out": .array(leftOut.map { .string($0) }),
        ])
    }
    let messages = output.messages
    if !errors.isEmpty {
        for error in errors {
            messages.note("\(error.module): rank \(error.rank), error \(String(format: "%.3g", error.relative))")
        }
        messages.note("error of all together: \(String(format: "%.3g", errors.relative))")
    }
    if !leftOut.isEmpty {
        messages.note(
            "note: \(leftOut.count) tensors changed and are left out: \(leftOut.prefix(3).joined(separator: ", "))")
    }
    messages.note(path)
}
