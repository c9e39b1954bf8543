@preconcurrency private import CHDF5
import Foundation

/// What a token store tells about itself: what its tokens were made of and how.
public struct TokenStoreHeader: Sendable, Equatable, Codable {
    public static let formatVersion = 2

    /// Ids are below this.
    public var vocabularySize: Int
    /// SHA-256 in hexadecimal digits.
    public var tokenizerHash: String
    public var templateHash: String
    /// SHA-256 of the contents of all data files; empty when they are not known, as with standard input.
    public var dataHash: String
    /// What else the tokens depend on, the program's version among it, as JSON; at most 32 KiB.
    public var options: String
    /// The data files, as JSON: an array of `{"path", "bytes", "sha256"}`, paths relative to the store's folder.
    public var files: String

    public init(
        vocabularySize: Int, tokenizerHash: String, templateHash: String, dataHash: String = "", options: String,
        files: String = "[]"
    ) {
        self.vocabularySize = vocabularySize
        self.tokenizerHash = tokenizerHash
        self.templateHash = templateHash
        self.dataHash = dataHash
        self.options = options
        self.files = files
    }

    /// SHA-256 of everything that the tokens depend on; where the files lie is not among it.
    public var key: String {
        sha256(
            Array(
                [
                    "\(Self.formatVersion)", "\(vocabularySize)", tokenizerHash, templateHash, dataHash, options,
                ].joined(separator: "\u{0}").utf8))
    }
}

/// Writes tokenised rows to an HDF5 file with zstd-compressed chunks, in bounded memory.
///
/// Layout, version 2. All datasets have one dimension, chunks of 65,536 elements, and the registered filter 32015
/// (zstd) alone, so that h5py reads them with the package hdf5plugin:
/// - `/tokens` [tokens], uint16 when the vocabulary has at most 65,536 entries, else int32;
/// - `/trained` [tokens], uint8: 1 where the prediction *of* the token is trained;
/// - `/row_offsets` [rows + 1], int64: row i is the tokens from `row_offsets[i]` up to `row_offsets[i + 1]`;
/// - `/files` [bytes], uint8: UTF-8 JSON, see `TokenStoreHeader.files`.
///
/// Attributes of the root: `format` ("graft token store"), `format_version`, `vocabulary_size`, `rows`, `tokens`,
/// `trained_tokens` (int64), `tokenizer_sha256`, `template_sha256`, `data_sha256`, `options` (JSON), and `key`, the
/// SHA-256 by which a stale store is told. Equal rows and headers give equal bytes.
public final class TokenStoreWriter {
    public let path: String
    public let header: TokenStoreHeader
    public private(set) var rowCount = 0
    public private(set) var tokenCount = 0
    public private(set) var trainedCount = 0
    private let output: AtomicFile
    private let file: hid_t
    private var tokens: ChunkedWriter
    private var trained: ChunkedWriter
    private var offsets: ChunkedWriter
    /// Full chunks, compressed side by side once there are enough.
    private var queue: [ChunkedWriter.Chunk] = []
    private static let queueLength = 48
    private var isOpen = true

    /// - Throws: `FileError.outputExists`, `.io`.
    public init(path: String, header: TokenStoreHeader, replacing: Bool = false) throws {
        precondition(header.options.utf8.count <= TokenStore.textLimit, "the options are too long")
        precondition((1...Int(Int32.max)).contains(header.vocabularySize), "impossible vocabulary size")
        self.path = path
        self.header = header
        let output = try AtomicFile(path: path, replacing: replacing)
        self.output = output
        (file, tokens, trained, offsets) = try TokenStore.reporting(path) {
            let access = try HDF5.fileAccess()
            defer { H5Pclose(access) }
            let creation = try HDF5.writing { H5Pcreate(H5P_CLS_FILE_CREATE_ID_g) }
            defer { H5Pclose(creation) }
            _ = try HDF5.writing { H5Pset_obj_track_times(creation, false) }
            let file = try HDF5.writing {
                HDF5.opening { H5Fcreate(output.temporaryPath, HDF5.replaceAccess, creation, access) }
            }
            let type = header.vocabularySize <= 1 << 16 ? StoreType.uint16 : .int32
            return (
                file, try ChunkedWriter(file: file, name: "tokens", type: type),
                try ChunkedWriter(file: file, name: "trained", type: .uint8),
                try ChunkedWriter(file: file, name: "row_offsets", type: .int64)
            )
        }
        offsets.append([Int64(0)])
    }

    deinit {
        guard isOpen else { return }
        let file = file
        // The datasets close with their file; what is left of it goes with `output`.
        try? HDF5.synchronized { TokenStore.close(file) }
    }

