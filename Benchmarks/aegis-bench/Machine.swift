import Glibc
import LinuxSys

/// Names the machine that the figures are of.
struct Machine: Sendable {
    let runner: Runner

    func description(isQuick: Bool) async throws -> String {
        let cpu = line("/proc/cpuinfo", "model name").map { $0 + ", " } ?? ""
        let cores = text("/proc/cpuinfo").split(separator: "\n").filter { $0.hasPrefix("processor") }.count
        let memory = (line("/proc/meminfo", "MemTotal").flatMap { Int($0.split(separator: " ")[0]) } ?? 0) >> 20
        let kernel = trimmed(text("/proc/sys/kernel/osrelease"))
        let load = text("/proc/loadavg").split(separator: " ").prefix(3).joined(separator: " ")
        var versions: [String] = []
        for command in [
            ["/usr/sbin/runc", "--version"], ["/usr/bin/runsc", "--version"], ["/usr/sbin/dockerd", "--version"],
            ["/usr/bin/bwrap", "--version"],
        ] {
            guard let text = try? await runner.output(command) else { continue }
            versions.append(trimmed(text.split(separator: "\n").first.map(String.init) ?? ""))
        }
        return """
            # Performance

            Measured by `make bench`\(isQuick ? " with --quick: few samples" : ""). Times are milliseconds from the \
            spawn of the command to its end, contestants side by side in interleaved rounds after one warm-up round.

            - Machine: \(cpu)\(cores) cores, \(memory) GiB; load when the bench ended: \(load).
            - Kernel: \(kernel).
            - Versions: \(versions.joined(separator: "; ")).
            - Records of ephemeral instances (`aegis run`) are saved (they survive `kill -9`); creation and deletion of \
            named ones are synced (they survive a loss of power).
            - "Bare" is the runtime alone with our own config.json (the same namespaces, seccomp filter, cgroup and \
            overlay, `/bin/true` instead of the harness), started in the keeper's mount namespace.


            """
    }

    private func text(_ path: String) -> String {
        String(decoding: (try? Files.read(path, limit: 1 << 20)) ?? [], as: UTF8.self)
    }
    private func trimmed(_ text: String) -> String { text.split(separator: "\n").first.map(String.init) ?? "" }

    private func line(_ path: String, _ key: String) -> String? {
        text(path).split(separator: "\n").first { $0.hasPrefix(key) }?.split(separator: ":", maxSplits: 1).last
            .map { String($0.drop { $0 == " " || $0 == "\t" }) }
    }
}

/// What the kernel says about a process.
struct ProcessView: Sendable {
    let pid: Int32

    private func text(_ name: String) -> String {
        String(decoding: (try? Files.read("/proc/\(pid)/\(name)", limit: 1 << 22)) ?? [], as: UTF8.self)
    }
    var command: String { String(text("comm").dropLast()) }
    var mounts: String { text("mountinfo") }
    var cgroups: [(controllers: String, path: String)] {
        text("cgroup").split(separator: "\n").compactMap { line in
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            return parts.count == 3 ? (String(parts[1]), String(parts[2])) : nil
        }
    }
    /// The kernel may be built without `/proc/PID/task/TID/children`: everybody is asked for the parent.
    var children: [Int32] {
        ((try? Files.list("/proc")) ?? []).compactMap { Int32($0.name) }.filter { ProcessView(pid: $0).parent == pid }
    }
    var parent: Int32? {
        // The name in parentheses may hold anything.
        let stat = text("stat")
        guard let end = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[end...].split(separator: " ")
        return fields.count > 2 ? Int32(fields[2]) : nil
    }
    /// Processor time that it has used so far, in seconds, to a hundredth.
    var cpuTime: Double {
        let stat = text("stat")
        guard let end = stat.lastIndex(of: ")") else { return .nan }
        let fields = stat[end...].split(separator: " ")
        return fields.count > 13 ? ((Double(fields[12]) ?? .nan) + (Double(fields[13]) ?? .nan)) / 100 : .nan
    }
    /// Resident memory in KiB.
    var resident: Int { status("VmRSS") }
    /// Resident memory that no file backs, in KiB.
    var anonymous: Int { status("RssAnon") }
    /// Times that its threads went to sleep by themselves: each one is a wake-up.
    var switches: Int {
        let tasks = (try? Files.list("/proc/\(pid)/task").map(\.name)) ?? []
        return tasks.reduce(0) { $0 + value(text("task/\($1)/status"), "voluntary_ctxt_switches") }
    }
    private func status(_ key: String) -> Int { value(text("status"), key) }
    private func value(_ text: String, _ key: String) -> Int {
        text.split(separator: "\n").first { $0.hasPrefix(key + ":") }?
            .split { !$0.isNumber }.last.flatMap { Int($0) } ?? 0
    }
}

func writeError(_ text: String) {
    var text = text
    text.withUTF8 { bytes in _ = unsafe write(2, bytes.baseAddress, bytes.count) }
}

/// Writes to standard output, without a buffer.
func writeOutput(_ text: String) {
    var text = text
    text.withUTF8 { bytes in _ = unsafe write(1, bytes.baseAddress, bytes.count) }
}

extension CurrentProcess {
    /// Raises the limit of open descriptors for this process as far as it may go.
    ///
    /// - Returns: the limit.
    static func allowOpenFiles() -> Int {
        var limit = rlimit()
        _ = unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = min(limit.rlim_max, 65_536)
        _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return Int(limit.rlim_cur)
    }
}
