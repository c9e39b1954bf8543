/// Shops, schools, libraries, houses and games.
enum TownDomains {
    static let all = [shop, library, school, meter, house, match, worker, hall, weather]

    static let shop = Domain(facts: [
        Fact(
            ["customer", "buyer", "ordered_by"], .person,
            ["{v} placed an order at the shop.", "The order is for {v}.", "Order by {v}."],
            ["{v} ने दुकान में सामान मँगाया है।", "ग्राहक का नाम {v} है।"],
            ["{v} என்பவர் கடையில் பொருள் கேட்டுள்ளார்.", "வாடிக்கையாளர் {v}."],
            ask: ["Who placed the order?", "सामान किसने मँगाया है?", "வாடிக்கையாளர் யார்?"]),
        Fact(
            ["item", "goods", "product"], .word(Lexicon.foods),
            ["The item is {v}.", "What is wanted: {v}."], ["सामान: {v}।", "चीज़ का नाम {v} है।"], ["பொருள்: {v}.", "தேவை: {v}."],
            ask: ["What was ordered?", "क्या सामान चाहिए?", "என்ன பொருள் வேண்டும்?"]),
        Fact(
            ["quantity", "kilos", "amount_kg"], .number(1...60),
            ["The quantity is {v} kg.", "{v} kg should be packed."], ["मात्रा {v} किलो है।", "{v} किलो बाँध दीजिए।"],
            ["அளவு {v} கிலோ.", "{v} கிலோ கட்டவும்."],
            ask: ["How much is wanted?", "कितने किलो चाहिए?", "எத்தனை கிலோ வேண்டும்?"]),
        Fact(
            ["total", "price", "bill"], .number(20...4800),
            ["The bill comes to {v} rupees.", "The total is {v} rupees."], ["कुल {v} रुपये हुए।", "बिल {v} रुपये का है।"],
            ["மொத்தம் {v} ரூபாய்.", "விலை {v} ரூபாய்."],
            ask: ["How much is the bill?", "कुल कितने रुपये हुए?", "மொத்தம் எவ்வளவு?"]),
        Fact(
            ["paid", "settled"], .flag,
            ["The money has been paid.", "It is paid."], ["पैसे मिल गए हैं।"], ["பணம் செலுத்தப்பட்டது."],
            ask: ["Has it been paid?", "क्या पैसे मिल गए हैं?", "பணம் செலுத்தப்பட்டதா?"],
            no: [["The money is still due.", "It is not paid."], ["पैसे अभी बाकी हैं।"], ["பணம் இன்னும் செலுத்தப்படவில்லை."]]),
        Fact(
            ["phone", "contact_number", "mobile"], .phone,
            ["The customer's phone number is {v}.", "Phone {v}."], ["ग्राहक का फ़ोन नंबर {v} है।", "फ़ोन {v}।"],
            ["வாடிக்கையாளரின் தொலைபேசி எண் {v}.", "தொலைபேசி {v}."],
            ask: ["What is the customer's phone number?", "ग्राहक का फ़ोन नंबर क्या है?", "வாடிக்கையாளரின் தொலைபேசி எண் என்ன?"]),
    ])

    static let library = Domain(facts: [
        Fact(
            ["reader", "member", "borrower"], .person,
            ["{v} borrowed a book.", "The book was lent to {v}.", "Borrower: {v}."],
            ["{v} ने एक किताब ली है।", "पाठक का नाम {v} है।"], ["{v} என்பவர் ஒரு புத்தகம் எடுத்துள்ளார்.", "வாசகர் {v}."],
            ask: ["Who borrowed the book?", "किताब किसने ली है?", "புத்தகம் எடுத்தவர் யார்?"]),
        Fact(
            ["subject", "topic", "about"], .word(Lexicon.bookSubjects),
            ["The book is about {v}.", "Its subject is {v}."], ["किताब का विषय {v} है।", "विषय: {v}।"],
            ["புத்தகத்தின் பொருள்: {v}.", "தலைப்பு: {v}."],
            ask: ["What is the book about?", "किताब का विषय क्या है?", "புத்தகத்தின் பொருள் என்ன?"]),
        Fact(
            ["card", "card_number"], .code("L####"),
            ["The library card is {v}.", "Card number {v}."], ["कार्ड संख्या {v} है।"], ["அட்டை எண் {v}."],
            ask: ["What is the card number?", "कार्ड संख्या क्या है?", "அட்டை எண் என்ன?"]),
        Fact(
            ["due", "return_by"], .date,
            ["It must come back by {v}.", "The due date is {v}."], ["किताब {v} तक लौटानी है।"], ["{v} க்குள் திருப்பித் தர வேண்டும்."],
            ask: ["When is the book due?", "किताब कब तक लौटानी है?", "எப்போது திருப்பித் தர வேண்டும்?"]),
        Fact(
            ["pages", "page_count"], .number(40...720),
            ["The book has {v} pages."], ["किताब में {v} पन्ने हैं।"], ["புத்தகத்தில் {v} பக்கங்கள் உள்ளன."],
            ask: ["How many pages has it?", "किताब में कितने पन्ने हैं?", "எத்தனை பக்கங்கள் உள்ளன?"]),
        Fact(
            ["renewed", "extended"], .flag,
            ["The loan was renewed."], ["अवधि बढ़ा दी गई है।"], ["காலக்கெடு நீட்டிக்கப்பட்டது."],
            ask: ["Was the loan renewed?", "क्या अवधि बढ़ाई गई है?", "காலக்கெடு நீட்டிக்கப்பட்டதா?"],
            no: [["The loan was not renewed."], ["अवधि नहीं बढ़ाई गई है।"], ["காலக்கெடு நீட்டிக்கப்படவில்லை."]]),
    ])

