// Attributes, subscripts and slices.
extension Interpreter {
    /// `value.name`: an attribute of the Python object, or else the element with that key.
    func attribute(_ name: Text, of value: TemplateValue) throws -> TemplateValue {
        if value.isUndefined { throw undefined(value) }
        if let found = try ownAttribute(name, of: value) { return found }
        if case .dict(let mapping) = value, let found = mapping[name] { return found }
        return .undefined(.attribute(name))
    }

    /// `value[key]`: an element, or else an attribute when the key is a string.
    func item(_ key: TemplateValue, of value: TemplateValue) throws -> TemplateValue {
        switch value {
        case .undefined: throw undefined(value)
        case .dict(let mapping):
            // A key that cannot be hashed is like one that is missing.
            if let hashable = try? self.key(key), let found = mapping[hashable] { return found }
        case .list(let items), .tuple(let items):
            if let index = key.index, let found = items.element(index) { return found }
        case .string(let text):
            try spend(scanning: text)
            if let index = position(key, count: text.count) {
                return .string(Text(CollectionOfOne(text.scalar(at: text.byteOffset(of: index)).0)))
            }
        case .range(let range):
            if let index = position(key, count: range.count) { return .int(range[index]) }
        case .bytes(let bytes):
            if let index = position(key, count: bytes.count) { return .int(Int(bytes[index])) }
        default: break
        }
        if let name = key.text {
            return try ownAttribute(name, of: value) ?? .undefined(.attribute(name))
        }
        return .undefined(.element)
    }

    private func position(_ key: TemplateValue, count: Int) -> Int? {
        guard let index = key.index else { return nil }
        let position = index < 0 ? index + count : index
        return position >= 0 && position < count ? position : nil
    }

    func slice(_ slice: PythonSlice, of value: TemplateValue) throws -> TemplateValue {
        switch value {
        case .undefined: throw undefined(value)
        case .string(let string):
            try spend(string.bytes.count / Self.bytesPerFuel)
            return try text(string.slice(slice))
        case .list(let items):
            if slice.step == 1, slice.stop == nil, let start = slice.start,
                let rest = items.rest(from: start, depth: items.depth)
            {
                try spend(rest.values.count / Self.elementsPerFuel)
                return .list(rest)
            }
            return try list(slice.resolved(count: items.values.count).map { items.values[$0] })
        case .tuple(let items): return try tuple(slice.resolved(count: items.values.count).map { items.values[$0] })
        case .bytes(let bytes):
            try spend(bytes.count / Self.bytesPerFuel)
            return .bytes(slice.resolved(count: bytes.count).map { bytes[$0] })
        case .range(let range):
            let part = slice.resolved(count: range.count)
            return .range(
                PythonRange(
                    start: range[part.start], count: part.count, step: range.step &* part.step,
                    stop: range[part.start &+ part.count &* part.step]))
        default: throw unsupported("[:]", value)
        }
    }

    /// What Python's `getattr` finds on the object itself; nil where it finds nothing.
    private func ownAttribute(_ name: Text, of value: TemplateValue) throws -> TemplateValue? {
        if name.bytes.starts(with: [UInt8(ascii: "_"), UInt8(ascii: "_")]) { return nil }
        if hasMethod(name, value) { return try method(value, name) }
        switch value {
        case .dict:
            switch name {
            case "clear", "pop", "popitem", "setdefault", "update": return .undefined(.forbidden(name))
            default: return nil
            }
        case .list:
            switch name {
            case "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort":
                return .undefined(.forbidden(name))
            default: return nil
            }
        case .namespace(let namespace):
            recorder?.read(name, of: namespace)
            return namespace[name]
        case .loop(let loop): return try loopAttribute(name, of: loop)
        case .callable(.macro(let macro)): return macroAttribute(name, of: macro)
        case .callable(.cycler(let cycler)): return name.isSame(as: "current") ? cycler.values[cycler.position] : nil
        case .tuple(let items) where items is Group:
            switch name {
            case "grouper": return items.values[0]
            case "list": return items.values[1]
            default: return nil
            }
        case .int, .bool:
            switch name {
            case "real", "numerator": return value.index.map(TemplateValue.int)
            case "imag": return .int(0)
            case "denominator": return .int(1)
            default: return nil
            }
        case .range(let range):
            switch name {
            case "start": return .int(range.start)
            case "stop": return .int(range.stop)
            case "step": return .int(range.step)
            default: return nil
            }
        case .float(let number):
            return name.isSame(as: "real") ? .float(number) : name.isSame(as: "imag") ? .float(0) : nil
        default: return nil
        }
    }

    private func macroAttribute(_ name: Text, of macro: Macro) -> TemplateValue? {
        switch name {
        case "name": .string(macro.definition.name)
        case "caller": .bool(macro.definition.usesCaller)
        case "catch_kwargs": .bool(macro.definition.usesKwargs)
        case "catch_varargs": .bool(macro.definition.usesVarargs)
        case "arguments":
            .tuple(Items(values: macro.definition.parameters.map { .string($0.name) }, depth: 1))
        default: nil
        }
    }

    private func loopAttribute(_ name: Text, of loop: LoopState) throws -> TemplateValue? {
        switch name {
        case "index": .int(loop.index + 1)
        case "index0": .int(loop.index)
        case "first": .bool(loop.index == 0)
        case "last": .bool(try next(in: loop) == nil)
        case "length": .int(try length(of: loop))
        case "revindex": .int(try length(of: loop) - loop.index)
        case "revindex0": .int(try length(of: loop) - loop.index - 1)
        case "previtem": previous(in: loop) ?? .undefined(.attribute(name))
        case "nextitem": try next(in: loop) ?? .undefined(.attribute(name))
        case "depth": .int(loop.depth + 1)
        case "depth0": .int(loop.depth)
        default: nil
        }
    }
}

extension Interpreter {
    private func next(in loop: LoopState) throws -> TemplateValue? {
        recorder?.read(loop, distance: 1)
        return try loop.peek()
    }
    private func previous(in loop: LoopState) -> TemplateValue? {
        if loop.index > 0 { recorder?.read(loop, distance: -1) }
        return loop.previous
    }
    func length(of loop: LoopState) throws -> Int {
        recorder?.read(loop, distance: nil)
        return try loop.length()
    }
}

/// The pair `groupby` gives, whose parts also have names.
final class Group: Items {}
