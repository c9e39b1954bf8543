/// What downloads leave in the place of a file, told by its first bytes.
public enum Substitute: Sendable, CustomStringConvertible {
    /// The text that Git keeps for a file in Large File Storage (github.com/git-lfs/git-lfs, docs/spec.md); the size in
    /// bytes is that of the file itself.
    case gitLFSPointer(size: Int?)
    /// The text that git-annex keeps for a file.
    case gitAnnexPointer
    case webPage
    /// The short text that a server answers in place of a file that it does not give.
    case refusal(String)

    /// How many bytes of a file are looked at.
    public static let headSize = 512

    /// Nil for anything else, JSON, weights and rows among it.
    public init?(head bytes: some Sequence<UInt8>) {
        let all = Array(bytes.prefix(Self.headSize))
        let head = all.drop { [0xEF, 0xBB, 0xBF, 0x20, 0x09, 0x0A, 0x0D].contains($0) }
        let text = String(decoding: head, as: UTF8.self)
        let lowered = text.utf8.map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }
        func begins(_ start: String) -> Bool { lowered.starts(with: start.utf8) }
        if ["version https://git-lfs.github.com/spec/", "version https://hawser.github.com/spec/"].contains(
            where: begins)
        {
            let line = text.split(separator: "\n").first { $0.utf8.starts(with: "size ".utf8) }
            self = .gitLFSPointer(size: line.flatMap { Int($0.dropFirst(5)) })
        } else if begins("/annex/objects/") {
            self = .gitAnnexPointer
        } else if ["<!doctype html", "<html", "<head", "<body", "<?xml"].contains(where: begins) {
            self = .webPage
        } else if all.count < Self.headSize, let answer = Self.refusals.first(where: begins) {
            self = .refusal(String(text.prefix(answer.utf8.count)))
        } else {
            return nil
        }
    }

    private static let refusals = [
        "entry not found", "repository not found", "invalid username or password",
        "invalid credentials in authorization",
        "access to model ", "access to dataset ", "404: not found", "404 not found", "403 forbidden", "not found\n",
    ]

    public var description: String {
        switch self {
        case .gitLFSPointer(let size):
            "a Git LFS pointer, which stands for a file"
                + (size.map { " of \($0) bytes" } ?? "") + " that was not fetched\n  run 'git lfs pull' in its folder"
        case .gitAnnexPointer:
            "a git-annex pointer, which stands for a file that was not fetched\n  run 'git annex get' in its folder"
        case .webPage:
            "an HTML page (or XML), not the file itself\n  fetch the file again, by the address of the file and not of "
                + "the page that shows it; where the site asks for a login, log in first"
        case .refusal(let text):
            "a server's answer in place of the file: \(quoted(text))\n  fetch the file again; some models ask for a login "
                + "or for consent to their licence first"
        }
    }

    /// - Throws: `FileError.substitute`.
    public static func refuse(_ bytes: some Sequence<UInt8>, path: String) throws {
        if let found = Substitute(head: bytes) { throw FileError.substitute(path: path, found) }
    }
}

/// A path that leads nowhere, and what it may have been meant for.
struct MissingPath {
    private let path: String

    init(_ path: String) { self.path = path }

    var nextStep: String {
        if let part = unexpandedPart {
            return
                "graft takes paths as they stand and expands no \(part); the shell does so where it is not quoted: write "
                + "the path out"
        }
        if let name = hubName {
            return
                "check the path for typing errors; if \(quoted(name)) is the name of a model or of data on a hub: graft "
                + "loads nothing from elsewhere, fetch it first (as in 'huggingface-cli download \(name) --local-dir "
                + "\(splitPath(name).name)') and give the folder"
        }
        return "check the path for typing errors, and that it is relative to where graft runs"
    }

    /// What a shell would have replaced: `~`, `$NAME` or `${NAME}`.
    private var unexpandedPart: String? {
        let parts = path.utf8.split(separator: UInt8(ascii: "/")).map { String(decoding: $0, as: UTF8.self) }
        if let variable = parts.first(where: { $0.utf8.contains(UInt8(ascii: "$")) }) { return quoted(variable) }
        return parts.first { $0.utf8.first == UInt8(ascii: "~") && !somethingExists(at: $0) }.map(quoted)
    }

    /// `owner/name`, where there is not even a folder of the owner's name in a folder that is there.
    private var hubName: String? {
        var (above, owner) = splitPath(path), name = ""
        while above != "." && above != "/" && !somethingExists(at: above) {
            name = owner
            (above, owner) = splitPath(above)
        }
        func isPlain(_ text: String) -> Bool {
            text.utf8.first.map { $0 != UInt8(ascii: ".") && $0 != UInt8(ascii: "-") } == true
                && text.utf8.allSatisfy {
                    ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7A || (0x30...0x39).contains($0) || $0 == 0x2D || $0 == 0x5F
                        || $0 == 0x2E
                }
        }
        let isFile = Self.fileEndings.contains { name.hasSuffix("." + $0) }
        guard isPlain(owner), isPlain(name), !isFile, !somethingExists(at: above + "/" + owner) else { return nil }
        return owner + "/" + name
    }

    /// Of names that are no repository's.
    private static let fileEndings = [
        "json", "jsonl", "yaml", "yml", "csv", "tsv", "txt", "parquet", "gz", "zst", "h5", "gguf", "safetensors",
        "jinja",
        "model", "md",
    ]
}

/// What to do about a path that leads nowhere: a shell's notation that was not expanded and names on a hub are told.
public func nextStep(forMissing path: String) -> String { MissingPath(path).nextStep }

/// Refuses an output below a folder that a shell would have replaced: it would be made under that very name.
///
/// - Throws: `FileError.missing`.
public func refuseUnexpanded(_ path: String) throws {
    let parts = path.utf8.split(separator: UInt8(ascii: "/"))
    guard
        parts.contains(where: { $0.elementsEqual("~".utf8) || $0.starts(with: "${".utf8) }),
        !somethingExists(at: splitPath(path).folder)
    else { return }
    throw FileError.missing(path: path, what: "folder")
}
