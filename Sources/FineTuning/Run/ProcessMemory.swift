import Foundation
import Host
import TensorCore

/// Memory of this process and of the machine, in bytes.
public enum ProcessMemory {
    /// The largest resident set so far.
    public static var peakResidentBytes: Int {
        var usage = rusage()
        guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return 0 }
        return Int(usage.ru_maxrss) * 1024
    }

    /// What the machine could still give, as the kernel estimates it; nil where it does not say.
    public static var availableBytes: Int? { meminfo("MemAvailable:") }
    public static var totalBytes: Int? { meminfo("MemTotal:") }

    /// The most that this process may use: the limit of its control groups, the address-space limit or the machine.
    public static var limitBytes: Int? {
        var limits = [totalBytes].compactMap { $0 }
        // Of the address space, code and stacks take a part that no plan counts, and blocks lie apart in it.
        if let limit = AddressSpace.limit { limits.append(max(0, limit - AddressSpace.idle - (96 << 20))) }
        limits += controlGroupLimits(membership: ControlGroups.membership, file: ControlGroups.text)
        return limits.min()
    }

    /// The limits of the control groups that a process is in.
    ///
    /// - Parameters:
    ///   - membership: the text of /proc/self/cgroup
    ///   - file: the text of a file, nil where there is none
    static func controlGroupLimits(membership: String, file: (String) -> String?) -> [Int] {
        ControlGroups.folders(of: "memory", membership: membership).compactMap { folder in
            file(folder.path + "/memory." + (folder.isFirstVersion ? "limit_in_bytes" : "max"))
                .flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
        }
    }

    private static func meminfo(_ key: String) -> Int? {
        guard let text = ControlGroups.text(of: "/proc/meminfo") else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix(key) {
            return line.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
        }
        return nil
    }
}
