internal import FileFormats

/// Follows JSON text to the end of a value, without looking at anything but brackets and strings.
struct JSONValueScan {
    private var depth = 0
    private var isString = false
    private var isEscaped = false

    /// Where the element of an array that begins before `index` ends: behind its last bracket, or at the comma or bracket
    /// after other values; nil when it goes on.
    mutating func elementEnd(_ bytes: UnsafeBufferPointer<UInt8>, from index: Int) -> Int? {
        for i in index..<bytes.count {
            switch advance(bytes[i]) {
            case .more: break
            case .closed: return i + 1
            case .stop: return i
            }
        }
        return nil
    }

    /// Where the object or array that begins before `index` ends: behind its last bracket; nil when it goes on.
    mutating func bracketEnd(_ bytes: UnsafeBufferPointer<UInt8>, from index: Int) -> Int? {
        for i in index..<bytes.count {
            let step = advance(bytes[i])
            if step == .closed { return i + 1 }
            // More brackets are closed than opened: the parser says so.
            if step == .stop, bytes[i] != UInt8(ascii: ",") { return i + 1 }
        }
        return nil
    }

    private enum Step { case more, closed, stop }

    @inline(__always)
    private mutating func advance(_ byte: UInt8) -> Step {
        if isString {
            if isEscaped {
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                isString = false
            }
            return .more
        }
        switch byte {
        case UInt8(ascii: "\""): isString = true
        case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
        case UInt8(ascii: ","): return depth == 0 ? .stop : .more
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
            if depth == 0 { return .stop }
            depth -= 1
            return depth == 0 ? .closed : .more
        default: break
        }
        return .more
    }
}

/// What the first object of a file holds at its top, followed byte by byte as far as it has been read: rows may lie in
/// an array under a key of it.
struct JSONOutline {
    struct Member {
        enum Kind { case emptyArray, rows, other }
        var key: [UInt8]
        var kind = Kind.other
        /// Where the array begins, counted from the object's first byte.
        var offset = 0
        var name: String { String(decoding: key, as: UTF8.self) }
    }
    private enum State { case key, colon, value, firstElement, inside }

    private(set) var members: [Member] = []
    private(set) var lineFeeds = 0
    private(set) var isEnded = false
    /// A second row begins where the first has not ended, or a line ends inside of a text: nothing follows from it.
    private(set) var isBroken = false
    private var state = State.key
    private var depth = 0
    private var isString = false
    private var isEscaped = false
    private var offset = 0
    /// The last byte outside of texts that is not white space.
    private var previous = UInt8(0)
    private static let longestKey = 256
    private static let mostMembers = 1_000

    /// An outline from the first byte of an object on.
    init() {}
    /// An outline from behind a member's value on.
    init(afterMember: Void) {
        depth = 1
        state = .inside
    }

    /// The members whose value is an array that begins with an object.
    var rowMembers: [Member] { members.filter { $0.kind == .rows } }

    mutating func take(_ byte: UInt8) {
        defer { offset += 1 }
        if isString {
            takeInString(byte)
            return
        }
        if byte == 0x0A { lineFeeds += 1 }
        if byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { return }
        if state == .firstElement {
            if !members.isEmpty {
                members[members.count - 1].kind =
                    byte == UInt8(ascii: "{") ? .rows : byte == UInt8(ascii: "]") ? .emptyArray : .other
            }
            state = .inside
        }
        switch byte {
        case UInt8(ascii: "\""):
            isString = true
            if depth == 1, state == .key, members.count < Self.mostMembers { members.append(Member(key: [])) }
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            let mayStand = depth == 0 || ",:[".utf8.contains(previous) && !(depth == 1 && state == .key)
            if !mayStand, lineFeeds == 1 { isBroken = true }
            depth += 1
            if depth == 2, state == .value {
                if byte == UInt8(ascii: "["), !members.isEmpty {
                    members[members.count - 1].offset = offset
                    state = .firstElement
                } else {
                    state = .inside
                }
            }
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
            depth -= 1
            if depth <= 0 { isEnded = true }
        case UInt8(ascii: ":") where depth == 1 && state == .colon: state = .value
        case UInt8(ascii: ",") where depth == 1: state = .key
        default: break
        }
        previous = byte
    }

    private mutating func takeInString(_ byte: UInt8) {
        if byte == 0x0A, lineFeeds == 0 { isBroken = true }
        let isKey = depth == 1 && state == .key
        if isEscaped {
            isEscaped = false
        } else if byte == UInt8(ascii: "\\") {
            isEscaped = true
        } else if byte == UInt8(ascii: "\"") {
            isString = false
            if isKey { state = .colon }
            return
        }
        if isKey, !members.isEmpty, members[members.count - 1].key.count < Self.longestKey {
            members[members.count - 1].key.append(byte)
        }
    }
}
