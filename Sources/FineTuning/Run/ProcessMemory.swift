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

    /// The most that this process may use: the limit of its control groups, the address-space limit or the machine.
    public static var limitBytes: Int? {
        var limits = [totalBytes].compactMap { $0 }
        var address = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &address) == 0, address.rlim_cur < rlim_t(Int.max) {
            limits.append(Int(address.rlim_cur))
        }
        limits += controlGroupLimits(membership: smallFile("/proc/self/cgroup") ?? "", file: smallFile)
        return limits.min()
    }

    /// The limits of the control groups that a process is in and of those around them, of either version (cgroups(7)).
    /// In a container the outermost is the container's own.
    ///
    /// - Parameters:
    ///   - membership: the text of /proc/self/cgroup
    ///   - file: the text of a file, nil where there is none
    static func controlGroupLimits(membership: String, file: (String) -> String?) -> [Int] {
        var limits: [Int] = []
        func add(_ path: String) {
            let text = file(path)?.trimmingCharacters(in: .whitespacesAndNewlines)
            if let bytes = text.flatMap({ Int($0) }) { limits.append(bytes) }
        }
        for line in (membership + "\n0::/\n:memory:/").split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            let isFirstVersion = parts[1].split(separator: ",").contains("memory")
            guard isFirstVersion || parts[1].isEmpty else { continue }
            var groups = parts[2].split(separator: "/")
            while true {
                let folder = (isFirstVersion ? "/memory" : "") + groups.map { "/" + $0 }.joined()
                add("/sys/fs/cgroup\(folder)/memory." + (isFirstVersion ? "limit_in_bytes" : "max"))
                if groups.popLast() == nil { break }
            }
        }
        return limits
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
