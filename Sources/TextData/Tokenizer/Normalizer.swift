import FileFormats

/// How a text is changed before it is split (`normalizer` of a tokenizer.json).
indirect enum Normalizer: Sendable {
    case sequence([Normalizer])
    case unicode(NormalizationForm)
    case replace(SplitPattern, [UInt8])
    case prepend([UInt8])
    case lowercase
    case strip(left: Bool, right: Bool)
    /// Drops every mark (`\p{M}`).
    case stripAccents
    case bert(Bert)
    /// Drops control characters and turns odd spaces into plain ones (SentencePiece's `nmt_nfkc` minus the NFKC).
    case nmt
    /// Writes bytes in the printable alphabet of byte-level vocabularies.
    case byteLevel
    /// SentencePiece's table of replacements, as Hugging Face applies it.
    case precompiled(PrecompiledCharsmap)
    /// All that a SentencePiece model does before it cuts a text.
    case sentencePiece(SentencePieceNormalizer)

    struct Bert: Sendable {
        var cleansText: Bool
        var separatesChinese: Bool
        var stripsAccents: Bool
        var lowercases: Bool
    }

    /// Whether `bytes[range]` is known to stay as it is, so that no copy need be made.
    func isIdentity(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
        switch self {
        case .sequence(let steps): steps.allSatisfy { $0.isIdentity(bytes, range) }
        case .unicode(let form): form.isQuicklyNormal(bytes, range)
        default: false
        }
    }

    func apply(to text: inout NormalizedText) throws {
        switch self {
        case .sequence(let steps):
            for step in steps { try step.apply(to: &text) }
        case .unicode(let form):
            form.apply(to: &text)
        case .replace(let pattern, let content):
            try text.replace(pattern, with: content)
        case .prepend(let prefix):
            text.prepend(prefix)
        case .lowercase:
            text.lowercase()
        case .strip(let left, let right):
            text.stripSpace(left: left, right: right)
        case .stripAccents:
            let table = ScalarClassTable.shared
            text.filter { !table[$0].contains(.mark) }
        case .bert(let bert):
            bert.apply(to: &text)
        case .nmt:
            text.filter { !Self.isDroppedByNmt($0) }
            text.mapScalars { Self.isSpaceToNmt($0) ? 0x20 : $0 }
        case .precompiled(let charsmap): charsmap.applyToClusters(&text)
        case .sentencePiece(let normalizer): normalizer.apply(to: &text)
        case .byteLevel:
            var mapped = NormalizedText()
            for (i, byte) in text.bytes.enumerated() {
                mapped.append(
                    scalar: ByteAlphabet.scalars[Int(byte)], from: text.origins[i])
            }
            text = mapped
        }
    }

    private static func isDroppedByNmt(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x8F, 0x9F: true
        default: false
        }
    }

    private static func isSpaceToNmt(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x09, 0x0A, 0x0C, 0x0D, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD: true
        default: false
        }
    }
}

extension Normalizer.Bert {
    func apply(to text: inout NormalizedText) {
        if cleansText {
            let table = ScalarClassTable.shared
            text.filter { scalar in
                scalar != 0 && scalar != 0xFFFD
                    && (scalar == 0x09 || scalar == 0x0A || scalar == 0x0D || !table[scalar].contains(.other))
            }
            text.mapScalars { table[$0].contains(.space) ? 0x20 : $0 }
        }
        if separatesChinese {
            var changed = NormalizedText()
            text.forEachScalar { scalar, range in
                let origin = text.origins.range(of: range)
                let isChinese = Self.isChinese(scalar)
                if isChinese { changed.append(0x20, from: origin) }
                changed.append(text, range)
                if isChinese { changed.append(0x20, from: origin) }
            }
            text = changed
        }
        if stripsAccents {
            NormalizationForm.nfd.apply(to: &text)
            let table = ScalarClassTable.shared
            text.filter { !table[$0].contains(.nonspacingMark) }
        }
        if lowercases { text.lowercase() }
    }

    private static func isChinese(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F, 0x2B740...0x2B81F,
            0x2B920...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F:
            true
        default: false
        }
    }
}

extension NormalizedText {
    mutating func filter(_ keeps: (UInt32) -> Bool) {
        var changed = NormalizedText()
        forEachScalar { scalar, range in
            if keeps(scalar) { changed.append(self, range) }
        }
        self = changed
    }

    mutating func mapScalars(_ transform: (UInt32) -> UInt32) {
        var changed = NormalizedText()
        forEachScalar { scalar, range in
            let mapped = transform(scalar)
            if mapped == scalar {
                changed.append(self, range)
            } else {
                changed.append(scalar: mapped, from: origins.range(of: range))
            }
        }
        self = changed
    }

    /// Scalar by scalar, without the context rules of whole words: so does Hugging Face.
    mutating func lowercase() {
        var changed = NormalizedText()
        forEachScalar { scalar, range in
            guard let unicode = Unicode.Scalar(scalar), unicode.properties.changesWhenLowercased else {
                changed.append(self, range)
                return
            }
            changed.append(Array(unicode.properties.lowercaseMapping.utf8), from: origins.range(of: range))
        }
        self = changed
    }

    mutating func stripSpace(left: Bool, right: Bool) {
        let table = ScalarClassTable.shared
        var first: Int?
        var last = 0
        forEachScalar { scalar, range in
            guard !table[scalar].contains(.space) else { return }
            if first == nil { first = range.lowerBound }
            last = range.upperBound
        }
        var changed = NormalizedText()
        let start = left ? first ?? bytes.count : 0
        let end = right ? last : bytes.count
        if start < end { changed.append(self, start..<end) }
        self = changed
    }
}
