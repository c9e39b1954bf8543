@preconcurrency internal import CHDF5
import Foundation

/// A fault inside the HDF5 library, before it is known which file it concerns.
enum HDF5Fault: Error {
    /// A call that writes failed with `code` (errno).
    case write(code: Int32)
    /// A call that reads failed because the disk did, with `code` (errno).
    case read(code: Int32)
    case malformed(String)
}

/// The HDF5 library: not safe for threads, so every use of it goes through one lock.
enum HDF5 {
    /// zstd's number among the registered filters
    /// (https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md).
    static let zstdFilter: Int32 = 32015

    // H5F_ACC_RDONLY and H5F_ACC_TRUNC are macros that Swift does not see.
    static let readAccess: UInt32 = 0
    static let replaceAccess: UInt32 = 2

    private static let lock = NSLock()
    private static let isReady: Bool = {
        // Every file is closed where it was opened; at exit the library would go over what a damaged one left behind.
        H5dont_atexit()
        guard H5open() >= 0 else { return false }
        // No code is loaded because a file names a filter.
        return H5PLset_loading_state(0) >= 0
    }()

    static func synchronized<Result>(_ body: () throws -> Result) throws -> Result {
        lock.lock()
        defer { lock.unlock() }
        guard isReady else { throw HDF5Fault.malformed("the HDF5 library cannot be started") }
        // Errors are told by exception; the library would print its call stack too. The setting is the thread's own.
        H5Eset_auto2(hid_t(0), nil, nil)
        return try body()
    }

    /// Passes on an identifier or status of a call that writes.
    static func writing<Status: SignedInteger>(_ call: () -> Status) throws -> Status {
        errno = 0
        let status = call()
        guard status >= 0 else { throw HDF5Fault.write(code: errno == 0 ? EIO : errno) }
        return status
    }

    /// Passes on an identifier or status of a call that reads.
    static func reading<Status: SignedInteger>(_ what: String, _ call: () -> Status) throws -> Status {
        errno = 0
        let status = call()
        guard status >= 0 else { throw failedReading("\(what) cannot be read") }
        return status
    }

    /// Why a call that reads failed: the library tells a failing disk from a damaged file by errno alone.
    static func failedReading(_ reason: String) -> HDF5Fault {
        [EIO, EINTR, ESTALE, ENOMEM, EMFILE, ENFILE].contains(errno) ? .read(code: errno) : .malformed(reason)
    }

    /// Opens a file; the library gives up where a signal comes in between.
    static func opening(_ open: () -> hid_t) -> hid_t {
        while true {
            errno = 0
            let file = open()
            guard file < 0, errno == EINTR else { return file }
        }
    }

    static func fileAccess() throws -> hid_t {
        let list = try writing { H5Pcreate(H5P_CLS_FILE_ACCESS_ID_g) }
        // The newer layout carries checksums of all metadata.
        _ = try writing { H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110) }
        // Publishing has locks of its own, and read-only places have none.
        _ = try writing { H5Pset_file_locking(list, false, true) }
        return list
    }
}

/// The element type of a dataset of the store.
enum StoreType {
    case uint8, uint16, int32, int64

    var size: Int {
        switch self {
        case .uint8: 1
        case .uint16: 2
        case .int32: 4
        case .int64: 8
        }
    }
    var identifier: hid_t {
        switch self {
        case .uint8: H5T_STD_U8LE_g
        case .uint16: H5T_STD_U16LE_g
        case .int32: H5T_STD_I32LE_g
        case .int64: H5T_STD_I64LE_g
        }
    }
}

/// A growing one-dimensional dataset, cut in whole chunks that are compressed here.
struct ChunkedWriter {
    /// Elements a chunk.
    static let chunkLength = 1 << 16

    /// A chunk on its way to the file, padded to whole length; `elements` of it count.
    struct Chunk: Sendable {
        var dataset: hid_t
        var index: Int
        var elements: Int
        var bytes: [UInt8]

        /// Writes the compressed chunk; the dataset is never shrunk, for which the library would unpack it.
        func write(_ packed: [UInt8]) throws {
            var size = hsize_t(index * ChunkedWriter.chunkLength + elements)
            _ = try HDF5.writing { H5Dset_extent(dataset, &size) }
            var offset = hsize_t(index * ChunkedWriter.chunkLength)
            _ = try HDF5.writing { H5Dwrite_chunk(dataset, 0, 0, &offset, packed.count, packed) }
        }
    }

