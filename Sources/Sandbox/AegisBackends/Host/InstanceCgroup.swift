import AegisSandboxTypes
package import LinuxSys

/// One group in every hierarchy that it needs. A value: it names the group, which may exist or not.
package struct InstanceCgroup: Sendable {
    let layout: CgroupLayout
    /// Below each root, for example `aegis-0123abcd/i-0123456789abcdef`.
    package let name: String

    /// What the OCI specification calls `cgroupsPath`.
    package var path: String { "/" + name }

    /// The folder in the unified hierarchy. It works for freezing and killing even where version 1 has all controllers.
    var unifiedFolder: String? { layout.unified.map { "\($0)/\(name)" } }

    /// The folder where a controller is managed.
    func folder(_ controller: String) -> String? {
        switch layout.version(of: controller) {
        case .v2: unifiedFolder
        case .v1: layout.v1[controller].map { "\($0)/\(name)" }
        case nil: nil
        }
    }

    /// Every folder that we make ourselves.
    private var folders: [String] {
        let v1 = ["memory", "cpu", "cpuacct", "pids", "freezer"].compactMap { controller in
            layout.unifiedControllers.contains(controller) ? nil : layout.v1[controller].map { "\($0)/\(name)" }
        }
        return Array(Set(v1)).sorted() + (unifiedFolder.map { [$0] } ?? [])
    }

    /// The `cgroup.procs` files that put a process into the group everywhere.
    package var procsFiles: [String] { folders.map { $0 + "/cgroup.procs" } }

    func makeFolders() throws(Errno) {
        for folder in folders {
            let (above, name) = Files.split(folder)
            do { try FileDescriptor.open(above, [.pathOnly, .directory]).makeDirectory(name, mode: 0o755) } catch {
                if error != .fileExists { throw error }
            }
        }
    }

    /// Removes the group from every hierarchy (the runtime made some folders of its own).
    ///
    /// - Returns: whether nothing is left.
    @discardableResult
    package func removeFolders() -> Bool {
        var gone = true
        for root in layout.roots {
            let (above, last) = Files.split("\(root)/\(name)")
            guard let directory = try? FileDescriptor.open(above, [.readOnly, .directory]) else { continue }
            do { try directory.removeDirectory(last) } catch { if error != .noSuchFile { gone = false } }
        }
        return gone
    }

    func write(_ controller: String, _ file: String, _ value: String) throws(Errno) {
        guard let folder = folder(controller) else { throw .noSuchFile }
        try ControlFile.write("\(folder)/\(file)", value)
    }

    // MARK: - Limits

    /// Sets all limits.
    ///
    /// - Parameters:
    ///   - limits: all of them.
    ///   - lowering: whether the group may have lower limits already, so that the order of the two memory limits of
    ///     version 1 matters.
    /// - Throws: the kernel's refusal; `EBUSY` when more memory is used than is to be allowed.
    package func apply(_ limits: ResolvedLimits, lowering: Bool) throws(Errno) {
        try applyMemory(limits.memory, mayRaise: lowering)
        let period = 100_000
        switch layout.version(of: "cpu") {
        case .v2:
            try write("cpu", "cpu.max", limits.cpus.map { "\(Int($0 * Double(period))) \(period)" } ?? "max \(period)")
        case .v1:
            try write("cpu", "cpu.cfs_period_us", "\(period)")
            try write("cpu", "cpu.cfs_quota_us", limits.cpus.map { "\(Int($0 * Double(period)))" } ?? "-1")
        case nil: break
        }
        try write("pids", "pids.max", "\(limits.pids)")
    }

    private func applyMemory(_ bytes: UInt64, mayRaise: Bool) throws(Errno) {
        if layout.version(of: "memory") == .v2 {
            if mayRaise { try squeeze(below: bytes) }
            try write("memory", "memory.max", "\(bytes)")
            // Absent where the kernel does not count swap.
            do { try write("memory", "memory.swap.max", "0") } catch { if error != .noSuchFile { throw error } }
            return
        }
        let swap = "memory.memsw.limit_in_bytes"
        let counted = folder("memory").map { Files.exists("\($0)/\(swap)") } ?? false
        // Memory with swap must never be below memory: raise it first, lower it last.
        let current = folder("memory").flatMap { ControlFile.number("\($0)/memory.limit_in_bytes") } ?? 0
        let raising = mayRaise && bytes > current
        if counted, raising { try write("memory", swap, "\(bytes)") }
        try write("memory", "memory.limit_in_bytes", "\(bytes)")
        if counted, !raising { try write("memory", swap, "\(bytes)") }
    }

    /// Version 2 takes a limit below what is used, and kills until it holds; version 1 refuses it, which is what we want of both.
    private func squeeze(below bytes: UInt64) throws(Errno) {
        guard let folder = folder("memory"), let used = ControlFile.number("\(folder)/memory.current"), used > bytes
        else { return }
        // It answers EAGAIN when it could not free all of it: what counts is what is used then.
        do { try write("memory", "memory.reclaim", "\(used - bytes)") } catch {
            if error == .noSuchFile {
                // Before Linux 5.19 this makes the kernel do the same, and kills nobody either.
                try write("memory", "memory.high", "\(bytes)")
                try write("memory", "memory.high", "max")
            }
        }
        if let still = ControlFile.number("\(folder)/memory.current"), still > bytes { throw .busy }
    }

    // MARK: - Counters

    /// What the group uses now; zeros for what nobody counts.
    package func usage() -> Usage {
        let memory = folder("memory") ?? ""
        let isV2 = layout.version(of: "memory") == .v2
        let used = ControlFile.number("\(memory)/\(isV2 ? "memory.current" : "memory.usage_in_bytes")") ?? 0
        // Page cache that the kernel would give back at once is not the sandbox's need.
        let idle = ControlFile.number("\(memory)/memory.stat", key: isV2 ? "inactive_file" : "total_inactive_file") ?? 0
        let cpu: UInt64 =
            if layout.version(of: "cpu") == .v2 {
                ControlFile.number("\(folder("cpu") ?? "")/cpu.stat", key: "usage_usec") ?? 0
            } else {
                (layout.v1["cpuacct"].flatMap { ControlFile.number("\($0)/\(name)/cpuacct.usage") } ?? 0) / 1000
            }
        return Usage(
            memoryBytes: used - min(idle, used), cpuMicroseconds: cpu,
            pids: ControlFile.number("\(folder("pids") ?? "")/pids.current") ?? 0, oomKills: oomKills)
    }

    /// Processes of the group that the kernel killed for memory.
    package var oomKills: UInt64 {
        let file = layout.version(of: "memory") == .v2 ? "memory.events" : "memory.oom_control"
        return ControlFile.number("\(folder("memory") ?? "")/\(file)", key: "oom_kill") ?? 0
    }

    // MARK: - Processes

    /// The processes in the group, seen in any hierarchy.
    package var members: Set<Int32> {
        var pids: Set<Int32> = []
        for root in layout.roots {
            guard let text = try? ControlFile.read("\(root)/\(name)/cgroup.procs") else { continue }
            // 0 stands for a process of a pid namespace that is not ours.
            for line in text.split(separator: "\n") { if let pid = Int32(line), pid > 1 { pids.insert(pid) } }
        }
        return pids
    }

    /// Sends SIGKILL to everything in the group. A frozen group of version 1 must be thawed after it, not before.
    ///
    /// - Returns: whether anything was there.
    @discardableResult
    package func killMembers() -> Bool {
        if let folder = unifiedFolder { try? ControlFile.write(folder + "/cgroup.kill", "1") }
        let members = members
        for pid in members {
            // A pid that was reused since it was read is caught by reading again with the descriptor in hand.
            guard let process = try? ProcessHandle(pid: pid), self.members.contains(pid) else { continue }
            try? process.signal(9)
        }
        return !members.isEmpty
    }

    // MARK: - Freezing

    /// Which freezer the group has: the version 1 controller where it is mounted (runtimes join it), else version 2.
    private var freezer: (folder: String, isV2: Bool)? {
        if let root = layout.v1["freezer"] { return ("\(root)/\(name)", false) }
        return unifiedFolder.map { ($0, true) }
    }

    /// Asks for freezing or thawing; `isFrozen` tells when it is done.
    package func setFrozen(_ frozen: Bool) throws(Errno) {
        guard let freezer else { throw .noSuchFile }
        if freezer.isV2 {
            try ControlFile.write(freezer.folder + "/cgroup.freeze", frozen ? "1" : "0")
        } else {
            try ControlFile.write(freezer.folder + "/freezer.state", frozen ? "FROZEN" : "THAWED")
        }
    }

    /// Whether every process stands still.
    package var isFrozen: Bool {
        guard let freezer else { return false }
        if freezer.isV2 { return ControlFile.number(freezer.folder + "/cgroup.events", key: "frozen") == 1 }
        return (try? ControlFile.read(freezer.folder + "/freezer.state")) == "FROZEN"
    }

    /// Whether a process of it dies once it is thawed: frozen by version 1, it only keeps in mind that it was killed.
    package var isDoomed: Bool {
        guard let freezer, !freezer.isV2, let members = try? ControlFile.read(freezer.folder + "/cgroup.procs") else {
            return false
        }
        return members.split(separator: "\n").contains { pid in
            guard let status = try? Files.read("/proc/\(pid)/status", limit: 65_536) else { return false }
            return Self.hasPendingKill(String(decoding: status, as: UTF8.self))
        }
    }

    /// Whether a `/proc/PID/status` tells of a SIGKILL that waits, for the process or for its first thread.
    static func hasPendingKill(_ status: String) -> Bool {
        status.split(separator: "\n").contains { line in
            guard let mark = ["ShdPnd:", "SigPnd:"].first(where: line.hasPrefix) else { return false }
            let mask = line.dropFirst(mark.count).drop(while: \.isWhitespace)
            return UInt64(mask, radix: 16).map { $0 & 1 << (9 - 1) != 0 } ?? false
        }
    }
}

extension InstanceCgroup {
    /// Whether the group is there.
    package var exists: Bool { folder("memory").map { Files.exists($0) } ?? false }
}
