import FileFormats
import FineTuning
import TensorCore

extension ParameterTable.Parameter {
    /// The two tensors that hold it in this file; nil where it is one, or one of its own.
    func headParts(in file: GGUFFile) -> ParameterTable.HeadParts? {
        guard let headParts, file.tensor(named: ggufName) == nil, file.tensor(named: headParts.keyName) != nil else {
            return nil
        }
        return headParts
    }
}

extension ParameterTable.HeadParts {
    /// Rows of a head in the one matrix: keys, then values.
    private var rowsAHead: Int { plainDim + valueDim }

    var tensors: [(name: String, shape: [Int])] {
        [(keyName, [heads, rank, plainDim]), (valueName, [heads, valueDim, rank])]
    }

    /// Rows of the one matrix in f32, each of `rank` elements.
    func read(_ rows: Range<Int>, of file: GGUFFile, into numbers: UnsafeMutableBufferPointer<Float>) {
        guard let keys = file.tensor(named: keyName), let values = file.tensor(named: valueName) else {
            preconditionFailure("\(keyName) and \(valueName) are not of this model")
        }
        var turned = [Float](repeating: 0, count: rank * plainDim)
        for head in rows.lowerBound / rowsAHead..<(rows.upperBound + rowsAHead - 1) / rowsAHead {
            let first = head * rowsAHead
            let ofKeys = rows.clamped(to: first..<first + plainDim)
            if !ofKeys.isEmpty {
                turned.withUnsafeMutableBufferPointer {
                    Self.decode(head * rank..<(head + 1) * rank, width: plainDim, of: keys, file, into: $0)
                }
                for row in ofKeys {
                    for i in 0..<rank {
                        numbers[(row - rows.lowerBound) * rank + i] = turned[i * plainDim + row - first]
                    }
                }
            }
            let ofValues = rows.clamped(to: first + plainDim..<first + rowsAHead)
            guard !ofValues.isEmpty else { continue }
            let start = head * valueDim - first - plainDim
            let place = (ofValues.lowerBound - rows.lowerBound) * rank
            Self.decode(
                ofValues.lowerBound + start..<ofValues.upperBound + start, width: rank, of: values, file,
                into: UnsafeMutableBufferPointer(rebasing: numbers[place..<place + ofValues.count * rank]))
        }
    }

    private static func decode(
        _ rows: Range<Int>, width: Int, of tensor: GGUFTensorInfo, _ file: GGUFFile,
        into numbers: UnsafeMutableBufferPointer<Float>
    ) {
        guard let rowSize = tensor.type.byteCount(of: [width]) else { preconditionFailure("rows of \(width)") }
        let bytes = file.withBytes(of: tensor)[rows.lowerBound * rowSize..<rows.upperBound * rowSize]
        RowEncoding.decode(UnsafeRawBufferPointer(rebasing: bytes), as: tensor.type, into: numbers)
    }

    /// Updates of the one matrix as those of the two tensors, head by head.
    func updates(_ updates: [AdapterChanges.RowUpdate]) -> [(name: String, updates: [AdapterChanges.RowUpdate])] {
        func parts(_ height: Int, _ outputs: (Int) -> Range<Int>, isTransposed: Bool) -> [AdapterChanges.RowUpdate] {
            updates.flatMap { update in
                (0..<heads).map { head in
                    var piece = update
                    piece.rows = head * height..<(head + 1) * height
                    piece.piece = (nil, Array(outputs(head)), isTransposed)
                    return piece
                }
            }
        }
        return [
            (keyName, parts(rank, { $0 * rowsAHead..<$0 * rowsAHead + plainDim }, isTransposed: true)),
            (valueName, parts(valueDim, { $0 * rowsAHead + plainDim..<($0 + 1) * rowsAHead }, isTransposed: false)),
        ]
    }
}
