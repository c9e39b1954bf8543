import CKernels
import Foundation
import Testing

@testable import TensorCore

/// The loops of one instruction set and storage type.
struct KernelSet: Sendable, CustomTestStringConvertible {
    let level: Int32
    let dtype: DType

    var table: graft_kernel_table { graft_kernels_at(level, dtype == .bf16 ? 1 : 0)!.pointee }
    var testDescription: String { "\(["baseline", "avx2", "avx512"][Int(level)]) \(dtype)" }

    /// Those that this processor can run.
    static let all = [DType.f32, .bf16].flatMap { dtype in
        (Int32(0)...2).filter { graft_kernels_at($0, 0) != nil }.map { KernelSet(level: $0, dtype: dtype) }
    }
    static let f32 = all.filter { $0.dtype == .f32 }
    static let bf16 = all.filter { $0.dtype == .bf16 }
}

@Suite struct NumberKernelTests {
    static let edges: [Float] = [
        0, -0.0, 1, -1, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, .leastNormalMagnitude,
        Float(bitPattern: 0x007F_FFFF), Float(bitPattern: 0x0000_8000), Float(bitPattern: 0x0001_8000),
        .greatestFiniteMagnitude, -.greatestFiniteMagnitude, .infinity, -.infinity, .nan,
        Float(bitPattern: 0x7F80_0001), Float(bitPattern: 0xFF80_0001), Float(bitPattern: 0x7FFF_FFFF),
        Float(bitPattern: 0xFFFF_FFFF), Float(bitPattern: 0x3F80_8000), Float(bitPattern: 0x3F81_8000),
        Float(bitPattern: 0x3F80_7FFF), Float(bitPattern: 0x3F80_8001), Float(bitPattern: 0x7F7F_8000),
        65504, 65519.99, 65520, -65520, 6e-8, 2.9e-8, 3.1e-8, 6.1e-5,
    ]

    /// The edges, then any bit patterns at all.
    static let anyFloats: [Float] = {
        let generator = CounterRNG(31)
        return edges + (0..<50_000).map { Float(bitPattern: UInt32(truncatingIfNeeded: generator.bits($0))) }
    }()

    /// Whether `result` is `value` rounded to nearest even in a format whose neighbours `decode` tells.
    private func isNearestEven(_ value: Float, _ result: UInt16, infinity: UInt16, decode: (UInt16) -> Double) -> Bool {
        if value.isNaN { return decode(result).isNaN }
        if (value.sign == .minus) != (result & 0x8000 != 0) { return false }
        let magnitude = result & 0x7FFF, size = abs(Double(value))
        // For rounding, infinity stands where the next finite number would.
        func place(_ bits: UInt16) -> Double {
            bits == infinity ? decode(infinity - 1) * 2 - decode(infinity - 2) : decode(bits)
        }
        if value.isInfinite { return magnitude == infinity }
        if magnitude > infinity { return false }
        let error = abs(place(magnitude) - size)
        if magnitude == infinity && size > place(infinity) { return true }
        for neighbour in [magnitude &- 1, magnitude + 1] where neighbour <= infinity {
            let other = abs(place(neighbour) - size)
            if other < error || (other == error && magnitude % 2 == 1) { return false }
        }
        return true
    }

    @Test("f32 to bf16 rounds to nearest even", arguments: KernelSet.bf16)
    func roundToBF16(_ set: KernelSet) {
        var result = [UInt16](repeating: 0, count: Self.anyFloats.count)
        set.table.from_f32(&result, Self.anyFloats, result.count)
        let wrong = zip(Self.anyFloats, result).filter { value, bits in
            !isNearestEven(value, bits, infinity: 0x7F80) { Double(Float(bitPattern: UInt32($0) << 16)) }
        }
        #expect(wrong.isEmpty)
        // Where the loop's vectors end.
        for count in 0..<40 {
            var short = [UInt16](repeating: 7, count: 41)
            set.table.from_f32(&short, Self.anyFloats, count)
            #expect(Array(short.prefix(count)) == Array(result.prefix(count)) && short[count...].allSatisfy { $0 == 7 })
        }
    }

