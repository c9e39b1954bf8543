/// People and places whose names are put together from syllables, each written in the three scripts: the names of any
/// two draws rarely agree, and one that was never seen is still made of seen pieces.
struct Person {
    let given: Trilingual
    let surname: Trilingual
    let isWoman: Bool

    func full(_ language: Language) -> String {
        given[language] + " " + surname[language]
    }
}

enum Names {
    private typealias S = Trilingual

    private static let givenStarts: [Trilingual] = [
        S("Ka", "क", "க"), S("Ra", "र", "ர"), S("Ma", "म", "ம"), S("Su", "सु", "சு"), S("Ni", "नि", "நி"),
        S("De", "दे", "தே"), S("Vi", "वि", "வி"), S("A", "अ", "அ"), S("Pra", "प्र", "பிர"), S("Sa", "स", "ச"),
        S("La", "ल", "ல"), S("Ja", "ज", "ஜ"), S("Go", "गो", "கோ"), S("Mo", "मो", "மோ"), S("Ro", "रो", "ரோ"),
        S("Ha", "ह", "ஹ"), S("Pu", "पु", "பு"), S("Tha", "थ", "த"), S("Ba", "ब", "ப"), S("Chi", "चि", "சி"),
        S("Shi", "शि", "ஷி"), S("U", "उ", "உ"), S("I", "इ", "இ"), S("Di", "दि", "தி"), S("Na", "न", "ந"),
        S("Ke", "के", "கே"), S("Bhu", "भु", "பு"), S("Yo", "यो", "யோ"), S("Lo", "लो", "லோ"), S("Je", "जे", "ஜே"),
        S("Re", "रे", "ரே"), S("Mu", "मु", "மு"), S("Ve", "वे", "வே"), S("Gi", "गि", "கி"), S("Sri", "श्री", "ஸ்ரீ"),
    ]
    private static let givenMiddles: [Trilingual] = [
        S("", "", ""), S("vi", "वि", "வி"), S("ni", "नि", "னி"), S("ma", "म", "ம"), S("ru", "रु", "ரு"),
        S("ya", "य", "ய"), S("li", "लि", "லி"), S("re", "रे", "ரே"), S("se", "से", "சே"), S("no", "नो", "னோ"),
        S("ha", "ह", "ஹ"), S("ra", "र", "ர"), S("ksha", "क्ष", "க்ஷ"), S("nda", "न्द", "ந்த"), S("ga", "ग", "க"),
        S("mu", "मु", "மு"), S("la", "ल", "ல"), S("ji", "जि", "ஜி"), S("bhi", "भि", "பி"), S("su", "सु", "சு"),
        S("ta", "त", "த"), S("ke", "के", "கே"), S("lo", "लो", "லோ"), S("da", "द", "த"), S("man", "मन", "மன்"),
        S("nga", "ंग", "ங்க"),
    ]
    private static let womenEndings: [Trilingual] = [
        S("tha", "ता", "தா"), S("ka", "का", "கா"), S("ni", "नी", "னி"), S("la", "ला", "லா"), S("shi", "शी", "ஷி"),
        S("ya", "या", "யா"), S("vati", "वती", "வதி"), S("ja", "जा", "ஜா"), S("na", "ना", "னா"), S("mi", "मी", "மி"),
        S("sha", "षा", "ஷா"), S("devi", "देवी", "தேவி"), S("ri", "री", "ரி"), S("mala", "माला", "மாலா"),
        S("thi", "ती", "தி"), S("sree", "श्री", "ஸ்ரீ"),
    ]
    private static let menEndings: [Trilingual] = [
        S("sh", "श", "ஷ்"), S("n", "न", "ன்"), S("raj", "राज", "ராஜ்"), S("van", "वन", "வன்"), S("th", "त", "த்"),
        S("r", "र", "ர்"), S("kar", "कर", "கர்"), S("dev", "देव", "தேவ்"), S("l", "ल", "ல்"), S("jit", "जीत", "ஜித்"),
        S("nath", "नाथ", "நாத்"), S("pal", "पाल", "பால்"), S("v", "व", "வ்"), S("nt", "न्त", "ந்த்"),
        S("y", "य", "ய்"), S("das", "दास", "தாஸ்"),
    ]
    private static let surnameStarts: [Trilingual] = [
        S("Ku", "कु", "கு"), S("Sha", "श", "ஷ"), S("Pa", "पा", "பா"), S("Re", "रे", "ரே"), S("Go", "गो", "கோ"),
        S("Me", "मे", "மே"), S("Na", "ना", "நா"), S("Cha", "च", "ச"), S("Ban", "बन", "பன்"), S("Thi", "थि", "தி"),
        S("Se", "से", "சே"), S("Jo", "जो", "ஜோ"), S("Bha", "भा", "பா"), S("Ya", "या", "யா"), S("Do", "दो", "தோ"),
        S("Mi", "मि", "மி"), S("Tri", "त्रि", "திரி"), S("Va", "वा", "வா"), S("Mu", "मु", "மு"), S("Ra", "रा", "ரா"),
        S("Sub", "सुब", "சுப"), S("Ga", "गा", "கா"), S("Ven", "वेन", "வென்"), S("Ar", "अर", "அர"),
        S("Il", "इल", "இள"), S("Ha", "हा", "ஹா"), S("Be", "बे", "பே"), S("Ki", "कि", "கி"),
    ]
    private static let surnameMiddles: [Trilingual] = [
        S("", "", ""), S("", "", ""), S("ra", "र", "ர"), S("ma", "म", "ம"), S("li", "लि", "லி"), S("na", "न", "ன"),
        S("ga", "ग", "க"), S("vi", "वि", "வி"), S("di", "दि", "தி"), S("nu", "नु", "னு"), S("la", "ल", "ல"),
        S("ka", "क", "க"), S("sa", "स", "ச"), S("ro", "रो", "ரோ"), S("ta", "त", "த"),
    ]
    private static let surnameEndings: [Trilingual] = [
        S("ma", "मा", "மா"), S("nathan", "नाथन", "நாதன்"), S("ran", "रन", "ரன்"), S("kar", "कर", "கர்"),
        S("wal", "वाल", "வால்"), S("ni", "नी", "னி"), S("ndran", "न्द्रन", "ந்திரன்"), S("pati", "पति", "பதி"),
        S("swamy", "स्वामी", "சுவாமி"), S("raja", "राजा", "ராஜா"), S("dhar", "धर", "தர்"),
        S("murthy", "मूर्ति", "மூர்த்தி"), S("velu", "वेलु", "வேலு"), S("chand", "चन्द", "சந்த்"),
        S("reddy", "रेड्डी", "ரெட்டி"), S("shekar", "शेखर", "சேகர்"), S("than", "थन", "தன்"),
        S("yya", "य्या", "ய்யா"), S("la", "ला", "லா"), S("tia", "टिया", "டியா"), S("nda", "न्डा", "ண்டா"),
        S("ppan", "प्पन", "ப்பன்"), S("sen", "सेन", "சேன்"), S("kal", "कल", "கல்"),
    ]
    private static let placeStarts: [Trilingual] = [
        S("Ra", "रा", "ரா"), S("Su", "सु", "சு"), S("Ka", "का", "கா"), S("Ma", "मा", "மா"), S("Vel", "वेल", "வேல"),
        S("Pon", "पोन", "பொன"), S("Go", "गो", "கோ"), S("Nel", "नेल", "நெல"), S("Ti", "ति", "தி"), S("Am", "अम", "அம"),
        S("De", "दे", "தே"), S("Sa", "सा", "சா"), S("Kun", "कुन", "குன"), S("Bha", "भा", "பா"), S("Ja", "जा", "ஜா"),
        S("Man", "मन", "மன"), S("Il", "इल", "இல"), S("Hari", "हरि", "ஹரி"), S("Ser", "सेर", "சேர"),
        S("Chan", "चन", "சன"), S("Ud", "उद", "உத"), S("Pal", "पल", "பல"),
    ]
    private static let placeMiddles: [Trilingual] = [
        S("", "", ""), S("la", "ल", "ல"), S("ma", "म", "ம"), S("ra", "र", "ர"), S("ni", "नि", "னி"), S("va", "व", "வ"),
        S("ga", "ग", "க"), S("sa", "स", "ச"), S("da", "द", "த"), S("ki", "कि", "கி"), S("ya", "य", "ய"),
        S("na", "न", "ன"),
    ]
    private static let placeEndings: [Trilingual] = [
        S("pur", "पुर", "பூர்"), S("nagar", "नगर", "நகர்"), S("gaon", "गाँव", "காவ்"), S("patti", "पट्टी", "பட்டி"),
        S("palli", "पल्ली", "பள்ளி"), S("kottai", "कोट्टई", "கோட்டை"), S("wadi", "वाड़ी", "வாடி"),
        S("ganj", "गंज", "கஞ்ச்"), S("halli", "हल्ली", "ஹள்ளி"), S("kulam", "कुलम", "குளம்"),
        S("puram", "पुरम", "புரம்"), S("ghat", "घाट", "காட்"),
    ]

