import Foundation
import Testing

@testable import TensorCore

// Every operation once more as plain loops over Double arrays, and the comparison of an operation with its reference:
// forward values directly, gradients with central differences of the reference. T rows, K in, O out, r rank, V words.

enum Reference {
    /// `[T, K] x [O, K]^T`
    static func product(_ x: [Double], _ w: [Double], k: Int) -> [Double] {
        let (rows, outputs) = (x.count / k, w.count / k)
        var result = [Double](repeating: 0, count: rows * outputs)
        // Pointers and `while`, for builds without optimisation.
        x.withUnsafeBufferPointer { x in
            w.withUnsafeBufferPointer { w in
                for t in 0..<rows {
                    for o in 0..<outputs {
                        var (sum, i) = (0.0, 0)
                        while i < k {
                            sum += x[t * k + i] * w[o * k + i]
                            i += 1
                        }
                        result[t * outputs + o] = sum
                    }
                }
            }
        }
        return result
    }

    static func adding(_ x: [Double], bias: [Double]) -> [Double] {
        x.indices.map { x[$0] + bias[$0 % bias.count] }
    }

    static func sum(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map(+) }

    /// scale * (x A^T) B^T for A `[r, K]`, B `[O, r]`.
    static func lowRank(_ x: [Double], a: [Double], b: [Double], k: Int, rank: Int, scale: Double) -> [Double] {
        product(product(x, a, k: k), b, k: rank).map { $0 * scale }
    }

    /// SplitMix64's finaliser, written apart from the kernels.
    static func random(_ key: UInt64, _ counter: UInt64) -> UInt64 {
        var z = key &+ (counter &+ 1) &* 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    static func dropout(_ x: [Double], key: UInt64, probability: Double) -> [Double] {
        x.indices.map { i in
            let isDropped = Double(random(key, UInt64(i)) >> 32) < (probability * 0x1p32).rounded(.down)
            return isDropped ? 0 : x[i] / (1 - probability)
        }
    }

    static func rmsNorm(_ x: [Double], weight: [Double], eps: Double) -> [Double] {
        let width = weight.count
        let norms = (0..<x.count / width).map { row in
            var (sum, i) = (0.0, row * width)
            while i < (row + 1) * width {
                sum += x[i] * x[i]
                i += 1
            }
            return (sum / Double(width) + eps).squareRoot()
        }
        return x.indices.map { x[$0] / norms[$0 / width] * weight[$0 % width] }
    }

    /// Turns pair (i, i + half), or (2i, 2i + 1), of each head by the angle `position / base^(i / half)`.
    static func rotate(
        _ x: [Double], heads: Int, headDim: Int, half: Int, positions: [Int32], isInterleaved: Bool = false
    ) -> [Double] {
        var result = x
        for t in positions.indices {
            for h in 0..<heads {
                for i in 0..<half {
                    let head = (t * heads + h) * headDim
                    let (low, high) = isInterleaved ? (head + 2 * i, head + 2 * i + 1) : (head + i, head + half + i)
                    let angle = rotaryAngle(position: Int(positions[t]), pair: i, half: half)
                    result[low] = x[low] * cos(angle) - x[high] * sin(angle)
                    result[high] = x[high] * cos(angle) + x[low] * sin(angle)
                }
            }
        }
        return result
    }

    static func rotaryAngle(position: Int, pair: Int, half: Int) -> Double {
        Double(position) / pow(100, Double(pair) / Double(half))
    }

    static func swiGLU(gate: [Double], up: [Double]) -> [Double] {
        zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 }
    }

