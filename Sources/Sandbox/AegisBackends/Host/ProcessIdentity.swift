package import LinuxSys

/// A process that is named beyond any reuse of its number, also one that is not our child.
package struct ProcessIdentity: Sendable, Equatable {
    package var pid: Int32
    /// Clock ticks between the machine's boot and the start of the process.
    package var start: UInt64

    package init(pid: Int32, start: UInt64) {
        self.pid = pid
        self.start = start
    }

    /// Looks at a running process.
    package init(of pid: Int32) throws(Errno) {
        guard pid > 1 else { throw .invalidArgument }
        guard let start = Self.start(of: pid) else { throw .noSuchProcess }
        self.init(pid: pid, start: start)
    }

    /// A descriptor of the process; nil when it has ended, also when its number belongs to another one by now.
    package func open() -> ProcessHandle? {
        guard let handle = try? ProcessHandle(pid: pid) else { return nil }
        // Looked at again with the descriptor in hand: from here on the number cannot change its meaning.
        guard Self.start(of: pid) == start else { return nil }
        return handle
    }

    /// Whether it runs; a zombie does not.
    package var isAlive: Bool { Self.stat(of: pid).map { $0.start == start && $0.state != "Z" } ?? false }

    private static func start(of pid: Int32) -> UInt64? { stat(of: pid)?.start }

    private static func stat(of pid: Int32) -> (state: Substring, start: UInt64)? {
        guard let bytes = try? Files.read("/proc/\(pid)/stat", limit: 4096) else { return nil }
        return parse(String(decoding: bytes, as: UTF8.self))
    }

    /// State and start time of a line of `/proc/PID/stat`; the program's name in it may hold anything, brackets too.
    static func parse(_ line: String) -> (state: Substring, start: UInt64)? {
        guard let close = line.lastIndex(of: ")") else { return nil }
        let fields = line[line.index(after: close)...].split(separator: " ")
        guard fields.count > 19, let start = UInt64(fields[19]) else { return nil }
        return (fields[0], start)
    }
}

/// What tells one start of this machine from another, and one kernel from another.
package enum HostIdentity {
    /// The kernel's random number of this boot.
    package static func bootID() -> String {
        ((try? Files.read("/proc/sys/kernel/random/boot_id", limit: 64)).map { String(decoding: $0, as: UTF8.self) }
            ?? "")
            .split(whereSeparator: \.isWhitespace).first.map(String.init) ?? ""
    }

    /// The running kernel's release, for example `6.1.0-18-amd64`.
    package static func kernel() -> String {
        ((try? Files.read("/proc/sys/kernel/osrelease", limit: 256)).map { String(decoding: $0, as: UTF8.self) } ?? "")
            .split(whereSeparator: \.isWhitespace).first.map(String.init) ?? ""
    }
}

extension HostIdentity {
    /// What this process may do of what root may: what worked for a daemon from a shell may fail for one in a service.
    static func confinement() -> String {
        let status = (try? Files.read("/proc/self/status", limit: 65_536)) ?? []
        let limits = (try? Files.read("/proc/self/limits", limit: 65_536)) ?? []
        return confinement(
            status: String(decoding: status, as: UTF8.self), limits: String(decoding: limits, as: UTF8.self))
    }

    static func confinement(status: String, limits: String) -> String {
        let wanted = ["CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:"]
        let lines = status.split(separator: "\n").filter { line in wanted.contains { line.hasPrefix($0) } }
        let locked = limits.split(separator: "\n").filter { $0.hasPrefix("Max locked memory") }
        return (lines + locked).map { $0.split(whereSeparator: \.isWhitespace).joined(separator: " ") }
            .joined(separator: ",")
    }

    /// How many files a sandbox's process may have open: 65,536, or what this process may have itself where it is not allowed
    /// to raise limits (a container without CAP_SYS_RESOURCE).
    static let openFiles: Int64 = {
        let status = (try? Files.read("/proc/self/status", limit: 65_536)) ?? []
        let limits = (try? Files.read("/proc/self/limits", limit: 65_536)) ?? []
        return openFiles(
            status: String(decoding: status, as: UTF8.self), limits: String(decoding: limits, as: UTF8.self))
    }()

    static func openFiles(status: String, limits: String) -> Int64 {
        let wanted: Int64 = 65_536
        let mayRaise = status.split(separator: "\n").first { $0.hasPrefix("CapEff:") }
            .flatMap { UInt64($0.dropFirst(7).filter { !$0.isWhitespace }, radix: 16) }
            .map { $0 & 1 << 24 != 0 }
        if mayRaise == true { return wanted }
        // Max open files    soft    hard    files
        let fields = limits.split(separator: "\n").first { $0.hasPrefix("Max open files") }?.split(separator: " ") ?? []
        guard fields.count >= 5, let hard = Int64(fields[4]) else { return wanted }
        return min(wanted, hard)
    }
}
