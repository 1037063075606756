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
    ///   - passingClone3: for a runtime whose filter cannot answer ENOSYS: its kernel, which does not have the call, answers
    ///     that itself.
    /// - Returns: the profile.
    static func json(for architecture: Architecture, passingClone3: Bool = false) -> JSONText {
        var rules: [JSONText] = [
            .object([("names", .texts(allowed(on: architecture))), ("action", .text("SCMP_ACT_ALLOW"))])
        ]
        // Threads and processes, but none in a new namespace (CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET).
        rules.append(rule("clone", argument: 0, "SCMP_CMP_MASKED_EQ", 0x7E02_0000, 0))
        // Its flags lie in memory where no filter can look: without it, C libraries fall back to clone.
        rules.append(
            passingClone3
                ? .object([("names", .texts(["clone3"])), ("action", .text("SCMP_ACT_ALLOW"))])
                : .object([
                    ("names", .texts(["clone3"])), ("action", .text("SCMP_ACT_ERRNO")), ("errnoRet", .number(38)),
                ]))
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

    /// The encoded profile of this machine, made once.
    static let encoded: [UInt8] = json(for: .current).bytes
    /// The same, `passingClone3`.
    static let encodedPassingClone3: [UInt8] = json(for: .current, passingClone3: true).bytes

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
