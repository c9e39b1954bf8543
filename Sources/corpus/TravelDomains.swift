/// Journeys, rooms, parcels and vehicles.
enum TravelDomains {
    static let all = [train, hotel, parcel, workshop, lostAndFound, taxi]

    static let train = Domain(facts: [
        Fact(
            ["passenger", "traveller", "name"], .person,
            ["{v} has booked a train ticket.", "A train ticket was issued to {v}.", "The passenger is {v}."],
            ["{v} ने रेल का टिकट लिया है।", "रेल का टिकट {v} के नाम पर बना है।", "यात्री का नाम {v} है।"],
            ["{v} என்பவர் ரயில் பயணச்சீட்டு எடுத்துள்ளார்.", "பயணியின் பெயர் {v}."],
            ask: ["Who has booked the ticket?", "टिकट किसने लिया है?", "பயணச்சீட்டு எடுத்தவர் யார்?"]),
        Fact(
            ["from", "origin", "start"], .place,
            ["The journey starts at {v}.", "The train leaves from {v}."],
            ["यात्रा {v} से शुरू होगी।", "गाड़ी {v} से चलेगी।"],
            ["புறப்படும் ஊர் {v}.", "ரயில் {v} என்ற ஊரிலிருந்து புறப்படும்."],
            ask: ["Where does the journey start?", "यात्रा कहाँ से शुरू होगी?", "ரயில் எங்கிருந்து புறப்படும்?"]),
        Fact(
            ["to", "destination"], .place,
            ["The destination is {v}.", "The journey ends at {v}."],
            ["यात्रा {v} में समाप्त होगी।", "गंतव्य {v} है।"],
            ["சேரும் ஊர் {v}.", "பயணம் {v} என்ற ஊரில் முடியும்."],
            ask: ["Where does the journey end?", "यात्रा कहाँ समाप्त होगी?", "பயணம் எங்கே முடியும்?"]),
        Fact(
            ["seat", "seat_number"], .number(1...72),
            ["The seat number is {v}.", "Seat {v} is reserved."],
            ["सीट संख्या {v} है।", "{v} नंबर की सीट आरक्षित है।"],
            ["இருக்கை எண் {v}.", "{v} ஆம் இருக்கை ஒதுக்கப்பட்டுள்ளது."],
            ask: ["Which seat is reserved?", "कौन-सी सीट आरक्षित है?", "இருக்கை எண் என்ன?"]),
        Fact(
            ["fare", "price"], .number(60...1900, step: 5),
            ["The fare is {v} rupees.", "The ticket costs {v} rupees."],
            ["किराया {v} रुपये है।", "टिकट {v} रुपये का है।"],
            ["கட்டணம் {v} ரூபாய்.", "பயணச்சீட்டின் விலை {v} ரூபாய்."],
            ask: ["What is the fare?", "किराया कितना है?", "கட்டணம் எவ்வளவு?"]),
        Fact(
            ["departure", "time"], .time,
            ["Departure is at {v}.", "The train leaves at {v}."],
            ["गाड़ी {v} बजे चलेगी।", "प्रस्थान का समय {v} है।"],
            ["புறப்படும் நேரம் {v}.", "ரயில் {v} மணிக்குப் புறப்படும்."],
            ask: ["When does the train leave?", "गाड़ी कितने बजे चलेगी?", "ரயில் எத்தனை மணிக்குப் புறப்படும்?"]),
        Fact(
            ["window_seat", "window"], .flag,
            ["It is a window seat.", "The seat is at the window."],
            ["सीट खिड़की के पास है।"], ["இருக்கை ஜன்னல் ஓரத்தில் உள்ளது."],
            ask: ["Is it a window seat?", "क्या सीट खिड़की के पास है?", "இருக்கை ஜன்னல் ஓரத்தில் உள்ளதா?"],
            no: [
                ["It is not a window seat.", "The seat is not at the window."], ["सीट खिड़की के पास नहीं है।"],
                ["இருக்கை ஜன்னல் ஓரத்தில் இல்லை."],
            ]),
    ])