    @Test("bf16 to f32 is exact, and back", arguments: KernelSet.bf16)
    func widenBF16(_ set: KernelSet) {
        let all = (0...UInt16.max).map { $0 }
        var (wide, back) = ([Float](repeating: 0, count: all.count), [UInt16](repeating: 0, count: all.count))
        set.table.to_f32(&wide, all, all.count)
        set.table.from_f32(&back, wide, all.count)
        #expect(zip(all, wide).allSatisfy { UInt32($0) << 16 == $1.bitPattern })
        #expect(
            zip(all, back).allSatisfy { bits, back in
                bits & 0x7FFF > 0x7F80 ? back == bits | 0x40 : back == bits
            })
    }

    private func decodeF16(_ bits: UInt16) -> Double {
        let (exponent, fraction) = (Int(bits >> 10 & 31), Double(bits & 1023))
        let sign: Double = bits & 0x8000 == 0 ? 1 : -1
        if exponent == 31 { return fraction == 0 ? sign * .infinity : .nan }
        return exponent == 0 ? sign * fraction * 0x1p-24 : sign * (1 + fraction / 1024) * pow(2, Double(exponent - 15))
    }

    @Test("f16 to f32 and back")
    func f16() {
        let all = (0...UInt16.max).map { $0 }
        var (wide, back) = ([Float](repeating: 0, count: all.count), [UInt16](repeating: 0, count: all.count))
        graft_f16_to_f32(&wide, all, all.count)
        graft_f32_to_f16(&back, wide, all.count)
        for (bits, (value, back)) in zip(all, zip(wide, back)) {
            let expected = decodeF16(bits)
            if expected.isNaN {
                #expect(value.isNaN && decodeF16(back).isNaN)
            } else if Double(value) != expected || back != bits {
                Issue.record("\(bits) gives \(value) and \(back), expected \(expected)")
            }
        }
        var narrow = [UInt16](repeating: 0, count: Self.anyFloats.count)
        graft_f32_to_f16(&narrow, Self.anyFloats, narrow.count)
        let inRange = (0..<20_000).map { Float(CounterRNG(5).normal($0) * pow(10, Double($0 % 12) - 8)) }
        var narrowInRange = [UInt16](repeating: 0, count: inRange.count)
        graft_f32_to_f16(&narrowInRange, inRange, inRange.count)
        let wrong = zip(Self.anyFloats + inRange, narrow + narrowInRange).filter {
            !isNearestEven($0, $1, infinity: 0x7C00, decode: decodeF16)
        }
        #expect(wrong.isEmpty)
    }

    /// exp of each value up to 0: the probabilities of one attention row whose log sum is 0.
    private func exponentials(_ values: [Float], _ table: graft_kernel_table) -> [Float] {
        let n = values.count
        var (result, unused) = ([Float](repeating: 0, count: n), [Float](repeating: 0, count: n))
        table.attention_softmax_backward(
            &result, &unused, values, values, [0], [0], 1, 1, n, 1, n - 1, 0, n, Int.max / 2)
        return result
    }

    /// silu of each value: SwiGLU with an upper half of ones.
    private func silus(_ values: [Float], _ table: graft_kernel_table) -> [Float] {
        var result = [Float](repeating: 0, count: values.count)
        table.swiglu(&result, values, [Float](repeating: 1, count: values.count), values.count)
        return result
    }

    @Test("exp up to 0 within 2e-7 of the true value", arguments: KernelSet.f32)
    func exponential(_ set: KernelSet) {
        let spread = (0..<100_000).map { Float(-86.9 * Double($0) / 100_000) }
        let nearZero = (0..<10_000).map { Float(-abs(CounterRNG(6).normal($0) * 0.3)) }
        let values = spread + nearZero + [-86.99999, 0, -0.0, -1, 1e-6, -1e-30, -0.34657359]
        var worst = 0.0
        for (x, y) in zip(values, exponentials(values, set.table)) {
            worst = max(worst, abs(Double(y) / exp(Double(x)) - 1))
        }
        #expect(worst <= 2e-7)
        let edges: [Float] = [-87.4, -1e30, -.infinity, .nan, 0]
        // Long enough for whole vectors and a remainder.
        let results = exponentials(Array(repeating: edges, count: 7).flatMap { $0 }, set.table)
        for start in stride(from: 0, to: results.count, by: edges.count) {
            let r = Array(results[start..<start + edges.count])
            #expect(r[0..<3].allSatisfy { 0..<2e-38 ~= $0 } && r[3].isNaN && r[4] == 1)
        }
    }

    @Test("silu within 3e-7 of the true value, and finite at both ends", arguments: KernelSet.f32)
    func silu(_ set: KernelSet) {
        let values = (0..<100_000).map { Float(-85 + 170 * Double($0) / 100_000) } + [0, -0.0, 1, -1, 1e-30]
        for (x, y) in zip(values, silus(values, set.table)) where abs(x) > 1e-20 {
            let expected = Double(x) / (1 + exp(-Double(x)))
            if abs(Double(y) / expected - 1) > 3e-7 { Issue.record("silu(\(x)) is \(y), expected \(expected)") }
        }
        let edges = silus(Array(repeating: [-1e30, -100, 100, 1e30, .nan], count: 7).flatMap { $0 }, set.table)
        for (i, y) in edges.enumerated() {
            switch i % 5 {
            case 0, 1: #expect(abs(y) < 1e-35)
            case 2: #expect(y == 100)
            case 3: #expect(y == 1e30)
            default: #expect(y.isNaN)
            }
        }
    }
}

