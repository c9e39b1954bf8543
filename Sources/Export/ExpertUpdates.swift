import FileFormats
import FineTuning
import TensorCore

extension AdapterChanges {
    /// The updates of each parameter, by its name: an update of all experts reaches the tensors of each, and updates of
    /// single experts the tensors that hold all.
    static func rowUpdates(
        _ member: AdapterStack.Member, _ table: ParameterTable, _ config: ModelConfig,
        _ add: (String, RowUpdate) -> Void
    ) {
        let count = config.mixture?.router.experts ?? 1, inner = config.mixture?.innerWidth ?? 0
        for update in member.plan.updates {
            let site = update.site, part = AdapterStack.Part(member: member, update: update)
            switch site.place {
            case .linear, .embedding, .head:
                add(update.parameter, RowUpdate(rows: 0..<site.outputWidth, part: part))
            case .expert(let layer, let piece, let expert):
                guard let stack = table.stack(layer, piece, config) else {
                    add(site.target + ".weight", RowUpdate(rows: 0..<site.outputWidth, part: part))
                    continue
                }
                let first = expert * stack.outputWidth + (piece == .up ? inner : 0)
                add(stack.name, RowUpdate(rows: first..<first + site.outputWidth, part: part))
            case .experts(let layer, let which):
                let isTransposed = config.mixture?.storage == .inputMajor
                for expert in 0..<count {
                    func piece(_ rows: Range<Int>, _ outputs: Range<Int>) -> RowUpdate {
                        RowUpdate(rows: rows, part: part, piece: (expert, Array(outputs), isTransposed))
                    }
                    if let stack = table.stack(layer, which, config) {
                        let size = isTransposed ? stack.inputWidth : stack.outputWidth
                        add(stack.name, piece(expert * size..<(expert + 1) * size, 0..<stack.outputWidth))
                        continue
                    }
                    for module in table.expertModules where module.layer == layer && module.expert == expert {
                        guard (module.part == .down) == (which == .down) else { continue }
                        let first = module.part == .up ? inner : 0
                        add(
                            module.name + ".weight",
                            piece(0..<module.outputWidth, first..<first + module.outputWidth))
                    }
                }
            }
        }
    }
}

extension ParameterTable {
    /// The tensor that holds a part of all experts, where the checkpoint has one.
    fileprivate func stack(_ layer: Int, _ part: ExpertPart, _ config: ModelConfig) -> ExpertModule? {
        guard config.mixture?.storage != .separate else { return nil }
        return stackedExpertModules.first { $0.layer == layer && ($0.part == .down) == (part == .down) }
    }
}
