public import FileFormats

/// Token ids with, for each, the range of UTF-8 bytes of the input it stands for.
public struct Encoding: Sendable {
    public var ids: [Int32]
    public var byteRanges: [Range<Int>]
}

/// A tokenizer as its files describe it: text to ids and back.
public final class Tokenizer: Sendable {
    public init(path: String) throws { preconditionFailure() }
    public func encode(_ text: String, addSpecialTokens: Bool, parseSpecialTokens: Bool = true) -> Encoding {
        preconditionFailure()
    }
    public func decode(_ ids: some Sequence<Int32>, skipSpecialTokens: Bool) -> String { preconditionFailure() }
    public var vocabularySize: Int { preconditionFailure() }
    public func id(of token: ByteString) -> Int32? { preconditionFailure() }
    public func token(for id: Int32) -> ByteString? { preconditionFailure() }
}
