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
        let names = (try? namesInFolder(folder)) ?? []
        return names.filter { $0.hasPrefix("step-") && Int($0.dropFirst(5)) != nil }
            .sorted { Int($0.dropFirst(5))! > Int($1.dropFirst(5))! }.map { folder + "/" + $0 }
    }

    static func writeManifest(_ folder: AtomicFolder) throws {
        var entries: [(key: String, value: JSONValue)] = []
        for name in files {
            let path = folder.path(of: name)
            let size = fileSize(path) ?? 0
            entries.append((name, ["size": .integer(size), "sha256": .string(try sha256(ofFile: path))]))
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
        for old in Checkpoint.list(folder).dropFirst(Checkpoint.kept) {
            removeTree(old)
        }
        return path
    }

    private var stateJSON: JSONValue {
        [
            "version": 1, "step": .integer(state.step), "optimizer_step": .integer(optimizer.step),
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
        for path in Checkpoint.list(folder) {
            let damage = Checkpoint.damage(path)
            guard damage.isEmpty else {
                try report(.rejected(path: path, reason: damage.joined(separator: "; ")))
                continue
            }
            try load(path)
            try report(.resumed(step: state.step, path: path))
            return
        }
    }

    private func load(_ path: String) throws {
        let json = try JSONParser.parse(readFile(path + "/state.json", limit: 1 << 20), duplicateKeys: .refuse)
        var problems: [String] = []
        if json["fingerprint"]?.stringValue?.hasSameBytes(as: settings.fingerprint) != true {
            problems.append("it was written for another recipe or other data")
        }
        if json["microbatch_tokens"]?.intValue != settings.microbatchTokens {
            problems.append(
                "its micro-batches have \(JSONWriter.text(json["microbatch_tokens"] ?? .null)) tokens, now they have "
                    + "\(settings.microbatchTokens)")
        }
        let weights = try SafetensorsFile(path: path + "/weights.safetensors")
        let moments = try SafetensorsFile(path: path + "/optimizer.safetensors")
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
                copies.append((file, entry, load))
            }
        }
        guard problems.isEmpty, let step = json["step"]?.intValue, let taken = json["optimizer_step"]?.intValue else {
            throw FineTuningError.checkpoint(path: path, problems: problems)
        }
        for copy in copies { copy.load(copy.file.withBytes(of: copy.entry)) }
        model.refreshWeights(pool)
        optimizer.step = taken
        state.step = step
        state.tokens = json["tokens"]?.intValue ?? 0
        state.trainedTokens = json["trained_tokens"]?.intValue ?? 0
        state.elapsedSeconds = json["elapsed_seconds"]?.doubleValue ?? 0
        state.bestEvalLoss = json["best_eval_loss"]?.doubleValue
        state.bestEvalStep = json["best_eval_step"]?.intValue
        state.evaluationsLeft = min(2, max(0, json["evaluations_left"]?.intValue ?? 0))
    }
}

extension Trainer {
    /// The micro-batch size that the newest whole checkpoint of a folder was made with, so that a resume keeps it.
    static func savedMicrobatchTokens(in folder: String) -> Int? {
        guard let path = Checkpoint.list(folder).first(where: { Checkpoint.damage($0).isEmpty }),
            let bytes = try? readFile(path + "/state.json", limit: 1 << 20)
        else { return nil }
        return (try? JSONParser.parse(bytes))?["microbatch_tokens"]?.intValue
    }
}