    /// Appends a row; `isTrained[i]` says that the prediction *of* token i is trained.
    ///
    /// - Throws: `FileError.io`; `.tokenStore` for an id outside of the vocabulary.
    public func append(ids: [Int32], isTrained: [Bool]) throws {
        precondition(isOpen && ids.count == isTrained.count)
        if let wrong = ids.first(where: { $0 < 0 || Int($0) >= header.vocabularySize }) {
            throw FileError.tokenStore(
                path: path, reason: "row \(rowCount + 1) has id \(wrong) outside of 0..<\(header.vocabularySize)")
        }
        if tokens.type == .uint16 {
            tokens.append(ids.map { UInt16(truncatingIfNeeded: $0) })
        } else {
            tokens.append(ids)
        }
        trained.append(isTrained.map { UInt8($0 ? 1 : 0) })
        offsets.append([Int64(tokens.count)])
        queue += tokens.takeChunks() + trained.takeChunks() + offsets.takeChunks()
        if queue.count >= Self.queueLength { try writeQueue() }
        rowCount += 1
        tokenCount += ids.count
        trainedCount += isTrained.count { $0 }
    }

    /// Compresses on all processors and writes in order.
    private func writeQueue() throws {
        let chunks = queue
        queue = []
        let packed = try concurrentMap(chunks.count) { try Zstd.compress(chunks[$0].bytes) }
        try TokenStore.reporting(path) {
            for (chunk, bytes) in zip(chunks, packed) { try chunk.write(bytes) }
        }
    }

    /// Makes the store appear under its name.
    ///
    /// - Throws: `FileError.io`, `.outputExists`.
    public func finish() throws {
        precondition(isOpen)
        var files = try TokenStore.reporting(path) { try ChunkedWriter(file: file, name: "files", type: .uint8) }
        files.append(Array(header.files.utf8))
        queue += [tokens.takeLastChunk(), trained.takeLastChunk(), offsets.takeLastChunk()].compactMap(\.self)
        queue += files.takeChunks() + [files.takeLastChunk()].compactMap(\.self)
        try writeQueue()
        try TokenStore.reporting(path) {
            for dataset in [tokens, trained, offsets, files] { try dataset.close() }
            try TokenStore.write(TokenStoreHeader.formatVersion, as: "format_version", to: file)
            try TokenStore.write(header.vocabularySize, as: "vocabulary_size", to: file)
            try TokenStore.write(rowCount, as: "rows", to: file)
            try TokenStore.write(tokenCount, as: "tokens", to: file)
            try TokenStore.write(trainedCount, as: "trained_tokens", to: file)
            try TokenStore.write(TokenStore.formatName, as: "format", to: file)
            try TokenStore.write(header.tokenizerHash, as: "tokenizer_sha256", to: file)
            try TokenStore.write(header.templateHash, as: "template_sha256", to: file)
            try TokenStore.write(header.dataHash, as: "data_sha256", to: file)
            try TokenStore.write(header.options, as: "options", to: file)
            try TokenStore.write(header.key, as: "key", to: file)
            _ = try HDF5.writing { H5Fflush(file, H5F_SCOPE_GLOBAL) }
            isOpen = false
            _ = try HDF5.writing { H5Fclose(file) }
        }
        try output.commit()
    }
}

/// A token store to read, row by row in bounded memory.
public final class TokenStore {
    static let formatName = "graft token store"
    static let textLimit = 32 << 10

    public let path: String
    public let header: TokenStoreHeader
    public let rowCount: Int
    public let tokenCount: Int
    public let trainedCount: Int
    private let file: hid_t
    private var tokens: ChunkedReader
    private var trained: ChunkedReader
    private var offsets: ChunkedReader

    /// Whether the bytes at `path` begin like an HDF5 file (HDF5 File Format Specification 3.0, II.A).
    public static func isStore(_ path: String) -> Bool {
        guard let file = try? Descriptor.reading(path), let bytes = try? file.read(8, at: 0) else { return false }
        return bytes == [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]
    }

