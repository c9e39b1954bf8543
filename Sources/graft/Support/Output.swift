import FileFormats
import FineTuning
import Foundation
import Host

var versionText: String { graftVersion }

/// Standard output, buffered, with errors noticed: a full disk is not a success.
///
/// A reader that went away, as `head` does, has had enough: what follows is left out, and the command ends as it would
/// have.
enum Output {
    // Commands write from the main thread alone.
    nonisolated(unsafe) private static var buffer: [UInt8] = []
    nonisolated(unsafe) private static var hasText = false
    /// What --json prints at the end.
    nonisolated(unsafe) private static var document: JSONValue?

    /// Whether whoever read standard output has closed it.
    nonisolated(unsafe) private(set) static var isReaderGone = false

    /// Writes text for a person, which may hold text from files: see `printable`.
    static func write(_ text: String) throws { try writeStyled(printable(text)) }

    /// Writes text as it is: coloured, or made for a program.
    static func writeStyled(_ text: String) throws {
        hasText = true
        buffer += text.utf8
        if buffer.count >= 1 << 16 { try flush() }
    }

    static func line(_ text: String) throws { try write(text + "\n") }

    /// Sets the one document of a command that was asked for JSON.
    static func json(_ value: JSONValue) { document = value }

    /// Puts an error into the document, or makes it the document; leaves output that is under way as it is.
    static func fail(code: Int32, message: String, problems: [String]) {
        let error: JSONValue = [
            "code": .integer(Int(code)), "message": .string(message),
            "problems": .array(problems.map { .string($0) }),
        ]
        guard document != nil || !hasText else { return }
        guard var object = (document ?? .object(JSONObject())).objectValue else { return }
        object["error"] = error
        document = .object(object)
    }

    /// Writes what was not written yet.
    static func finish() throws {
        if let document {
            self.document = nil
            try writeStyled(JSONWriter.text(document, .pretty) + "\n")
        }
        try flush()
    }

    static func flush() throws {
        defer { buffer.removeAll(keepingCapacity: true) }
        guard !buffer.isEmpty, !isReaderGone else { return }
        let code = StandardStream.output(buffer)
        if code == EPIPE { isReaderGone = true }
        guard code == 0 || code == EPIPE else {
            throw FileError.io(operation: "write", path: "standard output", code: code)
        }
    }
}

/// Notes and progress on standard error, as far as that can be written.
final class Messages {
    private let isQuiet: Bool
    let drawsProgress: Bool
    private var isLineOpen = false
    private var lastDraw = ContinuousClock.now - .seconds(1)

    init(quiet: Bool) {
        isQuiet = quiet
        drawsProgress = !quiet && isatty(STDERR_FILENO) == 1
    }

    /// A line for a person; left out when quiet.
    func note(_ text: String) {
        guard !isQuiet else { return }
        clearProgress()
        tell(printable(text) + "\n")
    }

    /// Redraws the progress line, at most ten times a second; nothing where standard error is no terminal.
    func progress(_ text: @autoclosure () -> String) {
        guard drawsProgress, ContinuousClock.now - lastDraw > .milliseconds(100) else { return }
        lastDraw = .now
        isLineOpen = true
        let width = max(20, terminalWidth() - 1)
        tell("\r\u{1B}[2K" + printable(text()).prefix(width))
    }

    func clearProgress() {
        guard isLineOpen else { return }
        isLineOpen = false
        tell("\r\u{1B}[2K")
    }

    private func tell(_ text: String) { StandardStream.tell(Array(text.utf8)) }

    private func terminalWidth() -> Int {
        var size = winsize()
        guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }
}

/// Rows of cells as aligned columns; numbers to the right.
func table(_ rows: [[String]]) -> String {
    let columns = rows.map(\.count).max() ?? 0
    let widths = (0..<columns).map { column in
        rows.map { $0.count > column ? $0[column].unicodeScalars.count : 0 }.max() ?? 0
    }
    let isNumeric = (0..<columns).map { column in
        rows.dropFirst().contains { $0.count > column && !$0[column].isEmpty }
            && rows.dropFirst().allSatisfy { $0.count <= column || $0[column].isEmpty || $0[column].looksNumeric }
    }
    return rows.map { row in
        let cells = row.enumerated().map { column, cell in
            let padding = String(repeating: " ", count: widths[column] - cell.unicodeScalars.count)
            return isNumeric[column] ? padding + cell : cell + padding
        }
        var line = cells.joined(separator: "  ")
        while line.hasSuffix(" ") { line.removeLast() }
        return line
    }.joined(separator: "\n")
}

extension String {
    fileprivate var looksNumeric: Bool {
        guard let first = utf8.first else { return false }
        return (0x30...0x39).contains(first) || (first == 0x2D && utf8.count > 1)
    }
}

func bytesText(_ bytes: Int) -> String {
    switch bytes {
    case ..<1024: "\(bytes) B"
    case ..<(1 << 20): String(format: "%.1f KiB", Double(bytes) / 1024)
    case ..<(1 << 30): String(format: "%.1f MiB", Double(bytes) / 1_048_576)
    default: String(format: "%.2f GiB", Double(bytes) / 1_073_741_824)
    }
}

func countText(_ count: Int) -> String {
    switch count {
    case ..<10_000: "\(count)"
    case ..<1_000_000: String(format: "%.1f k", Double(count) / 1e3)
    case ..<1_000_000_000: String(format: "%.2f M", Double(count) / 1e6)
    default: String(format: "%.2f G", Double(count) / 1e9)
    }
}

func durationText(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e9 else { return "?" }
    let whole = Int(seconds.rounded())
    if seconds < 10 { return String(format: "%.1f s", seconds) }
    if whole < 60 { return "\(whole) s" }
    if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
    return "\(whole / 3600) h \(whole % 3600 / 60) min"
}
