/// A meaning with a code and the ways in which the three languages put it.
struct Concept {
    let code: String
    /// Wordings by language.
    let wordings: [[String]]

    init(_ code: String, _ english: [String], _ hindi: [String], _ tamil: [String]) {
        self.code = code
        wordings = [english, hindi, tamil]
    }

    func wording(_ random: inout RandomSource) -> Trilingual {
        let drawn = wordings.map { random.pick($0) }
        return Trilingual(drawn[0], drawn[1], drawn[2])
    }
}

enum Concepts {
    private typealias C = Concept

    /// Noun phrases: "because of ...", "... के कारण", "... காரணமாக".
    static let ailments: [Concept] = [
        C(
            "fever", ["fever", "a high temperature", "fever with chills", "a mild fever"],
            ["बुखार", "तेज़ बुखार", "ठंड के साथ बुखार"], ["காய்ச்சல்", "கடும் காய்ச்சல்"]),
        C(
            "cough", ["a cough", "a dry cough", "coughing at night"], ["खाँसी", "सूखी खाँसी", "रात में खाँसी"], ["இருமல்", "வறட்டு இருமல்"]),
        C("cold", ["a cold", "a runny nose", "sneezing"], ["ज़ुकाम", "बहती नाक", "छींक"], ["சளி", "தும்மல்"]),
        C(
            "headache", ["a headache", "a bad headache", "pain in the head"], ["सिरदर्द", "सिर में दर्द", "तेज़ सिरदर्द"],
            ["தலைவலி", "கடும் தலைவலி"]),
        C(
            "stomach_pain", ["stomach pain", "pain in the belly", "stomach cramps"], ["पेट दर्द", "पेट में दर्द", "पेट में मरोड़"],
            ["வயிற்று வலி", "வயிற்றில் வலி"]),
        C(
            "back_pain", ["back pain", "a stiff back", "pain in the lower back"], ["कमर दर्द", "कमर में दर्द", "पीठ में दर्द"],
            ["முதுகு வலி", "இடுப்பு வலி"]),
        C(
            "toothache", ["a toothache", "pain in a tooth", "a bad tooth"], ["दाँत दर्द", "दाँत में दर्द"], ["பல் வலி", "பல்லில் வலி"]),
        C(
            "sore_throat", ["a sore throat", "pain when swallowing"], ["गले में दर्द", "गले में खराश"],
            ["தொண்டை வலி", "தொண்டைக் கரகரப்பு"]),
        C("vomiting", ["vomiting", "repeated vomiting"], ["उल्टी", "बार-बार उल्टी"], ["வாந்தி", "தொடர் வாந்தி"]),
        C("rash", ["a skin rash", "itching and red spots"], ["त्वचा पर दाने", "खुजली"], ["தோல் அரிப்பு", "தோலில் தடிப்பு"]),
        C("ear_pain", ["an earache", "pain in the ear"], ["कान दर्द", "कान में दर्द"], ["காது வலி", "காதில் வலி"]),
        C("eye_trouble", ["a red eye", "burning in the eyes"], ["आँख में लाली", "आँखों में जलन"], ["கண் எரிச்சல்", "கண் சிவப்பு"]),
        C("dizziness", ["dizziness", "a spinning head"], ["चक्कर", "सिर का घूमना"], ["தலைசுற்றல்", "மயக்கம்"]),
        C("chest_pain", ["chest pain", "tightness in the chest"], ["छाती में दर्द", "सीने में जकड़न"], ["நெஞ்சு வலி", "மார்பு வலி"]),
        C(
            "breathing_trouble", ["breathlessness", "trouble breathing"], ["साँस की तकलीफ़", "साँस फूलना"],
            ["மூச்சுத் திணறல்", "மூச்சு வாங்குதல்"]),
        C("knee_pain", ["knee pain", "a swollen knee"], ["घुटने में दर्द", "घुटने में सूजन"], ["முழங்கால் வலி", "முழங்கால் வீக்கம்"]),
        C("injury", ["a wound", "a cut on the foot", "an injury"], ["घाव", "पैर में घाव", "चोट"], ["காயம்", "காலில் காயம்"]),
        C(
            "burn", ["a burn on the hand", "a burn from hot oil"], ["जला हुआ हाथ", "गरम तेल से जलन"], ["தீக்காயம்", "கையில் தீக்காயம்"]),
        C("weakness", ["weakness", "great tiredness"], ["कमज़ोरी", "बहुत थकान"], ["பலவீனம்", "மிகுந்த களைப்பு"]),
        C("acidity", ["acidity", "heartburn"], ["एसिडिटी", "खट्टी डकार"], ["நெஞ்செரிச்சல்", "அமிலத்தன்மை"]),
    ]

    static let genders: [Concept] = [
        C("female", ["a woman", "female", "a lady"], ["महिला", "स्त्री"], ["பெண்", "பெண்மணி"]),
        C("male", ["a man", "male", "a gentleman"], ["पुरुष", "आदमी"], ["ஆண்", "ஆடவர்"]),
    ]

    static let priorities: [Concept] = [
        C(
            "high", ["urgent", "cannot wait", "needed at once", "to be done first", "serious"],
            ["ज़रूरी", "तुरंत", "गंभीर", "सबसे पहले"], ["அவசரம்", "உடனே தேவை", "முதலில் செய்ய வேண்டியது"]),
        C(
            "low", ["not urgent", "can wait", "in no hurry", "to be done later", "stable"],
            ["कोई जल्दी नहीं", "बाद में", "सामान्य", "इंतज़ार कर सकते हैं"], ["அவசரம் இல்லை", "பிறகு போதும்", "காத்திருக்கலாம்"]),
    ]