    let type: StoreType
    private let dataset: hid_t
    private var pending: [UInt8] = []
    private var chunkCount = 0
    private(set) var count = 0

    init(file: hid_t, name: String, type: StoreType) throws {
        self.type = type
        var size: hsize_t = 0
        var limit = hsize_t.max
        var chunk = hsize_t(Self.chunkLength)
        let space = try HDF5.writing { H5Screate_simple(1, &size, &limit) }
        defer { H5Sclose(space) }
        let list = try HDF5.writing { H5Pcreate(H5P_CLS_DATASET_CREATE_ID_g) }
        defer { H5Pclose(list) }
        _ = try HDF5.writing { H5Pset_chunk(list, 1, &chunk) }
        // The same rows give the same bytes at any time.
        _ = try HDF5.writing { H5Pset_obj_track_times(list, false) }
        // Optional: the library has no such filter here and need not have it, since it never sees unpacked chunks.
        var level: UInt32 = 3
        _ = try HDF5.writing { H5Pset_filter(list, HDF5.zstdFilter, UInt32(H5Z_FLAG_OPTIONAL), 1, &level) }
        dataset = try HDF5.writing { H5Dcreate2(file, name, type.identifier, space, 0, list, 0) }
    }

    mutating func append<Element: BitwiseCopyable>(_ elements: [Element]) {
        precondition(MemoryLayout<Element>.size == type.size)
        elements.withUnsafeBytes { pending.append(contentsOf: $0) }
        count += elements.count
    }

    /// The whole chunks among what was appended, in order.
    mutating func takeChunks() -> [Chunk] {
        let size = Self.chunkLength * type.size
        guard pending.count >= size else { return [] }
        var chunks: [Chunk] = []
        var start = 0
        while pending.count - start >= size {
            chunks.append(chunk(Array(pending[start..<start + size]), elements: Self.chunkLength))
            start += size
        }
        pending.removeFirst(start)
        return chunks
    }

    /// What is left, padded to a whole chunk as the format wants it.
    mutating func takeLastChunk() -> Chunk? {
        guard !pending.isEmpty else { return nil }
        let elements = pending.count / type.size
        let padding = [UInt8](repeating: 0, count: Self.chunkLength * type.size - pending.count)
        defer { pending = [] }
        return chunk(pending + padding, elements: elements)
    }

    private mutating func chunk(_ bytes: [UInt8], elements: Int) -> Chunk {
        defer { chunkCount += 1 }
        return Chunk(dataset: dataset, index: chunkCount, elements: elements, bytes: bytes)
    }

    func close() throws { _ = try HDF5.writing { H5Dclose(dataset) } }
}

/// A one-dimensional dataset, read chunk by chunk with its latest chunk kept.
struct ChunkedReader {
    /// The largest chunk that is accepted, in bytes when unpacked.
    private static let chunkSizeLimit = 16 << 20
    let name: String
    let type: StoreType
    let count: Int
    private let dataset: hid_t
    private let chunkLength: Int
    private var cached: (index: Int, bytes: [UInt8])?

