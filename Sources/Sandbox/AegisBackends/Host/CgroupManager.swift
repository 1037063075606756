package import AegisCore
package import AegisSandboxTypes
import LinuxSys

/// Limits with nothing left open.
package struct ResolvedLimits: Sendable, Equatable {
    /// Bytes of memory; there is no swap beyond it.
    package var memory: UInt64
    /// Processors; nil is all of them.
    package var cpus: Double?
    /// Processes and threads.
    package var pids: Int

    package init(memory: UInt64, cpus: Double?, pids: Int) {
        self.memory = memory
        self.cpus = cpus
        self.pids = pids
    }
}

/// The control groups of one node: one parent for all of its sandboxes, one group below for each.
///
/// Version 2 is used where it manages a controller, version 1 elsewhere; on hybrid machines each sandbox is in both trees.
/// All calls block for microseconds, but the ones that move or remove may take 15 ms.
package struct CgroupManager: Sendable {
    package let layout: CgroupLayout
    /// The parent's name at each hierarchy's root; nobody else's groups are ever touched.
    package let parent: String
    /// Bytes of RAM of this machine.
    package let totalMemory: UInt64
    /// Bytes of RAM that all sandboxes together leave to the host.
    package let reserve: UInt64
    private let logger: Logger

    /// Describes groups; nothing is made yet.
    ///
    /// - Parameters:
    ///   - node: the node's id.
    ///   - layout: where the hierarchies are mounted.
    ///   - totalMemory: bytes of RAM.
    ///   - reserve: bytes of RAM that the sandboxes may not have.
    ///   - logger: where oddities go.
    package init(
        node: String, layout: CgroupLayout, totalMemory: UInt64, reserve: UInt64 = 512 << 20, logger: Logger = .none
    ) {
        parent = "aegis-\(node)"
        self.layout = layout
        self.totalMemory = totalMemory
        self.reserve = reserve
        self.logger = logger
    }

    /// Looks at this machine.
    ///
    /// - Throws: `cgroups-missing` when a needed controller is managed by nobody.
    package static func detect(node: String, logger: Logger = .none) throws(AegisError) -> CgroupManager {
        let layout: CgroupLayout
        let memory: UInt64
        do throws(Errno) {
            let mounts = String(decoding: try Files.read("/proc/self/mountinfo", limit: 16 << 20), as: UTF8.self)
            layout = CgroupLayout(mountinfo: mounts) { folder in
                (try? Files.read(folder + "/cgroup.controllers", limit: 4096)).map {
                    String(decoding: $0, as: UTF8.self)
                }
            }
            memory = Self.memTotal(String(decoding: try Files.read("/proc/meminfo", limit: 65_536), as: UTF8.self)) ?? 0
        } catch {
            throw .failed("cgroups-missing", "cannot read this machine's mounts or memory: \(error)")
        }
        let missing = ["memory", "cpu", "pids"].filter { layout.version(of: $0) == nil }
        guard missing.isEmpty, memory > 0 else {
            throw AegisError(
                .unavailable, "cgroups-missing", "no cgroup controller for \(missing.joined(separator: ", "))",
                hint: "mount the cgroup file systems (systemd does), or boot with cgroup_enable=memory")
        }
        return CgroupManager(node: node, layout: layout, totalMemory: memory, logger: logger)
    }

    /// Bytes of RAM of this machine; nil when the kernel does not say.
    package static var machineMemory: UInt64? {
        (try? Files.read("/proc/meminfo", limit: 65_536)).flatMap { memTotal(String(decoding: $0, as: UTF8.self)) }
    }

    static func memTotal(_ meminfo: String) -> UInt64? {
        guard let line = meminfo.split(separator: "\n").first(where: { $0.hasPrefix("MemTotal:") }) else { return nil }
        return line.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }.map { $0 << 10 }
    }

    /// Fills what a request left open (decision D38): memory min(2 GiB, half of RAM), all processors, 1024 pids.
    package func resolve(_ limits: Limits) -> ResolvedLimits {
        ResolvedLimits(
            memory: limits.memory?.bytes ?? min(2 << 30, totalMemory / 2), cpus: limits.cpus, pids: limits.pids ?? 1024)
    }

    /// The most that all sandboxes together may have, in bytes.
    package var memoryForAll: UInt64 { totalMemory > reserve + (64 << 20) ? totalMemory - reserve : totalMemory }

    /// The group of a sandbox; it need not exist.
    package func group(_ id: String) -> InstanceCgroup { InstanceCgroup(layout: layout, name: "\(parent)/\(id)") }

    /// Makes the parent, limited to RAM minus the reserve, and the group of a sandbox with its limits.
    package func make(_ id: String, _ limits: ResolvedLimits) throws(AegisError) -> InstanceCgroup {
        let group = group(id)
        do throws(Errno) {
            // The parent exists nearly always: only when the group cannot be made for want of it is there more to do.
            do { try group.makeFolders() } catch {
                guard error == .noSuchFile else { throw error }
                try makeParent()
                try group.makeFolders()
            }
            try group.apply(limits, lowering: false)
        } catch {
            group.removeFolders()
            throw .failed("cgroup-failed", "cannot make the control group \(group.name): \(error)")
        }
        return group
    }

    /// Makes the parent in every hierarchy that we use. Idempotent.
    func makeParent() throws(Errno) {
        let all = InstanceCgroup(layout: layout, name: parent)
        if let root = layout.unified, !layout.unifiedControllers.isEmpty {
            try ControlFile.delegate(root, layout.unifiedControllers)
        }
        try all.makeFolders()
        if let folder = all.unifiedFolder, !layout.unifiedControllers.isEmpty {
            try ControlFile.delegate(folder, layout.unifiedControllers)
        }
        switch layout.version(of: "memory") {
        case .v2: try all.write("memory", "memory.max", "\(memoryForAll)")
        case .v1: try all.write("memory", "memory.limit_in_bytes", "\(memoryForAll)")
        case nil: break
        }
    }

    /// The ids of all groups below the parent.
    package func existing() -> Set<String> {
        var ids: Set<String> = []
        for root in layout.roots {
            for entry in (try? Files.list("\(root)/\(parent)")) ?? [] where entry.type == .directory {
                ids.insert(entry.name)
            }
        }
        return ids
    }

    /// Removes the parent if nothing is below it any more.
    package func removeParent() { InstanceCgroup(layout: layout, name: parent).removeFolders() }
}