@Suite struct OptimiserKernelTests {
    struct Setting: Sendable {
        var beta1 = 0.9, beta2 = 0.999, eps = 1e-8, decay = 0.0, scale = 1.0
    }

    /// PyTorch's AdamW in double precision over several steps.
    @Test(
        "AdamW against PyTorch's formula",
        arguments: [
            Setting(), Setting(decay: 0.1), Setting(beta1: 0.8, beta2: 0.95, eps: 1e-3, decay: 0.01, scale: 0.25),
            Setting(beta1: 0, beta2: 0),
        ])
    func adamW(_ setting: Setting) {
        let n = 1003, rate = 1e-2
        var parameter = normals(n, 1), first = [Float](repeating: 0, count: n), second = first
        var (p, m, v) = (doubles(parameter), doubles(first), doubles(second))
        for step in 1...20 {
            let gradient = normals(n, scale: 0.1, UInt64(step) + 10)
            let correction1 = 1 - pow(setting.beta1, Double(step)), correction2 = 1 - pow(setting.beta2, Double(step))
            graft_adamw(
                &parameter, &first, &second, gradient, Float(setting.scale), Float(rate), setting.beta1, setting.beta2,
                Float(setting.eps), Float(setting.decay), Float(correction1), Float(correction2), n)
            for i in 0..<n {
                let g = Double(gradient[i]) * setting.scale
                p[i] *= 1 - rate * setting.decay
                m[i] += (g - m[i]) * (1 - setting.beta1)
                v[i] = v[i] * setting.beta2 + g * g * (1 - setting.beta2)
                p[i] -= rate / correction1 * m[i] / (v[i].squareRoot() / correction2.squareRoot() + setting.eps)
            }
            if step == 1 { #expect(relativeError(second, v) < 3e-7) }
        }
        #expect(relativeError(parameter, p) < 1e-6)
        #expect(relativeError(first, m) < 1e-6)
        #expect(relativeError(second, v) < 1e-6)
    }

    @Test("a parameter without a gradient so far does not become NaN")
    func zeroGradient() {
        var (parameter, first, second): ([Float], [Float], [Float]) = ([1.5], [0], [0])
        graft_adamw(&parameter, &first, &second, [0], 1, 0.1, 0.9, 0.999, 1e-8, 0, 0.1, 0.001, 1)
        #expect(parameter == [1.5])
    }

    @Test("sum of squares in double precision", arguments: [0, 1, 7, 8, 9, 1003])
    func sumOfSquares(n: Int) {
        let values = normals(n, 3)
        let expected = doubles(values).reduce(0) { $0 + $1 * $1 }
        #expect(abs(graft_sum_of_squares(values, n) - expected) <= 1e-14 * expected)
        // Squares beyond f32.
        #expect(graft_sum_of_squares([1e30, 1e30], 2) > 1.9e60)
    }
}

@Suite struct RandomTests {
    @Test("CounterRNG: moments, range and streams")
    func moments() {
        let generator = CounterRNG(1, 2, 3), n = 20_000
        let uniforms = (0..<n).map { generator.uniform(UInt64($0)) }
        let normals = (0..<n).map { generator.normal(UInt64($0)) }
        func moment(_ values: [Double], _ power: Int) -> Double {
            values.reduce(0) { sum, x in sum + (0..<power).reduce(1.0) { product, _ in product * x } } / Double(n)
        }
        #expect(uniforms.allSatisfy { 0..<1 ~= $0 })
        #expect(abs(moment(uniforms, 1) - 0.5) < 0.01 && abs(moment(uniforms, 2) - 1.0 / 3) < 0.01)
        #expect(abs(moment(normals, 1)) < 0.03 && abs(moment(normals, 2) - 1) < 0.05)
        #expect(abs(moment(normals, 3)) < 0.1 && abs(moment(normals, 4) - 3) < 0.3)
        // Neighbouring counters are independent.
        let product = (1..<n).reduce(0.0) { $0 + (uniforms[$1] - 0.5) * (uniforms[$1 - 1] - 0.5) } / Double(n)
        #expect(abs(product) < 0.003)
        #expect(Set((0..<UInt64(n)).map(generator.bits)).count == n)
    }

