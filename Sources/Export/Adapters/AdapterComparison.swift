internal import FileFormats
import FineTuning
import TensorCore

/// How the updates of two adapters differ, module by module.
public struct AdapterComparison: Sendable {
    public struct Module: Sendable {
        public var name: String
        /// |update| in each; nil where it has none.
        public var norms: (first: Double?, second: Double?)
        /// |first - second| / |first|; nil where one lacks the module or the first is zero.
        public var relative: Double?
        /// The cosine of the angle between the updates.
        public var cosine: Double?
    }

    public var modules: [Module] = []
    /// Settings that differ: name, first, second.
    public var settings: [(name: String, first: String, second: String)] = []

    public init(_ first: AdapterObject, _ second: AdapterObject) throws {
        for adapter in [first, second] { try adapter.requirePlain("comparing") }
        var names = first.pairs.map(\.module)
        names += second.pairs.map(\.module).filter { name in !names.contains(where: name.hasSameBytes) }
        for name in names {
            let (a, b) = (first.pair(name), second.pair(name))
            var module = Module(name: name, norms: (a.map(first.norm), b.map(second.norm)))
            if let a, let b, a.inner == b.inner, let left = module.norms.first, let right = module.norms.second {
                let dot = first.dot(a, second, b)
                let squares = left * left + right * right - 2 * dot
                if left > 0 { module.relative = max(0, squares).squareRoot() / left }
                if left > 0, right > 0 { module.cosine = dot / (left * right) }
            }
            modules.append(module)
        }
        func note(_ name: String, _ a: String, _ b: String) { if a != b { settings.append((name, a, b)) } }
        note("rank", "\(first.config.rank)", "\(second.config.rank)")
        note("alpha", "\(first.config.alpha)", "\(second.config.alpha)")
        note("use_rslora", "\(first.config.usesRankStabilisedScale)", "\(second.config.usesRankStabilisedScale)")
        note("base_model", first.config.baseModel ?? "none", second.config.baseModel ?? "none")
        note("whole tensors", "\(first.others.count)", "\(second.others.count)")
    }
}
