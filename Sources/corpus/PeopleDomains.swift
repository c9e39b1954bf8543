/// People's circumstances: who they are, what ails them, what they need. Their records hold codes and figures that the
/// text puts into words.
enum PeopleDomains {
    static let all = [census, absence, pharmacy, kitchen, repairs, garden, counter]

    static let census = Domain(facts: [
        Fact(
            ["person", "name", "resident"], .person,
            ["{v} filled in the census form.", "Census form of {v}.", "Resident: {v}.", "Name: {v}."],
            ["{v} ने जनगणना का फ़ॉर्म भरा।", "निवासी: {v}।", "नाम: {v}।"],
            ["{v} என்பவர் கணக்கெடுப்புப் படிவம் நிரப்பினார்.", "குடியிருப்பவர்: {v}.", "பெயர்: {v}."],
            ask: ["Who filled in the form?", "फ़ॉर्म किसने भरा?", "படிவம் நிரப்பியவர் யார்?"]),
        Fact(
            ["gender", "male_or_female"], .concepts(Concepts.genders, 1...1),
            ["The person is {v}.", "Gender: {v}.", "This is {v}."], ["लिंग: {v}।", "यह {v} हैं।"],
            ["பாலினம்: {v}.", "இவர் {v}."],
            ask: ["Is it a man or a woman?", "महिला हैं या पुरुष?", "ஆணா பெண்ணா?"]),
        Fact(
            ["age", "age_years"], .number(18...89),
            ["Aged {v}.", "Age {v}.", "{v} years old.", "Age: {v} years."], ["उम्र {v} साल।", "{v} वर्ष।", "उम्र {v}।"],
            ["வயது {v}.", "வயது: {v} ஆண்டுகள்."],
            ask: ["How old is the person?", "उम्र क्या है?", "வயது என்ன?"]),
        Fact(
            ["mood", "feeling"], .concepts(Concepts.moods, 1...1),
            ["Mood: {v}.", "The person looks {v}."], ["मन: {v}।"], ["மனநிலை: {v}."],
            ask: ["What is the mood?", "मन कैसा है?", "மனநிலை என்ன?"]),
        Fact(
            ["work", "occupation"], .word(Lexicon.trades),
            ["Occupation: {v}.", "Works as a {v}."], ["काम: {v}।"], ["தொழில்: {v}."],
            ask: ["What is the occupation?", "काम क्या है?", "தொழில் என்ன?"]),
        Fact(
            ["mobile", "phone_number"], .phone,
            ["Mobile {v}.", "Phone {v}.", "Can be reached at {v}."], ["मोबाइल {v}।", "फ़ोन {v}।"], ["கைபேசி {v}."],
            ask: ["What is the mobile number?", "मोबाइल नंबर क्या है?", "கைபேசி எண் என்ன?"]),
    ])

    static let absence = Domain(facts: [
        Fact(
            ["student", "absent_student", "who"], .person,
            ["{v} is absent from school.", "Absent: {v}.", "Leave letter of {v}."],
            ["{v} आज विद्यालय नहीं आए।", "अनुपस्थित: {v}।"], ["{v} என்ற மாணவர் பள்ளிக்கு வரவில்லை.", "விடுப்புக் கடிதம்: {v}."],
            ask: ["Who is absent?", "कौन अनुपस्थित है?", "வராதவர் யார்?"]),
        Fact(
            ["reason", "cause", "because_of"], .concepts(Concepts.ailments, 1...2),
            ["The reason is {v}.", "It is because of {v}.", "Reason: {v}."], ["कारण {v} है।", "कारण: {v}।", "वजह: {v}।"],
            ["காரணம் {v}.", "காரணம்: {v}."],
            ask: ["What is the reason?", "कारण क्या है?", "காரணம் என்ன?"]),
        Fact(
            ["absent_days", "leave_days", "duration"], .span,
            ["The leave is for {v}.", "Away for {v}.", "It has been so for {v}."], ["छुट्टी की अवधि: {v}।", "अवधि {v}।"],
            ["விடுப்பு: {v}.", "காலம் {v}."],
            ask: ["For how long?", "कितने समय के लिए?", "எவ்வளவு காலம்?"]),
        Fact(
            ["class", "form"], .number(1...12),
            ["The class is {v}.", "Class {v}."], ["कक्षा {v}।"], ["வகுப்பு {v}."],
            ask: ["Which class is it?", "कौन-सी कक्षा है?", "எந்த வகுப்பு?"]),
        Fact(
            ["teacher", "class_teacher"], .person,
            ["The class teacher is {v}.", "Teacher: {v}."], ["कक्षा के शिक्षक {v} हैं।"], ["வகுப்பு ஆசிரியர் {v}."],
            ask: ["Who is the class teacher?", "कक्षा के शिक्षक कौन हैं?", "வகுப்பு ஆசிரியர் யார்?"]),
    ])