    private static func join(_ random: inout RandomSource, _ parts: [[Trilingual]]) -> Trilingual {
        parts.reduce(Trilingual("", "", "")) { $0 + random.pick($1) }
    }

    private static func spellings(_ languages: [Language]) -> (Trilingual) -> [String] {
        { name in languages.map { name[$0] } }
    }

    static func given(
        _ random: inout RandomSource, woman: Bool, _ split: Split = .training,
        in languages: [Language] = Language.allCases
    ) -> Trilingual {
        let endings = woman ? womenEndings : menEndings
        return random.draw(on: split, key: spellings(languages)) { join(&$0, [givenStarts, givenMiddles, endings]) }
    }

    static func surname(
        _ random: inout RandomSource, _ split: Split = .training, in languages: [Language] = Language.allCases
    ) -> Trilingual {
        random.draw(on: split, key: spellings(languages)) {
            join(&$0, [surnameStarts, surnameMiddles, surnameEndings])
        }
    }

    /// A person whose names, as spelled in `languages`, are on the wanted side of the split.
    static func person(
        _ random: inout RandomSource, _ split: Split = .training, in languages: [Language] = Language.allCases
    ) -> Person {
        let isWoman = random.chance(50)
        let given = given(&random, woman: isWoman, split, in: languages)
        return Person(given: given, surname: surname(&random, split, in: languages), isWoman: isWoman)
    }

    static func place(
        _ random: inout RandomSource, _ split: Split = .training, in languages: [Language] = Language.allCases
    ) -> Trilingual {
        random.draw(on: split, key: spellings(languages)) { join(&$0, [placeStarts, placeMiddles, placeEndings]) }
    }

    /// A ten-digit mobile number.
    static func phone(_ random: inout RandomSource, _ split: Split = .training) -> String {
        func number(_ random: inout RandomSource) -> String {
            (0..<9).reduce(into: String(random.number(6...9))) { digits, _ in digits += String(random.below(10)) }
        }
        return random.draw(on: split, key: { [$0] }, make: number)
    }
}
