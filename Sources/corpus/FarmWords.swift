/// What callers of the farm help-line grow and what ails it, with the codes of the record.
struct Trouble {
    let code: String
    /// Statements, without the full stop.
    let english: [String]
    let tamil: [String]

    init(_ code: String, _ english: [String], _ tamil: [String]) {
        self.code = code
        self.english = english
        self.tamil = tamil
    }
}

enum FarmWords {
    static let crops: [(code: String, english: String, tamil: String)] = [
        ("paddy", "paddy", "நெல்"), ("cotton", "cotton", "பருத்தி"), ("sugarcane", "sugarcane", "கரும்பு"),
        ("groundnut", "groundnut", "நிலக்கடலை"), ("banana", "banana", "வாழை"), ("maize", "maize", "மக்காச்சோளம்"),
        ("turmeric", "turmeric", "மஞ்சள்"), ("chilli", "chilli", "மிளகாய்"), ("tomato", "tomato", "தக்காளி"),
        ("coconut", "coconut", "தென்னை"), ("onion", "onion", "வெங்காயம்"), ("black_gram", "black gram", "உளுந்து"),
        ("sesame", "sesame", "எள்"), ("brinjal", "brinjal", "கத்தரி"),
    ]

    static let troubles: [Trouble] = [
        Trouble(
            "yellow_leaves", ["the leaves are turning yellow", "yellow leaves are seen"],
            ["இலைகள் மஞ்சளாக மாறுகின்றன", "இலைகளில் மஞ்சள் நிறம் தெரிகிறது"]),
        Trouble(
            "leaf_spots", ["there are brown spots on the leaves", "the leaves have spots"],
            ["இலைகளில் பழுப்புப் புள்ளிகள் உள்ளன", "இலைகளில் புள்ளிகள் தோன்றியுள்ளன"]),
        Trouble("wilting", ["the plants are wilting", "plants droop and dry"], ["செடிகள் வாடுகின்றன", "செடிகள் வாடிக் காய்கின்றன"]),
        Trouble(
            "caterpillars", ["caterpillars are eating the leaves", "there is a caterpillar attack"],
            ["கம்பளிப்புழுக்கள் இலைகளைத் தின்கின்றன", "புழுத் தாக்குதல் உள்ளது"]),
        Trouble(
            "whitefly", ["whiteflies are on the plants", "there is a whitefly attack"],
            ["வெள்ளை ஈக்கள் உள்ளன", "வெள்ளை ஈ தாக்குதல் உள்ளது"]),
        Trouble(
            "stem_borer", ["borers are inside the stem", "there is a stem borer attack"],
            ["தண்டுத் துளைப்பான் தாக்குதல் உள்ளது", "தண்டில் துளைகள் உள்ளன"]),
        Trouble("root_rot", ["the roots are rotting", "there is root rot"], ["வேர்கள் அழுகுகின்றன", "வேர் அழுகல் நோய் உள்ளது"]),
        Trouble(
            "flower_drop", ["the flowers are falling", "blossoms drop early"],
            ["பூக்கள் உதிர்கின்றன", "பூக்கள் முன்பே உதிர்ந்து விடுகின்றன"]),
        Trouble(
            "weeds", ["weeds are too many", "the field is full of weeds"], ["களைகள் அதிகமாக உள்ளன", "வயல் முழுவதும் களை உள்ளது"]),
        Trouble(
            "waterlogging", ["water stands in the field", "rain water does not drain"],
            ["வயலில் தண்ணீர் தேங்கியுள்ளது", "மழைநீர் வடியவில்லை"]),
        Trouble(
            "drought", ["there is no water for the field", "the soil is dry and cracked"],
            ["பாசனத்திற்குத் தண்ணீர் இல்லை", "மண் காய்ந்து வெடித்துள்ளது"]),
        Trouble("poor_growth", ["the growth is poor", "the plants stay small"], ["வளர்ச்சி குறைவாக உள்ளது", "செடிகள் வளரவில்லை"]),
        Trouble(
            "rats", ["rats are damaging the crop", "there is rat damage"], ["எலிகள் பயிரைச் சேதப்படுத்துகின்றன", "எலித் தொல்லை உள்ளது"]),
        Trouble("fruit_rot", ["the fruits are rotting", "there is fruit rot"], ["காய்கள் அழுகுகின்றன", "காய் அழுகல் உள்ளது"]),
    ]

    static let water: [(code: String, english: String, tamil: String)] = [
        ("well", "Well water is used.", "கிணற்றுப் பாசனம்."), ("canal", "It is watered from the canal.", "கால்வாய்ப் பாசனம்."),
        ("rain", "It depends on rain.", "மழையை நம்பிய பயிர்."), ("drip", "Drip lines are laid.", "சொட்டு நீர்ப் பாசனம்."),
        ("tank", "Water comes from the tank.", "ஏரிப் பாசனம்."),
    ]

    static let visit = (
        english: ["Wants a field visit.", "Asks an officer to come."], tamil: ["நேரில் வந்து பார்க்க வேண்டும்.", "அலுவலர் வர வேண்டும்."]
    )
    static let noVisit = (
        english: ["Advice by phone is enough.", "No visit needed."], tamil: ["தொலைபேசி ஆலோசனை போதும்.", "நேரில் வரத் தேவையில்லை."]
    )
}
