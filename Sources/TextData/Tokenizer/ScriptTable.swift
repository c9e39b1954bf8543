import COniguruma

/// The script (Unicode Standard Annex #24) of every scalar, from Oniguruma's tables.
struct ScriptTable: Sendable {
    static let shared = ScriptTable()

    /// Scalars of no script: unassigned, or newer than the library.
    static let unknown: UInt8 = 0
    /// Shared between scripts: digits, punctuation, emoji.
    static let common: UInt8 = 1
    /// Marks that take the script of what they stand on.
    static let inherited: UInt8 = 2

    let names: [String]
    /// By scalar, up to the last plane with letters.
    private var scripts: [UInt8]

    /// As Hugging Face's UnicodeScripts pre-tokenizer has it: tables of Unicode 9, kana as Han, and a space of no script.
    static let preTokenizer: ScriptTable = {
        var table = shared
        func index(_ name: String) -> UInt8 { UInt8(table.names.firstIndex(of: name) ?? 0) }
        let (han, hiragana, katakana) = (index("Han"), index("Hiragana"), index("Katakana"))
        for value in table.scripts.indices {
            let isKnown = Unicode.Scalar(UInt32(value))?.properties.age.map { $0.major <= 9 } ?? false
            if !isKnown {
                table.scripts[value] = unknown
            } else if [hiragana, katakana].contains(table.scripts[value]) {
                table.scripts[value] = han
            }
        }
        table.scripts[0x30FC] = han
        // What had another script in that version.
        for value in [0x589, 0x61C] { table.scripts[value] = common }
        for value in [0x953, 0x954] { table.scripts[value] = index("Devanagari") }
        table.scripts[0x20] = unknown
        return table
    }()

    private init() {
        var names = ["Unknown"]
        var scripts = [UInt8](repeating: Self.unknown, count: 0x3_4000)
        for name in Self.allNames {
            guard let ranges = OnigurumaRegex.ranges(ofProperty: name) else { continue }
            names.append(name)
            for range in ranges where Int(range.lowerBound) < scripts.count {
                for value in Int(range.lowerBound)...min(Int(range.upperBound), scripts.count - 1) {
                    scripts[value] = UInt8(names.count - 1)
                }
            }
        }
        self.names = names
        self.scripts = scripts
    }

    subscript(scalar: UInt32) -> UInt8 {
        if Int(scalar) < scripts.count { return scripts[Int(scalar)] }
        switch scalar {
        case 0xE_0001, 0xE_0020...0xE_007F: return Self.common
        case 0xE_0100...0xE_01EF: return Self.inherited
        default: return Self.unknown
        }
    }

    func name(_ script: UInt8) -> String { names[Int(script)].split(separator: "_").joined(separator: " ") }

    private static let allNames = [
        "Common", "Inherited", "Latin", "Greek", "Cyrillic", "Armenian", "Hebrew", "Arabic", "Syriac", "Thaana",
        "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala",
        "Thai", "Lao", "Tibetan", "Myanmar", "Georgian", "Hangul", "Ethiopic", "Cherokee", "Canadian_Aboriginal",
        "Ogham", "Runic", "Khmer", "Mongolian", "Hiragana", "Katakana", "Bopomofo", "Han", "Yi", "Old_Italic", "Gothic",
        "Deseret", "Tagalog", "Hanunoo", "Buhid", "Tagbanwa", "Limbu", "Tai_Le", "Linear_B", "Ugaritic", "Shavian",
        "Osmanya", "Cypriot", "Braille", "Buginese", "Coptic", "New_Tai_Lue", "Glagolitic", "Tifinagh", "Syloti_Nagri",
        "Old_Persian", "Kharoshthi", "Balinese", "Cuneiform", "Phoenician", "Phags_Pa", "Nko", "Sundanese", "Lepcha",
        "Ol_Chiki", "Vai", "Saurashtra", "Kayah_Li", "Rejang", "Lycian", "Carian", "Lydian", "Cham", "Tai_Tham",
        "Tai_Viet", "Avestan", "Egyptian_Hieroglyphs", "Samaritan", "Lisu", "Bamum", "Javanese", "Meetei_Mayek",
        "Imperial_Aramaic", "Old_South_Arabian", "Inscriptional_Parthian", "Inscriptional_Pahlavi", "Old_Turkic",
        "Kaithi", "Batak", "Brahmi", "Mandaic", "Chakma", "Meroitic_Cursive", "Meroitic_Hieroglyphs", "Miao", "Sharada",
        "Sora_Sompeng", "Takri", "Caucasian_Albanian", "Bassa_Vah", "Duployan", "Elbasan", "Grantha", "Pahawh_Hmong",
        "Khojki", "Linear_A", "Mahajani", "Manichaean", "Mende_Kikakui", "Modi", "Mro", "Old_North_Arabian",
        "Nabataean", "Palmyrene", "Pau_Cin_Hau", "Old_Permic", "Psalter_Pahlavi", "Siddham", "Khudawadi", "Tirhuta",
        "Warang_Citi", "Ahom", "Anatolian_Hieroglyphs", "Hatran", "Multani", "Old_Hungarian", "SignWriting", "Adlam",
        "Bhaiksuki", "Marchen", "Newa", "Osage", "Tangut", "Masaram_Gondi", "Nushu", "Soyombo", "Zanabazar_Square",
        "Dogra", "Gunjala_Gondi", "Hanifi_Rohingya", "Makasar", "Medefaidrin", "Old_Sogdian", "Sogdian", "Elymaic",
        "Nandinagari", "Nyiakeng_Puachue_Hmong", "Wancho", "Chorasmian", "Dives_Akuru", "Khitan_Small_Script", "Yezidi",
        "Cypro_Minoan", "Old_Uyghur", "Tangsa", "Toto", "Vithkuqi", "Kawi", "Nag_Mundari",
    ]
}

extension OnigurumaRegex {
    /// The scalars of a property of Oniguruma's own, nil when this version of the library does not have it.
    static func ranges(ofProperty name: String) -> [ClosedRange<UInt32>]? {
        withLibrary {
            guard let encoding = graft_onig_utf8() else { return nil }
            let bytes = Array(name.utf8)
            let type = bytes.withUnsafeBufferPointer { buffer -> Int32 in
                guard let start = buffer.baseAddress else { return -1 }
                return encoding.pointee.property_name_to_ctype(
                    encoding, UnsafeMutablePointer(mutating: start),
                    UnsafeMutablePointer(mutating: start + buffer.count))
            }
            guard type >= 0 else { return nil }
            var firstMultiByte: OnigCodePoint = 0
            var table: UnsafePointer<OnigCodePoint>?
            guard encoding.pointee.get_ctype_code_range(OnigCtype(type), &firstMultiByte, &table) == 0, let table else {
                return nil
            }
            return (0..<Int(table[0])).map { table[1 + 2 * $0]...table[2 + 2 * $0] }
        }
    }
}