    static let school = Domain(facts: [
        Fact(
            ["student", "pupil", "child"], .person,
            ["{v} has joined the school.", "The new student is {v}.", "Admission of {v}."],
            ["{v} का विद्यालय में दाखिला हुआ है।", "नए छात्र का नाम {v} है।"],
            ["{v} என்ற மாணவர் பள்ளியில் சேர்ந்துள்ளார்.", "புதிய மாணவர் {v}."],
            ask: ["Who has joined the school?", "किसका दाखिला हुआ है?", "பள்ளியில் சேர்ந்தவர் யார்?"]),
        Fact(
            ["age", "years"], .number(5...17),
            ["The child is {v} years old.", "Age: {v} years."], ["उम्र {v} साल है।", "बच्चे की उम्र {v} वर्ष है।"],
            ["வயது {v}.", "குழந்தையின் வயது {v}."],
            ask: ["How old is the child?", "बच्चे की उम्र क्या है?", "குழந்தையின் வயது என்ன?"]),
        Fact(
            ["class", "grade", "standard"], .number(1...12),
            ["The class is {v}.", "A place was given in class {v}."], ["कक्षा {v} है।", "कक्षा {v} में जगह मिली है।"],
            ["வகுப்பு {v}.", "{v} ஆம் வகுப்பில் இடம் கிடைத்தது."],
            ask: ["Which class is it?", "कौन-सी कक्षा है?", "எந்த வகுப்பு?"]),
        Fact(
            ["guardian", "parent", "father_or_mother"], .person,
            ["The guardian is {v}.", "The form was signed by {v}."], ["अभिभावक का नाम {v} है।", "फ़ॉर्म पर {v} ने हस्ताक्षर किए।"],
            ["பாதுகாவலர் {v}.", "படிவத்தில் கையொப்பமிட்டவர் {v}."],
            ask: ["Who is the guardian?", "अभिभावक कौन हैं?", "பாதுகாவலர் யார்?"]),
        Fact(
            ["town", "village", "home"], .place,
            ["The family lives in {v}."], ["परिवार {v} में रहता है।"], ["குடும்பம் {v} என்ற ஊரில் வசிக்கிறது."],
            ask: ["Where does the family live?", "परिवार कहाँ रहता है?", "குடும்பம் எங்கே வசிக்கிறது?"]),
        Fact(
            ["hostel", "boarder"], .flag,
            ["A hostel bed is needed.", "The student will stay in the hostel."], ["छात्रावास चाहिए।"], ["விடுதி வசதி வேண்டும்."],
            ask: ["Is a hostel bed needed?", "क्या छात्रावास चाहिए?", "விடுதி வசதி வேண்டுமா?"],
            no: [
                ["No hostel bed is needed.", "The student will come from home."], ["छात्रावास नहीं चाहिए।"], ["விடுதி வசதி வேண்டாம்."],
            ]),
    ])