    static let hotel = Domain(facts: [
        Fact(
            ["guest", "name", "booked_by"], .person,
            ["{v} has taken a room at the inn.", "The guest's name is {v}.", "A room is kept for {v}."],
            ["{v} ने सराय में कमरा लिया है।", "मेहमान का नाम {v} है।"],
            ["{v} என்பவர் விடுதியில் அறை எடுத்துள்ளார்.", "விருந்தினரின் பெயர் {v}."],
            ask: ["Who has taken the room?", "कमरा किसने लिया है?", "அறை எடுத்தவர் யார்?"]),
        Fact(
            ["room", "room_number"], .number(101...699),
            ["The room number is {v}.", "The key of room {v} was handed over."],
            ["कमरा नंबर {v} है।", "कमरा {v} की चाबी दे दी गई है।"],
            ["அறை எண் {v}.", "அறை {v} இன் சாவி கொடுக்கப்பட்டது."],
            ask: ["What is the room number?", "कमरा नंबर क्या है?", "அறை எண் என்ன?"]),
        Fact(
            ["nights", "stay"], .number(1...14),
            ["The stay is for {v} nights.", "The guest stays {v} nights."],
            ["ठहरना {v} रात का है।", "मेहमान {v} रात ठहरेंगे।"],
            ["தங்கும் காலம் {v} இரவுகள்.", "விருந்தினர் {v} இரவுகள் தங்குவார்."],
            ask: ["How many nights is the stay?", "कितनी रात ठहरना है?", "எத்தனை இரவுகள் தங்குவார்?"]),
        Fact(
            ["town", "home_town", "city"], .place,
            ["The guest comes from {v}.", "The home town is {v}."],
            ["मेहमान {v} से आए हैं।", "घर {v} में है।"],
            ["விருந்தினர் {v} என்ற ஊரிலிருந்து வந்துள்ளார்.", "சொந்த ஊர் {v}."],
            ask: ["Where does the guest come from?", "मेहमान कहाँ से आए हैं?", "விருந்தினரின் சொந்த ஊர் எது?"]),
        Fact(
            ["breakfast", "breakfast_included"], .flag,
            ["Breakfast is included.", "The price includes breakfast."], ["नाश्ता शामिल है।"],
            ["காலை உணவு உண்டு."],
            ask: ["Is breakfast included?", "क्या नाश्ता शामिल है?", "காலை உணவு உண்டா?"],
            no: [["Breakfast is not included.", "The price is without breakfast."], ["नाश्ता शामिल नहीं है।"], ["காலை உணவு இல்லை."]]),
        Fact(
            ["mobile", "contact", "phone"], .phone,
            ["The mobile number is {v}.", "You can call {v}."],
            ["मोबाइल नंबर {v} है।", "संपर्क नंबर {v} है।"],
            ["கைபேசி எண் {v}.", "தொடர்பு எண் {v}."],
            ask: ["What is the mobile number?", "मोबाइल नंबर क्या है?", "கைபேசி எண் என்ன?"]),
    ])

    static let parcel = Domain(facts: [
        Fact(
            ["sender", "from", "sent_by"], .person,
            ["{v} sent a parcel.", "The sender of the parcel is {v}."],
            ["{v} ने एक पार्सल भेजा है।", "भेजने वाले का नाम {v} है।"],
            ["{v} என்பவர் ஒரு பொதி அனுப்பியுள்ளார்.", "அனுப்புநர் {v}."],
            ask: ["Who sent the parcel?", "पार्सल किसने भेजा है?", "பொதியை அனுப்பியவர் யார்?"]),
        Fact(
            ["receiver", "to", "addressee"], .person,
            ["It is addressed to {v}.", "The receiver is {v}."],
            ["पाने वाले का नाम {v} है।", "यह {v} को मिलेगा।"],
            ["பெறுநர் {v}.", "இது {v} என்பவருக்குச் சேர வேண்டும்."],
            ask: ["Who is the receiver?", "पाने वाला कौन है?", "பெறுநர் யார்?"]),
        Fact(
            ["weight", "weight_kg", "kg"], .decimal(0...24),
            ["It weighs {v} kg.", "The weight is {v} kg."],
            ["वज़न {v} किलो है।", "इसका वज़न {v} किलो है।"],
            ["எடை {v} கிலோ.", "இதன் எடை {v} கிலோ."],
            ask: ["What is the weight?", "वज़न कितना है?", "எடை எவ்வளவு?"]),
        Fact(
            ["tracking", "code", "parcel_id"], .code("@@####"),
            ["The tracking code is {v}.", "It can be followed with the code {v}."],
            ["पार्सल का कोड {v} है।"], ["பொதியின் குறியீடு {v}."],
            ask: ["What is the tracking code?", "पार्सल का कोड क्या है?", "பொதியின் குறியீடு என்ன?"]),
        Fact(
            ["town", "delivery_town", "place"], .place,
            ["It goes to {v}.", "The place of delivery is {v}."],
            ["इसे {v} पहुँचाना है।", "यह {v} जाएगा।"],
            ["சேர வேண்டிய ஊர் {v}."],
            ask: ["Where does the parcel go?", "पार्सल कहाँ जाएगा?", "பொதி எந்த ஊருக்குச் செல்கிறது?"]),
        Fact(
            ["fragile", "handle_with_care"], .flag,
            ["The contents are fragile.", "It must be handled with care."], ["सामान नाज़ुक है।"],
            ["உள்ளிருப்பது எளிதில் உடையக்கூடியது."],
            ask: ["Is it fragile?", "क्या सामान नाज़ुक है?", "உள்ளிருப்பது எளிதில் உடையக்கூடியதா?"],
            no: [["The contents are not fragile."], ["सामान नाज़ुक नहीं है।"], ["உள்ளிருப்பது எளிதில் உடையக்கூடியதல்ல."]]),
    ])

