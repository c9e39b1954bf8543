internal import CKernels

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
    public static func quantize(
        rows: Int, columns: Int, doubly: Bool, pool: WorkerPool,
        source: (Range<Int>, UnsafeMutablePointer<Float>) -> Void
    ) -> QuantizedMatrix {
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
                    graft_nf4_encode(codes + start / 2, scales + start / block, numbers, (last - first) * columns)
                }
            }
        }
        if doubly { content.quantize(scales) } else { content.scales = scales }
        return matrix(rows, columns, content)
    }

    private static func matrix(_ rows: Int, _ columns: Int, _ content: Content) -> QuantizedMatrix {
        QuantizedMatrix(rows: rows, columns: columns, byteCount: content.byteCount) { range, numbers in
            content.decode(range.lowerBound * columns..<range.upperBound * columns, into: numbers)
        }
    }

    private static func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int { b == 0 ? a : greatestCommonDivisor(b, a % b) }

    /// The 256 values of the 8-bit dynamic data type (arXiv:2110.02861, section 2.1) as bitsandbytes makes them: seven
    /// powers of ten, each with twice as many values as the one below, then 0 and 1, in order.
    static let dynamicCodes: [Float] = {
        var codes: [Float] = [0, 1]
        for exponent in 0..<7 {
            let count = 1 << exponent
            let power = Float(pow10(exponent - 6))
            let bounds = (0...count).map { 0.1 + 0.9 * Double($0) / Double(count) }
            for i in 0..<count {
                let mean = (Float(bounds[i]) + Float(bounds[i + 1])) / 2
                codes += [power * mean, -power * mean]
            }
        }
        return codes.sorted()
    }()

    private static func pow10(_ exponent: Int) -> Double {
        var result = 1.0
        for _ in 0..<abs(exponent) { result *= 10 }
        return exponent < 0 ? 1 / result : result
    }
}

extension NormalFloat.Content {
    /// Keeps the scales in 8 bits: less their mean, in blocks, each the nearest dynamic code times the largest magnitude.
    fileprivate mutating func quantize(_ scales: [Float]) {
        offset = Float(scales.reduce(0.0) { $0 + Double($1) } / Double(max(1, scales.count)))
        let codes = NormalFloat.dynamicCodes
        for start in stride(from: 0, to: scales.count, by: NormalFloat.scaleBlock) {
            let block = scales[start..<min(scales.count, start + NormalFloat.scaleBlock)].map { $0 - offset }
            let largest = block.reduce(0) { max($0, abs($1)) }
            outerScales.append(largest)
            for value in block {
                quantizedScales.append(Self.nearest(largest > 0 ? value / largest : 0, codes))
            }
        }
    }

    /// The place of the code nearest to `value`.
    private static func nearest(_ value: Float, _ codes: [Float]) -> UInt8 {
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
