import CKernels
import FileFormats
import Foundation
import Testing

@testable import Export

/// Blocks and values that ggml made of a seeded source, `[8, 256]`, and its mean squared error for each type.
private let opened = Result { try SafetensorsFile(path: fixturesFolder + "/quantised/codecs.safetensors") }
private var fixture: SafetensorsFile { get throws { try opened.get() } }

private func bytes(_ name: String) throws -> [UInt8] {
    Array(try fixture.withBytes(of: try #require(try fixture.entry(named: name), "\(name)")))
}

private func floats(_ name: String) throws -> [Float] {
    try fixture.floats(of: try #require(try fixture.entry(named: name), "\(name)"))
}

private func encoded(_ rows: [Float], width: Int, as type: GGMLType, importance: [Float]? = nil) throws -> [UInt8] {
    var result = [UInt8](repeating: 0xAA, count: try #require(type.byteCount(of: [rows.count / width, width])))
    let isWritten = rows.withUnsafeBufferPointer { rows in
        result.withUnsafeMutableBytes {
            RowEncoding.encode(rows, width: width, as: type, importance: importance, into: $0)
        }
    }
    #expect(isWritten)
    return result
}

private func decoded(_ blocks: [UInt8], as type: GGMLType) -> [Float] {
    var result = [Float](repeating: .nan, count: blocks.count / type.blockSize * type.blockLength)
    blocks.withUnsafeBytes { blocks in
        result.withUnsafeMutableBufferPointer { RowEncoding.decode(blocks, as: type, into: $0) }
    }
    return result
}

private func meanSquaredError(_ a: [Float], _ b: [Float], weights: [Float] = [1]) -> Double {
    zip(a, b).enumerated().reduce(0.0) {
        let e = Double($1.element.0) - Double($1.element.1)
        return $0 + e * e * Double(weights[$1.offset % weights.count])
    } / Double(a.count)
}

private let blockTypes = GGMLType.allCases.filter { $0.blockLength > 1 }
private let latticeTypes: [GGMLType] = [.iq1_s, .iq1_m, .iq2_xxs, .iq2_xs, .iq2_s, .iq3_xxs, .iq3_s]
private let readTypes = blockTypes.filter { !latticeTypes.contains($0) }
private let fixedTypes: [GGMLType] = [.q4_0, .q4_1, .q5_0, .q5_1, .q8_0]
private let writtenTypes = blockTypes.filter(RowEncoding.canEncode)

@Suite struct CodecTests {
    @Test func everyTypeOfBlocksButLatticesIsRead() {
        #expect(readTypes.allSatisfy(RowEncoding.canDecode) && !latticeTypes.contains(where: RowEncoding.canDecode))
        #expect(!RowEncoding.canDecode(.i32) && !RowEncoding.canDecode(.f64) && !RowEncoding.canEncode(.iq2_xxs))
        #expect(writtenTypes.count == 13)
    }

    @Test(arguments: readTypes.filter { $0 != .q8_1 }) func valuesAreGGMLsToTheBit(type: GGMLType) throws {
        let name = type.name.lowercased().replacingOccurrences(of: "_k", with: "_K")
        let found = decoded(try bytes(name + ".blocks"), as: type), expected = try floats(name + ".values")
        #expect(found.map(\.bitPattern) == expected.map(\.bitPattern))
    }

    @Test(arguments: fixedTypes) func bytesAreGGMLs(type: GGMLType) throws {
        let expected = try bytes(type.name.lowercased() + ".expected")
        #expect(try encoded(try floats("source"), width: 256, as: type) == expected)
    }

    @Test(arguments: writtenTypes.filter { !fixedTypes.contains($0) }) func errorIsNoLargerThanGGMLs(type: GGMLType)
        throws
    {
        let name = type.name.lowercased().replacingOccurrences(of: "_k", with: "_K")
        let theirs = try #require(try fixture.metadata.first { $0.0 == name }.flatMap { Double($0.1) })
        let source = try floats("source")
        #expect(meanSquaredError(decoded(try encoded(source, width: 256, as: type), as: type), source) <= theirs)
    }

    @Test(arguments: writtenTypes) func everyInstructionSetGivesTheSameBytes(type: GGMLType) throws {
        var generator = SeededGenerator(UInt64(type.rawValue))
        // An odd number of blocks, so that lanes stay empty.
        let rows = 5, width = 768
        let source = generator.floats(rows * width).enumerated().map {
            $1 * Float(1 + $0 / 256 % 3) - ($0 > 2000 ? 1 : 0)
        }
        let importance = generator.floats(width).map { $0 * $0 }
        for weights in [nil, importance] {
            var results: [[UInt8]] = []
            for level in 0..<3 {
                guard let codecs = graft_codecs_at(Int32(level)) else { continue }
                var blocks = [UInt8](repeating: 0, count: rows * width / type.blockLength * type.blockSize)
                let status = blocks.withUnsafeMutableBytes {
                    codecs.pointee.encode(Int32(type.rawValue), $0.baseAddress, source, weights, rows, width)
                }
                #expect(status == 1)
                results.append(blocks)
                var values = [Float](repeating: 0, count: rows * width)
                #expect(codecs.pointee.decode(Int32(type.rawValue), &values, blocks, values.count) == 1)
                #expect(values.map(\.bitPattern) == decoded(blocks, as: type).map(\.bitPattern))
            }
            #expect(results.allSatisfy { $0 == results[0] })
        }
    }

    @Test(arguments: writtenTypes) func degenerateRows(type: GGMLType) throws {
        let rows: [[Float]] = [
            [Float](repeating: 0, count: 256), [Float](repeating: -0.0, count: 256),
            [Float](repeating: 0.3, count: 256), [Float](repeating: -0.3, count: 256),
            (0..<256).map { $0 == 77 ? -5 : 0 }, (0..<256).map { Float($0 % 7) * 0x1.BEp-137 },
            (0..<256).map { 1 + Float($0) * 1e-5 }, (0..<256).map { Float($0 % 2 == 0 ? 30_000 : -30_000) },
        ]
        for row in rows {
            let found = decoded(try encoded(row, width: 256, as: type), as: type)
            let size = row.reduce(0) { max($0, abs($1)) }
            // The mean square of the error is far below the square of what is there.
            let isFinite = found.allSatisfy { $0.isFinite }
            #expect(isFinite)
            #expect(meanSquaredError(found, row) <= 0.04 * Double(size) * Double(size) + 1e-20, "\(row[0])")
        }
    }

    @Test func whatDoesNotFitIsRefused() throws {
        var row = [Float](repeating: 1e9, count: 256)
        row[0] = -3
        for type in writtenTypes where type != .mxfp4 {
            var blocks = [UInt8](repeating: 0, count: 256 / type.blockLength * type.blockSize)
            let isWritten = row.withUnsafeBufferPointer { row in
                blocks.withUnsafeMutableBytes { RowEncoding.encode(row, width: 256, as: type, into: $0) }
            }
            #expect(!isWritten, "\(type)")
        }
    }

    @Test(arguments: writtenTypes.filter { $0 != .q8_0 }) func importanceMovesTheError(type: GGMLType) throws {
        var generator = SeededGenerator(8)
        let source = generator.floats(16 * 256)
        let importance = (0..<256).map { Float($0 % 32 == 5 ? 100 : 1) }
        let plain = decoded(try encoded(source, width: 256, as: type), as: type)
        let weighed = decoded(try encoded(source, width: 256, as: type, importance: importance), as: type)
        #expect(
            meanSquaredError(weighed, source, weights: importance)
                < meanSquaredError(plain, source, weights: importance))
    }

    @Test(
        .enabled(if: Shared.exists(Shared.conformance), "the conformance data are not there"))
    func realFileOfEveryType() throws {
        let folder = Shared.conformance + "/models/gguf/"
        for name in ["quant-types", "stories260K-Q4_0", "stories260K-Q5_1", "stories260K-Q4_K_M", "stories260K-Q6_K"] {
            let file = try GGUFFile(path: folder + name + ".gguf")
            let expected = try SafetensorsFile(path: folder + name + ".dequant.safetensors")
            for tensor in file.tensors {
                guard let entry = expected.entry(named: tensor.name) else { continue }
                let found = decoded(Array(file.withBytes(of: tensor)), as: tensor.type)
                #expect(
                    found.map(\.bitPattern) == expected.floats(of: entry).map(\.bitPattern), "\(name) \(tensor.name)")
            }
        }
    }
}
