/// What is put around the ids of a text (`post_processor` of a tokenizer.json), for a text on its own.
///
/// Steps that only adjust offsets (ByteLevel) are gone by now: every kind comes down to ids before and after.
struct PostProcessor: Sendable, Equatable {
    var prefix: [Int32] = []
    var suffix: [Int32] = []

    /// This, put around what an earlier step made.
    func around(_ inner: PostProcessor) -> PostProcessor {
        PostProcessor(prefix: prefix + inner.prefix, suffix: inner.suffix + suffix)
    }
}
