import Foundation

/// Writes small Parquet files of one required text column, whose rows all have the same value.
enum ParquetBytes {
    private enum Field {
        case int(Int)
        case text(String)
        case ints([Int])
        case structures([[(Int, Field)]])
        case texts([String])
        case structure([(Int, Field)])

        var type: UInt8 {
            switch self {
            case .int: 6
            case .text: 8
            case .ints, .structures, .texts: 9
            case .structure: 12
            }
        }
    }

    private static func varint(_ value: Int) -> [UInt8] {
        var value = UInt(value)
        var bytes: [UInt8] = []
        while value >= 0x80 {
            bytes.append(UInt8(value & 0x7F) | 0x80)
            value >>= 7
        }
        return bytes + [UInt8(value)]
    }

    private static func list(_ count: Int, _ type: UInt8) -> [UInt8] {
        count < 15 ? [UInt8(count) << 4 | type] : [0xF0 | type] + varint(count)
    }

    private static func bytes(_ field: Field) -> [UInt8] {
        switch field {
        case .int(let value): varint(value << 1)
        case .text(let text): varint(text.utf8.count) + Array(text.utf8)
        case .ints(let values): list(values.count, 6) + values.flatMap { varint($0 << 1) }
        case .texts(let texts): list(texts.count, 8) + texts.flatMap { bytes(.text($0)) }
        case .structures(let all): list(all.count, 12) + all.flatMap(structure)
        case .structure(let fields): structure(fields)
        }
    }

    private static func structure(_ fields: [(Int, Field)]) -> [UInt8] {
        var last = 0
        var result: [UInt8] = []
        for (id, field) in fields {
            result.append(UInt8(id - last) << 4 | field.type)
            result += bytes(field)
            last = id
        }
        return result + [0]
    }

    private static func little(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

    /// - Parameter groups: rows of each row group; a group without rows has no pages, and offsets of 0, as Arrow's has.
    static func equalRows(_ text: String, groups: [Int], column: String = "text") -> [UInt8] {
        var file = Array("PAR1".utf8)
        var rowGroups: [[(Int, Field)]] = []
        for rows in groups {
            let start = file.count
            var dataStart = 0
            if rows > 0 {
                let entry = little(text.utf8.count) + Array(text.utf8)
                file += structure([
                    (1, .int(2)), (2, .int(entry.count)), (3, .int(entry.count)),
                    (7, .structure([(1, .int(1)), (2, .int(0))])),
                ])
                file += entry
                dataStart = file.count
                // Indices of one bit: one run.
                let run = [1] + varint(rows << 1) + [0]
                file += structure([
                    (1, .int(0)), (2, .int(run.count)), (3, .int(run.count)),
                    (5, .structure([(1, .int(rows)), (2, .int(8)), (3, .int(3)), (4, .int(3))])),
                ])
                file += run
            }
            var chunk: [(Int, Field)] = [
                (1, .int(6)), (2, .ints([8])), (3, .texts([column])), (4, .int(0)), (5, .int(rows)),
                (6, .int(file.count - start)), (7, .int(file.count - start)), (9, .int(dataStart)),
            ]
            if rows > 0 { chunk.append((11, .int(start))) }
            rowGroups.append([
                (1, .structures([[(2, .int(start)), (3, .structure(chunk))]])), (2, .int(file.count - start)),
                (3, .int(rows)),
            ])
        }
        let footer = structure([
            (1, .int(1)),
            (
                2,
                .structures([
                    [(4, .text("schema")), (5, .int(1))],
                    [(1, .int(6)), (3, .int(0)), (4, .text(column)), (6, .int(0))],
                ])
            ), (3, .int(groups.reduce(0, +))), (4, .structures(rowGroups)),
        ])
        return file + footer + little(footer.count) + Array("PAR1".utf8)
    }
}
