import Host
public import TensorCore

/// Limits of a generation.
public struct GenerationOptions: Sendable {
    public var maxTokens = 256
    /// Tokens that end the text; they are not part of the result.
    public var stopTokens: Set<Int32> = []
    public var sampling = SamplingOptions()
    /// Tokens of prompt and continuation together at most; a prompt that has as many is gone on with all the same.
    public var context: Int?
    /// Whether texts end where a stop is asked for; the caller looks whether one was.
    var stopsOnRequest = false
    public init() {}
}

/// A generated continuation.
public struct Generated: Sendable {
    public var tokens: [Int32]
    /// The token that ended the text; nil when the limit did.
    public var stopToken: Int32?
    /// Whether the context ended the text.
    public var reachedContext = false
    /// Whether the logits were not numbers, which ended the text.
    public var isBroken = false
    /// Time for the prompt, and for all tokens but the first, which comes with the prompt.
    public var promptSeconds = 0.0
    public var seconds = 0.0
}

extension DecoderModel {
    /// Continues `prompt` token by token with a key-value cache.
    ///
    /// - Parameter onToken: called with each token as it is made; false stops.
    public func generate(
        prompt: [Int32], options: GenerationOptions, pool: WorkerPool, onToken: (Int32) -> Bool = { _ in true }
    ) -> Generated {
        precondition(!prompt.isEmpty)
        let cache = KeyValueCache(self, capacity: prompt.count + min(options.maxTokens, 1024))
        var sampler = Sampler(options.sampling), result = Generated(tokens: [], stopToken: nil)
        let start = ContinuousClock.now
        var logits = nextLogits(tokens: prompt, cache: cache, pool: pool).floats()
        let prefilled = ContinuousClock.now
        result.promptSeconds = (prefilled - start) / .seconds(1)
        while result.tokens.count < options.maxTokens {
            guard let token = sampler.next(logits) else {
                result.isBroken = true
                break
            }
            if options.stopTokens.contains(token) {
                result.stopToken = token
                break
            }
            result.tokens.append(token)
            if options.stopsOnRequest, StopRequest.isPending { break }
            if !onToken(token) || result.tokens.count == options.maxTokens { break }
            if let context = options.context, prompt.count < context, prompt.count + result.tokens.count >= context {
                result.reachedContext = true
                break
            }
            logits = nextLogits(tokens: [token], cache: cache, pool: pool).floats()
        }
        result.seconds = (ContinuousClock.now - prefilled) / .seconds(1)
        return result
    }

    /// Continues many prompts, one a worker at a time; each result is that of `generate`.
    public func generate(prompts: [[Int32]], options: GenerationOptions, pool: WorkerPool) -> [Generated] {
        prepare(positions: (prompts.map(\.count).max() ?? 0) + options.maxTokens)
        var results = [Generated](repeating: Generated(tokens: [], stopToken: nil), count: prompts.count)
        results.withUnsafeMutableBufferPointer { results in
            let results = results.baseAddress!
            pool.parallelFor(prompts.count) { i, _ in
                results[i] = self.generate(prompt: prompts[i], options: options, pool: WorkerPool(threads: 1))
            }
        }
        return results
    }
}
