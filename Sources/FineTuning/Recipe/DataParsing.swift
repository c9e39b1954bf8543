import FileFormats
import TextData

func readData(_ value: RecipeValue?, _ problems: RecipeProblems, _ resolve: Resolve) -> Recipe.Data? {
    var section = RecipeSection(value, name: "data", problems: problems)
    let train = readSources(&section, "train", problems, resolve)
    var data = Recipe.Data(train: train ?? [])
    data.eval = readSources(&section, "eval", problems, resolve) ?? []
    data.trainOn = section.choice("train_on") ?? data.trainOn
    data.maxLength = section.integer("max_length", in: 2...1 << 24) ?? data.maxLength
    data.overlong = section.choice("overlong") ?? data.overlong
    data.shuffle = section.flag("shuffle") ?? data.shuffle
    data.dedupe = section.choice("dedupe") ?? data.dedupe
    if let value = section.value("max_repeats") {
        if case .null = value.content {
            data.maxRepeats = nil
        } else {
            data.maxRepeats = section.number("max_repeats", "above 0, or null") { $0 > 0 }
        }
    }
    if let value = section.value("mix_temperature"), ["inf", ".inf"].contains(value.word) {
        data.mixTemperature = .infinity
    } else {
        data.mixTemperature =
            section.number("mix_temperature", "of at least 1, or .inf") { $0 >= 1 } ?? data.mixTemperature
    }
    if let value = section.value("format"), value.word != "auto" { data.format = section.choice("format") }
    data.columns = readColumns(&section)
    data.accept = readAccepted(&section)
    section.finish()
    if train == nil { section.missing("train", "the files of the training rows, as in [{path: data/train.jsonl}]") }
    if train?.isEmpty == true, let value = section.value("train"), case .sequence(let items) = value.content,
        items.isEmpty
    {
        section.wrong("train", value, expected: "a list of at least one file")
    }
    return train == nil ? nil : data
}

/// Names of damage to rows that is taken as it is; one of them may stand without the list.
private func readAccepted(_ section: inout RecipeSection) -> [Lint] {
    guard let value = section.value("accept") else { return [] }
    let items: [RecipeValue]
    switch value.content {
    case .null: return []
    case .sequence(let found): items = found
    default: items = [value]
    }
    let names = Lint.allCases.map(\.rawValue)
    return items.compactMap { item in
        if let lint = item.word.flatMap(Lint.init) { return lint }
        let near = item.word.flatMap { nearest(to: $0, among: names) }.map { "; did you mean '\($0)'?" } ?? ""
        section.conflict(
            item.location,
            "data.accept takes names of lints (\(names.joined(separator: ", "))), not \(item.kindName)\(near)")
        return nil
    }
}

/// A mapping of keys of rows to the names that files have for them.
private func readColumns(_ section: inout RecipeSection) -> [ColumnName] {
    guard let value = section.value("columns") else { return [] }
    if case .null = value.content { return [] }
    guard case .mapping(let entries) = value.content else {
        section.wrong("columns", value, expected: "a mapping such as {prompt: question, completion: answer}")
        return []
    }
    return entries.compactMap { entry in
        guard Row.knownKeys.contains(where: { $0.hasSameBytes(as: entry.key) }) else {
            let near = nearest(to: entry.key, among: Row.knownKeys).map { "did you mean '\($0)'?" }
            let hint = near ?? "keys are " + Row.knownKeys.joined(separator: ", ")
            section.conflict(entry.keyLocation, "data.columns: '\(entry.key)' is no key of a row; \(hint)")
            return nil
        }
        guard let column = entry.value.word, !column.isEmpty else {
            section.wrong("columns.\(entry.key)", entry.value, expected: "the name of a column")
            return nil
        }
        return ColumnName(key: entry.key, column: column)
    }
}

/// A list of `{path, weight}` or plain paths; one of them may stand without the list.
private func readSources(
    _ section: inout RecipeSection, _ key: String, _ problems: RecipeProblems, _ resolve: Resolve
) -> [Recipe.Source]? {
    guard let value = section.value(key) else { return nil }
    let items: [RecipeValue]
    switch value.content {
    case .null: return key == "train" ? nil : []
    case .sequence(let found): items = found
    default: items = [value]
    }
    var sources: [Recipe.Source] = []
    for (i, item) in items.enumerated() {
        switch item.content {
        case .scalar(let path, _) where !path.isEmpty && !path.utf8.contains(0):
            sources.append(Recipe.Source(path: resolve(path)))
        case .mapping:
            var entry = RecipeSection(item, name: "\(section.path(key))[\(i)]", problems: problems)
            let path = entry.text("path", expected: "a file, a glob or a token store")
            if !entry.has("path") { entry.missing("path", "a file, a glob or a token store") }
            let weight = entry.number("weight", "above 0, up to 10000") { $0 > 0 && $0 <= 10_000 } ?? 1
            entry.finish()
            if let path { sources.append(Recipe.Source(path: resolve(path), weight: weight)) }
        default:
            section.wrong("\(key)[\(i)]", item, expected: "a path or a mapping {path, weight}")
        }
    }
    return sources
}