    /// gelu(gate) * up with the approximation of arXiv:1606.08415, section 2.
    static func geGLU(gate: [Double], up: [Double]) -> [Double] {
        zip(gate, up).map { 0.5 * $0 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) * $1 }
    }

    static func columns(_ x: [Double], width: Int, _ range: Range<Int>) -> [Double] {
        (0..<x.count / width).flatMap { x[$0 * width + range.lowerBound..<$0 * width + range.upperBound] }
    }

    static func rows(_ x: [Double], width: Int, _ indices: [Int]) -> [Double] {
        indices.flatMap { x[$0 * width..<($0 + 1) * width] }
    }

    static func attention(
        q: [Double], k: [Double], v: [Double], segmentStarts: [Int], shape: AttentionShape, sinks: [Double]? = nil
    ) -> [Double] {
        let (dim, heads, keyHeads, valueDim) = (shape.headDim, shape.heads, shape.keyValueHeads, shape.valueDim)
        var result = [Double](repeating: 0, count: q.count / dim * valueDim)
        for (start, end) in zip(segmentStarts, segmentStarts.dropFirst()) {
            for t in start..<end {
                let first = max(start, shape.window.map { t - $0 + 1 } ?? start)
                for h in 0..<heads {
                    let keyHead = h / (heads / keyHeads)
                    let scores = (first...t).map { s in
                        var (dot, i) = (0.0, 0)
                        while i < dim {
                            dot += q[(t * heads + h) * dim + i] * k[(s * keyHeads + keyHead) * dim + i]
                            i += 1
                        }
                        let score = dot * Double(shape.scale)
                        return shape.softCap.map { Double($0) * tanh(score / Double($0)) } ?? score
                    }
                    let weights = softmax(scores + (sinks.map { [$0[h]] } ?? []))
                    for (s, weight) in zip(first...t, weights) {
                        var i = 0
                        while i < valueDim {
                            result[(t * heads + h) * valueDim + i] +=
                                weight * v[(s * keyHeads + keyHead) * valueDim + i]
                            i += 1
                        }
                    }
                }
            }
        }
        return result
    }

    static func softmax(_ scores: [Double]) -> [Double] {
        let top = scores.max() ?? 0
        let exponentials = scores.map { exp($0 - top) }
        let sum = exponentials.reduce(0, +)
        return exponentials.map { $0 / sum }
    }

    static func crossEntropy(logits: [Double], vocabulary: Int, targets: [Int32]) -> [Double] {
        targets.indices.map { t in
            let row = Array(logits[t * vocabulary..<(t + 1) * vocabulary])
            let top = row.max() ?? 0
            return top + log(row.reduce(0) { $0 + exp($1 - top) }) - row[Int(targets[t])]
        }
    }
}

extension Reference {
    /// Equation 1 of arXiv:2306.13649 a row, of logits of two widths cut to the shorter.
    static func divergence(
        student: [Double], _ studentWidth: Int, teacher: [Double], _ teacherWidth: Int, _ divergence: Divergence
    ) -> [Double] {
        func distributions(_ logits: [Double], _ width: Int) -> [[Double]] {
            stride(from: 0, to: logits.count, by: width).map { start in
                softmax(logits[start..<start + min(studentWidth, teacherWidth)].map { $0 / divergence.temperature })
            }
        }
        func distance(_ p: [Double], _ q: [Double]) -> Double { zip(p, q).reduce(0) { $0 + $1.0 * log($1.0 / $1.1) } }
        return zip(distributions(student, studentWidth), distributions(teacher, teacherWidth)).map { p, q in
            let beta = divergence.beta
            if beta == 0 { return distance(q, p) }
            if beta == 1 { return distance(p, q) }
            let mixture = zip(p, q).map { (1 - beta) * $0 + beta * $1 }
            return beta * distance(q, mixture) + (1 - beta) * distance(p, mixture)
        }
    }
}

/// Cosines and sines in the layout of the operation, of the reference's angles.
func rotaryTable(positions: Int, half: Int, isInterleaved: Bool = false) -> RotaryTable {
    let angles = (0..<positions * half).map {
        Reference.rotaryAngle(position: $0 / half, pair: $0 % half, half: half)
    }
    return RotaryTable(
        cosine: Tensor([positions, half], values: angles.map { Float(cos($0)) }),
        sine: Tensor([positions, half], values: angles.map { Float(sin($0)) }), isInterleaved: isInterleaved)
}

/// Normal numbers of standard deviation `scale`, the same for the same words.
func normals(_ count: Int, scale: Double = 1, _ seed: UInt64) -> [Float] {
    let generator = CounterRNG(seed)
    return (0..<count).map { Float(generator.normal(UInt64($0)) * scale) }
}