    @Test("CounterRNG: the same words give the same numbers, other words others")
    func streams() {
        #expect(CounterRNG(1, 2, 3).key == CounterRNG(1, 2, 3).key)
        let keys = [CounterRNG(1, 2, 3), CounterRNG(3, 2, 1), CounterRNG(1, 2), CounterRNG(1, 2, 4), CounterRNG(0)]
        #expect(Set(keys.map(\.key)).count == keys.count)
        // Pinned: a resumed run must draw what the first one drew.
        #expect(CounterRNG(1, 2, 3).key == 0xE1D5_2F38_C857_A2C4)
        #expect(CounterRNG(1, 2, 3).bits(4) == 0x6DA3_0575_B381_4EF4)
        #expect((0..<100).allSatisfy { CounterRNG(9).bits($0) == Reference.random(CounterRNG(9).key, $0) })
    }

    @Test(
        "dropout keeps the mean, repeats itself and starts anywhere", arguments: KernelSet.all,
        [0, 0.1, 0.5, 0.9])
    func dropout(_ set: KernelSet, probability: Float) {
        let n = 40_000, ones = Tensor([n], values: [Float](repeating: 1, count: n)).converted(to: set.dtype)
        func drop(from first: Int, _ count: Int) -> [Float] {
            let result = Tensor([n], set.dtype)
            result.fillZero()
            set.table.dropout(result.raw, ones.raw, 12, UInt64(first), probability, count)
            return Array(result.floats().prefix(count))
        }
        let all = drop(from: 0, n)
        let kept = all.count { $0 != 0 }
        #expect(abs(Double(kept) / Double(n) - Double(1 - probability)) < 0.01)
        #expect(all.allSatisfy { $0 == 0 || abs($0 * (1 - probability) - 1) < 0.01 })
        if probability == 0 { #expect(all.allSatisfy { $0 == 1 }) }
        #expect(sameBits(all, drop(from: 0, n)))
        #expect(sameBits(Array(all[1001..<1078]), drop(from: 1001, 77)))
        var gradient = [Float](repeating: 2, count: n)
        set.table.dropout_backward(&gradient, [Float](repeating: 1, count: n), 12, 0, probability, n)
        #expect(zip(all, gradient).allSatisfy { ($0 == 0) == ($1 == 2) })
    }
}
