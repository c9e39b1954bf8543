import FileFormats

extension RecipeValue {
    /// Sets the value of a dotted key, creating the mappings above it.
    mutating func apply(override: String, path: String, problems: RecipeProblems) throws {
        guard let equals = override.firstIndex(of: "="), equals != override.startIndex else {
            problems.add("--set \(override)", "an override is written key=value, as in training.epochs=5")
            return
        }
        let key = String(override[..<equals])
        let location = "--set \(key)"
        let value = try RecipeDocument.parse(
            String(override[override.index(after: equals)...]), path: location, location: location)
        let parts = key.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        guard parts.count <= 8, !parts.contains("") else {
            problems.add(location, "'\(key)' is not a dotted key")
            return
        }
        set(parts[...], to: value, location: location)
        // A run has one length: the override of one key takes the place of the other.
        if key == "training.epochs" { remove(["training", "steps"]) }
        if key == "training.steps" { remove(["training", "epochs"]) }
    }

    private mutating func set(_ parts: ArraySlice<String>, to value: RecipeValue, location: String) {
        guard let first = parts.first else {
            self = value
            return
        }
        var entries: [(key: String, keyLocation: String, value: RecipeValue)] = []
        if case .mapping(let found) = content { entries = found }
        var inner = RecipeValue(content: .null, location: location)
        let index = entries.firstIndex { $0.key.hasSameBytes(as: first) }
        if let index { inner = entries[index].value }
        inner.set(parts.dropFirst(), to: value, location: location)
        if let index { entries[index] = (first, location, inner) } else { entries.append((first, location, inner)) }
        content = .mapping(entries)
    }

    private mutating func remove(_ parts: ArraySlice<String>) {
        guard let first = parts.first, case .mapping(var entries) = content,
            let index = entries.firstIndex(where: { $0.key.hasSameBytes(as: first) })
        else { return }
        if parts.count == 1 { entries.remove(at: index) } else { entries[index].value.remove(parts.dropFirst()) }
        content = .mapping(entries)
    }
}
