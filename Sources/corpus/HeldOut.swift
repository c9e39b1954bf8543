/// Which side of the split a value belongs to.
///
/// A name, a phone number or a combination of readings belongs to the held-out rows exactly when its FNV-1a hash says
/// so, whoever draws it: the training rows, the pre-training text and the held-out rows are disjoint by construction.
enum Split {
    case training
    case heldOut

    /// One value in this many is kept for held-out rows.
    static let heldOutShare: UInt64 = 6

    static func side(of value: String) -> Split {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in value.utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
        }
        // FNV's low bits are weak on short values; fold the high ones in.
        hash ^= hash >> 29
        return hash % heldOutShare == 0 ? .heldOut : .training
    }

    func holds(_ value: String) -> Bool {
        Split.side(of: value) == self
    }
}

extension RandomSource {
    /// Draws until the value is on the wanted side.
    mutating func draw<Value>(
        on split: Split, key: (Value) -> [String], make: (inout RandomSource) -> Value
    ) -> Value {
        while true {
            let value = make(&self)
            if key(value).allSatisfy(split.holds) { return value }
        }
    }
}
