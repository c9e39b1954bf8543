import FileFormats

/// How much each input column of a model's matrices matters: the mean of the squared activations that it is multiplied
/// with. What llama.cpp calls an imatrix; its two file formats are read and written.
public struct ImportanceMatrix: Sendable {
    /// The columns of a matrix, or of a stack of matrices one after the other.
    public struct Entry: Sendable {
        /// Sums of squares over the tokens, `[matrices, width]`.
        public var sums: [Float]
        /// The tokens that each matrix saw.
        public var counts: [Float]

        public init(sums: [Float], counts: [Float]) {
            self.sums = sums
            self.counts = counts
        }
    }

    /// By the tensors' GGUF names.
    public var entries: [(name: String, entry: Entry)]
    /// The files that the activations come from.
    public var dataSets: [String]
    public var chunkCount: Int
    /// Tokens a chunk.
    public var chunkSize: Int

    public init(entries: [(name: String, entry: Entry)], dataSets: [String], chunkCount: Int, chunkSize: Int) {
        self.entries = entries
        self.dataSets = dataSets
        self.chunkCount = chunkCount
        self.chunkSize = chunkSize
    }

    // MARK: reading

    /// - Throws: `FileError`; `ExportError.importance` for what is no importance matrix.
    public init(path: String) throws {
        if try readHead(path, count: 4).elementsEqual("GGUF".utf8) {
            try self.init(gguf: path)
        } else {
            try self.init(legacy: path)
        }
        var problems: [String] = []
        for (name, entry) in entries where !entry.sums.allSatisfy({ $0.isFinite && $0 >= 0 }) {
            problems.append("\(quoted(name)) has a value that is negative or no number")
        }
        if entries.isEmpty { problems.append("it has no entries") }
        guard problems.isEmpty else { throw ExportError.importance(path: path, problems: problems) }
    }

    private init(gguf path: String) throws {
        let file = try GGUFFile(path: path)
        var problems: [String] = []
        if file["general.type"]?.stringValue?.hasSameBytes(as: "imatrix") != true {
            problems.append("general.type is not \"imatrix\"; is it a model?")
        }
        entries = []
        for tensor in file.tensors where problems.isEmpty {
            guard let name = Self.stem(tensor.name, without: ".in_sum2") else { continue }
            guard let counts = file.tensor(named: name + ".counts"), counts.type == .f32, tensor.type == .f32,
                counts.elementCount > 0, tensor.elementCount % counts.elementCount == 0
            else {
                problems.append("\(quoted(name)): expected F32 sums and counts that go together")
                continue
            }
            entries.append((name, Entry(sums: Self.floats(file, tensor), counts: Self.floats(file, counts))))
        }
        guard problems.isEmpty else { throw ExportError.importance(path: path, problems: problems) }
        dataSets = file["imatrix.datasets"]?.stringsValue.map { $0.map(\.description) } ?? []
        chunkCount = file["imatrix.chunk_count"]?.intValue ?? 0
        chunkSize = file["imatrix.chunk_size"]?.intValue ?? 0
    }

    private static func stem(_ name: String, without suffix: String) -> String? {
        guard name.utf8.count > suffix.utf8.count, name.utf8.suffix(suffix.utf8.count).elementsEqual(suffix.utf8) else {
            return nil
        }
        return String(decoding: name.utf8.dropLast(suffix.utf8.count), as: UTF8.self)
    }

    private static func floats(_ file: GGUFFile, _ tensor: GGUFTensorInfo) -> [Float] {
        var values = [Float](repeating: 0, count: tensor.elementCount)
        values.withUnsafeMutableBufferPointer {
            ElementConversion.widen(file.withBytes(of: tensor), as: .f32, into: $0)
        }
        return values
    }