func doubles(_ values: [Float]) -> [Double] { values.map(Double.init) }

/// The values as bf16 holds them.
func roundedToBF16(_ values: [Float]) -> [Float] {
    Tensor([values.count], values: values).converted(to: .bf16).floats()
}

/// The largest difference, relative to the largest entry of `expected` or to `floor` where that is larger; infinite
/// for a NaN or another length.
func relativeError(_ actual: [Float], _ expected: [Double], floor: Double = 1e-30) -> Double {
    guard actual.count == expected.count else { return .infinity }
    let largest = expected.reduce(floor) { max($0, abs($1)) }
    var worst = 0.0
    for (a, e) in zip(actual, expected) {
        let difference = abs(Double(a) - e)
        if !difference.isFinite { return .infinity }
        worst = max(worst, difference)
    }
    return worst / largest
}

func relativeError(_ actual: [Float], _ expected: [Float], floor: Double = 1e-30) -> Double {
    relativeError(actual, doubles(expected), floor: floor)
}

/// The same bits, so that -0 differs from 0 and a NaN equals itself.
func sameBits(_ a: [Float], _ b: [Float]) -> Bool { a.map(\.bitPattern) == b.map(\.bitPattern) }

/// Compares `gradients` (one array an input) of `sum(seeds * outputs)` with central differences of `reference`.
///
/// Up to `samples` entries an input are compared one by one, all of them where there are no more; then each input's
/// derivative along two directions of random signs, which an error in any entry would change.
/// - Returns: a line for each mismatch.
func gradientMismatches(
    inputs: [(name: String, values: [Double])], gradients: [[Float]], seeds: [[Double]], samples: Int,
    tolerance: Double, reference: ([[Double]]) -> [[Double]]
) -> [String] {
    func loss(_ values: [[Double]]) -> Double {
        var sum = 0.0
        for (seeds, output) in zip(seeds, reference(values)) {
            for i in output.indices { sum += seeds[i] * output[i] }
        }
        return sum
    }
    let step = 1e-5
    func difference(_ input: Int, _ direction: (Int) -> Double) -> Double {
        var (above, below) = (inputs.map(\.values), inputs.map(\.values))
        for i in above[input].indices {
            let change = step * direction(i)
            guard change != 0 else { continue }
            above[input][i] += change
            below[input][i] -= change
        }
        return (loss(above) - loss(below)) / (2 * step)
    }
    var mismatches: [String] = []
    for (index, input) in inputs.enumerated() {
        let gradient = gradients[index], count = input.values.count
        guard gradient.count == count else {
            mismatches.append("\(input.name): \(gradient.count) gradients for \(count) entries")
            continue
        }
        let largest = gradient.reduce(0) { max($0, abs(Double($1))) }
        let generator = CounterRNG(UInt64(index), 77)
        let entries =
            count <= samples
            ? Array(0..<count) : (0..<samples).map { Int(generator.bits(UInt64($0)) % UInt64(count)) }
        for entry in entries {
            let expected = difference(index) { $0 == entry ? 1 : 0 }
            let error = abs(Double(gradient[entry]) - expected)
            if !(error <= tolerance * max(largest, abs(expected))) && !(error <= 1e-9) {
                mismatches.append("d \(input.name)[\(entry)] is \(gradient[entry]), expected \(expected)")
            }
        }
        for direction in 0..<2 {
            let signs = CounterRNG(UInt64(index), 78, UInt64(direction))
            let sign = { (i: Int) in signs.bits(UInt64(i)) & 1 == 0 ? 1.0 : -1.0 }
            let expected = difference(index, sign)
            let actual = gradient.indices.reduce(0.0) { $0 + Double(gradient[$1]) * sign($1) }
            // Errors of single entries add up like a random walk.
            let allowed = tolerance * max(abs(expected), largest * Double(count).squareRoot()) + 1e-9
            if !(abs(actual - expected) <= allowed) {
                mismatches.append("d \(input.name) along direction \(direction) is \(actual), expected \(expected)")
            }
        }
    }
    return mismatches
}
