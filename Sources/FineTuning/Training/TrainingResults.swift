import FileFormats
import Foundation
import TensorCore

extension TrainingRun {
    func writeResult(_ prepared: Prepared, _ directory: RunDirectory) throws {
        let isAdapter = prepared.adapter != nil
        let folder = try AtomicFolder(
            path: isAdapter ? directory.adapterPath : directory.modelPath, replacing: true)
        if let adapter = prepared.adapter {
            try AdapterFile.write(prepared.model, config: adapter, into: folder.temporaryPath)
        } else {
            try prepared.model.writeFolder(folder.temporaryPath, dtype: prepared.model.dtype)
        }
        if let source = recipe.tokenizerFolder { try copyTokenizerFiles(from: source, to: folder.temporaryPath) }
        try folder.commit()
    }

    func writeReport(
        _ prepared: Prepared, _ directory: RunDirectory, _ samples: [(TrainingData.Sample, String, String)],
        _ state: TrainerState
    ) throws {
        let name = splitPath(recipe.output).name
        var report = RunReport(title: name, recipe: recipe.resolvedYAML)
        let summary = prepared.summary
        func number(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
        report.facts = [
            ("Parameters", "\(summary.parameters)"), ("Trained parameters", "\(summary.trainableParameters)"),
            ("Steps", "\(state.step)"), ("Tokens", "\(state.tokens)"), ("Trained tokens", "\(state.trainedTokens)"),
            ("Precision", summary.precision), ("Time", number(state.elapsedSeconds, 1) + " s"),
            ("Tokens a second", number(Double(state.tokens) / max(state.elapsedSeconds, 1e-9), 0)),
        ]
        if let best = state.bestEvalLoss { report.facts.append(("Best evaluation loss", number(best, 4))) }
        try report.addCurves(fromLog: directory.metricsPath)
        report.tables = [
            .init(title: "Data", rows: [["what", "value"]] + prepared.data.statistics.map { [$0.name, $0.value] })
        ]
        report.samples = samples.map {
            RunReport.Sample(prompt: $0.0.promptText, expected: $0.0.expected, before: $0.1, after: $0.2)
        }
        try report.write(to: directory.reportPath)
    }

    /// - Parameter manifest: with the hashes of what went in.
    func writeManifest(_ manifest: inout RunManifest, _ prepared: Prepared, _ directory: RunDirectory) throws {
        manifest.precision = prepared.summary.precision
        manifest.versions += [("products", matmulLibrary), ("instruction set", instructionSet)]
        manifest.templateHash = prepared.data.template.map { sha256(Array($0.utf8)) }
        manifest.steps = prepared.settings.totalSteps
        let result = prepared.adapter == nil ? "model" : "adapter"
        for name in try namesInFolder(recipe.output + "/" + result) {
            manifest.outputs.append(
                try .init(path: recipe.output + "/" + result + "/" + name, name: result + "/" + name))
        }
        try manifest.write(to: directory.manifestPath)
    }
}