    /// The form before GGUF: means times the number of chunks.
    private init(legacy path: String) throws {
        var reader = LegacyReader(path: path, bytes: try readFile(path, limit: 1 << 32))
        let count = try reader.count("the number of entries", unit: 12)
        entries = []
        for _ in 0..<count {
            let length = try reader.count("the length of a name", unit: 1)
            let name = String(decoding: try reader.take(length, "a name"), as: UTF8.self)
            let calls = try reader.integer("the number of chunks of \(quoted(name))")
            let width = try reader.count("the number of values of \(quoted(name))", unit: 4)
            let bytes = try reader.take(width * 4, "the values of \(quoted(name))")
            let sums = bytes.withUnsafeBytes { raw in
                (0..<width).map { raw.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
            }
            entries.append((name, Entry(sums: sums, counts: [Float(max(1, calls))])))
        }
        (dataSets, chunkCount, chunkSize) = ([], 0, 0)
        // Old files end here.
        guard reader.remaining >= 8 else { return }
        chunkCount = max(0, try reader.integer("the number of chunks"))
        let length = try reader.count("the length of the data set's name", unit: 1)
        dataSets = [String(decoding: try reader.take(length, "the data set's name"), as: UTF8.self)]
    }

    private struct LegacyReader {
        let path: String
        let bytes: [UInt8]
        var position = 0

        init(path: String, bytes: [UInt8]) {
            self.path = path
            self.bytes = bytes
        }

        var remaining: Int { bytes.count - position }

        mutating func take(_ count: Int, _ part: String) throws -> ArraySlice<UInt8> {
            guard count <= remaining else {
                throw ExportError.importance(path: path, problems: ["cut short at byte \(position), inside \(part)"])
            }
            defer { position += count }
            return bytes[position..<position + count]
        }

        mutating func integer(_ part: String) throws -> Int {
            Int(try take(4, part).withUnsafeBytes { $0.loadUnaligned(as: Int32.self) })
        }

        mutating func count(_ part: String, unit: Int) throws -> Int {
            let start = position, found = try integer(part)
            guard found >= 0, found <= remaining / unit else {
                throw ExportError.importance(
                    path: path,
                    problems: ["\(part) at byte \(start) is \(found); at most \(remaining / unit) is possible"])
            }
            return found
        }
    }

    // MARK: writing

    /// Writes the form that llama.cpp writes today.
    public func writeGGUF(to path: String) throws {
        let tensors = entries.flatMap { name, entry in
            [
                GGUFWriter.Declaration(
                    name: name + ".in_sum2", type: .f32,
                    shape: [entry.counts.count, entry.sums.count / max(1, entry.counts.count)]),
                GGUFWriter.Declaration(name: name + ".counts", type: .f32, shape: [entry.counts.count, 1]),
            ]
        }
        let metadata: [(key: String, value: GGUFValue)] = [
            ("general.type", .string("imatrix")),
            ("imatrix.datasets", .strings(ByteStrings(dataSets.map { ByteString($0) }))),
            ("imatrix.chunk_count", .uint32(UInt32(clamping: chunkCount))),
            ("imatrix.chunk_size", .uint32(UInt32(clamping: chunkSize))),
        ]
        let writer = try GGUFWriter(path: path, metadata: metadata, tensors: tensors)
        for (name, entry) in entries {
            try writer.append(entry.sums, to: name + ".in_sum2")
            try writer.append(entry.counts, to: name + ".counts")
        }
        try writer.finish()
    }

    /// Writes the form that llama.cpp wrote before GGUF.
    public func writeLegacy(to path: String) throws {
        let file = try AtomicFile(path: path)
        func write(_ number: Int) throws {
            try withUnsafeBytes(of: Int32(clamping: number)) { try file.write($0) }
        }
        func write(_ text: String) throws {
            try write(text.utf8.count)
            try file.write(text)
        }
        let calls = max(1, chunkCount)
        try write(entries.count)
        for (name, entry) in entries {
            try write(name)
            try write(calls)
            try write(entry.sums.count)
            let values = Self.means(entry).map { $0 * Float(calls) }
            try values.withUnsafeBytes { try file.write($0) }
        }
        try write(chunkCount)
        try write(dataSets.last ?? "")
        try file.commit()
    }

    // MARK: use

    /// Means of squares; 1 for a matrix that saw no token.
    private static func means(_ entry: Entry) -> [Float] {
        let width = entry.sums.count / max(1, entry.counts.count)
        return entry.sums.indices.map { i in
            let count = entry.counts[i / max(1, width)]
            return count > 0 ? entry.sums[i] / count : 1
        }
    }

    /// What a tensor's columns weigh, `[matrices, width]` with a mean of 1 a matrix; nil without an entry.
    ///
    /// - Throws: `ExportError.importance` for an entry of another size.
    func weights(of tensors: [(name: String, shape: [Int])], path: String) throws -> [[Float]?] {
        let byName = Dictionary(entries.map { (ByteString($0.name), $0.entry) }, uniquingKeysWith: { a, _ in a })
        var problems: [String] = []
        let result = tensors.map { name, shape -> [Float]? in
            guard shape.count >= 2, let entry = byName[ByteString(name)] else { return nil }
            let width = shape[shape.count - 1], matrices = shape.dropLast(2).reduce(1, *)
            guard entry.sums.count == width * matrices else {
                problems.append("\(name) needs \(width * matrices) values, found \(entry.sums.count)")
                return nil
            }
            var values = Self.means(entry)
            for matrix in 0..<matrices {
                let range = matrix * width..<(matrix + 1) * width
                let mean = values[range].reduce(0.0) { $0 + Double($1) } / Double(width)
                for i in range { values[i] = mean > 0 ? Float(Double(values[i]) / mean) : 1 }
            }
            return values
        }
        guard problems.isEmpty else {
            throw ExportError.importance(path: path, problems: problems + ["was it made with another model?"])
        }
        return result
    }
}
