import FileFormats
import FineTuning
import TensorCore

extension WeightSource {
    /// The updates of each parameter, by its name: an update of all experts reaches the tensors of each, and updates of
    /// single experts the tensors that hold all.
    static func rowUpdates(
        _ file: AdapterFile, _ sites: [AdapterSite], _ table: ParameterTable, _ config: ModelConfig
    ) -> [ByteString: [RowUpdate]] {
        var result: [ByteString: [RowUpdate]] = [:]
        let byModule = Dictionary(sites.map { (ByteString($0.module), $0) }, uniquingKeysWith: { a, _ in a })
        let count = config.mixture?.router.experts ?? 1, inner = config.mixture?.innerWidth ?? 0
        func add(_ name: String, _ update: RowUpdate) { result[ByteString(name), default: []].append(update) }
        for update in file.updates(sites) {
            let site = byModule[ByteString(update.module)]!
            switch site.place {
            case .linear, .head:
                add(
                    site.isParameter ? site.target : site.target + ".weight",
                    RowUpdate(rows: 0..<site.outputWidth, update: update))
            case .expert(let layer, let part, let expert):
                guard let stack = table.stack(layer, part, config) else {
                    add(site.target + ".weight", RowUpdate(rows: 0..<site.outputWidth, update: update))
                    continue
                }
                let first = expert * stack.outputWidth + (part == .up ? inner : 0)
                add(stack.name, RowUpdate(rows: first..<first + site.outputWidth, update: update))
            case .experts(let layer, let part):
                let isTransposed = config.mixture?.storage == .inputMajor
                for expert in 0..<count {
                    func piece(_ rows: Range<Int>, _ outputs: Range<Int>) -> RowUpdate {
                        RowUpdate(rows: rows, update: update, expert: (expert, count, outputs, isTransposed))
                    }
                    if let stack = table.stack(layer, part, config) {
                        let size = isTransposed ? stack.inputWidth : stack.outputWidth
                        add(stack.name, piece(expert * size..<(expert + 1) * size, 0..<stack.outputWidth))
                        continue
                    }
                    for module in table.expertModules where module.layer == layer && module.expert == expert {
                        guard (module.part == .down) == (part == .down) else { continue }
                        let first = module.part == .up ? inner : 0
                        add(
                            module.name + ".weight",
                            piece(0..<module.outputWidth, first..<first + module.outputWidth))
                    }
                }
            }
        }
        return result
    }
}

extension ParameterTable {
    /// The tensor that holds a part of all experts, where the checkpoint has one.
    fileprivate func stack(_ layer: Int, _ part: ExpertPart, _ config: ModelConfig) -> ExpertModule? {
        guard config.mixture?.storage != .separate else { return nil }
        return stackedExpertModules.first { $0.layer == layer && ($0.part == .down) == (part == .down) }
    }
}
