/// Common English words, lower case, for keys and word exercises: they give the tokenizer whole words.
enum PlainWords {
    static let all: [String] = text.split(whereSeparator: { $0 == " " || $0 == "\n" }).map(String.init)

    private static let text = """
        able about above accept account across action active address adult advice after again against age agree air
        allergy allow almost alone along already also always amount and animal answer any apple apply area arm
        around arrive article ask assistant attack available average away baby back bad balance ball bank base basic
        bed before begin behind belly below best better between big bill birth black blood blue board body book born
        both bottle box branch bread break breath bring brother brown build burn business busy buy call camp can
        card care carry case cash cause cell centre certain chair chance change charge check chest child choice city
        claim class clean clear clerk clinic clock close clothes cloud coat code cold colour column come comment
        common company complaint complaints complete condition contact content continue control cook cool copy
        corner correct cost cough count country course court cover crop cross crowd customer cut daily damage dark
        data date daughter day days dead deal debt decide deep degree delay demand depend desk detail diet different
        dinner direct dirty discharge disease distance doctor document dog door down draft draw dress drink drive
        drop drug dry due during duty each ear early earth east easy eat edge effect eight either eleven else email
        empty end energy enough enter entry equal error evening event every exact example exit extra eye face fact
        fail fair fall false family far farm farmer father fee feel female fever few field figure file fill final
        find fine finger finish fire firm first fish five fix floor flow flower follow food foot force foreign form
        forward four free fresh friend from front fruit full garden gate general gift girl give glass goal gold good
        grain grass great green ground group grow guard guess guest guide habit hair half hall hand happen happy
        hard harvest have head health hear heart heat heavy height help here high hill history hold holiday home
        hope hospital hot hour house how hungry hurry hurt husband ice idea ill important improve inch include
        income index infection injury inside interest invoice island issue item job join journey judge jump just
        keep key kind kitchen knee know label labour lake lamp land language large last late later law leaf learn
        least leave left leg length less letter level life lift light like limit line list little live load loan
        local lock long look lose loss lost lot loud low lower lunch machine mail main make male man manager many
        map mark market married match matter meal mean measure medicine meet member message method middle mild milk
        mind minute missing mix mobile model money month more morning most mother motions mountain mouth move much
        music name narrow nature near neck need needs needed never new news next night nine none noon normal north
        nose not note nothing notice number nurse object ocean offer office officer often oil old once one only open
        operation option orange order other out outside over owner pack page pain paint pair paper parent part party
        pass past path patient patients pay peace people per period person phone picture piece place plan plant play
        please point police poor port position post pot power practice prepare present press pressure price print
        private problem process produce product proof public pull pulse purpose push put quality quarter question
        quick quiet quite rain raise range rate rather reach read reading ready real reason receive record recover
        red refund region regular relative remain remark remember rent repair repeat reply report request rest
        result return rice rich ride right ring rise risk river road rock roll roof room root rope rough round row
        rule run safe salary sale salt same sample sand save say scale school science score sea search season seat
        second section see seed seem sell send sense serial series serious serve service seven severe sex shade
        shape share sharp sheet ship shirt shoe shop short should shoulder show shut sick side sign silver similar
        simple since single sister sit site six size skin sleep slow small smell smile smoke smooth soft soil some
        son song soon sort sound soup south space speak special speed spend spoon spot spring square stable staff
        stage stand star start state station stay steel stem step stick still stock stomach stone stop store story
        straight strange street strong student study subject sudden sugar summary summer sun supply sure surface
        sweet swelling system table tablet tail take talk tall tank tax tea teach team tell temp temperature ten
        test thank then thermometer thick thin thing think third thirty this three throat ticket tight time tired
        title today together tomorrow tooth top total touch towards town trade train transfer travel treat tree
        trial trip trouble true trust try turn twelve twice type under unit until upper urgent use used useful user
        usual valley value vehicle very village visit voice waiting walk wall want warm wash waste watch water way
        weak wear weather weed week weeks weigh weight well west wet wheel when where which while white who whole
        why wide wife wild will wind window wing winter wire wise wish with woman wood word work worker world worry
        wound write wrong yard year years yellow yes yesterday yet young zero zone
        """
}
