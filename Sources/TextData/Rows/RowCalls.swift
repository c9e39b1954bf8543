internal import FileFormats

// Definitions of tools and calls of them.
extension RowReader {
    func tools() throws -> JSONValue? {
        guard let found = present("tools") else { return try functions() }
        let tools = try list(found, "\"tools\"", of: "functions")
        return tools.isEmpty ? nil : .array(try tools.enumerated().map { try definition($1, "\"tools\"[\($0)]") })
    }

    /// Definitions under the older name, each in the envelope of today's.
    private func functions() throws -> JSONValue? {
        guard let found = present("functions") else { return nil }
        let functions = try list(found, "\"functions\"", of: "functions")
        return functions.isEmpty
            ? nil
            : .array(
                try functions.enumerated().map {
                    ["type": "function", "function": try definition($1, "\"functions\"[\($0)]")]
                })
    }

    /// A list that may come as JSON text, as tables have it; one object stands for a list of one.
    private func list(_ value: JSONValue, _ place: String, of what: String) throws -> [JSONValue] {
        var value = value
        if let text = value.stringValue {
            if text.trimmedASCII.isEmpty { return [] }
            guard let parsed = try? JSONParser.parse(text) else {
                throw RowError(
                    "\(place): expected an array of \(what), found a string that is not one\(Self.hint(text))")
            }
            // Encoded twice.
            value = parsed.stringValue.flatMap { try? JSONParser.parse($0) } ?? parsed
        }
        switch value {
        case .null: return []
        case .array(let values): return values
        case .object(let object): return object.count == 0 ? [] : [value]
        default: throw RowError("\(place): expected an array of \(what), found \(value.kindName)")
        }
    }

    /// An object; JSON text of one is parsed.
    private static func parsedObject(_ value: JSONValue, _ place: String) throws -> JSONObject {
        if let object = value.objectValue { return object }
        guard let text = value.stringValue else {
            throw RowError("\(place): expected an object, found \(value.kindName)")
        }
        guard let object = (try? JSONParser.parse(text))?.objectValue else {
            throw RowError("\(place): expected an object, found a string that is not one\(hint(text))")
        }
        return object
    }

    /// The definition of a tool.
    private func definition(_ value: JSONValue, _ place: String) throws -> JSONValue {
        var tool = try Self.parsedObject(value, place)
        if let function = tool["function"], !function.isNull {
            var inner = try Self.parsedObject(function, "\(place), \"function\"")
            try Self.parseParameters(of: &inner, place)
            tool["function"] = .object(inner)
        } else {
            try Self.parseParameters(of: &tool, place)
        }
        return .object(tool)
    }

    private static func parseParameters(of function: inout JSONObject, _ place: String) throws {
        guard let text = function["parameters"]?.stringValue else { return }
        function["parameters"] =
            text.trimmedASCII.isEmpty ? .null : .object(try parsedObject(.string(text), "\(place), \"parameters\""))
    }

    // MARK: Calls

    /// Brings the calls of a message into one form: a list of objects whose arguments are objects.
    func readCalls(of message: inout JSONObject, _ place: String) throws {
        if let older = message["function_call"], !older.holdsNothing {
            // The older form of a single call.
            message["function_call"] = nil
            guard message["tool_calls"].map(\.holdsNothing) ?? true else {
                throw RowError("\(place): both \"function_call\" and \"tool_calls\"; give one of them")
            }
            message["tool_calls"] = [["type": "function", "function": try function(older, "\(place), function_call")]]
            return
        }
        guard let found = message["tool_calls"] else { return }
        let calls = try list(found, "\(place), \"tool_calls\"", of: "calls")
        message["tool_calls"] =
            calls.isEmpty ? nil : .array(try calls.enumerated().map { try call($1, "\(place), call \($0 + 1)") })
    }

    private func call(_ value: JSONValue, _ place: String) throws -> JSONValue {
        var call = try Self.parsedObject(value, place)
        guard let inner = call["function"], !inner.isNull else { return try function(.object(call), place) }
        call["function"] = try function(inner, place)
        return .object(call)
    }

    /// A name and arguments.
    func function(_ value: JSONValue, _ place: String) throws -> JSONValue {
        var function = try Self.parsedObject(value, place)
        guard let name = function["name"]?.stringValue, !name.isEmpty else {
            throw RowError("\(place): \"name\" is \(function["name"].map(\.kindName) ?? "missing")")
        }
        let arguments = function["arguments"] ?? .null
        if arguments.isNull, let other = ["parameters", "args", "input"].first(where: { function[$0] != nil }) {
            throw RowError("\(place): no \"arguments\", but \"\(other)\"; name it arguments")
        }
        function["arguments"] = try Self.arguments(arguments, "\(place), \(quoted(name))")
        return .object(function)
    }

    /// The arguments of a call as an object. They may come as JSON text, also encoded twice; none are {}.
    static func arguments(_ value: JSONValue, _ place: String) throws -> JSONValue {
        var value = value
        for _ in 0..<3 {
            guard let text = value.stringValue else { break }
            if text.trimmedASCII.isEmpty {
                value = .null
                break
            }
            guard let parsed = try? JSONParser.parse(text) else {
                throw RowError("\(place): \"arguments\" are a text that is not JSON\(hint(text.trimmedASCII))")
            }
            value = parsed
        }
        switch value {
        case .null: return .object(JSONObject())
        case .object: return value
        default: throw RowError("\(place): \"arguments\": expected an object, found \(value.kindName)")
        }
    }

    // MARK: Nulls

    /// Arrow gives every row the keys of all others, with nulls; a text of JSON that was made of it keeps them.
    func noteNulls(_ conversation: Conversation) {
        let tools = conversation.tools?.arrayValue ?? []
        var schemas: [(name: String, schema: JSONValue)] = []
        for tool in tools {
            let function = tool["function"] ?? tool, name = function["name"]?.stringValue ?? ""
            guard let schema = function["parameters"] else { continue }
            schemas.append((name, schema))
            noteNullProperties(in: schema, of: name)
        }
        for message in conversation.messages {
            for call in message["tool_calls"]?.arrayValue ?? [] {
                let function = call["function"] ?? call, name = function["name"]?.stringValue ?? ""
                let schema = schemas.first { $0.name.hasSameBytes(as: name) }?.schema
                for (key, value) in function["arguments"]?.objectValue?.entries ?? [] {
                    noteNullArguments(value, schema?["properties"]?[key], key, of: name)
                }
            }
        }
    }

    private func noteNullProperties(in schema: JSONValue, of name: String) {
        if let properties = schema["properties"]?.objectValue {
            for (key, value) in properties.entries {
                if value.isNull {
                    record.note(.nullValues, "\(quoted(key)) is null in \"properties\" of \(quoted(name))")
                } else {
                    noteNullProperties(in: value, of: name)
                }
            }
        }
        if let items = schema["items"] { noteNullProperties(in: items, of: name) }
    }

    private func noteNullArguments(_ value: JSONValue, _ schema: JSONValue?, _ key: String, of name: String) {
        switch value {
        case .null where schema?.isNull ?? true:
            record.note(
                .nullValues, "\(quoted(key)) is null in the arguments of \(quoted(name)), and not in its schema")
        case .object(let object):
            for (key, value) in object.entries {
                noteNullArguments(value, schema?["properties"]?[key], key, of: name)
            }
        case .array(let values): for value in values { noteNullArguments(value, schema?["items"], key, of: name) }
        default: break
        }
    }
}
