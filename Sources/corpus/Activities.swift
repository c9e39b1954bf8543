/// What people do, as predicates that follow a person's name: the Hindi verb agrees with the person's sex, the Tamil
/// one is the polite form, which does not.
struct Activity {
    let english: String
    let hindiMan: String
    let hindiWoman: String
    let tamil: String

    init(_ english: String, _ hindiMan: String, _ hindiWoman: String, _ tamil: String) {
        self.english = english
        self.hindiMan = hindiMan
        self.hindiWoman = hindiWoman
        self.tamil = tamil
    }
}

enum Activities {
    private typealias A = Activity

    static let habits: [Activity] = [
        A("buys vegetables at the market", "बाज़ार से सब्ज़ी खरीदता है", "बाज़ार से सब्ज़ी खरीदती है", "சந்தையில் காய்கறி வாங்குகிறார்"),
        A("waters the garden", "बगीचे में पानी देता है", "बगीचे में पानी देती है", "தோட்டத்திற்குத் தண்ணீர் ஊற்றுகிறார்"),
        A("reads the newspaper", "अख़बार पढ़ता है", "अख़बार पढ़ती है", "செய்தித்தாள் படிக்கிறார்"),
        A("walks to the river", "नदी तक पैदल जाता है", "नदी तक पैदल जाती है", "ஆற்றுக்கு நடந்து செல்கிறார்"),
        A("teaches mathematics at the school", "विद्यालय में गणित पढ़ाता है", "विद्यालय में गणित पढ़ाती है", "பள்ளியில் கணிதம் கற்பிக்கிறார்"),
        A("makes tea for the guests", "मेहमानों के लिए चाय बनाता है", "मेहमानों के लिए चाय बनाती है", "விருந்தினர்களுக்குத் தேநீர் தயாரிக்கிறார்"),
        A("repairs old radios", "पुराने रेडियो ठीक करता है", "पुराने रेडियो ठीक करती है", "பழைய வானொலிகளைப் பழுது பார்க்கிறார்"),
        A("feeds the cows", "गायों को चारा खिलाता है", "गायों को चारा खिलाती है", "பசுக்களுக்குத் தீவனம் கொடுக்கிறார்"),
        A("writes letters to friends", "मित्रों को चिट्ठी लिखता है", "मित्रों को चिट्ठी लिखती है", "நண்பர்களுக்குக் கடிதம் எழுதுகிறார்"),
        A("sells flowers near the temple", "मंदिर के पास फूल बेचता है", "मंदिर के पास फूल बेचती है", "கோயிலுக்கு அருகில் பூ விற்கிறார்"),
        A("drives a bus", "बस चलाता है", "बस चलाती है", "பேருந்து ஓட்டுகிறார்"),
        A("works at the bank", "बैंक में काम करता है", "बैंक में काम करती है", "வங்கியில் வேலை செய்கிறார்"),
        A("plays the flute", "बाँसुरी बजाता है", "बाँसुरी बजाती है", "புல்லாங்குழல் வாசிக்கிறார்"),
        A("paints pictures of birds", "चिड़ियों के चित्र बनाता है", "चिड़ियों के चित्र बनाती है", "பறவைகளின் ஓவியம் வரைகிறார்"),
        A("cleans the house", "घर की सफ़ाई करता है", "घर की सफ़ाई करती है", "வீட்டைச் சுத்தம் செய்கிறார்"),
        A("listens to the radio", "रेडियो सुनता है", "रेडियो सुनती है", "வானொலி கேட்கிறார்"),
        A("cooks rice and lentils", "दाल-चावल पकाता है", "दाल-चावल पकाती है", "சோறும் பருப்பும் சமைக்கிறார்"),
        A("learns English", "अंग्रेज़ी सीखता है", "अंग्रेज़ी सीखती है", "ஆங்கிலம் கற்கிறார்"),
        A("plays chess with the neighbour", "पड़ोसी के साथ शतरंज खेलता है", "पड़ोसी के साथ शतरंज खेलती है", "அண்டை வீட்டாருடன் சதுரங்கம் ஆடுகிறார்"),
        A("counts the coins", "सिक्के गिनता है", "सिक्के गिनती है", "நாணயங்களை எண்ணுகிறார்"),
        A("opens the shop", "दुकान खोलता है", "दुकान खोलती है", "கடையைத் திறக்கிறார்"),
        A("rides a bicycle to the office", "साइकिल से दफ़्तर जाता है", "साइकिल से दफ़्तर जाती है", "மிதிவண்டியில் அலுவலகம் செல்கிறார்"),
        A("sings old songs", "पुराने गीत गाता है", "पुराने गीत गाती है", "பழைய பாடல்கள் பாடுகிறார்"),
        A("takes medicine", "दवा लेता है", "दवा लेती है", "மருந்து எடுத்துக்கொள்கிறார்"),
        A(
            "stays at home because of a fever", "बुखार के कारण घर पर रहता है", "बुखार के कारण घर पर रहती है",
            "காய்ச்சல் காரணமாக வீட்டில் இருக்கிறார்"),
        A("tells stories to the children", "बच्चों को कहानियाँ सुनाता है", "बच्चों को कहानियाँ सुनाती है", "குழந்தைகளுக்குக் கதை சொல்கிறார்"),
        A("draws water from the well", "कुएँ से पानी भरता है", "कुएँ से पानी भरती है", "கிணற்றில் தண்ணீர் எடுக்கிறார்"),
        A("ploughs the field", "खेत जोतता है", "खेत जोतती है", "வயலை உழுகிறார்"),
        A("catches fish in the lake", "झील में मछली पकड़ता है", "झील में मछली पकड़ती है", "ஏரியில் மீன் பிடிக்கிறார்"),
        A("weaves baskets", "टोकरियाँ बुनता है", "टोकरियाँ बुनती है", "கூடைகள் பின்னுகிறார்"),
    ]

