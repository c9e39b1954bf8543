import Testing

@testable import FileFormats

/// Each way in which a GGUF file can be wrong.
@Suite struct GGUFFaultTests {
    let scratch = Scratch()

    @Test func magic() throws {
        guard case .magic = try scratch.fault(GGUFBytes(magic: "GGML").bytes) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [0, 1, 4, UInt32.max]) func version(number: UInt32) throws {
        guard case .version(number) = try scratch.fault(GGUFBytes(version: number).bytes) else {
            Issue.record()
            return
        }
    }
    @Test func bigEndian() throws {
        guard case .bigEndian = try scratch.fault(GGUFBytes(version: 3 << 24).bytes) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [UInt64(1), 200_001, 1 << 62, .max]) func hugeCounts(count: UInt64) throws {
        guard case .count = try scratch.fault(GGUFBytes(tensors: count).bytes) else {
            Issue.record()
            return
        }
        guard case .count = try scratch.fault(GGUFBytes(keys: count).bytes) else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [UInt64(1000), 1 << 63, .max]) func hugeLengths(length: UInt64) throws {
        let key = try scratch.fault(keys: 1) {
            $0.add(text: "key", length: length)
            $0.data(32)
        }
        guard case .count = key else {
            Issue.record()
            return
        }
        let string = try scratch.fault(keys: 1) {
            $0.add(text: "key")
            $0.add(UInt32(8))
            $0.add(text: "value", length: length)
        }
        guard case .count = string else {
            Issue.record()
            return
        }
        for type: UInt32 in [0, 6, 7, 8, 12] {
            let array = try scratch.fault(keys: 1) {
                $0.add(text: "key")
                $0.add(UInt32(9))
                $0.add(type)
                $0.add(length)
                $0.data(64)
            }
            guard case .count = array else {
                Issue.record()
                return
            }
        }
    }
    @Test(arguments: ["", "\u{0}"]) func keys(key: String) throws {
        let found = try scratch.fault(keys: 1) {
            $0.pair(key, 1)
            $0.data(32)
        }
        if key.isEmpty {
            guard case .malformedKey = found else {
                Issue.record()
                return
            }
        }
    }
    @Test func keyNotUTF8() throws {
        let found = try scratch.fault(keys: 1) {
            $0.add(UInt64(2))
            $0.bytes += [0xFF, 0xFE]
            $0.data(64)
        }
        guard case .malformedKey = found else {
            Issue.record()
            return
        }
    }
    @Test func duplicateKey() throws {
        guard
            case .duplicateKey("k") = try scratch.fault(
                keys: 2,
                {
                    $0.pair("k", 1)
                    $0.pair("k", 1)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [13, UInt32.max]) func valueType(type: UInt32) throws {
        let value = try scratch.fault(keys: 1) {
            $0.add(text: "k")
            $0.add(type)
            $0.data(32)
        }
        guard case .valueType("k", type) = value else {
            Issue.record()
            return
        }
        let array = try scratch.fault(keys: 1) {
            $0.add(text: "k")
            $0.add(UInt32(9))
            $0.add(type)
            $0.data(32)
        }
        guard case .valueType("k", type) = array else {
            Issue.record()
            return
        }
    }
    @Test func nestedArray() throws {
        let found = try scratch.fault(keys: 1) {
            $0.add(text: "k")
            $0.add(UInt32(9))
            $0.add(UInt32(9))
            $0.data(64)
        }
        guard case .nestedArray("k") = found else {
            Issue.record()
            return
        }
    }
    @Test func boolean() throws {
        let found = try scratch.fault(keys: 1) {
            $0.add(text: "k")
            $0.add(UInt32(7))
            $0.add(UInt8(2))
            $0.data(32)
        }
        guard case .boolean("k", 2) = found else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [0, 3, 33, UInt32.max, 1 << 21]) func alignment(value: UInt32) throws {
        guard case .alignment = try scratch.fault(keys: 1, { $0.pair("general.alignment", value) }) else {
            Issue.record()
            return
        }
    }
    @Test func alignmentOfWrongType() throws {
        let found = try scratch.fault(keys: 1) {
            $0.add(text: "general.alignment")
            $0.add(UInt32(10))
            $0.add(UInt64(32))
        }
        guard case .alignment = found else {
            Issue.record()
            return
        }
    }
    @Test func duplicateTensor() throws {
        let found = try scratch.fault(tensors: 2) {
            $0.tensor("t")
            $0.tensor("t", offset: 32)
            $0.data(64)
        }
        guard case .duplicateTensor("t") = found else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [[], [1, 1, 1, 1, 1]] as [[UInt64]]) func dimensionCount(shape: [UInt64]) throws {
        guard
            case .dimensionCount = try scratch.fault(
                tensors: 1,
                {
                    $0.tensor("t", shape)
                    $0.data(64)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [0, 1 << 63, UInt64.max]) func dimension(size: UInt64) throws {
        guard
            case .dimension("t", size) = try scratch.fault(
                tensors: 1,
                {
                    $0.tensor("t", [2, size])
                    $0.data(64)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test func shapeOverflow() throws {
        let found = try scratch.fault(tensors: 1) {
            $0.tensor("t", [1 << 40, 1 << 40])
            $0.data(64)
        }
        guard case .shapeOverflow("t", _) = found else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [4, 5, 31, 43, UInt32.max]) func tensorType(type: UInt32) throws {
        guard
            case .tensorType("t", type) = try scratch.fault(
                tensors: 1,
                {
                    $0.tensor("t", type: type)
                    $0.data(64)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test func unevenRows() throws {
        let found = try scratch.fault(tensors: 1) {
            $0.tensor("t", [33, 32], type: 8)
            $0.data(4096)
        }
        guard case .unevenRows("t", 33, .q8_0) = found else {
            Issue.record()
            return
        }
    }
    @Test func misaligned() throws {
        guard
            case .misaligned("t", 4, 32) = try scratch.fault(
                tensors: 1,
                {
                    $0.tensor("t", offset: 4)
                    $0.data(64)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test(arguments: [64, 1 << 40, UInt64.max - 31]) func pastEnd(offset: UInt64) throws {
        guard
            case .pastEnd = try scratch.fault(
                tensors: 1,
                {
                    $0.tensor("t", offset: offset)
                    $0.data(64)
                })
        else {
            Issue.record()
            return
        }
    }
    @Test func overlap() throws {
        let found = try scratch.fault(tensors: 2) {
            $0.tensor("a", [16])
            $0.tensor("b", offset: 32)
            $0.data(96)
        }
        guard case .overlap("b", "a") = found else {
            Issue.record()
            return
        }
    }
}
