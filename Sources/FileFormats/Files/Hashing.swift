import Crypto
import Foundation
import Host

/// A SHA-256 (FIPS 180-4) that takes its input in pieces.
public struct SHA256Stream {
    private var state = SHA256()

    public init() {}
    public mutating func update(_ bytes: UnsafeRawBufferPointer) { state.update(bufferPointer: bytes) }
    public mutating func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { state.update(bufferPointer: $0) } }

    /// The digest as 64 lower-case hexadecimal digits.
    public func hexDigest() -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for byte in state.finalize() { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
        return String(decoding: text, as: UTF8.self)
    }
}

/// The first 16 bytes of the SHA-256 of numbers, to tell lists of them apart.
public func hash128(_ numbers: [Int32]) -> (UInt64, UInt64) {
    var state = SHA256()
    numbers.withUnsafeBytes { state.update(bufferPointer: $0) }
    return state.finalize().withUnsafeBytes {
        ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
}

/// SHA-256 as 64 lower-case hexadecimal digits.
public func sha256(_ bytes: [UInt8]) -> String {
    var stream = SHA256Stream()
    stream.update(bytes)
    return stream.hexDigest()
}

/// SHA-256 of a file, read in pieces.
///
/// - Throws: `FileError.missing`, `.notAFile`, `.io`, `StopRequest.Stopped`.
public func sha256(ofFile path: String) throws -> String { try digest(ofFile: path).sha256 }

/// The number of a file's bytes, and their SHA-256.
///
/// - Throws: `FileError.missing`, `.notAFile`, `.io`, `StopRequest.Stopped`.
public func digest(ofFile path: String) throws -> (size: Int, sha256: String) {
    let file = try Descriptor.reading(path)
    var stream = SHA256Stream()
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer { buffer.deallocate() }
    var offset = 0
    while true {
        try StopRequest.check()
        let count = try file.read(into: buffer, at: offset)
        if count == 0 { return (offset, stream.hexDigest()) }
        stream.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        offset += count
    }
}
