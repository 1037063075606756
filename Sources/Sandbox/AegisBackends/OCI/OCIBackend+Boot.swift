import AegisChannel
import AegisCore
import AegisIO
import AegisSandboxTypes
import LinuxSys
import Synchronization

extension OCIBackend {
    package func boot(_ spec: BootSpec, save: @Sendable (SandboxRecord) async throws -> Void) async throws
        -> any Sandbox
    {
        do {
            return try await boot(spec, platform: nil, quirks: quirks.withLock { $0 }, save: save)
        } catch let error as AegisError where error.code == "boot-failed" {
            let folders = [runDirectory, spec.writable]
            let full = try? await BlockingPool.shared.run { folders.first(where: RoomProbe.isFull) }
            throw full.map { Self.crowdedOut(error, at: $0) } ?? error
        }
    }

    /// A start that the disk had no room for, in the middle of which it was noticed: runtimes do not always say what it was.
    private static func crowdedOut(_ error: AegisError, at folder: String) -> AegisError {
        AegisError(
            .unavailable, "disk-full", "no room is left at \(folder) for what a start writes: \(error.message)",
            hint: "free some space there, or files where they are counted: df -i")
    }

    /// Boots with a given platform of runsc (nil takes the best one that it was built with), making up for the quirks of its
    /// kernel.
    func boot(
        _ spec: BootSpec, platform: String?, quirks: UInt8, save: @Sendable (SandboxRecord) async throws -> Void
    ) async throws -> any Sandbox {
        try check(spec)
        let clock = StepClock()
        let facts = try await facts()
        guard !spec.guardsSetID || runtime.kind != .userKernel || facts.hasSeccompFlag else {
            throw AegisError(
                .unavailable, "isolation-unavailable",
                "\(name) \(facts.version) cannot keep setuid programs out of a folder of yours that it may write in",
                hint: "use a newer \(name), or a workspace of Aegis's own (--workspace NAME), or --allow-setuid")
        }
        let layer = try await disk.layer(for: spec.id, folder: spec.writable, limit: spec.limits.disk)
        let preparation = try await BlockingPool.shared.run { [self] in
            try Preparation(
                shimmed(spec, quirks), layer: layer, platform: platform ?? facts.platforms.first, facts: facts,
                quirks: quirks, backend: self)
        }
        clock.lap("prepare")
        var started: ProcessIdentity?
        do {
            let child = try preparation.startKeeper(on: loop)
            let identity = try identify(child)
            started = identity
            let record = SandboxRecord(
                backend: name, id: spec.id, runDirectory: preparation.layout.directory, keeperPid: identity.pid,
                keeperStart: identity.start, idBase: preparation.lease.base, bootID: HostIdentity.bootID())
            clock.lap("keeper")
            try await save(record)
            clock.lap("save")
            let stream = try preparation.connection(on: loop)
            let booted = try await bootKeeper(stream, preparation, deadline: spec.deadline)
            try preparation.finishLimits()
            clock.lap("boot")
            for (name, microseconds) in zip(["namespaces", "mounts", "runtime", "hello"], booted.steps) {
                clock.add(name, Double(microseconds) / 1000)
            }
            let sandbox = OCISandbox(
                record: record, keeper: identity, child: child, lease: preparation.lease, group: preparation.group,
                backend: self)
            try sandbox.begin(preparation, booted, steps: clock.steps)
            logger.debug(
                "booted", ("id", spec.id),
                ("milliseconds", clock.steps.map { "\($0.name) \($0.milliseconds)" }.joined(separator: ", ")))
            return sandbox
        } catch {
            await undo(preparation, started)
            throw explain(error, preparation)
        }
    }

    /// Below the image's layers, where the image's own files and what the sandbox wrote count more, what its kernel makes
    /// necessary.
    private func shimmed(_ spec: BootSpec, _ quirks: UInt8) throws(AegisError) -> BootSpec {
        guard quirks & Hello.refusesNoAutomount != 0, let layer = try shim.layer() else { return spec }
        var spec = spec
        spec.layers.append(layer)
        return spec
    }

    private func check(_ spec: BootSpec) throws(AegisError) {
        guard Self.isSandboxName(spec.id), !spec.id.contains("/") else {
            throw .usage("'\(spec.id)' is not a sandbox's id")
        }
        guard !spec.layers.isEmpty else { throw .failed("boot-failed", "the image of \(spec.id) has no layers") }
        guard spec.layers.count <= SandboxBounds.layers, spec.mounts.count <= 120 else {
            throw .failed(
                "boot-failed", "\(spec.layers.count) layers and \(spec.mounts.count) mounts are too many",
                hint: "an image may have \(SandboxBounds.imageLayers) layers, an instance 120 mounts")
        }
        try spec.limits.validate()
    }