    static let pharmacy = Domain(facts: [
        Fact(
            ["buyer", "customer"], .person,
            ["{v} came to the pharmacy.", "Sale to {v}."], ["{v} दवा की दुकान पर आए।", "ग्राहक: {v}।"],
            ["{v} என்பவர் மருந்துக் கடைக்கு வந்தார்.", "வாங்கியவர் {v}."],
            ask: ["Who came to the pharmacy?", "दवा की दुकान पर कौन आया?", "மருந்துக் கடைக்கு வந்தவர் யார்?"]),
        Fact(
            ["medicine_for", "against", "remedy_for"], .concepts(Concepts.ailments, 1...2),
            ["The medicine is for {v}.", "Something against {v} was asked for.", "Medicine for {v}."],
            ["दवा इनके लिए: {v}।", "तकलीफ़: {v}।"], ["மருந்து எதற்கு: {v}.", "தொந்தரவு: {v}."],
            ask: ["What is the medicine for?", "दवा किसके लिए है?", "மருந்து எதற்கு?"]),
        Fact(
            ["tablets", "count"], .number(2...60),
            ["{v} tablets were sold.", "Tablets: {v}."], ["{v} गोलियाँ दी गईं।"], ["{v} மாத்திரைகள் கொடுக்கப்பட்டன."],
            ask: ["How many tablets were sold?", "कितनी गोलियाँ दी गईं?", "எத்தனை மாத்திரைகள்?"]),
        Fact(
            ["course_days", "take_for"], .span,
            ["To be taken for {v}.", "The course lasts {v}."], ["अवधि: {v}।"], ["எடுக்கும் காலம்: {v}."],
            ask: ["How long is the course?", "कितने समय तक लेनी है?", "எவ்வளவு காலம் எடுக்க வேண்டும்?"]),
        Fact(
            ["paid_by", "payment"], .concepts(Concepts.payments, 1...1),
            ["Paid by {v}.", "Payment: {v}."], ["भुगतान: {v}।"], ["பணம் செலுத்தியது: {v}."],
            ask: ["How was it paid?", "भुगतान कैसे हुआ?", "பணம் எப்படிச் செலுத்தப்பட்டது?"]),
        Fact(
            ["price", "rupees"], .number(8...960),
            ["The price was {v} rupees.", "{v} rupees."], ["दाम {v} रुपये।"], ["விலை {v} ரூபாய்."],
            ask: ["What was the price?", "दाम कितना था?", "விலை என்ன?"]),
    ])

