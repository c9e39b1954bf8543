import Synchronization

/// A regular expression of Python's `re`, as adapters' configurations hold them.
public enum PythonPattern {
    /// Compiled expressions by their text; nil for what is none. Configurations ask for few, again and again.
    private static let compiled = Mutex<[String: OnigurumaRegex?]>([:])
    private static let limit = 1024

    /// Whether the pattern matches the whole text: Python's `re.fullmatch`. What does not compile matches nothing.
    public static func matches(_ pattern: String, whole text: String) -> Bool {
        expression(pattern)?.matchesStart(of: text) ?? false
    }

    public static func isValid(_ pattern: String) -> Bool { expression(pattern) != nil }

    private static func expression(_ pattern: String) -> OnigurumaRegex? {
        compiled.withLock { known in
            if let found = known[pattern] { return found }
            if known.count >= limit { known = [:] }
            let made = try? OnigurumaRegex("(?:\(pattern))\\Z", .python)
            known[pattern] = .some(made)
            return made
        }
    }
}
