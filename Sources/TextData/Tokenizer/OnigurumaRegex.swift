import COniguruma
import Synchronization

/// A regular expression as Hugging Face `tokenizers` runs it: Oniguruma, UTF-8, Oniguruma's own syntax.
///
/// A compiled expression is immutable, and a search keeps its state in its own region, so threads may share one.
final class OnigurumaRegex: @unchecked Sendable {
    let pattern: String
    private let regex: OnigRegex

    /// Compiling touches tables that the library shares between expressions.
    private static let compiling = Mutex(false)

    /// - Throws: `TokenizerError.invalidPattern` with Oniguruma's reason.
    init(_ pattern: String) throws {
        self.pattern = pattern
        var compiled: OnigRegex?
        var info = OnigErrorInfo()
        let bytes = Array(pattern.utf8)
        let reason: String? = Self.compiling.withLock { isInitialized in
            if !isInitialized {
                var encodings: [OnigEncoding?] = [graft_onig_utf8()]
                onig_initialize(&encodings, 1)
                isInitialized = true
            }
            return bytes.withUnsafeBufferPointer { buffer in
                // An empty array may have no address; Oniguruma wants one.
                withUnsafePointer(to: UInt8(0)) { placeholder in
                    let start = buffer.baseAddress ?? placeholder
                    let status = onig_new(
                        &compiled, start, start + buffer.count, OnigOptionType(ONIG_OPTION_NONE), graft_onig_utf8(),
                        graft_onig_syntax(), &info)
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

    private static func text(of status: Int32, _ info: inout OnigErrorInfo) -> String {
        var message = [UInt8](repeating: 0, count: Int(graft_onig_error_text_size) + 1)
        let length = graft_onig_error_text(&message, status, &info)
        return String(decoding: message.prefix(max(0, Int(length))), as: UTF8.self)
    }

    /// Calls `body` with each match in turn, as offsets into `bytes`, which must be valid UTF-8. An empty match that
    /// touches the one before it does not count.
    ///
    /// - Throws: `TokenizerError.patternTooSlow` when a search backtracks more than the text's length allows for.
    func forEachMatch(in bytes: UnsafeBufferPointer<UInt8>, _ body: (Range<Int>) -> Void) throws {
        guard let start = bytes.baseAddress, let region = onig_region_new(), let limits = onig_new_match_param() else {
            return
        }
        defer {
            onig_region_free(region, 1)
            onig_free_match_param(limits)
        }
        onig_initialize_match_param(limits)
        // Honest patterns retry a few times a byte; 10 million is Oniguruma's own limit for one match.
        let retries = UInt(min(10_000_000, 100_000 + 100 * bytes.count))
        onig_set_retry_limit_in_match_of_match_param(limits, retries)
        onig_set_retry_limit_in_search_of_match_param(limits, retries)

        let end = start + bytes.count
        var position = 0
        var previousEnd = -1
        while position <= bytes.count {
            let found = onig_search_with_param(
                regex, start, end, start + position, end, region, OnigOptionType(ONIG_OPTION_NONE), limits)
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
