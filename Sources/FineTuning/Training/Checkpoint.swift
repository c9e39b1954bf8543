import FileFormats
import Foundation
import Host
internal import TensorCore

/// The counters of a run; with the weights and the moments, all that an exact resume needs.
public struct TrainerState: Sendable {
    /// Optimiser steps done, skipped ones included.
    public var step = 0
    public var tokens = 0
    public var trainedTokens = 0
    public var elapsedSeconds = 0.0
    public var bestEvalLoss: Double?
    public var bestEvalStep: Int?
    /// Evaluations after `step` that a stop has kept from being made.
    public var evaluationsLeft = 0
    public init() {}
}

/// A checkpoint folder: `weights.safetensors`, `optimizer.safetensors`, `state.json`, and `MANIFEST.json` with the size
/// and hash of each, written last.
enum Checkpoint {
    static let kept = 2
    private static let files = ["weights.safetensors", "optimizer.safetensors", "state.json"]

    static func name(step: Int) -> String {
        let digits = String(step)
        return "step-" + String(repeating: "0", count: max(0, 6 - digits.count)) + digits
    }

    /// The checkpoint folders, newest first.
    static func list(_ folder: String) -> [String] {
        ((try? namesInFolder(folder)) ?? []).compactMap { name in step(ofName: name).map { ($0, name) } }
            .sorted { $0.0 > $1.0 }.map { folder + "/" + $0.1 }
    }

    /// The step that a checkpoint's name tells; nil for other names.
    static func step(ofName name: String) -> Int? {
        guard name.utf8.starts(with: "step-".utf8), name.utf8.dropFirst(5).allSatisfy({ (0x30...0x39).contains($0) })
        else {
            return nil
        }
        return Int(name.dropFirst(5))
    }

    static func writeManifest(_ folder: AtomicFolder) throws {
        var entries: [(key: String, value: JSONValue)] = []
        for name in files {
            let path = folder.path(of: name)
            let (size, hash) = try digest(ofFile: path)
            entries.append((name, ["size": .integer(size), "sha256": .string(hash)]))
        }
        let text = JSONWriter.text(["version": 1, "files": .object(JSONObject(entries))], .pretty) + "\n"
        try AtomicFile.write(Array(text.utf8), to: folder.path(of: "MANIFEST.json"))
    }

    /// What is wrong with the files of a checkpoint; empty when it is whole.
    static func damage(_ path: String) -> [String] {
        guard let bytes = try? readFile(path + "/MANIFEST.json", limit: 1 << 20),
            let manifest = try? JSONParser.parse(bytes, duplicateKeys: .refuse)
        else { return ["MANIFEST.json cannot be read"] }
        var problems: [String] = []
        for name in files {
            guard let want = manifest["files"]?[name]?["sha256"]?.stringValue else {
                problems.append("\(name) is not in the manifest")
                continue
            }
            let hash = try? sha256(ofFile: path + "/" + name)
            if hash?.hasSameBytes(as: want) != true { problems.append("\(name) does not have the recorded hash") }
        }
        return problems
    }
}

extension Trainer {
    /// Writes a checkpoint and deletes all but the newest two.
    ///
    /// - Returns: its folder.
    func saveCheckpoint(in folder: String) throws -> String {
        // A stop is what it may be saved for.
        try StopRequest.finishing { try writeCheckpoint(in: folder) }
    }

    private func writeCheckpoint(in folder: String) throws -> String {
        try createFolders(folder)
        let path = folder + "/" + Checkpoint.name(step: state.step)
        let output = try AtomicFolder(path: path, replacing: true)
        let weights = optimizer.weights
        let masters = try SafetensorsWriter(
            path: output.path(of: "weights.safetensors"),
            tensors: weights.map { .init(name: $0.name, type: .f32, shape: $0.shape) })
        for weight in weights {
            try weight.stored.withBytes { try masters.append(UnsafeRawBufferPointer($0), to: weight.name) }
        }
        try masters.finish()
        let moments = try SafetensorsWriter(
            path: output.path(of: "optimizer.safetensors"),
            tensors: weights.flatMap { weight in
                ["first.", "second."].map { .init(name: $0 + weight.name, type: .f32, shape: weight.shape) }
            })
        for (weight, moment) in zip(weights, optimizer.moments) {
            try moment.first.withBytes { try moments.append(UnsafeRawBufferPointer($0), to: "first." + weight.name) }
            try moment.second.withBytes { try moments.append(UnsafeRawBufferPointer($0), to: "second." + weight.name) }
        }
        try moments.finish()
        let text = JSONWriter.text(stateJSON, .pretty) + "\n"
        try AtomicFile.write(Array(text.utf8), to: output.path(of: "state.json"))
        try Checkpoint.writeManifest(output)
        try output.commit()
        // Those of later steps were damaged, or this run would have gone on from them; they count as none.
        let all = Checkpoint.list(folder)
        let later = all.prefix { Checkpoint.step(ofName: splitPath($0).name) ?? 0 > state.step }
        for old in later + all.dropFirst(later.count + Checkpoint.kept) { removeTree(old) }
        return path
    }

