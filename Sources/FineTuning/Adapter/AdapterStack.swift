import FileFormats
public import TensorCore

/// Adapter folders that are put on one base together, each with a weight on its updates: W + sum w_i scale_i B_i A_i.
public struct AdapterStack {
    public struct Member {
        public let file: AdapterFile
        public let plan: AdapterPlan
        public let weight: Double
        /// Whether W is to lose what the adapter started from.
        public var takesOutOfBase: Bool { file.config.initialization.takesOutOfBase }
    }

    /// One module's update in one member.
    public struct Part {
        public let member: Member
        public let update: AdapterPlan.Update

        public init(member: Member, update: AdapterPlan.Update) {
            self.member = member
            self.update = update
        }
    }

    public let members: [Member]

    /// - Throws: `FineTuningError.adapterMismatch` with all that does not fit the base, or that cannot go together.
    public init(_ folders: [(path: String, weight: Double)], base: ModelConfig) throws {
        var members: [Member] = []
        for (path, weight) in folders {
            let file = try AdapterFile(folder: path)
            let plan = file.plan(base)
            let problems = file.mismatches(plan)
            guard problems.isEmpty else { throw FineTuningError.adapterMismatch(path: path, problems: problems) }
            members.append(Member(file: file, plan: plan, weight: weight))
        }
        self.members = members
        for member in members {
            let problems = conflicts(of: member)
            guard problems.isEmpty else {
                throw FineTuningError.adapterMismatch(path: member.file.folder, problems: problems)
            }
        }
    }

    private func conflicts(of member: Member) -> [String] {
        guard members.count > 1 || member.weight != 1 else { return [] }
        var problems: [String] = []
        if member.plan.updates.contains(where: \.hasMagnitude) {
            problems.append(
                "DoRA cannot be weighted or added to others; 'graft adapter convert --to lora' makes it plain")
        }
        if member.plan.updates.contains(where: \.hasBias) {
            problems.append("lora_bias cannot be weighted or added to others")
        }
        if member.takesOutOfBase {
            problems.append(
                "\(member.file.config.initialization) changes the base; "
                    + "'graft adapter convert --to lora' makes it plain")
        }
        if member.weight != 1, !member.plan.replacements.isEmpty || !member.plan.rows.isEmpty {
            problems.append("it brings whole modules or rows, which cannot be weighted: its weight must be 1")
        }
        let others = members.filter { $0.file.folder != member.file.folder }
        for replacement in member.plan.replacements
        where others.contains(where: {
            $0.plan.replacements.contains { $0.parameter.hasSameBytes(as: replacement.parameter) }
        }) {
            problems.append("\(replacement.parameter) comes with another adapter, too")
        }
        for table in member.file.baseCopies(member.plan)
        where !table.key.hasBytes(atEnd: ".base_layer.weight")
            && others.contains(where: { !$0.file.baseCopies($0.plan).isEmpty || !$0.plan.rows.isEmpty })
        {
            problems.append("\(table.key): another adapter brings a table or rows of the vocabulary, too")
        }
        for rows in member.plan.rows
        where others.contains(where: { $0.plan.rows.contains { $0.module.hasSameBytes(as: rows.module) } }) {
            problems.append("rows of \(rows.module) come with another adapter, too")
        }
        return problems
    }

    public func parts(of module: String) -> [Part] {
        members.flatMap { member in
            member.plan.updates.filter { $0.module.hasSameBytes(as: module) }.map { Part(member: member, update: $0) }
        }
    }

    /// The modules with updates, in the order in which members name them.
    public var modules: [String] {
        var seen: Set<ByteString> = []
        return members.flatMap { $0.plan.updates.map(\.module) }.filter { seen.insert(ByteString($0)).inserted }
    }

    public var keepsTie: Bool { members.allSatisfy { $0.plan.keepsTie } }

    /// The updates of a module as one: A `[sum r, in]`, B `[out, sum r]` and a scale.
    ///
    /// - Parameter weight: gives W in f32, for members that started as a part of it
    public static func joined(_ parts: [Part], weight: () throws -> Tensor) rethrows -> (
        a: Tensor, b: Tensor, scale: Float
    ) {
        guard parts.count > 1 || parts[0].member.weight != 1 || parts[0].member.takesOutOfBase else {
            let (a, b) = parts[0].member.file.matrices(of: parts[0].update)
            return (a, b, Float(parts[0].update.scale))
        }
        var a: [Tensor] = []
        var b: [Tensor] = []
        for part in parts {
            let matrices = part.member.file.matrices(of: part.update)
            let scale = Float(part.update.scale)
            a.append(matrices.a)
            b.append(matrices.b.scaledBy(scale * Float(part.member.weight)))
            if part.member.takesOutOfBase {
                let start = BasePart(of: try weight(), part.update, part.member.file.config.initialization)
                a.append(start.a)
                b.append(start.b.scaledBy(-start.scale))
            }
        }
        return (.stackedRows(a), .stackedColumns(b), 1)
    }
}
