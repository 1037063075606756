package import AegisChannel
package import AegisIO
package import AegisSandboxTypes
package import LinuxSys

/// One isolation technology. A backend boots and re-adopts sandboxes and does nothing else: logs, exec, ports,
/// lifecycle and policy live above it, once (decision D5).
package protocol Backend: Sendable {
    /// The name that `--isolation` takes.
    var name: String { get }

    /// Runs a real canary in a sandbox of this backend and says what it proved.
    ///
    /// - Parameter deadline: how long the canary may take; a hanging one is killed and reported.
    /// - Returns: the grade with what it stands on, or the reason why there is none.
    func probe(deadline: Duration) async -> BackendReport

    /// Makes a sandbox whose harness has said hello. The record is handed to `save` before the workload can start.
    ///
    /// - Throws: an `AegisError` that names the step which failed; nothing is left behind.
    func boot(_ spec: BootSpec, save: @Sendable (SandboxRecord) async throws -> Void) async throws -> any Sandbox

    /// Finds a sandbox again after a restart of the daemon; nil if nothing of it is left.
    ///
    /// - Throws: `ChannelError.version` for one that lives and is of a release too old to talk to.
    func adopt(_ record: SandboxRecord) async throws -> (any Sandbox)?

    /// Removes what a sandbox that cannot be adopted left behind (cgroups, directories). Idempotent.
    func discard(_ record: SandboxRecord) async
}

/// What a backend needs to boot a sandbox.
package struct BootSpec: Sendable {
    /// The instance's id; names the run directory, cgroup and container.
    package var id: String
    package var hostname: String
    /// The image's layers as absolute paths, top to bottom.
    package var layers: [String]
    /// The folder that keeps the writable layer over restarts.
    package var writable: String
    /// Mounts beside the image, in order; the workspace is one of them.
    package var mounts: [BootMount]
    package var limits: Limits
    /// Which host ids the mounts of host folders map to; see `BootMount.owner`.
    package var user: String
    /// How long the harness may take to say hello.
    package var deadline: Duration
    /// Whether the writable layer is removed at the end; then it is never synced to the disk.
    package var isEphemeral: Bool
    /// Whether setuid and setgid bits may be set although folders of the host can be written to.
    package var allowsSetID = false

    /// Whether setuid and setgid bits, and file capabilities, must not be set: in a folder of the host such a file would be a
    /// program of its owner's for every user of the host. No mount flag prevents that: it would count inside only.
    package var guardsSetID: Bool {
        !allowsSetID
            && mounts.contains { mount in
                if case .host = mount.ownership { return !mount.readOnly }
                return false
            }
    }

    package init(
        id: String, hostname: String, layers: [String], writable: String, mounts: [BootMount] = [],
        limits: Limits = Limits(),
        user: String = "", deadline: Duration = .seconds(30), isEphemeral: Bool = false
    ) {
        self.id = id
        self.hostname = hostname
        self.layers = layers
        self.writable = writable
        self.mounts = mounts
        self.limits = limits
        self.user = user
        self.deadline = deadline
        self.isEphemeral = isEphemeral
    }
}

/// A folder or file of the host in the sandbox, already opened with the rights of the user who named it.
package struct BootMount: Sendable {
    /// How ids of the folder relate to ids inside (decision D17).
    package enum Ownership: Sendable, Equatable {
        /// Owned by Aegis: id by id.
        case managed
        /// Owned by Aegis and given to a user of a sandbox, `uid`:`gid`, for one whose command runs as another: these two are
        /// each other, all other ids are as they are.
        case exchanged(uid: UInt32, gid: UInt32, insideUID: UInt32, insideGID: UInt32)
        /// A user's folder: host id `uid`:`gid` is the sandbox's `insideUID`:`insideGID`. With `others` the sandbox's other
        /// users stand in the reserved range, which root inside then rules over; without it they are nobody there.
        case host(uid: UInt32, gid: UInt32, insideUID: UInt32, insideGID: UInt32, others: Bool)
    }
    /// How many ids a sandbox has, from 0 on.
    package static let idCount: UInt32 = OCIConfig.idCount
    /// The opened source; shared because a boot may be retried.
    package var source: SharedDescriptor
    package var target: String
    package var readOnly: Bool
    package var isDirectory: Bool
    package var ownership: Ownership

    package init(source: SharedDescriptor, target: String, readOnly: Bool, isDirectory: Bool, ownership: Ownership) {
        self.source = source
        self.target = target
        self.readOnly = readOnly
        self.isDirectory = isDirectory
        self.ownership = ownership
    }
}

/// What is saved of a sandbox so that a later daemon can find it.
package struct SandboxRecord: Sendable, Codable, Equatable {
    package var backend: String
    package var id: String
    package var runDirectory: String
    package var keeperPid: Int32
    /// Start time of the keeper (clock ticks since boot, `/proc/PID/stat` field 22): tells a recycled pid.
    package var keeperStart: UInt64
    /// First host id of the sandbox's range.
    package var idBase: UInt32
    package var bootID: String
    package init(
        backend: String, id: String, runDirectory: String, keeperPid: Int32, keeperStart: UInt64, idBase: UInt32,
        bootID: String
    ) {
        self.backend = backend
        self.id = id
        self.runDirectory = runDirectory
        self.keeperPid = keeperPid
        self.keeperStart = keeperStart
        self.idBase = idBase
        self.bootID = bootID
    }
}

