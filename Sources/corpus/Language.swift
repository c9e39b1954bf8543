/// The languages of the corpus.
enum Language: Int, CaseIterable {
    case english, hindi, tamil

    /// Ends a statement.
    var fullStop: String { self == .hindi ? "।" : "." }

    /// The name of `other` in this language.
    func name(of other: Language) -> String {
        switch self {
        case .english: return ["English", "Hindi", "Tamil"][other.rawValue]
        case .hindi: return ["अंग्रेज़ी", "हिन्दी", "तमिल"][other.rawValue]
        case .tamil: return ["ஆங்கிலம்", "இந்தி", "தமிழ்"][other.rawValue]
        }
    }
}

/// The same thing said in the three languages.
struct Trilingual {
    let english: String
    let hindi: String
    let tamil: String

    init(_ english: String, _ hindi: String, _ tamil: String) {
        self.english = english
        self.hindi = hindi
        self.tamil = tamil
    }

    subscript(language: Language) -> String {
        switch language {
        case .english: return english
        case .hindi: return hindi
        case .tamil: return tamil
        }
    }

    static func + (left: Trilingual, right: Trilingual) -> Trilingual {
        Trilingual(left.english + right.english, left.hindi + right.hindi, left.tamil + right.tamil)
    }

    static func joined(_ left: Trilingual, _ right: Trilingual) -> Trilingual {
        Trilingual(
            left.english + " " + right.english, left.hindi + " " + right.hindi, left.tamil + " " + right.tamil)
    }
}

extension String {
    /// This template with each `{key}` replaced by its value.
    func filled(_ values: [(key: String, value: String)]) -> String {
        var result = ""
        var rest = self[...]
        while let open = rest.firstIndex(of: "{"), let close = rest[open...].firstIndex(of: "}") {
            let key = rest[rest.index(after: open)..<close]
            result += rest[..<open]
            guard let found = values.first(where: { $0.key == key }) else {
                preconditionFailure("template names {\(key)}, which has no value: \(self)")
            }
            result += found.value
            rest = rest[rest.index(after: close)...]
        }
        return result + rest
    }

    func filled(_ key: String, _ value: String) -> String {
        filled([(key, value)])
    }
}