    static let times: [Trilingual] = [
        Trilingual("in the morning", "सुबह", "காலையில்"), Trilingual("in the evening", "शाम को", "மாலையில்"),
        Trilingual("every day", "हर दिन", "தினமும்"), Trilingual("at night", "रात में", "இரவில்"),
        Trilingual("on Sundays", "रविवार को", "ஞாயிற்றுக்கிழமைகளில்"),
        Trilingual("after lunch", "दोपहर के खाने के बाद", "மதிய உணவுக்குப் பிறகு"),
        Trilingual("before sunrise", "सूरज निकलने से पहले", "சூரிய உதயத்திற்கு முன்"),
        Trilingual("during the holidays", "छुट्टियों में", "விடுமுறை நாட்களில்"),
        Trilingual("on Fridays", "शुक्रवार को", "வெள்ளிக்கிழமைகளில்"), Trilingual("in the afternoon", "दोपहर में", "மதியத்தில்"),
    ]

    /// A statement about a person called `name`, ready to print.
    static func sentence(
        _ name: String, isWoman: Bool, _ activity: Activity, _ time: Trilingual?, _ language: Language
    ) -> String {
        switch language {
        case .english:
            return [name, activity.english, time?.english].compactMap { $0 }.joined(separator: " ") + "."
        case .hindi:
            let predicate = isWoman ? activity.hindiWoman : activity.hindiMan
            return [name, time?.hindi, predicate].compactMap { $0 }.joined(separator: " ") + "।"
        case .tamil:
            return [name, time?.tamil, activity.tamil].compactMap { $0 }.joined(separator: " ") + "."
        }
    }

    /// Asks who does it. Hindi asks in the masculine, which stands for anyone.
    static func question(_ activity: Activity, _ time: Trilingual?, _ language: Language) -> String {
        switch language {
        case .english:
            return ["Who", activity.english, time?.english].compactMap { $0 }.joined(separator: " ") + "?"
        case .hindi:
            return [time?.hindi, "कौन", activity.hindiMan].compactMap { $0 }.joined(separator: " ") + "?"
        case .tamil:
            return [time?.tamil, "யார்", activity.tamil].compactMap { $0 }.joined(separator: " ") + "?"
        }
    }
}