    static let workshop = Domain(facts: [
        Fact(
            ["owner", "customer", "name"], .person,
            ["{v} brought a vehicle to the workshop.", "The owner of the vehicle is {v}."],
            ["{v} ने अपनी गाड़ी मरम्मत के लिए दी है।", "गाड़ी के मालिक का नाम {v} है।"],
            ["{v} என்பவர் வாகனத்தைப் பழுதுபார்க்கக் கொடுத்துள்ளார்.", "வாகன உரிமையாளர் {v}."],
            ask: ["Who owns the vehicle?", "गाड़ी किसकी है?", "வாகன உரிமையாளர் யார்?"]),
        Fact(
            ["number_plate", "vehicle", "registration"], .code("@@ ## @ ####"),
            ["The number plate reads {v}.", "The vehicle number is {v}."],
            ["गाड़ी का नंबर {v} है।"], ["வாகன எண் {v}."],
            ask: ["What is the vehicle number?", "गाड़ी का नंबर क्या है?", "வாகன எண் என்ன?"]),
        Fact(
            ["fault", "trouble"], .word(Lexicon.faults),
            ["The trouble is: {v}.", "Fault found: {v}."],
            ["खराबी: {v}।", "गाड़ी में यह खराबी है: {v}।"],
            ["பழுது: {v}.", "வாகனத்தின் பழுது: {v}."],
            ask: ["What is the fault?", "खराबी क्या है?", "பழுது என்ன?"]),
        Fact(
            ["kilometres", "km", "odometer"], .number(1200...98000),
            ["It has run {v} kilometres.", "The meter shows {v} km."],
            ["गाड़ी {v} किलोमीटर चल चुकी है।"], ["வாகனம் {v} கிலோமீட்டர் ஓடியுள்ளது."],
            ask: ["How far has it run?", "गाड़ी कितने किलोमीटर चली है?", "வாகனம் எத்தனை கிலோமீட்டர் ஓடியுள்ளது?"]),
        Fact(
            ["cost", "estimate", "bill"], .number(150...9500, step: 50),
            ["The repair will cost {v} rupees.", "The estimate is {v} rupees."],
            ["मरम्मत में {v} रुपये लगेंगे।"], ["பழுதுபார்க்க {v} ரூபாய் ஆகும்."],
            ask: ["What will the repair cost?", "मरम्मत में कितने रुपये लगेंगे?", "பழுதுபார்க்க எவ்வளவு ஆகும்?"]),
        Fact(
            ["ready_on", "date"], .date,
            ["It will be ready on {v}.", "Collection is on {v}."],
            ["गाड़ी {v} को तैयार होगी।"], ["வாகனம் {v} அன்று தயாராகும்."],
            ask: ["When will it be ready?", "गाड़ी कब तैयार होगी?", "வாகனம் எப்போது தயாராகும்?"]),
    ])

