internal import CHost
import Glibc

/// The processors of the machine and of this process.
public enum Processors {
    /// Those of the machine, no more than the control groups' quota pays for: what results may depend on.
    public static let ofMachine: Int = {
        let online = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        guard let quota = ControlGroups.processorQuota(membership: ControlGroups.membership, file: ControlGroups.text)
        else { return online }
        return min(online, max(1, Int(quota.rounded(.up))))
    }()

    /// Of these, those that this process may run on (sched_setaffinity(2), `taskset`): what speed may depend on.
    public static let available: Int = {
        let allowed = Int(graft_affinity_count())
        return allowed > 0 ? min(allowed, ofMachine) : ofMachine
    }()
}
