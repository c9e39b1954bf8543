/// What patients complain of at the desk, with the code that the clinic's record uses.
struct Complaint {
    let code: String
    /// Noun phrases that follow "has", "complains of" or "with".
    let english: [String]
    /// Noun phrases that precede "की शिकायत है".
    let hindi: [String]

    init(_ code: String, _ english: [String], _ hindi: [String]) {
        self.code = code
        self.english = english
        self.hindi = hindi
    }
}

enum IntakeWords {
    static let complaints: [Complaint] = [
        Complaint("fever", ["fever", "a high temperature"], ["बुखार", "तेज़ बुखार"]),
        Complaint("cough", ["a cough", "a dry cough"], ["खाँसी", "सूखी खाँसी"]),
        Complaint("headache", ["a headache", "pain in the head"], ["सिरदर्द", "सिर में दर्द"]),
        Complaint("stomach_pain", ["stomach pain", "pain in the belly"], ["पेट दर्द", "पेट में मरोड़"]),
        Complaint("back_pain", ["back pain", "a stiff back"], ["कमर दर्द", "पीठ में दर्द"]),
        Complaint("toothache", ["a toothache", "pain in a tooth"], ["दाँत दर्द", "दाँत में दर्द"]),
        Complaint("sore_throat", ["a sore throat", "pain when swallowing"], ["गले में दर्द", "गले में खराश"]),
        Complaint("vomiting", ["vomiting", "repeated vomiting"], ["उल्टी", "बार-बार उल्टी"]),
        Complaint("rash", ["a skin rash", "itching and red spots"], ["खुजली", "त्वचा पर दाने"]),
        Complaint("ear_pain", ["an earache", "pain in the ear"], ["कान दर्द", "कान में दर्द"]),
        Complaint("dizziness", ["dizziness", "a spinning head"], ["चक्कर", "सिर घूमने"]),
        Complaint("chest_pain", ["chest pain", "tightness in the chest"], ["छाती में दर्द", "सीने में जकड़न"]),
        Complaint("breathless", ["breathlessness", "trouble breathing"], ["साँस फूलने", "साँस की तकलीफ़"]),
        Complaint("knee_pain", ["knee pain", "a swollen knee"], ["घुटने में दर्द", "घुटने में सूजन"]),
        Complaint("wound", ["a cut on the foot", "a wound"], ["पैर में घाव", "चोट"]),
        Complaint("weakness", ["weakness", "great tiredness"], ["कमज़ोरी", "बहुत थकान"]),
    ]

    /// Durations, in days, that notes give in words.
    static let spansInWords: [(days: Int, english: String, hindi: String)] = [
        (1, "one day", "एक दिन"), (2, "two days", "दो दिन"), (3, "three days", "तीन दिन"), (7, "one week", "एक हफ़्ते"),
        (14, "two weeks", "दो हफ़्ते"), (30, "one month", "एक महीने"),
    ]

    static let urgent = (
        english: ["Please see first.", "Urgent.", "Cannot wait."],
        hindi: ["तुरंत देखना ज़रूरी है।", "पहले देखें।", "हालत गंभीर है।"]
    )
    static let calm = (
        english: ["Can wait.", "Not urgent.", "Stable."],
        hindi: ["इंतज़ार कर सकते हैं।", "कोई जल्दी नहीं है।", "हालत सामान्य है।"]
    )
}
