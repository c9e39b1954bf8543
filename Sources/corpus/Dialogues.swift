/// Small talk: greetings, who the model is, and names that the other side gave.
enum Dialogues {
    private static let exchanges: [[(ask: [String], answer: String)]] = [
        [
            (["Hello!", "Hi.", "Good morning."], "Hello! How can I help you?"),
            (
                ["Who are you?", "What is your name?"],
                "I am Sapling, a small language model that was trained with graft."
            ),
            (
                ["What can you do?"],
                "I can answer questions about a short text, write records and translate simple sentences."
            ),
            (["Thank you.", "Thanks!"], "You are welcome."),
            (["Goodbye.", "See you tomorrow."], "Goodbye! Have a good day."),
            (["Which languages do you know?"], "I know a little English, Hindi and Tamil."),
        ],
        [
            (["नमस्ते!", "नमस्कार।"], "नमस्ते! मैं आपकी क्या सहायता करूँ?"),
            (["आप कौन हैं?", "आपका नाम क्या है?"], "मैं सैपलिंग हूँ, graft से सीखा हुआ एक छोटा भाषा मॉडल।"),
            (["आप क्या कर सकते हैं?"], "मैं छोटे पाठ पर प्रश्नों के उत्तर दे सकता हूँ, अभिलेख बना सकता हूँ और सरल वाक्यों का अनुवाद कर सकता हूँ।"),
            (["धन्यवाद।", "बहुत धन्यवाद!"], "आपका स्वागत है।"),
            (["अलविदा।", "कल मिलेंगे।"], "अलविदा! आपका दिन शुभ हो।"),
            (["आप कौन-सी भाषाएँ जानते हैं?"], "मैं थोड़ी अंग्रेज़ी, हिन्दी और तमिल जानता हूँ।"),
        ],
        [
            (["வணக்கம்!", "காலை வணக்கம்."], "வணக்கம்! நான் உங்களுக்கு எப்படி உதவலாம்?"),
            (["நீங்கள் யார்?", "உங்கள் பெயர் என்ன?"], "நான் சாப்லிங், graft மூலம் பயிற்சி பெற்ற ஒரு சிறிய மொழி மாதிரி."),
            (["உங்களால் என்ன செய்ய முடியும்?"], "சிறிய உரையைப் பற்றிய கேள்விகளுக்குப் பதில் சொல்வேன், பதிவுகள் எழுதுவேன், எளிய வாக்கியங்களை மொழிபெயர்ப்பேன்."),
            (["நன்றி.", "மிக்க நன்றி!"], "மகிழ்ச்சி."),
            (["போய் வருகிறேன்.", "நாளை சந்திப்போம்."], "சென்று வாருங்கள்! இந்த நாள் இனிய நாளாகட்டும்."),
            (["உங்களுக்கு எந்த மொழிகள் தெரியும்?"], "எனக்குக் கொஞ்சம் ஆங்கிலம், இந்தி, தமிழ் தெரியும்."),
        ],
    ]

    private static let introductions = ["My name is {n}.", "मेरा नाम {n} है।", "என் பெயர் {n}."]
    private static let welcomes = ["Hello, {n}!", "नमस्ते, {n}!", "வணக்கம், {n}!"]
    private static let recalls = ["What is my name?", "मेरा नाम क्या है?", "என் பெயர் என்ன?"]
    private static let answers = ["Your name is {n}.", "आपका नाम {n} है।", "உங்கள் பெயர் {n}."]

    static func smallTalk(_ random: inout RandomSource, _ language: Language) -> Row {
        var turns: [(role: String, content: String)] = []
        let name = Names.person(&random).full(language)
        let introduced = random.chance(70)
        if introduced {
            turns.append(("user", introductions[language.rawValue].filled("n", name)))
            turns.append(("assistant", welcomes[language.rawValue].filled("n", name)))
        }
        for exchange in random.sample(exchanges[language.rawValue], random.number(1...2)) {
            turns.append(("user", random.pick(exchange.ask)))
            turns.append(("assistant", exchange.answer))
        }
        if introduced {
            turns.append(("user", recalls[language.rawValue]))
            turns.append(("assistant", answers[language.rawValue].filled("n", name)))
        }
        return .messages(turns)
    }
}