    /// - Throws: for anything but a chunked dataset of one of `types` in this very file, compressed with zstd alone.
    init(file: hid_t, name: String, types: [StoreType]) throws {
        self.name = name
        func refused(_ reason: String) -> HDF5Fault { .malformed("dataset /\(name) \(reason)") }
        guard try HDF5.reading("/\(name)", { H5Lexists(file, name, 0) }) > 0 else { throw refused("is missing") }
        // Only soft and external links have a value; following one could lead to another file.
        var value = [UInt8](repeating: 0, count: 1024)
        guard H5Lget_val(file, name, &value, value.count, 0) < 0 else { throw refused("is a link") }
        let dataset = try HDF5.reading("/\(name)") { H5Dopen2(file, name, 0) }
        self.dataset = dataset
        do {
            let list = try HDF5.reading("/\(name)") { H5Dget_create_plist(dataset) }
            defer { H5Pclose(list) }
            guard H5Pget_layout(list) == H5D_CHUNKED else { throw refused("is not stored in chunks of this file") }
            guard H5Pget_external_count(list) <= 0 else { throw refused("is stored in another file") }
            guard H5Pget_nfilters(list) == 1 else { throw refused("is not compressed with zstd alone") }
            var flags: UInt32 = 0
            var configuration: UInt32 = 0
            var valueCount = 0
            let filter = H5Pget_filter2(list, 0, &flags, &valueCount, nil, 0, nil, &configuration)
            guard filter == HDF5.zstdFilter else { throw refused("is not compressed with zstd alone") }
            let fileType = try HDF5.reading("/\(name)") { H5Dget_type(dataset) }
            defer { H5Tclose(fileType) }
            guard let type = types.first(where: { H5Tequal(fileType, $0.identifier) > 0 }) else {
                throw refused("has an unexpected element type")
            }
            self.type = type
            let space = try HDF5.reading("/\(name)") { H5Dget_space(dataset) }
            defer { H5Sclose(space) }
            guard H5Sget_simple_extent_ndims(space) == 1 else { throw refused("is not one-dimensional") }
            var size: hsize_t = 0
            var chunk: hsize_t = 0
            guard H5Sget_simple_extent_dims(space, &size, nil) == 1, H5Pget_chunk(list, 1, &chunk) == 1,
                let count = Int(exactly: size), checkedProduct(count, type.size) != nil
            else { throw refused("has an impossible size") }
            guard chunk > 0, chunk <= UInt64(Self.chunkSizeLimit / type.size) else {
                throw refused("has chunks of \(chunk) elements")
            }
            self.count = count
            chunkLength = Int(chunk)
        } catch {
            H5Dclose(dataset)
            throw error
        }
    }

    func close() { H5Dclose(dataset) }

    private mutating func chunk(_ index: Int) throws -> [UInt8] {
        if let cached, cached.index == index { return cached.bytes }
        var offset = hsize_t(index * chunkLength)
        var packedSize: hsize_t = 0
        let place = "/\(name): the chunk at element \(index * chunkLength)"
        func refused(_ reason: String) -> HDF5Fault { .malformed("\(place) \(reason)") }
        let size = chunkLength * type.size
        _ = try HDF5.reading(place) { H5Dget_chunk_storage_size(dataset, &offset, &packedSize) }
        guard packedSize > 0 else { throw refused("is missing") }
        // Data that do not shrink grow by a few bytes in a thousand.
        guard packedSize <= UInt64(size + size / 128 + 1024) else { throw refused("is larger than its content") }
        var packed = [UInt8](repeating: 0, count: Int(packedSize))
        var mask: UInt32 = 0
        _ = try HDF5.reading(place) { H5Dread_chunk(dataset, 0, &offset, &mask, &packed) }
        guard mask == 0 else { throw refused("is not compressed") }
        var bytes = [UInt8](repeating: 0, count: size)
        do {
            try packed.withUnsafeBytes { input in
                try bytes.withUnsafeMutableBytes { try Zstd.decompress(input, into: $0) }
            }
        } catch FileError.zstd(let fault) {
            throw refused("is damaged: \(fault)")
        }
        cached = (index, bytes)
        return bytes
    }

    /// The elements of a range as integers.
    mutating func elements(_ range: Range<Int>) throws -> [Int64] {
        precondition(range.lowerBound >= 0 && range.upperBound <= count)
        var result: [Int64] = []
        result.reserveCapacity(range.count)
        var position = range.lowerBound
        while position < range.upperBound {
            let index = position / chunkLength
            let start = index * chunkLength
            let end = min(range.upperBound, start + chunkLength)
            try chunk(index).withUnsafeBytes { bytes in
                for i in position - start..<end - start {
                    switch type {
                    case .uint8: result.append(Int64(bytes[i]))
                    case .uint16: result.append(Int64(bytes.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)))
                    case .int32: result.append(Int64(bytes.loadUnaligned(fromByteOffset: 4 * i, as: Int32.self)))
                    case .int64: result.append(bytes.loadUnaligned(fromByteOffset: 8 * i, as: Int64.self))
                    }
                }
            }
            position = end
        }
        return result
    }
}