    static let meter = Domain(facts: [
        Fact(
            ["consumer", "customer", "name"], .person,
            ["The electricity bill is in the name of {v}.", "{v} received an electricity bill."],
            ["बिजली का बिल {v} के नाम पर है।", "{v} को बिजली का बिल मिला है।"],
            ["மின் கட்டணச் சீட்டு {v} என்பவர் பெயரில் உள்ளது.", "மின் நுகர்வோர் {v}."],
            ask: ["In whose name is the bill?", "बिल किसके नाम पर है?", "சீட்டு யார் பெயரில் உள்ளது?"]),
        Fact(
            ["meter", "meter_number"], .code("######"),
            ["The meter number is {v}.", "Meter {v} was read."], ["मीटर संख्या {v} है।"], ["மின்மானி எண் {v}."],
            ask: ["What is the meter number?", "मीटर संख्या क्या है?", "மின்மானி எண் என்ன?"]),
        Fact(
            ["units", "consumption"], .number(12...940),
            ["{v} units were used.", "The use was {v} units."], ["{v} यूनिट बिजली खर्च हुई।"], ["{v} யூனிட் மின்சாரம் பயன்படுத்தப்பட்டது."],
            ask: ["How many units were used?", "कितनी यूनिट खर्च हुई?", "எத்தனை யூனிட் பயன்படுத்தப்பட்டது?"]),
        Fact(
            ["amount", "due_amount", "charge"], .number(90...7600),
            ["The amount to pay is {v} rupees.", "Pay {v} rupees."], ["{v} रुपये देने हैं।", "बिल की रकम {v} रुपये है।"],
            ["செலுத்த வேண்டிய தொகை {v} ரூபாய்."],
            ask: ["How much is to be paid?", "कितने रुपये देने हैं?", "செலுத்த வேண்டிய தொகை எவ்வளவு?"]),
        Fact(
            ["last_date", "pay_by"], .date,
            ["The last date is {v}.", "Payment is due by {v}."], ["अंतिम तिथि {v} है।"], ["கடைசி நாள் {v}."],
            ask: ["What is the last date?", "अंतिम तिथि क्या है?", "கடைசி நாள் எது?"]),
    ])

    static let house = Domain(facts: [
        Fact(
            ["owner", "landlord", "let_by"], .person,
            ["{v} has a house to let.", "The house belongs to {v}."],
            ["{v} का मकान किराये पर मिल सकता है।", "मकान मालिक {v} हैं।"],
            ["வீட்டின் உரிமையாளர் {v}.", "{v} என்பவரிடம் வாடகைக்கு வீடு உள்ளது."],
            ask: ["Who owns the house?", "मकान मालिक कौन हैं?", "வீட்டின் உரிமையாளர் யார்?"]),
        Fact(
            ["rent", "monthly_rent"], .number(1500...28000, step: 100),
            ["The rent is {v} rupees a month.", "Each month {v} rupees are due."], ["किराया {v} रुपये महीना है।"],
            ["மாத வாடகை {v} ரூபாய்."],
            ask: ["What is the rent?", "किराया कितना है?", "மாத வாடகை எவ்வளவு?"]),
        Fact(
            ["rooms", "room_count"], .number(1...6),
            ["It has {v} rooms.", "There are {v} rooms."], ["इसमें {v} कमरे हैं।"], ["இதில் {v} அறைகள் உள்ளன."],
            ask: ["How many rooms are there?", "कितने कमरे हैं?", "எத்தனை அறைகள் உள்ளன?"]),
        Fact(
            ["area", "place", "town"], .place,
            ["It stands in {v}.", "The house is in {v}."], ["मकान {v} में है।"], ["வீடு {v} என்ற பகுதியில் உள்ளது."],
            ask: ["Where is the house?", "मकान कहाँ है?", "வீடு எங்கே உள்ளது?"]),
        Fact(
            ["pets", "pets_allowed"], .flag,
            ["Pets are welcome."], ["पालतू पशु रख सकते हैं।"], ["செல்லப்பிராணிகளுக்கு அனுமதி உண்டு."],
            ask: ["Are pets allowed?", "क्या पालतू पशु रख सकते हैं?", "செல்லப்பிராணிகளுக்கு அனுமதி உண்டா?"],
            no: [["Pets are not allowed."], ["पालतू पशु नहीं रख सकते।"], ["செல்லப்பிராணிகளுக்கு அனுமதி இல்லை."]]),
        Fact(
            ["mobile", "phone", "call"], .phone,
            ["Those who want it should ring {v}.", "Call {v}."], ["इच्छुक लोग {v} पर बात करें।"],
            ["விரும்புவோர் {v} என்ற எண்ணில் பேசவும்."],
            ask: ["Which number should be called?", "किस नंबर पर बात करनी है?", "எந்த எண்ணில் பேச வேண்டும்?"]),
    ])

