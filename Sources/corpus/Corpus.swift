import ArgumentParser

@main
struct Corpus: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "corpus")
}
