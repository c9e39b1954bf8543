/// What SentencePiece makes of ids: control symbols are nothing, the unknown token its stand-in, one leading space goes.
struct SentencePieceDecoder: Sendable {
    var types: [SentencePieceFile.PieceType]
    var unknownSurface: [UInt8]
    /// Whether a leading space of the text is dropped, and whether all of them are.
    var stripsLeadingSpace: Bool
    var stripsAllLeadingSpaces: Bool

    /// - Parameter piece: the bytes of a piece.
    func decode(_ ids: some Sequence<Int32>, piece: (Int32) -> ArraySlice<UInt8>) -> [UInt8] {
        var text: [UInt8] = []
        var pending: [UInt8] = []
        var expectsSpace = true
        var droppedSpace = false
        for id in ids where id >= 0 && Int(id) < types.count {
            let bytes = piece(id)
            if types[Int(id)] == .byte, let byte = byteFallbackValue(Array(bytes)) {
                pending.append(byte)
                continue
            }
            appendScalars(of: &pending, to: &text)
            if droppedSpace || !text.isEmpty { expectsSpace = false }
            droppedSpace = false
            switch types[Int(id)] {
            case .control: break
            case .unknown: text += unknownSurface
            default:
                var rest = bytes
                if expectsSpace, stripsLeadingSpace, rest.starts(with: BPEModel.metaspace) {
                    rest = rest.dropFirst(3)
                    droppedSpace = !stripsAllLeadingSpaces
                }
                appendWithSpaces(rest, to: &text)
            }
        }
        appendScalars(of: &pending, to: &text)
        return text
    }

    private func appendWithSpaces(_ bytes: ArraySlice<UInt8>, to text: inout [UInt8]) {
        var rest = bytes
        while let first = rest.first {
            if rest.starts(with: BPEModel.metaspace) {
                text.append(0x20)
                rest = rest.dropFirst(3)
            } else {
                text.append(first)
                rest = rest.dropFirst()
            }
        }
    }

    /// Each scalar that the bytes spell, and U+FFFD for each byte that is not part of one.
    private func appendScalars(of bytes: inout [UInt8], to text: inout [UInt8]) {
        var i = 0
        while i < bytes.count {
            let end = i + (bytes[i] >= 0xC0 ? utf8Length(bytes[i]) : 1)
            if end <= bytes.count, String(validating: bytes[i..<end], as: UTF8.self) != nil {
                text += bytes[i..<end]
                i = end
            } else {
                text += replacementCharacter
                i += 1
            }
        }
        bytes.removeAll(keepingCapacity: true)
    }
}
