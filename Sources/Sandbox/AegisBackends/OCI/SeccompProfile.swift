/// The system calls that a sandbox may make; everything else fails with EPERM (`docs/isolation.md` explains the groups).
///
/// Left out on purpose: mounts and namespaces (`mount`, `unshare`, `setns`, `pivot_root`, the new mount API), the kernel
/// itself (modules, kexec, reboot, swap, accounting, clocks), `bpf`, `perf_event_open`, `userfaultfd`, the keyring, `io_uring`,
/// handles that walk past mounts (`open_by_handle_at`), `fanotify`, NUMA policy, port I/O, and sockets of other families than
/// Unix, IPv4, IPv6 and netlink.
package enum SeccompProfile {
    /// A processor architecture that the profile knows.
    package enum Architecture: String, Sendable, CaseIterable {
        case intel64 = "SCMP_ARCH_X86_64"
        case arm64 = "SCMP_ARCH_AARCH64"

        /// The one that this program was built for.
        package static var current: Architecture {
            #if arch(arm64)
            .arm64
            #else
            .intel64
            #endif
        }
    }

    /// The unconditionally allowed calls of an architecture.
    package static func allowed(on architecture: Architecture) -> [String] {
        common + (architecture == .intel64 ? onlyX86 : [])
    }

    /// `linux.seccomp` of config.json. One architecture only: each further one costs 2 ms at each start and widens the door.
    ///
    /// - Parameters:
    ///   - architecture: whose system calls.
    ///   - passingUnknown: for a runtime whose filter cannot answer ENOSYS: its kernel, which does not have these calls, answers
    ///     that itself.
    ///   - guardingSetID: nothing inside can give a file a setuid or setgid bit, by any call: for sandboxes that write in folders
    ///     of the host, where such a file would be a program of its owner's for everybody.
    /// - Returns: the profile.
    static func json(
        for architecture: Architecture, passingUnknown: Bool = false, guardingSetID: Bool = false
    ) -> JSONText {
        let guarded = guardingSetID ? setIDRules(architecture) : []
        let names = allowed(on: architecture).filter { name in !guarded.contains { $0.name == name } }
        var rules: [JSONText] = [
            .object([("names", .texts(names)), ("action", .text("SCMP_ACT_ALLOW"))])
        ]
        rules += guarded.compactMap(\.rule)
        // Its mode lies in memory where no filter can look; whoever uses it can do without. It is never passed on: a runtime
        // whose filter cannot answer ENOSYS may have the call one day, and then its bits would come through. There it is EPERM.
        if guardingSetID, !passingUnknown { rules.append(missing("openat2", false)) }
        // Threads and processes, but none in a new namespace (CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET).
        rules.append(rule("clone", argument: 0, "SCMP_CMP_MASKED_EQ", 0x7E02_0000, 0))
        // Its flags lie in memory where no filter can look: without it, C libraries fall back to clone.
        rules.append(missing("clone3", passingUnknown))
        for family: Int64 in [1, 2, 10, 16] { rules.append(rule("socket", argument: 0, "SCMP_CMP_EQ", family)) }
        for family: Int64 in [1, 2, 10, 16] { rules.append(rule("socketpair", argument: 0, "SCMP_CMP_EQ", family)) }
        // Personalities: Linux, its 32-bit form, either as "2.6", fixed addresses (debuggers), and the question.
        for persona: Int64 in [0, 0x8, 0x2_0000, 0x2_0008, 0x4_0000, 0xFFFF_FFFF] {
            rules.append(rule("personality", argument: 0, "SCMP_CMP_EQ", persona))
        }
        return .object([
            ("defaultAction", .text("SCMP_ACT_ERRNO")), ("defaultErrnoRet", .number(1)),
            ("architectures", .texts([architecture.rawValue])), ("syscalls", .list(rules)),
        ])
    }

    /// The encoded profiles of this machine, each made once.
    private static let variants: [[UInt8]] = [false, true].flatMap { unknown in
        [false, true].map { json(for: .current, passingUnknown: unknown, guardingSetID: $0).bytes }
    }

    /// The encoded profile of this machine; see `json`.
    static func encoded(passingUnknown: Bool = false, guardingSetID: Bool = false) -> [UInt8] {
        variants[(passingUnknown ? 2 : 0) + (guardingSetID ? 1 : 0)]
    }

    /// A call that shall look as if the kernel did not have it.
    private static func missing(_ name: String, _ isPassed: Bool) -> JSONText {
        isPassed
            ? .object([("names", .texts([name])), ("action", .text("SCMP_ACT_ALLOW"))])
            : .object([("names", .texts([name])), ("action", .text("SCMP_ACT_ERRNO")), ("errnoRet", .number(38))])
    }

    /// The calls that could set setuid or setgid, each allowed when its mode (or the lack of O_CREAT and O_TMPFILE) says that it
    /// does not. A call without a rule is not allowed at all.
    private static func setIDRules(_ architecture: Architecture) -> [(name: String, rule: JSONText?)] {
        let old = architecture == .intel64
        let modes: [(String, Int64)] =
            [("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2), ("mknodat", 2), ("openat", 3)]
            + (old ? [("chmod", 1), ("creat", 1), ("mknod", 1), ("open", 2)] : [])
        let creating: [(String, Int64)] = [("openat", 2)] + (old ? [("open", 1)] : [])
        return modes.map { name, argument in (name, rule(name, argument: argument, "SCMP_CMP_MASKED_EQ", 0o6000, 0)) }
            + creating.map { name, argument in
                (name, rule(name, argument: argument, "SCMP_CMP_MASKED_EQ", 0x40_0040, 0))
            } + [("openat2", nil)]
    }

    private static func rule(
        _ name: String, argument: Int64, _ comparison: String, _ value: Int64, _ second: Int64? = nil
    )
        -> JSONText
    {
        var condition: [(String, JSONText)] = [("index", .number(argument)), ("value", .number(value))]
        if let second { condition.append(("valueTwo", .number(second))) }
        condition.append(("op", .text(comparison)))
        return .object([
            ("names", .texts([name])), ("action", .text("SCMP_ACT_ALLOW")), ("args", .list([.object(condition)])),
        ])
    }
}
