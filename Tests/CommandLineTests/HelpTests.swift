import Testing

@Suite struct HelpTests {
    static let commands = [
        "tokenize", "train", "eval", "generate", "merge", "export", "verify", "inspect", "plan", "doctor",
        "text encode",
        "text decode", "text render", "text train-tokenizer", "logits",
    ]

    @Test(arguments: commands)
    func everyCommandHasAPageWithExamplesAndExitStatus(command: String) throws {
        let result = try Program.run("help " + command)
        #expect(result.status == 0 && result.errors.isEmpty)
        for part in ["OVERVIEW:", "USAGE: graft \(command)", "Example", "Exit status: 0 done", "--json", "--quiet"] {
            #expect(result.output.contains(part), "\(command): no '\(part)'")
        }
        #expect(try Program.run(command + " --help").output == result.output)
    }

    @Test(arguments: ["train", "eval", "generate", "plan", "logits", "merge", "export", "verify", "doctor"])
    func whatComputesTakesThreadsAndPrecision(command: String) throws {
        let page = try Program.run("help " + command).output
        #expect(page.contains("--threads <n>") && page.contains("--precision <f32|bf16>"))
    }

    @Test func theProgramListsItsCommandsAndItsVersion() throws {
        let page = try Program.run("--help")
        #expect(page.status == 0)
        for command in [
            "tokenize", "train", "eval", "generate", "merge", "export", "inspect", "plan", "doctor", "text", "logits",
        ] {
            #expect(page.output.contains("\n  \(command) "))
        }
        #expect(try Program.run("--version").output.hasPrefix("graft "))
    }

    @Test(arguments: [
        "", "trian", "train", "train a.yaml --no-such-flag", "logits --model m --ids 1,x --out o",
        "generate --model m --prompt p --max-tokens 0", "export --model m --out o --type q9", "doctor --threads 0",
        "eval --model m --data d --baseline", "generate --model m --prompt p --system s",
        "export --model m --out o --adapter-only", "text render --model m --now yesterday",
    ])
    func badUsageIs64(line: String) throws {
        let result = try Program.run(line)
        // Alone, the program shows its page.
        #expect(result.status == (line.isEmpty ? 0 : 64))
        if !line.isEmpty { #expect(result.errors.contains("Error:") && result.output.isEmpty) }
    }
}
