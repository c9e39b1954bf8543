import Foundation
import Testing

@testable import FileFormats

/// A folder for one test, removed at its end.
final class Scratch {
    let path: String
    init() {
        path = NSTemporaryDirectory() + "graft-tests-" + UUID().uuidString
        mkdir(path, 0o777)
    }
    deinit { removeTree(path) }

    func callAsFunction(_ name: String) -> String { path + "/" + name }

    @discardableResult
    func write(_ name: String, _ bytes: [UInt8]) -> String {
        let path = self(name)
        _ = FileManager.default.createFile(atPath: path, contents: Data(bytes))
        return path
    }
    @discardableResult
    func write(_ name: String, _ text: String) -> String { write(name, Array(text.utf8)) }

    var names: [String] { (try? namesInFolder(path)) ?? [] }
}

/// A seeded generator (SplitMix64, https://doi.org/10.1145/2660193.2660195), so that failures can be repeated.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}
