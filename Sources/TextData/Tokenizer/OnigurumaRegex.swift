import COniguruma
import Synchronization

/// A regular expression as Hugging Face `tokenizers` runs it: Oniguruma, UTF-8, Oniguruma's own syntax; or one in
/// Python's.
///
/// A compiled expression is immutable, and a search keeps its state in its own region, so threads may share one.
final class OnigurumaRegex: @unchecked Sendable {
    let pattern: String
    private let regex: OnigRegex

    enum Syntax { case oniguruma, python }

    /// How often all searches in a text may backtrack together: honest patterns do so a few times a byte.
    private static let retries = 1_000_000
    private static let retriesPerByte = 200
    private static let retriesAtFirst = 2_000

    /// Compiling touches tables that the library shares between expressions.
    private static let compiling = Mutex<(isInitialized: Bool, properties: OnigurumaProperties)>(
        (false, OnigurumaProperties()))

    /// - Throws: `TokenizerError.invalidPattern` with Oniguruma's reason.
    init(_ pattern: String, _ syntax: Syntax = .oniguruma) throws {
        self.pattern = pattern
        var compiled: OnigRegex?
        var info = OnigErrorInfo()
        let reason: String? = Self.compiling.withLock { state in
            Self.initialize(&state.isInitialized)
            let bytes = Array(state.properties.rewrite(pattern).utf8)
            return bytes.withUnsafeBufferPointer { buffer in
                // An empty array may have no address; Oniguruma wants one.
                withUnsafePointer(to: UInt8(0)) { placeholder in
                    let start = buffer.baseAddress ?? placeholder
                    let status = onig_new(
                        &compiled, start, start + buffer.count, OnigOptionType(ONIG_OPTION_NONE), graft_onig_utf8(),
                        syntax == .python ? graft_onig_python_syntax() : graft_onig_syntax(), &info)
                    return status == ONIG_NORMAL ? nil : Self.text(of: status, &info)
                }
            }
        }
        guard reason == nil, let compiled else {
            throw TokenizerError.invalidPattern(pattern: pattern, reason: reason ?? "it does not compile")
        }
        regex = compiled
    }

    deinit { onig_free(regex) }

    private static func initialize(_ isInitialized: inout Bool) {
        guard !isInitialized else { return }
        var encodings: [OnigEncoding?] = [graft_onig_utf8()]
        onig_initialize(&encodings, 1)
        isInitialized = true
    }

    /// Runs what asks the library, initialised and alone.
    static func withLibrary<Result: Sendable>(_ body: () -> Result) -> Result {
        compiling.withLock { state in
            initialize(&state.isInitialized)
            return body()
        }
    }

    private static func text(of status: Int32, _ info: inout OnigErrorInfo) -> String {
        var message = [UInt8](repeating: 0, count: Int(graft_onig_error_text_size) + 1)
        let length = graft_onig_error_text(&message, status, &info)
        return String(decoding: message.prefix(max(0, Int(length))), as: UTF8.self)
    }

    /// Whether a match begins where `text` does; false, too, where it backtracks for too long.
    func matchesStart(of text: String) -> Bool {
        guard let limits = onig_new_match_param() else { return false }
        defer { onig_free_match_param(limits) }
        onig_initialize_match_param(limits)
        onig_set_retry_limit_in_match_of_match_param(limits, UInt(Self.retries))
        return Array(text.utf8).withUnsafeBufferPointer { bytes in
            withUnsafePointer(to: UInt8(0)) { placeholder in
                let start = bytes.baseAddress ?? placeholder
                return onig_match_with_param(
                    regex, start, start + bytes.count, start, nil, OnigOptionType(ONIG_OPTION_NONE), limits) >= 0
            }
        }
    }

    /// Calls `body` with each match in turn, as offsets into `bytes`, which must be valid UTF-8. An empty match that
    /// touches the one before it does not count.
    ///
    /// - Throws: `TokenizerError.patternTooSlow` when the searches backtrack more than the text's length allows for.
    func forEachMatch(in bytes: UnsafeBufferPointer<UInt8>, _ body: (Range<Int>) -> Void) throws {
        guard let start = bytes.baseAddress, let region = onig_region_new(), let limits = onig_new_match_param() else {
            return
        }
        defer {
            onig_region_free(region, 1)
            onig_free_match_param(limits)
        }
        onig_initialize_match_param(limits)
        var budget = Self.retries + Self.retriesPerByte * bytes.count
        let end = start + bytes.count
        var position = 0
        var previousEnd = -1
        while position <= bytes.count {
            // Most searches retry a few times. One that needs more is run again with more, and what it was allowed is
            // taken from the text's budget: Oniguruma does not tell what it used.
            var allowed = Self.retriesAtFirst
            var found: Int32
            repeat {
                onig_set_retry_limit_in_match_of_match_param(limits, UInt(allowed))
                onig_set_retry_limit_in_search_of_match_param(limits, UInt(allowed))
                found = onig_search_with_param(
                    regex, start, end, start + position, end, region, OnigOptionType(ONIG_OPTION_NONE), limits)
                guard found < -1 else { break }
                budget -= allowed
                allowed = min(allowed * 8, budget)
            } while allowed > 0
            if found == ONIG_MISMATCH { return }
            guard found >= 0 else { throw TokenizerError.patternTooSlow(pattern: pattern, byteOffset: position) }
            let match = Int(region.pointee.beg[0])..<Int(region.pointee.end[0])
            onig_region_clear(region)
            if match.isEmpty, match.upperBound == previousEnd {
                position += position < bytes.count ? utf8Length(bytes[position]) : 1
                continue
            }
            position = match.upperBound
            previousEnd = match.upperBound
            body(match)
        }
    }
}
