import FileFormats
public import FineTuning
import Foundation
import TensorCore

/// What an extraction wrote.
public struct ExtractionReport: Sendable {
    public var errors: [RankError] = []
    /// Tensors that differ and that are no linear layers' weights: they are left out.
    public var leftOut: [String] = []
}

/// Writes what tells a tuned checkpoint from its base as a LoRA of the given rank, module by module by SVD.
///
/// Tensors are read one at a time; memory is that of the largest, three times in f32 and once in double precision.
/// - Parameter targets: the modules; others that differ are reported
/// - Throws: `FileError`, `FineTuningError` when the two are not of one shape or no module differs.
public func extractAdapter(
    base: String, tuned: String, rank: Int, targets: ModuleNames = .allLinear, to output: String
) throws -> ExtractionReport {
    let pair = try CheckpointPair(base: base, tuned: tuned)
    var asked = AdapterConfig(rank: rank, alpha: Double(rank), dropout: 0, targets: targets, baseModel: base)
    asked.json["target_modules"] = nil
    let sites = AdapterPlan(asked, base: pair.config, modules: nil).updates
        .filter { !$0.isEmbedding && !$0.isOfExperts }
    let byParameter = Dictionary(sites.map { (ByteString($0.parameter), $0.site) }, uniquingKeysWith: { a, _ in a })
    var report = ExtractionReport()
    var changed: [AdapterSite] = []
    for parameter in pair.table.parameters where try pair.difference(parameter.name) != nil {
        if let site = byParameter[ByteString(parameter.name)], site.expertCount == 1 {
            changed.append(site)
        } else {
            report.leftOut.append(parameter.name)
        }
    }
    guard !changed.isEmpty else {
        throw FineTuningError.weightMismatch(path: tuned, problems: ["no targeted module differs from \(base)"])
    }
    changed.sort { ByteString($0.module) < ByteString($1.module) }
    var errors: [RankError] = []
    let items = changed.map { site -> AdapterFolderWriter.Item in
        let newRank = min(rank, site.outputWidth, site.inputWidth)
        let key = "base_model.model." + site.module
        return .init(
            keyA: key + ".lora_A.weight", keyB: key + ".lora_B.weight", shapeA: [newRank, site.inputWidth],
            shapeB: [site.outputWidth, newRank]
        ) {
            let cut = RankCut(try pair.difference(site.target + ".weight")!, rank: newRank)
            errors.append(RankError(module: site.module, rank: newRank, relative: cut.error, norm: cut.norm))
            return (cut.a, cut.b)
        }
    }
    var written = asked.plain(ranks: zip(changed, items).map { (module: $0.module, rank: $1.shapeA[0]) })
    written.targets = .names(changed.map(\.target))
    try AdapterFolderWriter.write(to: output, config: written, items: items, filesFrom: tuned)
    report.errors = errors
    return report
}

/// A base and a checkpoint that was trained from it, tensor for tensor of one shape.
private struct CheckpointPair {
    let config: ModelConfig
    let table: ParameterTable
    private let base: SafetensorsFolder
    private let tuned: SafetensorsFolder
    private let tunedPath: String

    /// - Throws: `FileError`, `FineTuningError` with all tensors that do not fit.
    init(base path: String, tuned tunedPath: String) throws {
        self.tunedPath = tunedPath
        base = try SafetensorsFolder(path: path)
        tuned = try SafetensorsFolder(path: tunedPath)
        config = try ModelConfig(path: path, files: base)
        table = ParameterTable(config)
        let faults = table.mismatches(base)
        guard faults.isEmpty else { throw FineTuningError.weightMismatch(path: path, problems: faults) }
        var problems: [String] = []
        for parameter in table.parameters {
            guard let other = tuned.entry(named: parameter.name) else {
                problems.append("\(parameter.name) is missing")
                continue
            }
            if ![.f32, .f16, .bf16].contains(other.type) {
                problems.append("\(parameter.name): expected F32, F16 or BF16, found \(other.type.rawValue)")
            }
            if other.shape != parameter.shape {
                problems.append("\(parameter.name): expected shape \(parameter.shape), found \(other.shape)")
            }
        }
        guard problems.isEmpty else { throw FineTuningError.weightMismatch(path: tunedPath, problems: problems) }
    }

    /// tuned - base, in f32; nil where they are equal, or where either has no such tensor.
    ///
    /// - Throws: `FineTuningError.weightMismatch` where either holds a number that is infinite or NaN.
    func difference(_ name: String) throws -> Tensor? {
        guard let old = base.entry(named: name), let new = tuned.entry(named: name) else { return nil }
        let result = Tensor(new.shape, values: tuned.floats(of: new))
        let values = base.floats(of: old)
        let (isChanged, isFinite) = result.withFloats { result in
            var (isChanged, isFinite) = (false, true)
            for i in result.indices {
                result[i] -= values[i]
                if result[i] != 0 { isChanged = true }
                if !result[i].isFinite { isFinite = false }
            }
            return (isChanged, isFinite)
        }
        guard isFinite else {
            throw FineTuningError.weightMismatch(
                path: tunedPath,
                problems: ["\(name) holds a number that is infinite or NaN, here or in the base"])
        }
        return isChanged ? result : nil
    }
}