    static let lostAndFound = Domain(facts: [
        Fact(
            ["item", "object", "thing"], .word(Lexicon.things),
            ["Lost property: {v}.", "Someone has found this: {v}."],
            ["खोया हुआ सामान: {v}।", "यह चीज़ मिली है: {v}।"],
            ["தொலைந்த பொருள்: {v}.", "கிடைத்த பொருள்: {v}."],
            ask: ["What was lost?", "कौन-सी चीज़ है?", "பொருள் எது?"]),
        Fact(
            ["colour", "shade"], .word(Lexicon.colours),
            ["Its colour is {v}.", "The colour: {v}."], ["रंग: {v}।", "इसका रंग {v} है।"], ["நிறம்: {v}."],
            ask: ["What colour is it?", "इसका रंग क्या है?", "இதன் நிறம் என்ன?"]),
        Fact(
            ["place", "found_at", "station"], .place,
            ["It was left at {v}.", "The place is {v}."], ["यह {v} में छूट गया था।", "स्थान {v} है।"],
            ["இது {v} என்ற ஊரில் கிடைத்தது.", "இடம் {v}."],
            ask: ["Where was it left?", "यह कहाँ छूटा था?", "இது எங்கே கிடைத்தது?"]),
        Fact(
            ["finder", "handed_in_by"], .person,
            ["{v} handed it in.", "The finder is {v}."], ["इसे {v} ने जमा किया।", "पाने वाले {v} हैं।"],
            ["இதை ஒப்படைத்தவர் {v}."],
            ask: ["Who handed it in?", "इसे किसने जमा किया?", "இதை ஒப்படைத்தவர் யார்?"]),
        Fact(
            ["receipt", "slip"], .code("@-###"),
            ["The receipt number is {v}.", "Slip {v} was given."], ["रसीद संख्या {v} है।"], ["ரசீது எண் {v}."],
            ask: ["What is the receipt number?", "रसीद संख्या क्या है?", "ரசீது எண் என்ன?"]),
        Fact(
            ["claimed", "returned"], .flag,
            ["The owner has taken it back.", "It was claimed."], ["मालिक इसे ले गए हैं।"],
            ["உரிமையாளர் இதைப் பெற்றுக்கொண்டார்."],
            ask: ["Has the owner taken it back?", "क्या मालिक इसे ले गए हैं?", "உரிமையாளர் இதைப் பெற்றுக்கொண்டாரா?"],
            no: [
                ["Nobody has claimed it.", "The owner has not come."], ["मालिक अभी तक नहीं आए हैं।"], ["உரிமையாளர் இன்னும் வரவில்லை."],
            ]),
    ])

    static let taxi = Domain(facts: [
        Fact(
            ["rider", "customer", "caller"], .person,
            ["{v} needs a taxi.", "{v} called for a taxi.", "Taxi for {v}."],
            ["{v} को टैक्सी चाहिए।", "{v} ने टैक्सी बुलाई है।"],
            ["{v} என்பவருக்கு வாடகைக் கார் வேண்டும்.", "வாடகைக் கார் கேட்டவர் {v}."],
            ask: ["Who needs the taxi?", "टैक्सी किसे चाहिए?", "வாடகைக் கார் கேட்டவர் யார்?"]),
        Fact(
            ["pickup", "pickup_at", "from"], .place,
            ["Pick-up is at {v}.", "The driver must come to {v}."], ["गाड़ी {v} आनी चाहिए।", "चढ़ने की जगह {v} है।"],
            ["ஏறும் இடம் {v}."],
            ask: ["Where is the pick-up?", "गाड़ी कहाँ आनी चाहिए?", "ஏறும் இடம் எது?"]),
        Fact(
            ["drop", "drop_at", "to"], .place,
            ["The ride goes to {v}.", "Drop at {v}."], ["{v} तक जाना है।", "उतरने की जगह {v} है।"], ["இறங்கும் இடம் {v}."],
            ask: ["Where does the ride go?", "कहाँ तक जाना है?", "இறங்கும் இடம் எது?"]),
        Fact(
            ["at", "time", "pickup_time"], .time,
            ["The time is {v}.", "Please come at {v}."], ["समय {v} बजे का है।", "{v} बजे आइए।"],
            ["நேரம் {v} மணி.", "{v} மணிக்கு வரவும்."],
            ask: ["At what time?", "कितने बजे?", "எத்தனை மணிக்கு?"]),
        Fact(
            ["persons", "seats", "people"], .number(1...6),
            ["There are {v} people.", "Seats needed: {v}."], ["कुल {v} लोग हैं।"], ["மொத்தம் {v} பேர்."],
            ask: ["How many people are there?", "कितने लोग हैं?", "எத்தனை பேர்?"]),
        Fact(
            ["phone", "call", "mobile"], .phone,
            ["Call {v} on arrival.", "Phone: {v}.", "The number to ring is {v}."],
            ["पहुँचकर {v} पर फ़ोन करें।", "फ़ोन: {v}।"], ["தொலைபேசி: {v}.", "வந்ததும் {v} என்ற எண்ணை அழைக்கவும்."],
            ask: ["Which number should be called?", "किस नंबर पर फ़ोन करना है?", "எந்த எண்ணை அழைக்க வேண்டும்?"]),
    ])
}
