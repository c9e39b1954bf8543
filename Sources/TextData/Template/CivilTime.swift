import Foundation

/// A date and time of day without a zone: what `strftime_now` formats.
public struct CivilTime: Sendable, Equatable {
    public var year: Int
    public var month: Int
    public var day: Int
    public var hour: Int
    public var minute: Int
    public var second: Int

    public init(year: Int, month: Int, day: Int, hour: Int = 0, minute: Int = 0, second: Int = 0) {
        (self.year, self.month, self.day) = (year, month, day)
        (self.hour, self.minute, self.second) = (hour, minute, second)
    }

    /// `2026-01-15`, `2026-01-15T09:30` or `2026-01-15T09:30:00`, with a space for the T; nil for anything else.
    public init?(iso text: String) {
        let parts = text.split(whereSeparator: { $0 == "T" || $0 == " " })
        guard (1...2).contains(parts.count) else { return nil }
        let date = parts[0].split(separator: "-").map { Int($0) ?? -1 }
        let time = parts.count == 2 ? parts[1].split(separator: ":").map { Int($0) ?? -1 } : []
        guard date.count == 3, time.count != 1, time.count <= 3 else { return nil }
        self.init(
            year: date[0], month: date[1], day: date[2], hour: time.first ?? 0, minute: time.count > 1 ? time[1] : 0,
            second: time.count > 2 ? time[2] : 0)
        guard (1...9999).contains(year), (1...12).contains(month), day >= 1, day <= Self.days(in: month, of: year),
            (0...23).contains(hour), (0...59).contains(minute), (0...60).contains(second)
        else { return nil }
    }

    /// The local time of the system's clock.
    public static func now() -> CivilTime {
        var seconds = time(nil)
        var fields = tm()
        localtime_r(&seconds, &fields)
        return CivilTime(
            year: Int(fields.tm_year) + 1900, month: Int(fields.tm_mon) + 1, day: Int(fields.tm_mday),
            hour: Int(fields.tm_hour), minute: Int(fields.tm_min), second: Int(fields.tm_sec))
    }

    private static func isLeap(_ year: Int) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }
    private static func days(in month: Int, of year: Int) -> Int {
        [31, isLeap(year) ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
    }
    private var dayOfYear: Int { (1..<month).reduce(day) { $0 + Self.days(in: $1, of: year) } }
    /// 0 is Sunday (Sakamoto's method).
    private var weekday: Int {
        let y = month < 3 ? year - 1 : year
        return (y + y / 4 - y / 100 + y / 400 + [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4][month - 1] + day) % 7
    }
    /// ISO 8601 week and its year.
    private var isoWeek: (year: Int, week: Int) {
        let week = (dayOfYear - (weekday == 0 ? 7 : weekday) + 10) / 7
        func weeks(_ year: Int) -> Int {
            let first = CivilTime(year: year, month: 1, day: 1).weekday
            return first == 4 || first == 3 && Self.isLeap(year) ? 53 : 52
        }
        if week < 1 { return (year - 1, weeks(year - 1)) }
        return week > weeks(year) ? (year + 1, 1) : (year, week)
    }

    /// C's `strftime` in the C locale, with glibc's flags `-`, `_`, `0` and `^`.
    func formatted(_ format: String) -> String {
        var cursor = ScalarCursor(Array(format.unicodeScalars))
        var result = ""
        while let scalar = cursor.next() {
            guard scalar == "%" else {
                result.unicodeScalars.append(scalar)
                continue
            }
            var flag: Unicode.Scalar?
            if let next = cursor.peek, "-_0^".unicodeScalars.contains(next) { flag = cursor.next() }
            guard let conversion = cursor.next() else { return result + "%" }
            if let number = number(conversion) {
                let digits = String(number.value)
                let fill: Character? = flag == "-" ? nil : flag == "_" ? " " : flag == "0" ? "0" : number.fill
                let missing = max(0, number.width - digits.count)
                result += String(repeating: fill.map(String.init) ?? "", count: missing) + digits
            } else if let text = text(conversion) {
                result += flag == "^" ? text.uppercased() : text
            } else {
                result += "%"
                result.unicodeScalars.append(conversion)
            }
        }
        return result
    }

    private func number(_ conversion: Unicode.Scalar) -> (value: Int, width: Int, fill: Character)? {
        let hour12 = hour % 12 == 0 ? 12 : hour % 12
        return switch conversion {
        case "Y": (year, 1, "0")
        case "C": (year / 100, 2, "0")
        case "y": (year % 100, 2, "0")
        case "m": (month, 2, "0")
        case "d": (day, 2, "0")
        case "e": (day, 2, " ")
        case "H": (hour, 2, "0")
        case "k": (hour, 2, " ")
        case "I": (hour12, 2, "0")
        case "l": (hour12, 2, " ")
        case "M": (minute, 2, "0")
        case "S": (second, 2, "0")
        case "f": (0, 6, "0")
        case "j": (dayOfYear, 3, "0")
        case "u": (weekday == 0 ? 7 : weekday, 1, "0")
        case "w": (weekday, 1, "0")
        case "U": ((dayOfYear + 6 - weekday) / 7, 2, "0")
        case "W": ((dayOfYear + 6 - (weekday + 6) % 7) / 7, 2, "0")
        case "V": (isoWeek.week, 2, "0")
        case "G": (isoWeek.year, 1, "0")
        case "g": (isoWeek.year % 100, 2, "0")
        default: nil
        }
    }

    private func text(_ conversion: Unicode.Scalar) -> String? {
        let months = [
            "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
            "November", "December",
        ]
        let days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
        return switch conversion {
        case "B": months[month - 1]
        case "b", "h": String(months[month - 1].prefix(3))
        case "A": days[weekday]
        case "a": String(days[weekday].prefix(3))
        case "p": hour < 12 ? "AM" : "PM"
        case "P": hour < 12 ? "am" : "pm"
        case "F": formatted("%Y-%m-%d")
        case "D", "x": formatted("%m/%d/%y")
        case "T", "X": formatted("%H:%M:%S")
        case "R": formatted("%H:%M")
        case "r": formatted("%I:%M:%S %p")
        case "c": formatted("%a %b %e %H:%M:%S %Y")
        case "z", "Z": ""
        case "n": "\n"
        case "t": "\t"
        case "%": "%"
        default: nil
        }
    }
}
