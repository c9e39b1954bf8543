import FileFormats
import Foundation
import Testing

/// 'graft tokenize' with the tokenizer and template of the shipped base.
@Suite struct TokenizeTests {
    static let model = URL(fileURLWithPath: Fixture.root).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("recipes/sapling").path

    func writeRows(_ folder: String, _ count: Int) throws {
        let lines = (0..<count).map { i in
            #"{"prompt": "question \#(i) नमस्ते \#(String(repeating: "farm\(i % 7) ", count: i % 30))", "#
                + #""completion": " answer \#(i * 31 % 1009)"}"#
        }
        try write(lines.joined(separator: "\n") + "\n", to: folder + "/rows.jsonl")
    }

    @Test func aKilledRunGivesTheSameBytes() throws {
        try withFolder { folder in
            try writeRows(folder, 3_000)
            let arguments = ["tokenize", "--model", Self.model, "--data", "rows.jsonl", "--shuffle", "--quiet"]
            let whole = try Program.run(arguments + ["--out", "whole.h5"], in: folder)
            #expect(whole.status == 0, "\(whole.errors)")
            for delay in [60_000, 200_000, 450_000] {
                let running = try Program.start(arguments + ["--out", "killed.h5"], in: folder)
                usleep(UInt32(delay))
                kill(running.process.processIdentifier, SIGKILL)
                _ = running.wait()
            }
            let last = try Program.run(arguments + ["--out", "killed.h5"], in: folder)
            #expect(last.status == 0, "\(last.errors)")
            let bytes = try readFile(folder + "/killed.h5", limit: 1 << 26)
            #expect(try bytes == readFile(folder + "/whole.h5", limit: 1 << 26))
            let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
            #expect(names == ["killed.h5", "rows.jsonl", "whole.h5"])
        }
    }

    @Test func shardsMergeAndStatusesTellWhatIsThere() throws {
        try withFolder { folder in
            try writeRows(folder, 400)
            let arguments = ["tokenize", "--model", Self.model, "--data", "rows.jsonl", "--json"]
            let whole = try Program.run(arguments + ["--out", "whole.h5"], in: folder)
            #expect(whole.status == 0, "\(whole.errors)")
            #expect(try whole.json()["stored_examples"]?.intValue == 400)
            for i in 1...2 {
                let shard = try Program.run(arguments + ["--out", "s\(i)", "--shard", "\(i)/2"], in: folder)
                #expect(shard.status == 0, "\(shard.errors)")
            }
            let merged = try Program.run("tokenize --merge s1,s2 --out merged.h5", in: folder)
            #expect(merged.status == 0, "\(merged.errors)")
            let bytes = try readFile(folder + "/merged.h5", limit: 1 << 26)
            #expect(try bytes == readFile(folder + "/whole.h5", limit: 1 << 26))
            let again = try Program.run(arguments + ["--out", "whole.h5"], in: folder)
            #expect(try again.status == 0 && again.json()["up_to_date"]?.boolValue == true)
            #expect(try Program.run(arguments + ["--out", "whole.h5", "--shuffle"], in: folder).status == 73)
            #expect(try Program.run(arguments + ["--out", "rows.jsonl"], in: folder).status == 73)
            #expect(try Program.run("tokenize --merge s1 --out x.h5", in: folder).status == 65)
            #expect(try Program.run("tokenize --merge rows.jsonl --out x.h5", in: folder).status != 0)
            #expect(try Program.run("tokenize --merge s1 --data rows.jsonl --out x.h5", in: folder).status == 64)
            #expect(try Program.run("tokenize --data rows.jsonl --out x.h5", in: folder).status == 64)
            for wrong in [
                ["--shard", "3/2"], ["--weights", "1,2"], ["--mix-temperature", "0.5"], ["--weights", "0"],
            ] {
                #expect(try Program.run(arguments + ["--out", "x.h5"] + wrong, in: folder).status == 64, "\(wrong)")
            }
        }
    }
}
