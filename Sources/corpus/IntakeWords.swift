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
        Complaint("fever", ["fever", "a high temperature", "fever with chills"], ["बुखार", "तेज़ बुखार", "ठंड के साथ बुखार"]),
        Complaint("cough", ["a cough", "a dry cough", "coughing at night"], ["खाँसी", "सूखी खाँसी", "रात में खाँसी"]),
        Complaint("headache", ["a headache", "a bad headache", "pain in the head"], ["सिरदर्द", "सिर में दर्द", "तेज़ सिरदर्द"]),
        Complaint("stomach_pain", ["stomach pain", "pain in the belly", "stomach cramps"], ["पेट दर्द", "पेट में दर्द", "पेट में मरोड़"]),
        Complaint("back_pain", ["back pain", "a stiff back", "pain in the lower back"], ["कमर दर्द", "कमर में दर्द", "पीठ में दर्द"]),
        Complaint("toothache", ["a toothache", "pain in a tooth"], ["दाँत दर्द", "दाँत में दर्द"]),
        Complaint("sore_throat", ["a sore throat", "pain when swallowing"], ["गले में दर्द", "गले में खराश", "निगलने में दर्द"]),
        Complaint("vomiting", ["vomiting", "repeated vomiting"], ["उल्टी", "बार-बार उल्टी"]),
        Complaint("loose_motions", ["loose motions", "diarrhoea"], ["दस्त", "पतले दस्त"]),
        Complaint("rash", ["a skin rash", "itching and red spots"], ["त्वचा पर दाने", "खुजली और लाल दाने"]),
        Complaint("ear_pain", ["an earache", "pain in the ear"], ["कान दर्द", "कान में दर्द"]),
        Complaint("red_eye", ["a red eye", "burning in the eyes"], ["आँख में लाली", "आँखों में जलन"]),
        Complaint("dizziness", ["dizziness", "a spinning head"], ["चक्कर आने", "सिर घूमने"]),
        Complaint("chest_pain", ["chest pain", "tightness in the chest"], ["छाती में दर्द", "सीने में जकड़न"]),
        Complaint("breathless", ["breathlessness", "trouble breathing"], ["साँस फूलने", "साँस लेने में तकलीफ़"]),
        Complaint("knee_pain", ["knee pain", "a swollen knee"], ["घुटने में दर्द", "घुटने में सूजन"]),
        Complaint("burn", ["a burn on the hand", "a burn from hot oil"], ["हाथ जलने", "गरम तेल से जलने"]),
        Complaint("wound", ["a cut on the foot", "an open wound"], ["पैर में घाव", "खुले घाव"]),
        Complaint("weakness", ["weakness", "great tiredness"], ["कमज़ोरी", "बहुत थकान"]),
        Complaint("acidity", ["acidity", "heartburn"], ["एसिडिटी", "सीने में जलन"]),
    ]

    /// Durations, in days, that notes give in words.
    static let spansInWords: [(days: Int, english: String, hindi: String)] = [
        (1, "one day", "एक दिन"), (2, "two days", "दो दिन"), (3, "three days", "तीन दिन"), (4, "four days", "चार दिन"),
        (5, "five days", "पाँच दिन"), (7, "one week", "एक हफ़्ते"), (14, "two weeks", "दो हफ़्ते"), (30, "one month", "एक महीने"),
    ]

    static let urgent = (
        english: ["Please see first.", "Urgent.", "Needs to be seen now.", "Cannot wait."],
        hindi: ["तुरंत देखना ज़रूरी है।", "पहले देखें।", "हालत गंभीर लगती है।", "इंतज़ार नहीं कर सकते।"]
    )
    static let calm = (
        english: ["Can wait.", "Not urgent.", "Stable.", "In no hurry."],
        hindi: ["इंतज़ार कर सकते हैं।", "कोई जल्दी नहीं है।", "हालत ठीक है।", "स्थिति सामान्य है।"]
    )
}
