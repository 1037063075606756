import AegisChannel
import AegisCore
import AegisIO
import AegisSandboxTypes
import LinuxSys
import Synchronization

/// Everything on the host that a boot needs before its keeper starts: id range, control group, run directory, descriptors.
/// Made on a blocking thread; a failure in the middle undoes what came before.
final class Preparation: Sendable {
    let id: String
    let layout: RunLayout
    let lease: IDLease
    let group: InstanceCgroup
    let plan: BootPlan
    /// The limit of the control group once the runtime has started, if it is another one.
    private let lowerPids: Int?
    private let harnessPath: String
    /// In the order that `BootPlanner` numbers them, with what each is for people.
    private let sources: [(what: String, descriptor: SharedDescriptor)]
    private let listener: SharedDescriptor
    private let log: SharedDescriptor
    private let ends: Mutex<Ends>

    private struct Ends {
        /// The daemon's and the keeper's end of the first connection, until they are used.
        var ours: SharedDescriptor?
        var theirs: SharedDescriptor?
        var stream: FileStream?
        var logTail = ""
    }

    /// Prepares a boot.
    init(
        _ spec: BootSpec, layer: String, platform: String?, facts: RuntimeFacts, quirks: UInt8, backend: OCIBackend
    ) throws {
        id = spec.id
        harnessPath = backend.harnessPath
        let layout = RunLayout(directory: "\(backend.runDirectory)/\(spec.id)")
        self.layout = layout
        guard !Files.exists(layout.directory) else {
            throw AegisError.conflict("sandbox-exists", "a sandbox of \(spec.id) runs, or its remains were not removed")
        }
        // The kernel's mark of a volatile overlay: it refuses the layer of a boot that failed half-way for a second one.
        if spec.isEphemeral { try? Files.removeTree(layer + "/work/work/incompat") }
        let sources = try Self.openSources(spec, layer: layer, harness: backend.harnessPath)
        self.sources = sources
        let lease = try backend.idPool.take(for: layout.directory)
        self.lease = lease
        let wanted = backend.cgroups.resolve(spec.limits)
        var limits = backend.runtime.hostLimits(wanted)
        let pids = limits.pids
        limits.pids = backend.runtime.startingPids(pids)
        lowerPids = limits.pids == pids ? nil : pids
        do {
            let group = try backend.cgroups.make(spec.id, limits)
            self.group = group
            do {
                try Self.makeFolders(spec, layout, base: lease.base, parent: backend.runDirectory)
                plan = try BootPlanner(
                    id: spec.id, layout: layout,
                    config: OCIConfig(
                        kind: backend.runtime.kind, hostname: spec.hostname, layout: layout, idBase: lease.base,
                        cgroup: group.path, memory: limits.memory, openFiles: HostIdentity.openFiles,
                        processes: backend.runtime.kind == .userKernel ? wanted.pids : nil,
                        passesUnknown: quirks & Hello.forbidsClone3 != 0, guardsSetID: spec.guardsSetID,
                        binds: Self.binds(spec, layout)),
                    layerCount: spec.layers.count,
                    isNewLayer: (try? Files.list(layer + "/upper"))?.isEmpty ?? false, isEphemeral: spec.isEphemeral,
                    mounts: Self.mounts(spec),
                    reservedBase: backend.idPool.reservedBase,
                    runtime: backend.runtime.arguments(facts: facts, platform: platform, layout: layout, id: spec.id),
                    cgroupProcs: backend.runtime.kind == .userKernel ? group.procsFiles : [], deadline: spec.deadline
                ).plan()
                listener = SharedDescriptor(try Self.listen(layout.keeperSocket))
                log = SharedDescriptor(
                    try FileDescriptor.open(layout.keeperLog, [.writeOnly, .create, .append], mode: 0o600))
                var pair = try DescriptorPair.sockets()
                ends = Mutex(
                    Ends(ours: SharedDescriptor(pair.takeFirst()), theirs: SharedDescriptor(pair.takeSecond())))
            } catch {
                group.removeFolders()
                try? Files.removeTree(layout.directory)
                throw error
            }
        } catch {
            lease.release()
            throw error
        }
    }

