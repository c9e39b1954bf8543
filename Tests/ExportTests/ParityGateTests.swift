import FileFormats
import FineTuning
import Foundation
import TensorCore
import Testing

@testable import Export

/// Files that are damaged or of another model on their way to publication.
@Suite struct ParityGateTests {
    let scratch = Scratch()
    let pool = WorkerPool(threads: 2)
    private let module = "model.layers.0.self_attn.q_proj"

    private func prepare() throws {
        let model = TinyModel(hidden: 64, inner: 96)
        try model.write(to: scratch("m"))
        try model.writeAdapter(to: scratch("a"), modules: [(module, 5)])
    }

    private func export(
        _ type: GGUFOutputType, _ fault: (String) throws -> Void = { _ in }
    ) throws -> ExportReport {
        try ParityGate(pool: pool).passing(
            output: scratch("o.gguf"), model: scratch("m"), adapters: [(scratch("a"), 1)]
        ) {
            path in
            let report = try exportGGUF(
                model: scratch("m"), adapters: [(scratch("a"), 1)], output: path,
                options: GGUFExportOptions(type: type, name: "m"), pool: pool)
            try fault(path)
            return report
        }
    }

    /// Nothing stands under the output's name, nor next to it, after a fault.
    private func expectRefused(_ body: () throws -> ExportReport) {
        #expect {
            _ = try body()
        } throws: { error in
            guard case ParityError.diverged(let path, let problems, _) = error else { return false }
            return path.hasSuffix("/o.gguf") && !problems.isEmpty
        }
        #expect(scratch.names == ["a", "m"])
    }

    @Test(arguments: [GGUFOutputType.f16, .q8_0]) func rowsInAnotherOrderAreSeen(type: GGUFOutputType) throws {
        try prepare()
        expectRefused {
            try export(
                type,
                { path in
                    // The first two rows of q_proj change places.
                    let file = try GGUFFile(path: path), info = try #require(file.tensor(named: "blk.0.attn_q.weight"))
                    var all = try readFile(path, limit: 1 << 24)
                    let rows = Array(file.withBytes(of: info)), size = rows.count / info.shape[0]
                    let start = try #require(all.indices.first { all[$0...].starts(with: rows) })
                    all.replaceSubrange(start..<start + 2 * size, with: rows[size..<2 * size] + rows[..<size])
                    try AtomicFile.write(all, to: path, replacing: true)
                })
        }
    }

    @Test(arguments: [1, 100, 5_000]) func shortenedFilesAreSeen(bytes: Int) throws {
        try prepare()
        expectRefused {
            try export(
                .f16,
                { path in
                    let all = try readFile(path, limit: 1 << 24)
                    try AtomicFile.write(Array(all.dropLast(bytes)), to: path, replacing: true)
                })
        }
    }

    @Test func anotherModelIsSeen() throws {
        try prepare()
        let other = TinyModel(hidden: 64, inner: 96)
        try other.write(to: scratch("m2"), seed: 9)
        defer { try? FileManager.default.removeItem(atPath: scratch("m2")) }
        #expect(throws: ParityError.self) {
            _ = try ParityGate(pool: pool).passing(output: scratch("o.gguf"), model: scratch("m"), adapters: []) {
                path in
                try exportGGUF(model: scratch("m2"), output: path, type: .f16, pool: pool)
            }
        }
        #expect(!scratch.names.contains("o.gguf"))
    }
}