    static let kitchen = Domain(facts: [
        Fact(
            ["cook", "chef"], .person,
            ["{v} is cooking today.", "Cook: {v}."], ["आज {v} खाना बना रहे हैं।", "रसोइया: {v}।"], ["இன்று சமைப்பவர் {v}."],
            ask: ["Who is cooking?", "खाना कौन बना रहा है?", "சமைப்பவர் யார்?"]),
        Fact(
            ["ingredients", "items", "needs"], .words(Lexicon.foods, 1...4),
            ["Needed: {v}.", "The dish is made with {v}."], ["सामग्री: {v}।"], ["தேவையான பொருட்கள்: {v}."],
            ask: ["What is needed?", "क्या-क्या चाहिए?", "என்னென்ன தேவை?"]),
        Fact(
            ["minutes", "cooking_time"], .number(5...95),
            ["It takes {v} minutes.", "Ready in {v} minutes."], ["{v} मिनट लगेंगे।"], ["{v} நிமிடங்கள் ஆகும்."],
            ask: ["How long does it take?", "कितने मिनट लगेंगे?", "எத்தனை நிமிடங்கள் ஆகும்?"]),
        Fact(
            ["serves", "plates"], .number(2...40),
            ["It serves {v} people.", "Plates: {v}."], ["यह {v} लोगों के लिए है।"], ["இது {v} பேருக்குப் போதும்."],
            ask: ["How many people does it serve?", "यह कितने लोगों के लिए है?", "இது எத்தனை பேருக்கு?"]),
        Fact(
            ["spicy", "hot"], .flag,
            ["It is spicy.", "The dish is hot."], ["खाना तीखा है।"], ["உணவு காரமானது."],
            ask: ["Is it spicy?", "क्या खाना तीखा है?", "உணவு காரமானதா?"],
            no: [["It is not spicy.", "The dish is mild."], ["खाना तीखा नहीं है।"], ["உணவு காரமற்றது."]]),
    ])

    static let repairs = Domain(facts: [
        Fact(
            ["item", "object", "articles"], .words(Lexicon.things, 1...3),
            ["For repair: {v}.", "Brought in: {v}."], ["मरम्मत के लिए: {v}।"], ["பழுதுபார்க்க: {v}."],
            ask: ["What is to be repaired?", "किसकी मरम्मत करनी है?", "எதைப் பழுதுபார்க்க வேண்டும்?"]),
        Fact(
            ["owner", "brought_by"], .person,
            ["The owner is {v}.", "Brought by {v}."], ["मालिक {v} हैं।"], ["உரிமையாளர் {v}."],
            ask: ["Who is the owner?", "मालिक कौन हैं?", "உரிமையாளர் யார்?"]),
        Fact(
            ["condition", "state"], .concepts(Concepts.conditions, 1...1),
            ["Condition: {v}.", "It is {v}."], ["हालत: {v}।"], ["நிலை: {v}."],
            ask: ["What is its condition?", "हालत कैसी है?", "நிலை என்ன?"]),
        Fact(
            ["priority", "level"], .concepts(Concepts.priorities, 1...1),
            ["Remark: {v}.", "The job is {v}.", "Note: {v}."], ["टिप्पणी: {v}।", "यह काम {v}।"], ["குறிப்பு: {v}."],
            ask: ["What is the remark?", "टिप्पणी क्या है?", "குறிப்பு என்ன?"]),
        Fact(
            ["rush", "at_once"], .flag,
            ["Please do it first.", "It cannot wait.", "Urgent.", "It is needed now."],
            ["तुरंत करना ज़रूरी है।", "पहले कीजिए।", "इंतज़ार नहीं कर सकते।"], ["உடனே செய்ய வேண்டும்.", "அவசரம்."],
            ask: ["Is it urgent?", "क्या जल्दी है?", "அவசரமா?"],
            no: [
                ["It can wait.", "Not urgent.", "There is no hurry."], ["इंतज़ार कर सकते हैं।", "कोई जल्दी नहीं है।"],
                ["காத்திருக்கலாம்.", "அவசரம் இல்லை."],
            ]),
        Fact(
            ["phone", "reach_at"], .phone,
            ["Phone {v}.", "Contact: {v}.", "Call {v}."], ["फ़ोन {v}।", "मोबाइल नंबर {v} है।"], ["தொலைபேசி {v}."],
            ask: ["Which number should be called?", "किस नंबर पर फ़ोन करना है?", "எந்த எண்ணை அழைக்க வேண்டும்?"]),
    ])

