internal import CKernels
import Foundation
import Synchronization

/// 4-bit NormalFloat quantisation of frozen weights (QLoRA, arXiv:2305.14314), with the blocks, code book and rounding
/// of bitsandbytes: 4.13 bits a number with double quantisation, 4.5 without.
public enum NormalFloat {
    /// Numbers that share a scale; blocks go through the matrix row after row, across its rows' ends.
    static let block = Int(GRAFT_NF4_BLOCK)
    /// Scales that share a scale of their own.
    static let scaleBlock = 256

    /// Codes and scales of a matrix.
    fileprivate struct Content: Sendable {
        var codes: [UInt8]
        /// One a block; empty when the scales are quantised themselves.
        var scales: [Float] = []
        var quantizedScales: [UInt8] = []
        /// One for `scaleBlock` scales.
        var outerScales: [Float] = []
        /// The mean of the scales, which is taken off before they are quantised.
        var offset: Float = 0

        var byteCount: Int { codes.count + quantizedScales.count + 4 * (scales.count + outerScales.count) }

        func scale(_ block: Int) -> Float {
            if !scales.isEmpty { return scales[block] }
            return dynamicCodes[Int(quantizedScales[block])] * outerScales[block / NormalFloat.scaleBlock] + offset
        }
    }

    /// Quantises a matrix whose rows `source` gives.
    ///
    /// - Parameters:
    ///   - doubly: quantise the scales, too (section 3 of the paper)
    ///   - source: writes f32 rows; called with ranges in any order from any of the pool's threads
    /// - Returns: nil when a number is not finite.
    public static func quantize(
        rows: Int, columns: Int, doubly: Bool, pool: WorkerPool,
        source: (Range<Int>, UnsafeMutablePointer<Float>) -> Void
    ) -> QuantizedMatrix? {
        let refused = Atomic<Bool>(false)
        let blocks = (rows * columns + block - 1) / block
        var content = Content(codes: [UInt8](repeating: 0, count: (rows * columns + 1) / 2))
        var scales = [Float](repeating: 0, count: blocks)
        // Pieces begin at whole rows and at whole blocks.
        let unit = block / greatestCommonDivisor(block, columns), step = max(unit, 16 / unit * unit)
        content.codes.withUnsafeMutableBufferPointer { codes in
            scales.withUnsafeMutableBufferPointer { scales in
                let (codes, scales) = (codes.baseAddress!, scales.baseAddress!)
                pool.parallelFor((rows + step - 1) / step) { item, worker in
                    let first = item * step, last = min(rows, first + step), start = first * columns
                    let numbers = worker.floats(1, count: (last - first) * columns)
                    source(first..<last, numbers)
                    // The encoder takes NaN for the code of zero.
                    if !(0..<(last - first) * columns).allSatisfy({ numbers[$0].isFinite }) {
                        refused.store(true, ordering: .relaxed)
                    }
                    graft_nf4_encode(codes + start / 2, scales + start / block, numbers, (last - first) * columns)
                }
            }
        }
        guard !refused.load(ordering: .relaxed) else { return nil }
        if doubly { content.quantize(scales) } else { content.scales = scales }
        return matrix(rows, columns, content)
    }

    private static func matrix(_ rows: Int, _ columns: Int, _ content: Content) -> QuantizedMatrix {
        QuantizedMatrix(rows: rows, columns: columns, byteCount: content.byteCount) { range, numbers in
            content.decode(range.lowerBound * columns..<range.upperBound * columns, into: numbers)
        }
    }

    private static func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int {
        b == 0 ? a : greatestCommonDivisor(b, a % b)
    }

    /// The 256 values of the 8-bit dynamic data type (arXiv:2110.02861, section 2.1) as bitsandbytes makes them: seven
    /// powers of ten, each with twice as many values as the one below, then 0 and 1, in order.
    static let dynamicCodes: [Float] = {
        var codes: [Float] = [0, 1]
        for exponent in 0..<7 {
            // PyTorch's linspace(0.1, 1, count + 1), which steps from both ends.
            let count = 1 << exponent, step = (1 - Float(0.1)) / Float(count)
            let power = Float(pow(10, Double(exponent - 6)))
            let bounds = (0...count).map {
                2 * $0 < count + 1 ? 0.1 + step * Float($0) : 1 - step * Float(count - $0)
            }
            for (low, high) in zip(bounds, bounds.dropFirst()) {
                codes += [power * ((low + high) / 2), -power * ((low + high) / 2)]
            }
        }
        return codes.sorted()
    }()
}