    /// - Throws: `FileError.missing`, `.notAFile`, `.io`; `.tokenStore` for anything that is not such a store.
    public init(path: String) throws {
        self.path = path
        _ = try Descriptor.reading(path, what: "token store")
        guard Self.isStore(path) else { throw FileError.tokenStore(path: path, reason: "it is no HDF5 file") }
        let file = try Self.reporting(path) {
            let access = try HDF5.fileAccess()
            defer { H5Pclose(access) }
            return try HDF5.reading("the file") { HDF5.opening { H5Fopen(path, HDF5.readAccess, access) } }
        }
        self.file = file
        do {
            (header, rowCount, tokenCount, trainedCount, tokens, trained, offsets) = try Self.reporting(path) {
                guard try Self.text("format", of: file) == Self.formatName else {
                    throw HDF5Fault.malformed("its attribute 'format' is not '\(Self.formatName)'")
                }
                let version = try Self.number("format_version", of: file)
                guard version == TokenStoreHeader.formatVersion else {
                    throw HDF5Fault.malformed("its version is \(version), expected \(TokenStoreHeader.formatVersion)")
                }
                let header = TokenStoreHeader(
                    vocabularySize: try Self.number("vocabulary_size", of: file),
                    tokenizerHash: try Self.text("tokenizer_sha256", of: file),
                    templateHash: try Self.text("template_sha256", of: file),
                    dataHash: try Self.text("data_sha256", of: file),
                    options: try Self.text("options", of: file), files: try Self.files(of: file))
                guard try Self.text("key", of: file).hasSameBytes(as: header.key) else {
                    throw HDF5Fault.malformed("its key does not belong to its other attributes")
                }
                return (
                    header, try Self.number("rows", of: file), try Self.number("tokens", of: file),
                    try Self.number("trained_tokens", of: file),
                    try ChunkedReader(file: file, name: "tokens", types: [.uint16, .int32]),
                    try ChunkedReader(file: file, name: "trained", types: [.uint8]),
                    try ChunkedReader(file: file, name: "row_offsets", types: [.int64])
                )
            }
            try Self.reporting(path) { try checkLayout() }
        } catch {
            try? HDF5.synchronized { Self.close(file) }
            throw error
        }
    }

    deinit {
        let file = file
        try? HDF5.synchronized { Self.close(file) }
    }

    private func checkLayout() throws {
        guard rowCount >= 0, offsets.count == rowCount + 1, tokens.count == tokenCount, trained.count == tokenCount
        else {
            throw HDF5Fault.malformed(
                "its attributes tell of \(rowCount) rows and \(tokenCount) tokens, its datasets of "
                    + "\(offsets.count - 1) rows, \(tokens.count) tokens and \(trained.count) flags")
        }
        var last: Int64 = 0
        for start in stride(from: 0, to: offsets.count, by: ChunkedWriter.chunkLength) {
            let end = min(offsets.count, start + ChunkedWriter.chunkLength)
            for (index, offset) in try offsets.elements(start..<end).enumerated() {
                guard offset >= last, offset <= tokenCount, start + index > 0 || offset == 0 else {
                    throw HDF5Fault.malformed("row \(start + index) begins at token \(offset), after \(last)")
                }
                last = offset
            }
        }
        guard last == tokenCount else { throw HDF5Fault.malformed("its rows end at \(last) of \(tokenCount) tokens") }
    }

    /// The ids of row `index`, from 0, and which of their predictions are trained.
    ///
    /// - Throws: `FileError.tokenStore` for damaged data.
    public func row(_ index: Int) throws -> (ids: [Int32], isTrained: [Bool]) {
        precondition((0..<rowCount).contains(index))
        return try Self.reporting(path) {
            let ends = try offsets.elements(index..<index + 2)
            let range = Int(ends[0])..<Int(ends[1])
            let ids = try tokens.elements(range).map { id in
                guard id >= 0, id < header.vocabularySize else {
                    throw HDF5Fault.malformed(
                        "row \(index + 1) has id \(id) outside of 0..<\(header.vocabularySize)")
                }
                return Int32(truncatingIfNeeded: id)
            }
            return (ids, try trained.elements(range).map { $0 != 0 })
        }
    }

    /// The number of tokens of row `index`.
    public func length(ofRow index: Int) throws -> Int {
        precondition((0..<rowCount).contains(index))
        return try Self.reporting(path) {
            let ends = try offsets.elements(index..<index + 2)
            return Int(ends[1] - ends[0])
        }
    }

    // MARK: The library

    /// Runs `body` alone in the HDF5 library and says which file a fault concerns.
    fileprivate static func reporting<Result>(_ path: String, _ body: () throws -> Result) throws -> Result {
        do {
            return try HDF5.synchronized(body)
        } catch HDF5Fault.write(let code) {
            throw FileError.io(operation: "write", path: path, code: code)
        } catch HDF5Fault.read(let code) {
            throw FileError.io(operation: "read", path: path, code: code)
        } catch HDF5Fault.malformed(let reason) {
            throw FileError.tokenStore(path: path, reason: reason)
        }
    }