    private static func mounts(_ spec: BootSpec) -> [BootPlanner.Mount] {
        spec.mounts.map {
            BootPlanner.Mount(
                target: $0.target, readOnly: $0.readOnly, isDirectory: $0.isDirectory, ownership: $0.ownership)
        }
    }

    private static func openSources(
        _ spec: BootSpec, layer: String, harness: String
    ) throws(AegisError) -> [(what: String, descriptor: SharedDescriptor)] {
        func open(_ path: String, _ what: String, _ flags: OpenFlags) throws(AegisError) -> (String, SharedDescriptor) {
            do throws(Errno) { return (what, SharedDescriptor(try FileDescriptor.open(path, flags))) } catch {
                throw .failed("boot-failed", "cannot open \(what) \(path): \(error)")
            }
        }
        var sources = [
            try open(layer, "the writable layer", [.pathOnly, .directory]), try open(harness, "the harness", .pathOnly),
        ]
        for path in spec.layers { sources.append(try open(path, "the image layer", [.pathOnly, .directory])) }
        for mount in spec.mounts { sources.append(("the folder for \(mount.target)", mount.source)) }
        return sources
    }

    /// The run directory, with the mount points that the keeper needs: the sandbox's root may pass through, not look.
    private static func makeFolders(
        _ spec: BootSpec, _ layout: RunLayout, base: UInt32, parent: String
    ) throws(AegisError) {
        do throws(Errno) {
            for folder in [Files.split(parent).directory, parent] where !Files.exists(folder) {
                try Files.makeDirectories(folder, mode: 0o711)
                try Files.setPermissions(folder, 0o711)
            }
            let above = try FileDescriptor.open(parent, [.readOnly, .directory])
            try above.makeDirectory(spec.id, mode: 0o700)
            let folder = try above.open(spec.id, [.readOnly, .directory, .noFollow])
            try folder.setOwner(user: 0, group: base)
            try folder.setPermissions(0o710)
            let names = ["root", "w"] + spec.layers.indices.map { "l\($0)" }
            for name in names { try folder.makeDirectory(name, mode: 0o755) }
            for (index, mount) in spec.mounts.enumerated() {
                if mount.isDirectory {
                    try folder.makeDirectory("m\(index)", mode: 0o755)
                } else {
                    _ = try folder.open("m\(index)", [.writeOnly, .create, .exclusive], mode: 0o644)
                }
            }
            _ = try folder.open("harness", [.writeOnly, .create, .exclusive], mode: 0o755)
            // runsc keeps its state here as the sandbox's root; runc does as the host's.
            try folder.makeDirectory("rt", mode: 0o700)
            try folder.setOwner(of: "rt", user: base, group: base)
        } catch {
            throw .failed("boot-failed", "cannot make \(layout.directory): \(error)")
        }
    }

    private static func binds(_ spec: BootSpec, _ layout: RunLayout) -> [OCIConfig.Bind] {
        spec.mounts.enumerated().map { index, mount in
            OCIConfig.Bind(source: layout.mount(index), target: mount.target, readOnly: mount.readOnly)
        }
    }

    /// The keeper's socket, bound through the folder's descriptor: run directories may be longer than a socket's name.
    private static func listen(_ path: String) throws(AegisError) -> FileDescriptor {
        do throws(Errno) {
            let (folder, name) = Files.split(path)
            let directory = try FileDescriptor.open(folder, [.pathOnly, .directory])
            guard let address = SocketAddress(unix: "/proc/self/fd/\(directory.raw)/\(name)") else {
                throw .nameTooLong
            }
            let socket = try FileDescriptor.streamSocket(for: address)
            try socket.bind(to: address)
            try Files.setPermissions(path, 0o600)
            try socket.listen(backlog: 16)
            return socket
        } catch {
            throw .failed("boot-failed", "cannot listen on \(path): \(error)")
        }
    }