    private var stateJSON: JSONValue {
        [
            "version": .integer(CheckpointState.version), "step": .integer(state.step),
            "optimizer_step": .integer(optimizer.step),
            "tokens": .integer(state.tokens), "trained_tokens": .integer(state.trainedTokens),
            "elapsed_seconds": .double(state.elapsedSeconds),
            "best_eval_loss": state.bestEvalLoss.map { .double($0) } ?? .null,
            "best_eval_step": state.bestEvalStep.map { .integer($0) } ?? .null,
            "evaluations_left": .integer(state.evaluationsLeft),
            "microbatch_tokens": .integer(settings.microbatchTokens), "fingerprint": .string(settings.fingerprint),
        ]
    }

    /// Goes on from the newest checkpoint that is whole; damaged ones are reported and passed over.
    ///
    /// - Throws: `FineTuningError.checkpoint` when a whole checkpoint belongs to another recipe or other data.
    func resumeNewest(in folder: String, _ report: (TrainerEvent) throws -> Void) throws {
        let all = Checkpoint.list(folder)
        for path in all {
            var damage = Checkpoint.damage(path)
            if damage.isEmpty { damage = try load(path) }
            guard !damage.isEmpty else { return try report(.resumed(step: state.step, path: path)) }
            try report(.rejected(path: path, reason: damage.joined(separator: "; ")))
        }
        if !all.isEmpty { try report(.restarted(folder: folder)) }
    }

    /// Takes a checkpoint over.
    ///
    /// - Returns: what is wrong with it; nothing has changed then.
    /// - Throws: `FineTuningError.checkpoint` for one of another recipe or other data.
    private func load(_ path: String) throws -> [String] {
        let saved: CheckpointState
        switch CheckpointState.read(path) {
        case .failure(let damage): return damage.problems
        case .success(let state): saved = state
        }
        guard saved.fingerprint.hasSameBytes(as: settings.fingerprint) else {
            throw FineTuningError.checkpoint(
                path: path, problems: ["it was written for another recipe, another base or other data"])
        }
        guard saved.microbatchTokens == settings.microbatchTokens else {
            throw FineTuningError.checkpoint(
                path: path,
                problems: [
                    "its micro-batches have \(saved.microbatchTokens) tokens, now they have \(settings.microbatchTokens)"
                ])
        }
        var problems = saved.problems(path: path, settings, rows: train)
        let weights: SafetensorsFile, moments: SafetensorsFile
        do {
            weights = try SafetensorsFile(path: path + "/weights.safetensors")
            moments = try SafetensorsFile(path: path + "/optimizer.safetensors")
        } catch let error as FileError where error.exitStatus != .io { return ["\(error)"] }
        var copies: [(file: SafetensorsFile, entry: TensorEntry, load: (UnsafeRawBufferPointer) -> Void)] = []
        for (weight, moment) in zip(optimizer.weights, optimizer.moments) {
            let targets: [(SafetensorsFile, String, (UnsafeRawBufferPointer) -> Void)] = [
                (weights, weight.name, weight.load), (moments, "first." + weight.name, moment.first.copyContent),
                (moments, "second." + weight.name, moment.second.copyContent),
            ]
            for (file, name, load) in targets {
                guard let entry = file.entry(named: name), entry.shape == weight.shape, entry.type == .f32 else {
                    problems.append("\(name) is missing or has another shape")
                    continue
                }
                let isSquare = name.utf8.starts(with: "second.".utf8)
                if !file.withBytes(of: entry).holdsNumbers(from: isSquare ? 0 : -.greatestFiniteMagnitude) {
                    problems.append("\(name) holds values that are not finite" + (isSquare ? ", or negative ones" : ""))
                }
                copies.append((file, entry, load))
            }
        }
        guard problems.isEmpty else { return problems }
        for copy in copies { copy.load(copy.file.withBytes(of: copy.entry)) }
        model.refreshWeights(pool)
        optimizer.step = saved.optimizerStep
        state = saved.counters
        return []
    }
}

extension Trainer {
    /// The micro-batch size that the newest whole checkpoint of a folder was made with, so that a resume keeps it.
    static func savedMicrobatchTokens(in folder: String) -> Int? {
        for path in Checkpoint.list(folder) where Checkpoint.damage(path).isEmpty {
            if case .success(let state) = CheckpointState.read(path) { return state.microbatchTokens }
        }
        return nil
    }
}

extension UnsafeRawBufferPointer {
    /// Whether all are finite f32 numbers of at least `least`.
    fileprivate func holdsNumbers(from least: Float) -> Bool {
        for offset in stride(from: 0, to: count - 3, by: 4) {
            let value = loadUnaligned(fromByteOffset: offset, as: Float.self)
            // NaN compares false.
            guard value >= least, value <= .greatestFiniteMagnitude else { return false }
        }
        return true
    }
}