    /// Closes a file and all that is still open in it.
    fileprivate static func close(_ file: hid_t) {
        let kinds = UInt32(H5F_OBJ_DATASET) | UInt32(H5F_OBJ_ATTR) | UInt32(H5F_OBJ_DATATYPE)
        var open = [hid_t](repeating: 0, count: 16)
        let count = H5Fget_obj_ids(file, kinds, open.count, &open)
        for identifier in open.prefix(max(0, count)) { H5Oclose(identifier) }
        H5Fclose(file)
    }

    fileprivate static func write(_ value: Int, as name: String, to file: hid_t) throws {
        let space = try HDF5.writing { H5Screate(H5S_SCALAR) }
        defer { H5Sclose(space) }
        let attribute = try HDF5.writing { H5Acreate2(file, name, H5T_STD_I64LE_g, space, 0, 0) }
        defer { H5Aclose(attribute) }
        var value = Int64(value)
        _ = try HDF5.writing { H5Awrite(attribute, H5T_STD_I64LE_g, &value) }
    }

    fileprivate static func write(_ text: String, as name: String, to file: hid_t) throws {
        var bytes = Array(text.utf8)
        if bytes.isEmpty { bytes = [0] }
        let space = try HDF5.writing { H5Screate(H5S_SCALAR) }
        defer { H5Sclose(space) }
        let type = try HDF5.writing { H5Tcopy(H5T_C_S1_g) }
        defer { H5Tclose(type) }
        _ = try HDF5.writing { H5Tset_size(type, bytes.count) }
        _ = try HDF5.writing { H5Tset_cset(type, H5T_CSET_UTF8) }
        _ = try HDF5.writing { H5Tset_strpad(type, H5T_STR_NULLPAD) }
        let attribute = try HDF5.writing { H5Acreate2(file, name, type, space, 0, 0) }
        defer { H5Aclose(attribute) }
        _ = try HDF5.writing { H5Awrite(attribute, type, &bytes) }
    }

    /// The list of data files; at most 64 MiB.
    private static func files(of file: hid_t) throws -> String {
        var dataset = try ChunkedReader(file: file, name: "files", types: [.uint8])
        defer { dataset.close() }
        guard dataset.count <= 64 << 20,
            let text = String(
                validating: try dataset.elements(0..<dataset.count).map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self
            )
        else { throw HDF5Fault.malformed("/files is no UTF-8 text of at most 64 MiB") }
        return text
    }

    private static func attribute(_ name: String, of file: hid_t) throws -> hid_t {
        guard try HDF5.reading("attribute '\(name)'", { H5Aexists(file, name) }) > 0 else {
            throw HDF5Fault.malformed("its attribute '\(name)' is missing")
        }
        let attribute = try HDF5.reading("attribute '\(name)'") { H5Aopen(file, name, 0) }
        let space = H5Aget_space(attribute)
        defer { H5Sclose(space) }
        guard space >= 0, H5Sget_simple_extent_npoints(space) == 1 else {
            H5Aclose(attribute)
            throw HDF5Fault.malformed("its attribute '\(name)' is not one value")
        }
        return attribute
    }

    private static func number(_ name: String, of file: hid_t) throws -> Int {
        let attribute = try attribute(name, of: file)
        defer { H5Aclose(attribute) }
        let type = try HDF5.reading("attribute '\(name)'") { H5Aget_type(attribute) }
        defer { H5Tclose(type) }
        var value: Int64 = 0
        guard H5Tequal(type, H5T_STD_I64LE_g) > 0,
            try HDF5.reading("attribute '\(name)'", { H5Aread(attribute, H5T_STD_I64LE_g, &value) }) >= 0, value >= 0
        else {
            throw HDF5Fault.malformed("its attribute '\(name)' is no 64-bit integer from 0")
        }
        return Int(value)
    }

    private static func text(_ name: String, of file: hid_t) throws -> String {
        let attribute = try attribute(name, of: file)
        defer { H5Aclose(attribute) }
        let type = try HDF5.reading("attribute '\(name)'") { H5Aget_type(attribute) }
        defer { H5Tclose(type) }
        let size = H5Tget_size(type)
        guard H5Tget_class(type) == H5T_STRING, H5Tis_variable_str(type) == 0, size > 0, size <= textLimit else {
            throw HDF5Fault.malformed("its attribute '\(name)' is no text of fixed length")
        }
        var bytes = [UInt8](repeating: 0, count: size)
        guard try HDF5.reading("attribute '\(name)'", { H5Aread(attribute, type, &bytes) }) >= 0,
            let text = String(validating: bytes.prefix { $0 != 0 }, as: UTF8.self)
        else { throw HDF5Fault.malformed("its attribute '\(name)' is no UTF-8 text") }
        return text
    }
}
