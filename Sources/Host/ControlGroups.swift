import Glibc

/// The control groups that a process is in (cgroups(7)), of either version. In a container the outermost is its own.
public enum ControlGroups {
    /// A folder in which the kernel shows the settings of a group.
    public struct Folder: Equatable, Sendable {
        public var path: String
        /// Of the first version, whose controllers are apart.
        public var isFirstVersion: Bool
    }

    /// The folders of a controller's groups, each followed by those around it.
    ///
    /// - Parameter membership: the text of /proc/self/cgroup
    public static func folders(of controller: String, membership: String) -> [Folder] {
        var folders: [Folder] = []
        for line in (membership + "\n0::/\n:\(controller):/").split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            let isFirstVersion = parts[1].split(separator: ",").contains { $0.utf8.elementsEqual(controller.utf8) }
            guard isFirstVersion || parts[1].isEmpty else { continue }
            var groups = parts[2].split(separator: "/")
            while true {
                let path = (isFirstVersion ? "/" + controller : "") + groups.map { "/" + $0 }.joined()
                let folder = Folder(path: "/sys/fs/cgroup" + path, isFirstVersion: isFirstVersion)
                if !folders.contains(folder) { folders.append(folder) }
                if groups.popLast() == nil { break }
            }
        }
        return folders
    }

    /// The text of /proc/self/cgroup, empty where there is none.
    public static var membership: String { text(of: "/proc/self/cgroup") ?? "" }

    /// The text of a small file, nil where there is none.
    public static func text(of path: String) -> String? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 12)
        while bytes.count < 1 << 22 {
            let count = read(file, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { return nil }
            if count == 0 { break }
            bytes += buffer[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The processors' worth of time that groups grant, the least of all; nil where none limits it.
    ///
    /// - Parameter file: the text of a file, nil where there is none
    public static func processorQuota(membership: String, file: (String) -> String?) -> Double? {
        folders(of: "cpu", membership: membership).compactMap { folder -> Double? in
            let names = folder.isFirstVersion ? ["cpu.cfs_quota_us", "cpu.cfs_period_us"] : ["cpu.max"]
            let limit = names.flatMap { name in
                (file(folder.path + "/" + name) ?? "").split(whereSeparator: \.isWhitespace).compactMap { Double($0) }
            }
            guard limit.count == 2, limit[0] > 0, limit[1] > 0 else { return nil }
            return limit[0] / limit[1]
        }.min()
    }
}
