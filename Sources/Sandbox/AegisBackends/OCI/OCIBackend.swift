import AegisChannel
package import AegisCore
package import AegisIO
import AegisSandboxTypes
import LinuxSys
import Synchronization

/// Sandboxes made by an OCI runtime: `runc`, `crun` and `runsc` by the same code.
package final class OCIBackend: Backend {
    package let runtime: OCIRuntime
    /// `/run/aegis/<node>`: each sandbox has a folder below it.
    package let runDirectory: String
    /// A folder on a real disk for the canary's files; memory file systems cannot map ids on older kernels.
    let scratch: String
    let harnessPath: String
    /// The layer for kernels that refuse what glibc's programs ask for.
    let shim: ShimLayer
    let idPool: IDPool
    let cgroups: CgroupManager
    let disk: DiskPool
    let cache: ProbeCache?
    let loop: EventLoop
    let logger: Logger
    /// What the last probe found odd about the kernel of a sandbox; 0 before the first.
    let quirks = Mutex<UInt8>(0)
    private let inspected = Mutex<(key: String, facts: RuntimeFacts)?>(nil)

    package var name: String { runtime.name }

    /// Makes a driver; nothing is touched before the first call.
    ///
    /// - Parameters:
    ///   - runtime: which runtime to drive.
    ///   - runDirectory: the node's run directory; made with mode 0711 when it is missing.
    ///   - scratch: a folder on disk for the probe's canary.
    ///   - harnessPath: the static `aegis-harness`; `aegis-shim` is looked for beside it.
    ///   - shims: a folder on disk that keeps the layer with `aegis-shim`.
    ///   - idPool: host ids of sandboxes.
    ///   - cgroups: control groups of the node.
    ///   - disk: writable layers.
    ///   - cache: earlier probes; nil always runs the canary.
    ///   - loop: the loop that everything runs on.
    ///   - logger: where oddities go.
    package init(
        runtime: OCIRuntime, runDirectory: String, scratch: String, harnessPath: String, shims: String, idPool: IDPool,
        cgroups: CgroupManager, disk: DiskPool, cache: ProbeCache? = nil, loop: EventLoop, logger: Logger = .none
    ) {
        self.runtime = runtime
        self.runDirectory = runDirectory
        self.scratch = scratch
        self.harnessPath = harnessPath
        shim = ShimLayer(program: Files.split(harnessPath).directory + "/aegis-shim", folder: shims)
        self.idPool = idPool
        self.cgroups = cgroups
        self.disk = disk
        self.cache = cache
        self.loop = loop
        self.logger = logger.with("backend", runtime.name)
    }

    /// What is installed; asked again when the program's file changed.
    ///
    /// - Throws: `runtime-missing` with the package that brings it, `runtime-broken` when it does not answer.
    func facts() async throws -> RuntimeFacts {
        guard let path = Files.findExecutable(runtime.program, path: OCIRuntime.searchPath),
            let status = try? Files.status(path)
        else {
            throw AegisError(
                .unavailable, "runtime-missing", "\(runtime.name) is not installed",
                hint: "apt install \(runtime.package)")
        }
        let key = "\(path):\(status.modified):\(status.size)"
        if let known = inspected.withLock({ $0 }), known.key == key { return known.facts }
        let output = try await ask(path, ["--version"])
        guard let version = OCIRuntime.version(from: output) else {
            let said = output.split(separator: "\n").first.map { ": '\($0.prefix(200))'" } ?? ""
            throw AegisError.failed("runtime-broken", "\(path) --version says nothing about its version\(said)")
        }
        var facts = RuntimeFacts(
            path: path, version: version,
            builtAt: OCIRuntime.date(inVersion: version) ?? status.modified / 1_000_000)
        if runtime.kind == .userKernel {
            let help = try await ask(path, ["flags"])
            facts.platforms = OCIRuntime.platforms(fromHelp: help)
            facts.hasOverlayFlag = help.contains("-overlay2 ")
            facts.hasSeccompFlag = help.contains("-oci-seccomp")
        }
        let found = facts
        inspected.withLock { $0 = (key, found) }
        return facts
    }

    /// What a command of the runtime prints, on either stream.
    private func ask(_ path: String, _ arguments: [String]) async throws -> String {
        var command = [path] + arguments
        // crun mounts its own file over a name in /tmp before all else, against programs that would replace it. Killed at that
        // moment, with a daemon that ends, it leaves the mount behind, unless that was in a namespace which goes with it.
        if runtime.kind == .namespaces, CurrentProcess.effectiveUser == 0,
            let unshare = Files.findExecutable("unshare", path: OCIRuntime.searchPath)
        {
            command = [unshare, "--mount", "--propagation", "private", "--"] + command
        }
        let spec = ProcessSpec(
            executable: command[0], arguments: command, environment: ["PATH=\(OCIRuntime.searchPath)"])
        let result: ProcessOutput
        do {
            result = try await runProcess(spec, input: [], outputLimit: 1 << 20, deadline: .seconds(10), on: loop)
        } catch {
            let isLate = (error as? IOError)?.kind == .timeout
            throw AegisError(
                isLate ? .timeout : .failed, "runtime-broken",
                "\(path) \(arguments.joined(separator: " ")): \(error)")
        }
        return String(decoding: result.stdout + result.stderr, as: UTF8.self)
    }

    // MARK: - Finding sandboxes again

    package func adopt(_ record: SandboxRecord) async throws -> (any Sandbox)? {
        guard isOurs(record), record.bootID == HostIdentity.bootID() else { return nil }
        let keeper = ProcessIdentity(pid: record.keeperPid, start: record.keeperStart)
        guard keeper.isAlive, let lease = idPool.adopt(record.idBase, for: record.runDirectory) else { return nil }
        let sandbox = OCISandbox(
            record: record, keeper: keeper, child: nil, lease: lease, group: cgroups.group(record.id), backend: self)
        do {
            try await withDeadline(.seconds(5), clock: loop.clock) { try await sandbox.recognise() }
        } catch {
            logger.warning("cannot adopt a sandbox", ("id", record.id), ("error", "\(error)"))
            lease.release()
            if let error = error as? ChannelError { throw error }
            return nil
        }
        return sandbox
    }

    package func discard(_ record: SandboxRecord) async {
        guard isOurs(record) else { return }
        let keeper = ProcessIdentity(pid: record.keeperPid, start: record.keeperStart)
        let isSameBoot = record.bootID == HostIdentity.bootID()
        let lease = idPool.adopt(record.idBase, for: record.runDirectory)
        await remove(id: record.id, keeper: isSameBoot ? keeper : nil, lease: lease)
    }

    /// Removes what sandboxes left that nobody has a record of: only folders and groups of this node.
    ///
    /// - Parameter known: ids that must stay.
    package func sweep(keeping known: Set<String>) async {
        let folders = ((try? Files.list(runDirectory)) ?? []).filter { $0.type == .directory }.map(\.name)
        let ids = Set(folders.filter { Self.isSandboxName($0) }).union(cgroups.existing()).subtracting(known)
        for id in ids.sorted() {
            logger.info("removing what a lost sandbox left", ("id", id))
            let group = cgroups.group(id)
            await onOwnThread { Self.thawDead(group) }
            if await !endKeeper(of: id) { logger.warning("a keeper does not go", ("id", id)) }
            await remove(id: id, keeper: nil, lease: idPool.adopt(for: "\(runDirectory)/\(id)"))
        }
    }

    /// Ends the keeper of a sandbox that nobody has a record of, such as a probe that a daemon did not live to finish:
    /// a keeper waits for its daemon without an end.
    ///
    /// - Returns: false when it has not gone in its time. Its socket goes with the folder, so nobody could end it later.
    private func endKeeper(of id: String) async -> Bool {
        let socket = RunLayout(directory: "\(runDirectory)/\(id)").keeperSocket
        guard Files.exists(socket), let stream = try? await Connect.unix(path: socket, on: loop, deadline: .seconds(1))
        else { return true }
        defer { stream.close() }
        let hasGone: Void? = try? await withDeadline(.seconds(5), clock: loop.clock) {
            var handshake = KeeperHandshake(stream)
            try await handshake.send(.attach, Attach().encoded())
            try await handshake.send(.kill)
            // Its connection ends when it has gone.
            while let (header, _) = try await handshake.next() {
                if header.type == .ended || header.type == .bootFailed { try await handshake.send(.release) }
            }
        }
        return hasGone != nil
    }

    /// Lets what stands still in a group die: a signal reaches it only after it was thawed, and it is thawed only after the
    /// signal, so that nothing in it runs on.
    private static func thawDead(_ group: InstanceCgroup) {
        guard group.isFrozen else { return }
        _ = group.killMembers()
        try? group.setFrozen(false)
    }

    /// Whether a name in the run directory is one that `boot` gives: other folders there are not sandboxes.
    static func isSandboxName(_ name: String) -> Bool { name.hasPrefix("i-") || name.hasPrefix("probe-") }

    /// Whether a record is of this backend and node; paths of other nodes are never touched.
    private func isOurs(_ record: SandboxRecord) -> Bool {
        record.backend == name && record.runDirectory == "\(runDirectory)/\(record.id)" && !record.id.contains("/")
            && !record.id.hasPrefix(".") && !record.id.isEmpty
    }

    // MARK: - Removing

    /// Ends the keeper, kills what is in the group and removes group, folder and id range. Bounded: 6 s.
    ///
    /// Goes on when the task is cancelled: what a cancelled boot made must go all the same.
    func remove(id: String, keeper: ProcessIdentity?, lease: IDLease?) async {
        let (group, folder, logger) = (cgroups.group(id), "\(runDirectory)/\(id)", logger)
        await onOwnThread {
            Self.thawDead(group)
            if let keeper { KeeperEnding.end(keeper, socket: folder + "/keep.sock") }
            Self.removeBlocking(group, folder, logger)
            lease?.release()
        }
    }

    private static func removeBlocking(_ group: InstanceCgroup, _ folder: String, _ logger: Logger) {
        let end = SystemTime.monotonic + 3_000_000_000
        var pause: UInt32 = 200
        while !group.removeFolders() {
            guard SystemTime.monotonic < end else {
                logger.warning("a control group cannot be removed", ("group", group.name))
                break
            }
            if group.killMembers() { try? group.setFrozen(false) }
            SystemThread.pause(microseconds: pause)
            pause = min(pause * 2, 50_000)
        }
        do throws(Errno) { try Files.removeTree(folder) } catch {
            logger.warning("cannot remove a run directory", ("folder", folder), ("error", "\(error)"))
        }
    }
}