    static let match = Domain(facts: [
        Fact(
            ["player", "batter", "best_player"], .person,
            ["{v} was the player of the match.", "The best player was {v}."],
            ["{v} मैच के सबसे अच्छे खिलाड़ी रहे।", "सबसे अच्छा खेल {v} का रहा।"],
            ["ஆட்டத்தின் சிறந்த வீரர் {v}."],
            ask: ["Who was the best player?", "सबसे अच्छा खेल किसका रहा?", "சிறந்த வீரர் யார்?"]),
        Fact(
            ["runs", "score"], .number(11...148),
            ["The score was {v} runs.", "{v} runs were made."], ["कुल {v} रन बने।"], ["எடுத்த ஓட்டங்கள் {v}."],
            ask: ["How many runs were made?", "कितने रन बने?", "எத்தனை ஓட்டங்கள் எடுக்கப்பட்டன?"]),
        Fact(
            ["balls", "balls_faced"], .number(9...120),
            ["It took {v} balls."], ["इसमें {v} गेंदें लगीं।"], ["ஆடிய பந்துகள் {v}."],
            ask: ["How many balls did it take?", "कितनी गेंदें लगीं?", "ஆடிய பந்துகள் எத்தனை?"]),
        Fact(
            ["ground", "played_at", "venue"], .place,
            ["The match was played at {v}."], ["मैच {v} में खेला गया।"], ["ஆட்டம் {v} என்ற ஊரில் நடந்தது."],
            ask: ["Where was the match played?", "मैच कहाँ खेला गया?", "ஆட்டம் எங்கே நடந்தது?"]),
        Fact(
            ["won", "victory"], .flag,
            ["The home team won.", "It was a win."], ["घरेलू टीम जीत गई।"], ["உள்ளூர் அணி வென்றது."],
            ask: ["Did the home team win?", "क्या घरेलू टीम जीती?", "உள்ளூர் அணி வென்றதா?"],
            no: [["The home team lost.", "It was a defeat."], ["घरेलू टीम हार गई।"], ["உள்ளூர் அணி தோற்றது."]]),
    ])

    static let worker = Domain(facts: [
        Fact(
            ["applicant", "worker", "name"], .person,
            ["{v} is looking for work.", "The applicant's name is {v}."],
            ["{v} को काम चाहिए।", "आवेदक का नाम {v} है।"], ["{v} என்பவர் வேலை தேடுகிறார்.", "விண்ணப்பதாரர் {v}."],
            ask: ["Who is looking for work?", "काम किसे चाहिए?", "வேலை தேடுபவர் யார்?"]),
        Fact(
            ["trade", "job", "work"], .word(Lexicon.trades),
            ["The trade: {v}.", "Work done so far: {v}."], ["पेशा: {v}।"], ["தொழில்: {v}."],
            ask: ["What is the trade?", "पेशा क्या है?", "தொழில் என்ன?"]),
        Fact(
            ["experience", "years_of_work"], .number(1...30),
            ["The experience is {v} years.", "{v} years of experience."], ["अनुभव {v} साल का है।"], ["அனுபவம் {v} ஆண்டுகள்."],
            ask: ["How many years of experience are there?", "अनुभव कितने साल का है?", "எத்தனை ஆண்டுகள் அனுபவம்?"]),
        Fact(
            ["wage", "daily_wage"], .number(250...1800, step: 10),
            ["The daily wage asked is {v} rupees."], ["दिन की मज़दूरी {v} रुपये माँगी है।"], ["கேட்கும் நாள் கூலி {v} ரூபாய்."],
            ask: ["What daily wage is asked?", "दिन की मज़दूरी कितनी माँगी है?", "நாள் கூலி எவ்வளவு?"]),
        Fact(
            ["lives_in", "town"], .place,
            ["The applicant lives in {v}."], ["आवेदक {v} में रहते हैं।"], ["விண்ணப்பதாரர் {v} என்ற ஊரில் வசிக்கிறார்."],
            ask: ["Where does the applicant live?", "आवेदक कहाँ रहते हैं?", "விண்ணப்பதாரர் எங்கே வசிக்கிறார்?"]),
        Fact(
            ["telephone", "phone"], .phone,
            ["The telephone number is {v}.", "Tel. {v}."], ["टेलीफ़ोन नंबर {v} है।"], ["தொலைபேசி எண் {v}."],
            ask: ["What is the telephone number?", "टेलीफ़ोन नंबर क्या है?", "தொலைபேசி எண் என்ன?"]),
    ])