    static let payments: [Concept] = [
        C("cash", ["cash", "notes and coins", "ready money"], ["नकद", "रोकड़"], ["ரொக்கம்", "பணமாக"]),
        C("card", ["card", "a bank card"], ["कार्ड", "बैंक कार्ड"], ["அட்டை", "வங்கி அட்டை"]),
        C("cheque", ["cheque", "a bank cheque"], ["चेक", "बैंक का चेक"], ["காசோலை", "வங்கிக் காசோலை"]),
        C("credit", ["credit", "later payment"], ["उधार", "बाद में भुगतान"], ["கடன்", "பிறகு செலுத்துதல்"]),
    ]

    static let skies: [Concept] = [
        C("clear", ["clear", "sunny", "bright"], ["साफ़", "खिली धूप"], ["தெளிவு", "வெயில்"]),
        C("cloudy", ["cloudy", "overcast", "grey"], ["बादल छाए", "घने बादल"], ["மேகமூட்டம்", "கருமேகம்"]),
        C("rainy", ["rainy", "wet", "showers"], ["बरसाती", "रिमझिम बारिश"], ["மழை", "தூறல்"]),
        C("stormy", ["stormy", "thunder and lightning"], ["आँधी-तूफ़ान", "बिजली और गरज"], ["புயல்", "இடி மின்னல்"]),
    ]

    static let conditions: [Concept] = [
        C("new", ["new", "unused", "never opened"], ["नया", "बिल्कुल नया"], ["புதியது", "பயன்படுத்தாதது"]),
        C("used", ["used", "second-hand", "some years old"], ["पुराना", "इस्तेमाल किया हुआ"], ["பழையது", "பயன்படுத்தியது"]),
        C("broken", ["broken", "out of order", "damaged"], ["टूटा हुआ", "खराब"], ["உடைந்தது", "பழுதானது"]),
    ]

    static let moods: [Concept] = [
        C("happy", ["happy", "glad", "pleased"], ["खुश", "प्रसन्न"], ["மகிழ்ச்சி", "சந்தோஷம்"]),
        C("sad", ["sad", "unhappy", "in low spirits"], ["उदास", "दुखी"], ["சோகம்", "வருத்தம்"]),
        C("angry", ["angry", "annoyed", "cross"], ["नाराज़", "गुस्से में"], ["கோபம்", "எரிச்சல்"]),
        C("worried", ["worried", "anxious", "afraid"], ["चिंतित", "परेशान"], ["கவலை", "பயம்"]),
    ]

    /// What can be wrong with a plant.
    static let plantStates: [Concept] = [
        C(
            "yellowing", ["yellow leaves", "leaves turning yellow"], ["पीली पत्तियाँ", "पत्तियों का पीलापन"],
            ["மஞ்சள் இலைகள்", "இலைகள் மஞ்சளாகின்றன"]),
        C("spots", ["brown spots", "spots on the leaves"], ["भूरे धब्बे", "पत्तियों पर धब्बे"], ["இலைப் புள்ளிகள்", "பழுப்புப் புள்ளிகள்"]),
        C("wilt", ["drooping plants", "wilting plants"], ["मुरझाए पौधे", "सूखते पौधे"], ["வாடிய செடிகள்", "செடிகள் வாடுகின்றன"]),
        C("pests", ["insects", "caterpillars", "a pest attack"], ["कीड़े", "इल्लियाँ"], ["பூச்சிகள்", "புழுத் தாக்குதல்"]),
        C("rot", ["rotting roots", "rotting fruits"], ["सड़ती जड़ें", "सड़ते फल"], ["வேர் அழுகல்", "காய் அழுகல்"]),
        C("weeds", ["weeds", "too many weeds"], ["खरपतवार", "बहुत खरपतवार"], ["களைகள்", "அதிகக் களைகள்"]),
        C("dryness", ["dry soil", "lack of water"], ["सूखी मिट्टी", "पानी की कमी"], ["காய்ந்த மண்", "தண்ணீர்ப் பற்றாக்குறை"]),
        C("stunting", ["poor growth", "small plants"], ["कम बढ़त", "छोटे पौधे"], ["குறைந்த வளர்ச்சி", "வளராத செடிகள்"]),
    ]

    /// The groups for exercises in naming a meaning.
    static let groups: [[Concept]] = [ailments, genders, priorities, payments, skies, conditions, moods, plantStates]

    /// Spans of days in words.
    static let spans: [(days: Int, words: Trilingual)] = [
        (1, Trilingual("one day", "एक दिन", "ஒரு நாள்")), (2, Trilingual("two days", "दो दिन", "இரண்டு நாட்கள்")),
        (3, Trilingual("three days", "तीन दिन", "மூன்று நாட்கள்")), (4, Trilingual("four days", "चार दिन", "நான்கு நாட்கள்")),
        (5, Trilingual("five days", "पाँच दिन", "ஐந்து நாட்கள்")), (6, Trilingual("six days", "छह दिन", "ஆறு நாட்கள்")),
        (7, Trilingual("one week", "एक हफ़्ता", "ஒரு வாரம்")), (7, Trilingual("a week", "सात दिन", "ஏழு நாட்கள்")),
        (10, Trilingual("ten days", "दस दिन", "பத்து நாட்கள்")), (14, Trilingual("two weeks", "दो हफ़्ते", "இரண்டு வாரங்கள்")),
        (21, Trilingual("three weeks", "तीन हफ़्ते", "மூன்று வாரங்கள்")), (30, Trilingual("one month", "एक महीना", "ஒரு மாதம்")),
    ]
}
