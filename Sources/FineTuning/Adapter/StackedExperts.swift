internal import TensorCore

/// The matrices of all experts' updates as PEFT stacks them: expert e of E has rows `e r..<(e + 1) r` of A, `[E r, in]`,
/// and columns `e, e + E, e + 2 E...` of B, `[out, r E]`. For one expert they are its own.
enum StackedExperts {
    /// - Parameter parts: `[r, in]` of each expert
    static func a(_ parts: [Tensor]) -> Tensor { parts.count == 1 ? parts[0] : .stackedRows(parts) }

    /// - Parameter parts: `[out, r]` of each expert
    static func b(_ parts: [Tensor]) -> Tensor {
        guard parts.count > 1 else { return parts[0] }
        let (output, rank) = (parts[0].shape[0], parts[0].shape[1])
        let result = Tensor([output, rank * parts.count])
        result.withFloats { all in
            for (expert, part) in parts.enumerated() {
                part.withFloats { for i in $0.indices { all[i * parts.count + expert] = $0[i] } }
            }
        }
        return result
    }

    /// A of one expert from that of all.
    static func a(_ all: Tensor, expert: Int, of count: Int) -> Tensor {
        let rank = all.shape[0] / count
        return count == 1 ? all : all.selectedRows(Array(expert * rank..<(expert + 1) * rank))
    }

    /// B of one expert from that of all.
    static func b(_ all: Tensor, expert: Int, of count: Int) -> Tensor {
        guard count > 1 else { return all }
        let result = Tensor([all.shape[0], all.shape[1] / count])
        all.withFloats { all in
            result.withFloats { part in for i in part.indices { part[i] = all[i * count + expert] } }
        }
        return result
    }
}