    static let hall = Domain(facts: [
        Fact(
            ["host", "booked_by", "name"], .person,
            ["{v} booked the hall.", "The hall is reserved for {v}."],
            ["{v} ने सभागार लिया है।", "सभागार {v} के नाम पर है।"], ["{v} என்பவர் மண்டபத்தைப் பதிவு செய்துள்ளார்."],
            ask: ["Who booked the hall?", "सभागार किसने लिया है?", "மண்டபத்தைப் பதிவு செய்தவர் யார்?"]),
        Fact(
            ["guests", "guest_count"], .number(20...900, step: 10),
            ["{v} guests are expected.", "About {v} guests will come."], ["{v} मेहमान आएँगे।"], ["{v} விருந்தினர்கள் வருவார்கள்."],
            ask: ["How many guests are expected?", "कितने मेहमान आएँगे?", "எத்தனை விருந்தினர்கள் வருவார்கள்?"]),
        Fact(
            ["date", "day", "on"], .date,
            ["The date is {v}.", "It is booked for {v}."], ["तारीख {v} है।", "कार्यक्रम {v} को है।"],
            ["தேதி {v}.", "நிகழ்ச்சி {v} அன்று நடக்கும்."],
            ask: ["What is the date?", "तारीख क्या है?", "தேதி என்ன?"]),
        Fact(
            ["advance", "deposit"], .number(500...20000, step: 500),
            ["An advance of {v} rupees was paid."], ["{v} रुपये पेशगी मिले हैं।"], ["முன்பணம் {v} ரூபாய்."],
            ask: ["How much was the advance?", "पेशगी कितनी मिली है?", "முன்பணம் எவ்வளவு?"]),
        Fact(
            ["music", "band"], .flag,
            ["There will be music."], ["संगीत भी होगा।"], ["இசை நிகழ்ச்சி உண்டு."],
            ask: ["Will there be music?", "क्या संगीत होगा?", "இசை நிகழ்ச்சி உண்டா?"],
            no: [["There will be no music."], ["संगीत नहीं होगा।"], ["இசை நிகழ்ச்சி இல்லை."]]),
    ])

    static let weather = Domain(facts: [
        Fact(
            ["place", "station", "town"], .place,
            ["This is the weather report for {v}.", "Weather at {v} today."],
            ["यह {v} के मौसम का हाल है।", "आज {v} का मौसम।"], ["இது {v} என்ற ஊரின் வானிலை அறிக்கை."],
            ask: ["Which place is the report for?", "यह कहाँ के मौसम का हाल है?", "இது எந்த ஊரின் வானிலை?"]),
        Fact(
            ["high", "temperature", "max_temp"], .decimal(18...44),
            ["The highest temperature was {v} degrees.", "It reached {v} degrees."], ["अधिकतम तापमान {v} डिग्री रहा।"],
            ["அதிகபட்ச வெப்பநிலை {v} டிகிரி."],
            ask: ["What was the highest temperature?", "अधिकतम तापमान कितना रहा?", "அதிகபட்ச வெப்பநிலை என்ன?"]),
        Fact(
            ["rain_mm", "rain"], .number(0...120),
            ["{v} mm of rain fell.", "Rain: {v} mm."], ["{v} मिलीमीटर बारिश हुई।"], ["{v} மில்லிமீட்டர் மழை பெய்தது."],
            ask: ["How much rain fell?", "कितनी बारिश हुई?", "எவ்வளவு மழை பெய்தது?"]),
        Fact(
            ["wind_kmh", "wind"], .number(2...70),
            ["The wind blew at {v} km an hour."], ["हवा की गति {v} किलोमीटर प्रति घंटा रही।"], ["காற்றின் வேகம் மணிக்கு {v} கிலோமீட்டர்."],
            ask: ["How fast was the wind?", "हवा की गति कितनी रही?", "காற்றின் வேகம் என்ன?"]),
        Fact(
            ["sunrise", "sun_up"], .time,
            ["The sun rose at {v}."], ["सूरज {v} बजे निकला।"], ["சூரியன் {v} மணிக்கு உதித்தது."],
            ask: ["When did the sun rise?", "सूरज कितने बजे निकला?", "சூரியன் எத்தனை மணிக்கு உதித்தது?"]),
        Fact(
            ["fog", "foggy"], .flag,
            ["There was fog in the morning."], ["सुबह कोहरा था।"], ["காலையில் மூடுபனி இருந்தது."],
            ask: ["Was there fog?", "क्या कोहरा था?", "மூடுபனி இருந்ததா?"],
            no: [["There was no fog."], ["कोहरा नहीं था।"], ["மூடுபனி இல்லை."]]),
    ])
}