    // MARK: - The keeper

    /// Starts the keeper with its descriptors, in a session of its own: it outlives this daemon.
    func startKeeper(on loop: EventLoop) throws -> ChildProcess {
        let theirs = ends.withLock { ends -> SharedDescriptor? in
            defer { ends.theirs = nil }
            return ends.theirs
        }
        guard let theirs else { throw AegisError.failed("boot-failed", "the keeper was started twice") }
        var spec = ProcessSpec(
            executable: harnessPath, arguments: ["aegis-harness", "keep"],
            environment: ["PATH=\(OCIRuntime.searchPath)"], workingDirectory: "/", stdout: .descriptor(log.raw),
            stderr: .descriptor(log.raw), newSession: true)
        spec.extraDescriptors = [(3, theirs.raw), (4, listener.raw)]
        for (index, source) in sources.enumerated() {
            spec.extraDescriptors.append((Int32(BootPlanner.firstSource) + Int32(index), source.descriptor.raw))
        }
        return try withExtendedLifetime((theirs, sources)) { try ChildProcess.spawn(spec, on: loop) }
    }

    /// The daemon's end of the keeper's first connection; the same stream each time.
    func connection(on loop: EventLoop) throws -> FileStream {
        if let stream = ends.withLock({ $0.stream }) { return stream }
        let ours = ends.withLock { ends -> SharedDescriptor? in
            defer { ends.ours = nil }
            return ends.ours
        }
        guard let ours else { throw AegisError.failed("boot-failed", "the keeper's connection is gone") }
        let stream = try FileStream(try FileDescriptor.duplicating(ours.raw), on: loop)
        ends.withLock { $0.stream = stream }
        return stream
    }

    func closeConnection() { ends.withLock { $0.stream }?.close() }

    /// The runtime has started: from now on the limits are the sandbox's own.
    func finishLimits() throws(AegisError) {
        guard let lowerPids else { return }
        do throws(Errno) { try group.write("pids", "pids.max", "\(lowerPids)") } catch {
            throw .failed("cgroup-failed", "cannot limit the processes of \(id): \(error)")
        }
    }

    // MARK: - Explaining failures

    /// The end of what keeper and runtime said, kept before the run directory goes.
    var logTail: String { ends.withLock { $0.logTail } }

    func keepLogTail() {
        guard let bytes = try? Files.read(layout.keeperLog, limit: 1 << 20) else { return }
        let text = String(decoding: bytes.suffix(600), as: UTF8.self)
        ends.withLock { $0.logTail = text.split(separator: "\n").suffix(4).joined(separator: "\n") }
    }

    /// The mount that does not fit what the image has at its target, if that is what the keeper's message is about.
    func mismatch(saying message: String) -> (target: String, isDirectory: Bool)? {
        for case .expect(_, let target, let isDirectory) in plan.mounts {
            let target = String(decoding: target, as: UTF8.self)
            if message.contains("(target \(target)):") { return (target, isDirectory) }
        }
        return nil
    }

    /// The source whose mapping failed, if that is what the keeper's message is about.
    ///
    /// - Parameter message: names the target of the step that failed.
    /// - Returns: nil when the failure is about something else.
    func unmappable(saying message: String) -> (what: String, fileSystem: String)? {
        guard message.contains("(idmapped "),
            message.hasSuffix("Invalid argument") || message.hasSuffix("Operation not permitted")
        else { return nil }
        let first = BootPlanner.firstSource
        for case .idmapped(let source, _, let target, _) in plan.mounts
        where message.contains("(idmapped \(String(decoding: target, as: UTF8.self)))") {
            let source = sources[Int(source - first)]
            guard let copy = try? FileDescriptor.duplicating(source.descriptor.raw),
                let name = try? copy.fileSystemName()
            else { return nil }
            return (source.what, name)
        }
        return nil
    }
}
