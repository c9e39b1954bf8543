internal import FileFormats

/// Rows in JSON: an object a line, objects one after the other, an array, an array in an object.
extension RowFile {
    /// How far the first object is followed before it is settled what the file is.
    private static let lookahead = 1 << 20
    /// As far is looked behind it for what follows.
    private static let gap = 1 << 16

    /// Tells rows of a line each from rows over several lines, and from an object that holds the rows.
    mutating func openObject() throws {
        var outline = JSONOutline()
        let end = try follow(&outline)
        let next = try end.map { try byte(after: $0) }
        let follower = next?.byte
        let isRow = isRow(outline)
        if !outline.isBroken, !isRow, follower == nil, try openWrapper(outline) { return }
        let isOneLine = outline.lineFeeds == 0 && !(follower == UInt8(ascii: "{") && next?.lineFeeds == 0)
        layout = outline.isBroken || isOneLine ? .lines : .objects
        if layout == .objects { number = 0 }
    }

    /// Where the first object ends, counted from its start; nil when it is longer than the lookahead or does not end.
    private mutating func follow(_ outline: inout JSONOutline) throws -> Int? {
        var count = 0
        while true {
            let start = bytes.start
            bytes.buffer.withUnsafeBufferPointer { buffer in
                while start + count < buffer.count, count < Self.lookahead, !outline.isEnded, !outline.isBroken {
                    outline.take(buffer[start + count])
                    count += 1
                }
            }
            if outline.isEnded { return count }
            if outline.isBroken || count >= Self.lookahead { return nil }
            guard try bytes.fill() else { return nil }
        }
    }

    /// What follows the first object, and how many line feeds stand between.
    private mutating func byte(after end: Int) throws -> (byte: UInt8?, lineFeeds: Int) {
        var count = end
        var lineFeeds = 0
        while count < end + Self.gap {
            while bytes.start + count >= bytes.buffer.count {
                guard try bytes.fill() else { return (nil, lineFeeds) }
            }
            let byte = bytes.buffer[bytes.start + count]
            guard blank.contains(byte) else { return (byte, lineFeeds) }
            if byte == 0x0A { lineFeeds += 1 }
            count += 1
        }
        return (nil, lineFeeds)
    }

    /// Whether the keys of the first object are those of a row; of an object that goes on, whether they may be.
    private func isRow(_ outline: JSONOutline) -> Bool {
        if outline.members.contains(where: { member in columns.contains { $0.mayBegin(with: member.name) } }) {
            return true
        }
        guard outline.isEnded else {
            return outline.members.contains { member in Row.knownKeys.contains { $0.hasSameBytes(as: member.name) } }
        }
        return RowShape(of: JSONObject(outline.members.map { ($0.name, .bool(true)) })) != nil
    }

    /// Opens the one array of objects that an object holds.
    ///
    /// - Returns: whether there is one.
    /// - Throws: `TextError.notRows` when there are several.
    private mutating func openWrapper(_ outline: JSONOutline) throws -> Bool {
        let found = outline.rowMembers
        guard found.count <= 1 else { throw TextError.notRows(path: name, reason: Self.severalReason(found)) }
        let empty = outline.members.filter { $0.kind == .emptyArray }
        guard let member = found.first ?? (outline.isEnded && empty.count == 1 ? empty[0] : nil) else { return false }
        layout = .array
        wrapper = member.name
        bytes.start += member.offset + 1
        number = 0
        return true
    }

    private static func severalReason(_ members: [JSONOutline.Member]) -> String {
        let names = members.prefix(8).map { quoted($0.name) }
        let list = names.dropLast().joined(separator: ", ") + " and " + (names.last ?? "")
        return "rows lie under several keys: \(list); save each list as a file of its own, and name the one to read"
    }

    // MARK: Objects

    /// The next of objects that stand one after the other, over as many lines as they like.
    mutating func nextObject() throws -> RawRow? {
        guard let first = try skipSpace() else { return nil }
        number += 1
        guard first == UInt8(ascii: "{") else {
            return broken(
                first == UInt8(ascii: ",")
                    ? "a comma stands between the rows; put all rows into [ and ], or take the commas out"
                    : "expected an object at byte \(bytes.base + bytes.start) of the file; a row is an object, and "
                        + "nothing stands between two")
        }
        var scan = JSONValueScan()
        guard let size = try measure({ scan.bracketEnd($0, from: $1) }) else {
            return broken("the file ends inside of an object")
        }
        return size > bytes.rowLimit ? tooLong() : take(size)
    }

    /// How long the value is that begins at the start of the buffer, no further than to find it longer than a row; nil when
    /// it does not end.
    private mutating func measure(_ end: (UnsafeBufferPointer<UInt8>, Int) -> Int?) throws -> Int? {
        var count = 0
        while true {
            let start = bytes.start
            if let found = bytes.buffer.withUnsafeBufferPointer({ end($0, start + count) }) {
                return found - start
            }
            count = bytes.buffer.count - start
            if count > bytes.rowLimit { return count }
            guard try bytes.fill() else { return nil }
        }
    }

    private mutating func take(_ size: Int) -> RawRow {
        let found = Array(bytes.buffer[bytes.start..<bytes.start + size])
        let offset = bytes.base + bytes.start
        bytes.start += size
        return row(.json(found, offset: offset), size: size)
    }

    // MARK: Arrays

    /// The next byte that is not white space; nil at the end of the file.
    private mutating func skipSpace() throws -> UInt8? {
        var lineEnds = 0
        return try bytes.skipBlank(blank, lineEnds: &lineEnds) ? bytes.buffer[bytes.start] : nil
    }

    /// The next element of the array; its own syntax is left to the parser.
    mutating func nextElement() throws -> RawRow? {
        number += 1
        guard let first = try skipSpace() else { return broken("the file ends inside its array") }
        if first == UInt8(ascii: "]") {
            bytes.start += 1
            return try endArray()
        }
        if number > 1 {
            guard first == UInt8(ascii: ",") else { return broken("expected ',' or ']' between the rows") }
            bytes.start += 1
            guard let next = try skipSpace() else { return broken("the file ends inside its array") }
            if next == UInt8(ascii: "]") { return broken("a comma stands before the end of the array") }
        }
        var scan = JSONValueScan()
        guard let size = try measure({ scan.elementEnd($0, from: $1) }) else {
            return broken("the file ends inside its array")
        }
        return size > bytes.rowLimit ? tooLong() : take(size)
    }

    private mutating func endArray() throws -> RawRow? {
        if let wrapper {
            var outline = JSONOutline(afterMember: ())
            while !outline.isEnded {
                if bytes.start == bytes.buffer.count {
                    guard try bytes.fill() else { return broken("the file ends inside of the object around its rows") }
                }
                let start = bytes.start
                bytes.start = bytes.buffer.withUnsafeBufferPointer { buffer in
                    var i = start
                    while i < buffer.count, !outline.isEnded {
                        outline.take(buffer[i])
                        i += 1
                    }
                    return i
                }
            }
            let others = outline.rowMembers
            guard others.isEmpty else {
                var first = JSONOutline.Member(key: Array(wrapper.utf8))
                first.kind = .rows
                return broken(Self.severalReason([first] + others))
            }
        }
        if try skipSpace() != nil {
            return broken("text after the end of the \(wrapper == nil ? "array" : "object around the rows")")
        }
        isOver = true
        return nil
    }
}