    private func identify(_ child: ChildProcess) throws(AegisError) -> ProcessIdentity {
        do throws(Errno) { return try ProcessIdentity(of: child.pid) } catch {
            throw .failed("boot-failed", "the keeper ended at once: \(error)")
        }
    }

    /// Hands the plan over and waits for the keeper's answer.
    private func bootKeeper(
        _ stream: FileStream, _ preparation: Preparation, deadline: Duration
    ) async throws -> Booted {
        let plan = preparation.plan.encoded()
        // The keeper watches the deadline itself and undoes what it did; this one is for a keeper that hangs.
        return try await withDeadline(deadline + .seconds(2), clock: loop.clock) {
            var handshake = KeeperHandshake(stream)
            try await handshake.send(.boot, plan)
            while let (header, payload) = try await handshake.next() {
                switch header.type {
                case .booted: return try Booted(decoding: payload)
                case .bootFailed: throw KeeperRefusal(try BootFailed(decoding: payload))
                default: continue
                }
            }
            throw IOError(.closed, "the keeper ended without an answer")
        }
    }

    /// Ends whatever a failed boot left.
    private func undo(_ preparation: Preparation, _ keeper: ProcessIdentity?) async {
        preparation.keepLogTail()
        preparation.closeConnection()
        await remove(id: preparation.id, keeper: keeper, lease: preparation.lease)
    }

    /// Turns a failure of any step into an error for people.
    private func explain(_ error: any Error, _ preparation: Preparation) -> any Error {
        switch error {
        case is CancellationError, is AegisError: return error
        case let refusal as KeeperRefusal: return refusal.explained(preparation, runtime: name)
        case let error as IOError where error.kind == .timeout:
            return AegisError(
                .timeout, "boot-timeout", "\(name) did not bring \(preparation.id) up in time",
                hint: preparation.logTail.isEmpty ? nil : preparation.logTail)
        case let error as IOError where error.kind == .cancelled: return CancellationError()
        default:
            return AegisError.failed(
                "boot-failed", "\(name) could not start \(preparation.id): \(error)",
                hint: preparation.logTail.isEmpty ? nil : preparation.logTail)
        }
    }
}

/// A keeper's `bootFailed`.
struct KeeperRefusal: Error {
    let failure: BootFailed

    init(_ failure: BootFailed) { self.failure = failure }

    /// The error for people: what the step was, with the file system's name where ids could not be mapped.
    func explained(_ preparation: Preparation, runtime: String) -> AegisError {
        let text = String(decoding: failure.text, as: UTF8.self)
        if failure.errno == UInt32(Errno.timedOut.code) {
            return AegisError(
                .timeout, "boot-timeout", "\(runtime) did not bring \(preparation.id) up in time: \(text)")
        }
        if failure.step == .accounts {
            return AegisError(
                .failed, "image-unusable", "\(runtime) cannot start \(preparation.id): \(text)",
                hint: "make it a regular file, or take --isolation runsc, which does not read it")
        }
        if failure.step == .mounts, let wanted = preparation.mismatch(saying: text) {
            let (there, mine) = wanted.isDirectory ? ("file", "folder") : ("folder", "file")
            return AegisError(
                .usage, "mount-mismatch",
                "\(wanted.target) is a \(there) in the image, and what is mounted there a \(mine)",
                hint: "mount a \(there), or choose another target")
        }
        if failure.step == .mounts, let culprit = preparation.unmappable(saying: text) {
            return AegisError(
                .failed, "not-idmappable",
                "\(culprit.what) lies on \(culprit.fileSystem), which cannot map user ids on this kernel",
                hint: "keep it on ext4, xfs or btrfs")
        }
        return .failed(
            "boot-failed",
            failure.step == .hello
                ? "\(runtime) started \(preparation.id), but its harness did not answer: \(text)"
                : "\(runtime) could not start \(preparation.id): \(text)")
    }
}

/// Measures the steps of a boot.
final class StepClock {
    private(set) var steps: [(name: String, milliseconds: Double)] = []
    private var last = SystemTime.monotonic

    /// Ends a step that began with the end of the one before.
    func lap(_ name: String) {
        let now = SystemTime.monotonic
        add(name, Double(now - last) / 1_000_000)
        last = now
    }

    /// Adds a step that somebody else measured.
    func add(_ name: String, _ milliseconds: Double) { steps.append((name, milliseconds)) }
}
