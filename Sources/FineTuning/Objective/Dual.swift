import Foundation

/// A number with its derivatives by two variables, the scores of a chosen and of a rejected answer (forward-mode
/// differentiation): a loss that is written once gives its gradient, too.
struct Dual {
    var value: Double
    var chosen = 0.0
    var rejected = 0.0

    init(_ value: Double, chosen: Double = 0, rejected: Double = 0) {
        (self.value, self.chosen, self.rejected) = (value, chosen, rejected)
    }

    /// f(self), whose derivative there is `slope`.
    func mapped(to value: Double, slope: Double) -> Dual {
        Dual(value, chosen: slope * chosen, rejected: slope * rejected)
    }

    static func + (a: Dual, b: Dual) -> Dual {
        Dual(a.value + b.value, chosen: a.chosen + b.chosen, rejected: a.rejected + b.rejected)
    }
    static func - (a: Dual, b: Dual) -> Dual { a + -1 * b }
    static func * (a: Dual, b: Dual) -> Dual {
        Dual(
            a.value * b.value, chosen: a.chosen * b.value + a.value * b.chosen,
            rejected: a.rejected * b.value + a.value * b.rejected)
    }
    static func * (factor: Double, a: Dual) -> Dual { a.mapped(to: factor * a.value, slope: factor) }
    static func + (a: Dual, addend: Double) -> Dual { a.mapped(to: a.value + addend, slope: 1) }
    static func - (a: Dual, other: Double) -> Dual { a + -other }
    static func - (number: Double, a: Dual) -> Dual { -1 * a + number }
    static prefix func - (a: Dual) -> Dual { -1 * a }

    var squared: Dual { self * self }
    var sigmoid: Dual {
        let s = logistic(value)
        return mapped(to: s, slope: s * (1 - s))
    }
    var logSigmoid: Dual { mapped(to: -softplus(-value), slope: logistic(-value)) }
    var positivePart: Dual { value > 0 ? self : Dual(0) }
    /// log(1 - exp(self)) for numbers below 0.
    var log1mexp: Dual {
        // Where exp is above a half, 1 - exp cancels.
        let result = value < -log(2) ? log1p(-exp(value)) : log(-expm1(value))
        return mapped(to: result, slope: -1 / expm1(-value))
    }
}

/// 1 / (1 + exp(-x))
func logistic(_ x: Double) -> Double { x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)) }

/// log(1 + exp(x))
private func softplus(_ x: Double) -> Double { max(x, 0) + log1p(exp(-abs(x))) }
