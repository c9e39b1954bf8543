import ArgumentParser
import FileFormats
import FineTuning
import Foundation
import Host
import TensorCore

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what this machine offers: processor, libraries, speed, memory.",
        discussion: """
            Prints the processor and the instruction set that graft's loops use on it, the matrix library, the rate \
            of matrix products in f32 and bf16 (GFLOP/s, one second each), the memory and the rate at which it is \
            read, and what follows for the precision that 'auto' chooses. Run it first on a new machine, and send its \
            output with a report of a defect.

            Example:
              graft doctor
              graft doctor --json --threads 1

            \(exitStatusHelp)
            """)

    @OptionGroup var compute: ComputeOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let pool = compute.pool
        func rate(_ dtype: DType) -> Double { ProductRate.measure(dtype, pool: pool).operationsPerSecond / 1e9 }
        let rates: [(DType, Double?)] = [
            (.f32, compute.precision == .bf16 ? nil : rate(.f32)),
            (.bf16, compute.precision == .f32 || !supportsBF16Products ? nil : rate(.bf16)),
        ]
        var facts: [(key: String, value: JSONValue)] = [
            ("graft", .string(versionText)),
            ("processor", .string(processorName)),
            ("processors", .integer(Processors.available)),
            ("threads", .integer(pool.count)),
            ("instruction_set", .string(instructionSet)),
            ("matrix_library", .string(matmulLibrary)),
        ]
        for (dtype, rate) in rates {
            facts.append(("\(dtype)_gflops", rate.map { .double(($0 * 10).rounded() / 10) } ?? .null))
        }
        let bandwidth = measureMemoryBandwidth(pool: pool) / 1e9
        facts += [
            ("memory_gbytes_per_second", .double((bandwidth * 10).rounded() / 10)),
            ("auto_precision", hasFastBF16 ? "bf16" : "f32"),
            ("memory_bytes", ProcessMemory.totalBytes.map { .integer($0) } ?? .null),
            ("memory_limit_bytes", ProcessMemory.limitBytes.map { .integer($0) } ?? .null),
            ("memory_available_bytes", ProcessMemory.availableBytes.map { .integer($0) } ?? .null),
        ]
        if output.json { return Output.json(.object(JSONObject(facts))) }
        let rows = facts.map { entry -> [String] in
            let name = entry.key.replacingOccurrences(of: "_", with: " ").replacingOccurrences(of: " bytes", with: "")
            let value: String =
                switch entry.value {
                case .integer(let bytes) where entry.key.hasSuffix("_bytes"): bytesText(bytes)
                case .double(let rate): String(format: "%.0f", rate)
                case .string(let text): text
                case .null: "-"
                default: JSONWriter.text(entry.value)
                }
            return [name, value]
        }
        let width = rows.map(\.[0].count).max() ?? 0
        for row in rows {
            try Output.line(row[0] + String(repeating: " ", count: width - row[0].count + 2) + row[1])
        }
    }

    private var processorName: String {
        guard let text = ControlGroups.text(of: "/proc/cpuinfo") else { return "unknown" }
        for line in text.split(separator: "\n") where line.hasPrefix("model name") {
            return line.split(separator: ":", maxSplits: 1).last.map { $0.trimmingCharacters(in: .whitespaces) } ?? ""
        }
        return "unknown"
    }
}
