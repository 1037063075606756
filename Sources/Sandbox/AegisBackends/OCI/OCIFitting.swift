import AegisCore
import AegisIO
package import AegisSandboxTypes
import LinuxSys

/// The limits of a sandbox of an OCI runtime, while nothing runs in it.
///
/// Processors are a quota of the control group, which nothing inside can see. Memory is the group's limit, and the size of the memory
/// file systems inside; processes are the group's limit. A kernel in user space has told the programs inside of both when it
/// started, and has no way to say it anew.
struct OCIFitting: LimitFitting {
    let id: String
    let runtime: OCIRuntime
    let cgroups: CgroupManager
    let group: InstanceCgroup
    let booted: ResolvedLimits
    /// The limit of the writable layer: one without a limit lies elsewhere.
    let disk: ByteSize?
    /// The memory file systems inside; nil where they are not what a boot makes, or cannot be held.
    let rooms: [MemoryRoom]?

    func match(_ limits: Limits) -> LimitMatch {
        guard limits.disk == disk else { return .different }
        let wanted = cgroups.resolve(limits)
        if wanted == booted { return .same }
        switch runtime.kind {
        case .namespaces: return wanted.memory == booted.memory || rooms != nil ? .changeable : .different
        case .userKernel:
            return wanted.memory == booted.memory && wanted.pids == booted.pids ? .changeable : .different
        }
    }

    func fit(to limits: Limits) async throws {
        let wanted = cgroups.resolve(limits)
        guard wanted != booted else { return }
        let (group, host) = (group, runtime.hostLimits(wanted))
        let rooms = wanted.memory == booted.memory ? [] : rooms ?? []
        do {
            try await BlockingPool.shared.run { () throws -> Void in
                try group.apply(host, lowering: true)
                for room in rooms { try room.resize(to: OCIConfig.room(of: wanted.memory)) }
            }
        } catch {
            throw AegisError.failed("update-failed", "cannot change the limits of \(id): \(error)")
        }
    }

    /// Takes hold of the memory file systems of a sandbox.
    ///
    /// An image may have a link where one is to be mounted, and then something else is there, of the host's even: only what the
    /// runtime has mounted at just these places is taken.
    ///
    /// - Parameters:
    ///   - pid: the first process inside.
    ///   - group: the sandbox's.
    ///   - memory: what it was booted with, in bytes.
    /// - Returns: nil when something else is at one of the places.
    /// - Throws: the kernel's refusal.
    static func findRooms(of pid: Int32, in group: InstanceCgroup, memory: UInt64) throws(Errno) -> [MemoryRoom]? {
        let process = try FileDescriptor.open("/proc/\(pid)", [.pathOnly, .directory])
        // From here on it is one process: before, the number may have been another's already.
        guard group.members.contains(pid) else { return nil }
        let own = "/proc/self/fd/\(process.raw)"
        let text = try Files.read("\(own)/mountinfo", limit: 1 << 20)
        let table = MountTable(parsing: String(decoding: text, as: UTF8.self))
        let root = try FileDescriptor.open("\(own)/root", [.pathOnly, .directory])
        var rooms: [MemoryRoom] = []
        for path in OCIConfig.rooms {
            guard let device = device(of: path, in: table, memory: memory) else { return nil }
            let place = try root.open(
                String(path.dropFirst()), [.pathOnly, .directory], resolve: [.beneath, .noLinks, .noMagicLinks])
            guard try place.status().device == device else { return nil }
            rooms.append(try MemoryRoom(at: place))
        }
        return rooms
    }

    /// The device of the memory file system that a boot has mounted at a path; nil when anything else is there.
    static func device(of path: String, in table: MountTable, memory: UInt64) -> UInt64? {
        let found = table.entries.filter { $0.target == path }
        let size = "size=\((OCIConfig.room(of: memory) + 4095) / 4096 * 4)k"
        guard found.count == 1, let mount = found.first, mount.type == "tmpfs", mount.root == "/",
            mount.superOptions.contains(size), table.entries.filter({ $0.device == mount.device }).count == 1
        else { return nil }
        return mount.device
    }
}

extension OCISandbox {
    package func fitting(bootedWith limits: Limits) async -> any LimitFitting {
        let (group, booted) = (group, backend.cgroups.resolve(limits))
        var rooms: [MemoryRoom]?
        if backend.runtime.kind == .namespaces, let pid = firstProcess {
            rooms = try? await BlockingPool.shared.run {
                try OCIFitting.findRooms(of: pid, in: group, memory: booted.memory)
            }
        }
        return OCIFitting(
            id: record.id, runtime: backend.runtime, cgroups: backend.cgroups, group: group, booted: booted,
            disk: limits.disk, rooms: rooms)
    }
}
