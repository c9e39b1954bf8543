import ArgumentParser
import FileFormats
import Foundation
import Host

@main
struct Graft: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "graft",
        abstract: "Fine-tune open language models with LoRA on the machine you have.",
        discussion: """
            Raw rows in, a verified adapter or a GGUF out. No Python, no network, no GPU needed.

            A first run:
              graft plan recipe.yaml       what it will cost, and what is trained on
              graft train recipe.yaml      rows to an adapter, in a run directory
              graft eval --model M --adapter runs/x/adapter --data held-out.jsonl
              graft merge --model M --adapter runs/x/adapter --out merged
              graft export --model merged --out model.gguf --type q8_0

            Every command takes --json (one JSON document on standard output, nothing else; of a failure its "error") \
            and --quiet. Progress goes to standard error and is drawn only on a terminal.

            \(exitStatusHelp)
            """,
        version: "graft \(versionText)",
        subcommands: [
            Tokenize.self, Train.self, Eval.self, Generate.self, Merge.self, ExportCommand.self, Verify.self,
            Imatrix.self, Inspect.self,
            Plan.self,
            Doctor.self, Text.self, Logits.self, Init.self, AdapterCommand.self,
        ])

    /// Every error leaves through here: its text on standard error, its code as exit status.
    static func main() {
        prepareProcess(isJSONWanted: isJSONWanted)
        reportMappedFileFaults()
        UnguardedOutputs.report { text in Messages(quiet: isQuiet).note("warning: \(text)") }
        do {
            try checkArguments()
            var command = try parseAsRoot()
            do {
                try command.run()
                try Output.finish()
                endProcess(0)
            } catch {
                Failure(error).exit()
            }
        } catch {
            Failure(usage: error).exit()
        }
    }

    /// Swift mends arguments that are not UTF-8, and a mended name is another file's.
    private static func checkArguments() throws {
        for index in 1..<max(1, Int(CommandLine.argc)) {
            guard let argument = CommandLine.unsafeArgv[index], String(validatingCString: argument) == nil else {
                continue
            }
            throw ValidationError(
                "argument \(index), '\(String(cString: argument))', is not UTF-8; rename the file that it names")
        }
    }

    /// Asked for anywhere, also on a command line that cannot be understood.
    fileprivate static var isJSONWanted: Bool { isGiven("--json") }
    private static var isQuiet: Bool { isGiven("--quiet") }

    private static func isGiven(_ flag: String) -> Bool {
        CommandLine.arguments.dropFirst().prefix { $0 != "--" }.contains(flag)
    }
}

let exitStatusHelp = """
    Exit status: 0 done; 64 bad usage; 65 bad input data; 66 missing input; 70 internal error; 73 the output exists \
    or is locked; 74 input/output error, or no more memory, \
    threads or files to be had; 75 stopped on request, resume to go on; 78 bad recipe; 79 a gate failed.
    """

/// An error on its way out of the process: as text on standard error and, with --json, in the document on standard
/// output.
private struct Failure {
    private let error: any Error
    /// The argument parser's own: usage errors, --help, exit codes. It takes all others for plain failures.
    private let isParsers: Bool

    init(_ error: any Error) {
        self.error = error
        isParsers = !(error is any GraftError) && Graft.exitCode(for: error) != .failure
    }

    init(usage error: any Error) {
        self.error = error
        isParsers = true
    }

    func exit() -> Never {
        guard !isParsers else {
            let code = Graft.exitCode(for: error)
            let text = Graft.fullMessage(for: error) + "\n"
            guard code.isSuccess else {
                finish(code.rawValue, Graft.message(for: error), [])
                StandardStream.tell(Array(printable(text).utf8))
                endProcess(code.rawValue)
            }
            do {
                try Output.write(text)
                try Output.finish()
            } catch { Failure(error).exit() }
            endProcess(code.rawValue)
        }
        let (status, text) = described()
        var message = "graft: " + text
        if !message.hasSuffix("\n") { message += "\n" }
        finish(status.rawValue, text, (error as? any GraftError)?.problems ?? [])
        StandardStream.tell(Array(printable(message).utf8))
        endProcess(status.rawValue)
    }

    /// Prints what the command has to say on standard output, as far as that can be written.
    private func finish(_ code: Int32, _ message: String, _ problems: [String]) {
        if Graft.isJSONWanted { Output.fail(code: code, message: message, problems: problems) }
        try? Output.finish()
    }

    private func described() -> (ExitStatus, String) {
        if let error = error as? any GraftError { return (error.exitStatus, error.description) }
        let cocoa = error as NSError
        if cocoa.domain == NSCocoaErrorDomain || cocoa.domain == NSPOSIXErrorDomain {
            let path = (cocoa.userInfo[NSFilePathErrorKey] as? String).map { $0 + ": " } ?? ""
            let cause = cocoa.userInfo[NSUnderlyingErrorKey] as? NSError
            let reason = (cause ?? cocoa).localizedDescription
            return (.io, "\(path)\(reason)\n  check the path, its permissions and the space on the disk")
        }
        return (
            .internal,
            "internal error: \(error)\n  this is a defect of graft; please report it with the command that you ran"
        )
    }
}