    static let garden = Domain(facts: [
        Fact(
            ["gardener", "grower"], .person,
            ["{v} wrote to the garden club.", "Letter from {v}."], ["{v} ने बागवानी मंडल को लिखा।", "पत्र: {v}।"],
            ["{v} என்பவர் தோட்டக் குழுவிற்கு எழுதினார்.", "கடிதம்: {v}."],
            ask: ["Who wrote to the club?", "मंडल को किसने लिखा?", "குழுவிற்கு எழுதியவர் யார்?"]),
        Fact(
            ["signs", "observed", "seen"], .concepts(Concepts.plantStates, 1...2),
            ["The garden shows {v}.", "Seen: {v}."], ["बगीचे में: {v}।"], ["தோட்டத்தில்: {v}."],
            ask: ["What is seen in the garden?", "बगीचे में क्या दिखता है?", "தோட்டத்தில் என்ன தெரிகிறது?"]),
        Fact(
            ["plants", "grown"], .words(Lexicon.gardenPlants, 1...3),
            ["Grown there: {v}.", "The plants are {v}."], ["पौधे: {v}।"], ["செடிகள்: {v}."],
            ask: ["Which plants are grown?", "कौन-से पौधे हैं?", "எந்தச் செடிகள்?"]),
        Fact(
            ["noticed", "for_days"], .span,
            ["Noticed for {v}.", "This has gone on for {v}."], ["कब से: {v}।"], ["எத்தனை காலமாக: {v}."],
            ask: ["For how long?", "कब से?", "எத்தனை காலமாக?"]),
        Fact(
            ["size_m", "metres"], .decimal(1...40),
            ["The bed is {v} metres long."], ["क्यारी {v} मीटर लंबी है।"], ["பாத்தி {v} மீட்டர் நீளம்."],
            ask: ["How long is the bed?", "क्यारी कितनी लंबी है?", "பாத்தி எவ்வளவு நீளம்?"]),
    ])

    static let counter = Domain(facts: [
        Fact(
            ["citizen", "visitor"], .person,
            ["{v} came to the town office.", "Visitor: {v}."], ["{v} नगर कार्यालय आए।", "आगंतुक: {v}।"],
            ["{v} என்பவர் நகர அலுவலகத்திற்கு வந்தார்.", "வந்தவர்: {v}."],
            ask: ["Who came to the office?", "कार्यालय कौन आया?", "அலுவலகத்திற்கு வந்தவர் யார்?"]),
        Fact(
            ["sky", "weather"], .concepts(Concepts.skies, 1...1),
            ["The weather that day: {v}."], ["उस दिन मौसम: {v}।"], ["அன்றைய வானிலை: {v}."],
            ask: ["What was the weather?", "मौसम कैसा था?", "வானிலை என்ன?"]),
        Fact(
            ["gender", "sex_code"], .concepts(Concepts.genders, 1...1),
            ["The visitor was {v}."], ["आगंतुक: {v}।"], ["வந்தவர் {v}."],
            ask: ["Was it a man or a woman?", "महिला या पुरुष?", "ஆணா பெண்ணா?"]),
        Fact(
            ["token", "queue_number"], .code("@##"),
            ["The token is {v}.", "Token {v}."], ["टोकन {v}।"], ["வரிசை எண் {v}."],
            ask: ["What is the token?", "टोकन क्या है?", "வரிசை எண் என்ன?"]),
        Fact(
            ["mood", "temper"], .concepts(Concepts.moods, 1...1),
            ["The visitor seemed {v}."], ["मनोदशा: {v}।"], ["மனநிலை: {v}."],
            ask: ["How did the visitor seem?", "मनोदशा कैसी थी?", "மனநிலை எப்படி?"]),
        Fact(
            ["waited", "waited_days"], .span,
            ["The matter has been open for {v}."], ["मामला लंबित: {v}।"], ["நிலுவைக் காலம்: {v}."],
            ask: ["How long has it been open?", "कितने समय से लंबित है?", "எவ்வளவு காலம் நிலுவை?"]),
    ])
}