/// What a sandbox can do beyond the minimum.
package struct Abilities: Sendable, Equatable {
    package var pause = true
    package var updateLimits = true
    package var snapshot = false
    package var reclaim = false
    package init() {}
}

/// How a sandbox ended.
package struct Termination: Sendable, Equatable {
    /// Exit code of the sandbox's first process; nil if nobody can know it (the keeper died).
    package var code: Int32?
    /// Whether the kernel killed a process of the sandbox for memory.
    package var oomKilled: Bool
    /// Whether we asked for the end.
    package var requested: Bool
    /// Why the sandbox was ended by its keeper, if it was.
    package var reason: String?
    package init(code: Int32?, oomKilled: Bool, requested: Bool, reason: String? = nil) {
        self.code = code
        self.oomKilled = oomKilled
        self.requested = requested
        self.reason = reason
    }
}

/// What a sandbox uses now.
package struct Usage: Sendable, Codable, Equatable {
    package var memoryBytes: UInt64
    package var cpuMicroseconds: UInt64
    package var pids: UInt64
    package var oomKills: UInt64
    package init(memoryBytes: UInt64, cpuMicroseconds: UInt64, pids: UInt64, oomKills: UInt64) {
        self.memoryBytes = memoryBytes
        self.cpuMicroseconds = cpuMicroseconds
        self.pids = pids
        self.oomKills = oomKills
    }
}

/// How limits that somebody wants relate to those that a sandbox was booted with.
package enum LimitMatch: Sendable {
    /// They are the same.
    case same
    /// They can be changed to them, and nothing inside tells the difference.
    case changeable
    /// Only a boot of its own is the same.
    case different
}

/// Gives a sandbox in which nothing of anybody's runs yet other limits than it was booted with, exactly: nothing inside can tell it
/// from one that was booted with them. (`Sandbox.update` is for programs that run already and know of the change.)
package protocol LimitFitting: Sendable {
    /// What can be done for these limits. Does not block.
    func match(_ limits: Limits) -> LimitMatch
    /// Changes them.
    ///
    /// - Parameter limits: `.same` or `.changeable` ones.
    /// - Throws: `update-failed`: the sandbox is of no use then.
    func fit(to limits: Limits) async throws
}

/// A booted sandbox.
package protocol Sandbox: AnyObject, Sendable {
    var record: SandboxRecord { get }
    var abilities: Abilities { get }
    /// Milliseconds of each step of the boot, by name; empty after adoption.
    var bootSteps: [(name: String, milliseconds: Double)] { get }

    /// Whether it is there, as far as can be seen without asking: its keeper lives and has not told of its end.
    var isAlive: Bool { get }

    /// Whether it is paused and dies once it is resumed: somebody killed a process of it meanwhile.
    var isDoomed: Bool { get }

    /// How many of its processes the kernel has killed for want of memory so far.
    var oomKills: UInt64 { get }

    /// Connects to the keeper (sends `attach`, reads `state`); the frames of the channel follow on the stream.
    ///
    /// A further call replaces the connection of an earlier one.
    func channel() async throws -> (state: KeeperState, stream: any ByteStream)

    /// Connects to a port inside, on loopback first, then on the sandbox's own address.
    func dial(_ port: UInt16, deadline: Duration) async throws -> FileStream

    /// The network namespace that the sandbox's processes are in; nil when there is none of this host's, or it has ended.
    var networkNamespace: SharedDescriptor? { get }

    /// Freezes every process; idempotent.
    func pause() async throws
    /// Thaws every process; idempotent.
    func resume() async throws
    /// Kills everything at once; returns when the sandbox is dead or cannot be found.
    func kill() async
    /// Pushes the memory of a paused sandbox out, as far as the host has room for it; ends early once it is not wanted any more.
    ///
    /// - Returns: bytes in use before and after, page cache included.
    func reclaim(while wanted: @escaping @Sendable () -> Bool) async throws -> (before: UInt64, after: UInt64)
    /// Changes limits of the live sandbox.
    func update(_ limits: Limits) async throws
    /// Looks at a sandbox in which nothing runs yet.
    ///
    /// - Parameter limits: those that it was booted with.
    /// - Returns: what it takes to give it others.
    func fitting(bootedWith limits: Limits) async -> any LimitFitting
    func usage() async throws -> Usage
    /// Waits until the sandbox has ended and says how. Any number of callers.
    func termination() async -> Termination
    /// The end was recorded: lets the keeper go and removes what is left on the host.
    func release() async
}

/// A descriptor with several holders; closed with the last one.
package final class SharedDescriptor: Sendable {
    private let descriptor: FileDescriptor
    /// Takes over a descriptor.
    package init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
    /// The number; valid while this object lives.
    package var raw: Int32 { descriptor.raw }
}
