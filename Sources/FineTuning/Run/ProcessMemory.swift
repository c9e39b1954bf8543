import Foundation

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

    /// The most that this process may use: the control group's limit, the address-space limit or the machine.
    public static var limitBytes: Int? {
        var limits = [totalBytes].compactMap { $0 }
        var address = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &address) == 0, address.rlim_cur < rlim_t(Int.max) {
            limits.append(Int(address.rlim_cur))
        }
        for path in ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"] {
            if let text = smallFile(path), let bytes = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) {
                limits.append(bytes)
            }
        }
        return limits.min()
    }

    private static func meminfo(_ key: String) -> Int? {
        guard let text = smallFile("/proc/meminfo") else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix(key) {
            return line.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
        }
        return nil
    }

    private static func smallFile(_ path: String) -> String? {
        FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) }
    }
}