extension NormalFloat {
    /// The sum in f32 in the order in which PyTorch takes it on one thread: scales near the middle between two codes
    /// then fall to the same side as there. Rows of four vectors of eight, whose sums cascade through four levels.
    static func sum(_ values: [Float]) -> Float {
        typealias Lanes = SIMD8<Float>
        let vectors = values.count / 8, rows = vectors / 4
        func vector(_ index: Int) -> Lanes { Lanes(values[index * 8..<index * 8 + 8]) }
        var levels = [[Lanes]](repeating: [Lanes](repeating: .zero, count: 4), count: 4)
        let power = max(4, (rows <= 1 ? 0 : Int.bitWidth - (rows - 1).leadingZeroBitCount) / 4), step = 1 << power
        for row in 0..<rows {
            for column in 0..<4 { levels[0][column] += vector(row * 4 + column) }
            guard (row + 1) % step == 0 else { continue }
            for level in 1..<4 {
                for column in 0..<4 { levels[level][column] += levels[level - 1][column] }
                levels[level - 1] = [Lanes](repeating: .zero, count: 4)
                if (row + 1) & (step - 1) << (level * power) != 0 { break }
            }
        }
        for level in 1..<4 { for column in 0..<4 { levels[0][column] += levels[level][column] } }
        var total = levels[0][0]
        for index in rows * 4..<vectors { total += vector(index) }
        for column in 1..<4 { total += levels[0][column] }
        var sum: Float = 0
        for index in vectors * 8..<values.count { sum += values[index] }
        for lane in 0..<8 { sum += total[lane] }
        return sum
    }
}

extension NormalFloat.Content {
    /// Keeps the scales in 8 bits: less their mean, in blocks, each the nearest dynamic code times the largest
    /// magnitude.
    fileprivate mutating func quantize(_ scales: [Float]) {
        offset = NormalFloat.sum(scales) / Float(max(1, scales.count))
        let codes = NormalFloat.dynamicCodes
        for start in stride(from: 0, to: scales.count, by: NormalFloat.scaleBlock) {
            let block = scales[start..<min(scales.count, start + NormalFloat.scaleBlock)].map { $0 - offset }
            let largest = block.reduce(0) { max($0, abs($1)) }
            outerScales.append(largest)
            for value in block {
                quantizedScales.append(Self.nearest(largest > 0 ? value * (1 / largest) : 0, codes))
            }
        }
    }

    /// The place of the code nearest to `unit`, from -1 to 1, on the grid of 65,536 steps that bitsandbytes looks codes
    /// up on.
    private static func nearest(_ unit: Float, _ codes: [Float]) -> UInt8 {
        let value = Float(Double(((unit + 1) * 0.5 * 65535 + 0.5).rounded(.down)) / 65535 * 2 - 1)
        var (low, high) = (0, codes.count - 1)
        while low < high {
            let middle = (low + high) / 2
            if codes[middle] < value { low = middle + 1 } else { high = middle }
        }
        if low > 0, value - codes[low - 1] < codes[low] - value { low -= 1 }
        return UInt8(low)
    }

    /// Writes the numbers of a range of the whole matrix.
    fileprivate func decode(_ range: Range<Int>, into numbers: UnsafeMutablePointer<Float>) {
        let size = NormalFloat.block
        codes.withUnsafeBufferPointer { codes in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: size + 64) { memory in
                let (piece, scales) = (memory.baseAddress!, memory.baseAddress! + size)
                var place = range.lowerBound
                while place < range.upperBound {
                    let block = place / size, inside = place % size
                    if inside == 0, range.upperBound - place >= size {
                        let count = min(64, (range.upperBound - place) / size)
                        for i in 0..<count { scales[i] = scale(block + i) }
                        graft_nf4_decode(
                            numbers + (place - range.lowerBound), codes.baseAddress! + place / 2, scales, count * size)
                        place += count * size
                        continue
                    }
                    // A block that goes on in a row outside of the range.
                    let end = min(size, inside + range.upperBound - place)
                    scales[0] = scale(block)
                    graft_nf4_decode(piece, codes.baseAddress! + block * size / 2, scales, end)
                    (numbers + (place - range.lowerBound)).update(from: piece + inside, count: end - inside)
                    place += end - inside
                }
            }
        }
    }
}
