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
    let first = try SafetensorsFolder(path: base)
    let second = try SafetensorsFolder(path: tuned)
    let config = try ModelConfig(path: base, files: first)
    let table = ParameterTable(config)
    var problems = table.mismatches(first)
    for parameter in table.parameters where problems.isEmpty {
        guard let other = second.entry(named: parameter.name) else {
            problems.append("\(parameter.name) is missing in \(tuned)")
            continue
        }
        if other.shape != parameter.shape {
            problems.append("\(parameter.name): \(parameter.shape) and \(other.shape)")
        }
    }
    guard problems.isEmpty else { throw FineTuningError.weightMismatch(path: tuned, problems: problems) }
    var report = ExtractionReport()
    var asked = AdapterConfig(rank: rank, alpha: Double(rank), dropout: 0, targets: targets, baseModel: base)
    asked.json["target_modules"] = nil
    let sites = AdapterPlan(asked, base: config, modules: nil).updates.filter { !$0.isEmbedding && !$0.isOfExperts }
    let byParameter = Dictionary(sites.map { (ByteString($0.parameter), $0.site) }, uniquingKeysWith: { a, _ in a })
    func difference(_ name: String) -> Tensor? {
        guard let a = first.entry(named: name), let b = second.entry(named: name) else { return nil }
        let result = Tensor(a.shape, values: second.floats(of: b))
        let old = first.floats(of: a)
        let isChanged = result.withFloats { values in
            var isChanged = false
            for i in values.indices {
                values[i] -= old[i]
                if values[i] != 0 { isChanged = true }
            }
            return isChanged
        }
        return isChanged ? result : nil
    }
    var changed: [AdapterSite] = []
    for parameter in table.parameters where difference(parameter.name) != nil {
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
            let cut = RankCut(difference(site.target + ".weight")!, rank: newRank)
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
