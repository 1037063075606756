internal import AegisAudit
internal import AegisBackends
internal import AegisChannel
internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisImages
internal import AegisJSON
internal import AegisLogs
internal import AegisNetwork
internal import AegisSandboxTypes
internal import AegisSecrets
internal import AegisSessions
internal import LinuxSys
internal import Synchronization

/// From a record to a running command: everything that a start does, in its order.
extension Instance {
    /// Where an instance keeps its writable layer.
    nonisolated var writable: String { InstancePlaces.writable(id, home: services.home) }

    /// Prepares everything and boots the sandbox. Runs beside the actor; what it learns is stored through it.
    nonisolated func prepareAndBoot(_ stored: StoredInstance) async throws -> any Sandbox {
        // A secret that is gone stops the start before anything is fetched or made.
        for name in stored.plainSecrets where name != "*" { _ = try services.secrets.value(of: name) }
        let standby = try await claimStandby()
        var (prepared, inspection): (PreparedBoot, Inspection?)
        do {
            prepared = try await prepare(stored)
            inspection = try await prepareInspection(stored)
            if let inspection {
                prepared.spec.mounts.append(try trustMount(inspection, layers: prepared.spec.layers))
            }
        } catch {
            if let standby { await giveUp(standby) }
            throw error
        }
        await remember(image: prepared.image, ids: prepared.ids, backend: prepared.choice)
        let ready = try await use(standby, for: prepared, isInspected: inspection != nil)
        let sandbox =
            if let ready { ready } else {
                try await prepared.choice.backend.boot(prepared.spec) { record in
                    try await self.remember(sandbox: record)
                }
            }
        try await openNetwork(stored, inspection, of: sandbox)
        return sandbox
    }

    /// Links a sandbox that is to be this instance's, or ends it.
    nonisolated func openNetwork(
        _ stored: StoredInstance, _ inspection: Inspection? = nil, of sandbox: any Sandbox
    ) async throws {
        do { try await openNetwork(stored, inspection, sandbox) } catch {
            await sandbox.kill()
            _ = await sandbox.termination()
            await sandbox.release()
            throw error
        }
    }

    /// Finds out and opens what a sandbox of the instance is made from, as it is now.
    nonisolated func prepare(_ stored: StoredInstance) async throws -> PreparedBoot {
        let choice = try await services.backends.choose(
            isolation: stored.isolation, minimum: Grade(rawValue: stored.minIsolation))
        try Task.checkCancellation()
        let image = try await resolveImage(stored)
        try Task.checkCancellation()
        let user = try image.config.user(overriddenBy: stored.user).description
        let layers = image.layers.reversed().map(\.path)
        let ids = UserLookup(layers: layers).resolve(user)
        let mounts = try await openMounts(stored, insideUID: ids.uid, insideGID: ids.gid)
        var limits = stored.info.limits
        limits.timeout = nil
        var spec = BootSpec(
            id: id, hostname: stored.info.name ?? id, layers: layers, writable: writable, mounts: mounts.map(\.mount),
            limits: limits, user: user, isEphemeral: stored.info.ephemeral)
        spec.allowsSetID = stored.allowsSetID ?? false
        let print = BootPrint(spec, image: image.digest, by: choice, mounts: mounts.map(\.print))
        return PreparedBoot(choice: choice, image: image, ids: ids, spec: spec, print: print)
    }

    private nonisolated func resolveImage(_ stored: StoredInstance) async throws -> ResolvedImage {
        let reference = try ImageReference(parsing: stored.info.image, defaultRegistry: services.defaultRegistry)
        let policy = PullPolicy(rawValue: stored.pull) ?? .ifNotPresent
        // The writable layer of an earlier start belongs to the layers that it was written over: the name may stand for
        // another image by now.
        if policy != .always || reference == .base, let digest = stored.image?.digest,
            let same = try await services.images.local(id: digest, as: reference)
        {
            return same
        }
        let own = credentials.withLock { $0.take() }
        let notices = notices
        return try await services.images.ensure(
            reference, policy: policy, for: Instance.imageCaller(stored, services).with(own),
            progress: { progress in notices.post(progress.text(reference)) })
    }

    private nonisolated func openMounts(_ stored: StoredInstance, insideUID: UInt32, insideGID: UInt32) async throws
        -> [(mount: BootMount, print: BootPrint.Mount)]
    {
        let user = FileIdentity(user: insideUID, group: insideGID)
        // Ids that no sandbox has get a workspace as little as they get a process.
        let isInside = max(insideUID, insideGID) < BootMount.idCount
        let places = try await HostPlaces(services: services, stored: stored).open(givingTo: isInside ? user : nil)
        try await layOut(stored, in: places[0], as: isInside ? user : FileIdentity(user: 0, group: 0))
        return try places.map { place in
            let ownership: BootMount.Ownership =
                if let owner = place.owner {
                    .host(
                        uid: owner.user, gid: owner.group, insideUID: insideUID, insideGID: insideGID,
                        others: stored.info.owner == 0)
                } else if let given = place.givenTo, given != user {
                    .exchanged(uid: given.user, gid: given.group, insideUID: insideUID, insideGID: insideGID)
                } else { .managed }
            let mount = BootMount(
                source: SharedDescriptor(try place.opened.descriptor.duplicate()), target: place.target,
                readOnly: place.readOnly, isDirectory: place.opened.isDirectory, ownership: ownership)
            return (mount, BootPrint.Mount(mount, of: place.opened.status))
        }
    }

    func remember(image: ResolvedImage, ids: (uid: UInt32, gid: UInt32), backend: BackendChoice) {
        stored.image = StoredImage(image)
        (stored.insideUser, stored.insideGroup) = (ids.uid, ids.gid)
        lease = image.lease
        stored.info.backend = backend.backend.name
        stored.info.grade = backend.grade
        stored.info.gradeDetail = backend.detail
    }

    private func remember(sandbox record: SandboxRecord) throws {
        stored.sandbox = record
        try services.store.update(stored)
    }

    /// Takes over a booted sandbox: opens its channel and starts to read it.
    ///
    /// - Returns: false if the channel broke at once; the end of the sandbox is reported then.
    func connect(_ sandbox: any Sandbox, attempt: UInt64) async -> Bool {
        self.sandbox = sandbox
        issueGrants()
        do {
            let (state, stream) = try await openChannel(to: sandbox)
            let session = HarnessSession(sink: processes, tap: tap)
            link.withLock { $0 = session }
            openGuestDoor(on: session, besides: state.processes)
            follow(session, on: stream, of: sandbox, known: state.processes, attempt: attempt)
            return true
        } catch {
            // Cut off by the end of a daemon that leaves its instances alone: the next one takes the sandbox over.
            if Task.isCancelled, services.gate.leavesAlone { return false }
            services.logger.error("no channel to a sandbox", ("instance", id), ("error", "\(error)"))
            background("dead") { instance in
                await sandbox.kill()
                instance.post(.booted(attempt: attempt))
                instance.post(.sandboxEnded(attempt: attempt, await sandbox.termination()))
            }
            return false
        }
    }

    /// The channel of a sandbox; one that was kept ready has it open already.
    private func openChannel(to sandbox: any Sandbox) async throws -> (state: KeeperState, stream: any ByteStream) {
        let held = heldChannel
        heldChannel = nil
        if let held, held.leads(to: sandbox) { return (held.state, held) }
        return try await sandbox.channel()
    }

    /// Reads the channel until it ends, then waits for the sandbox's own end and reports it.
    func follow(
        _ session: HarnessSession, on stream: any ByteStream, of sandbox: any Sandbox, known: [ProcessState],
        attempt: UInt64
    ) {
        background("session") { instance in
            do {
                // Ends with the sandbox's own end; the connection stays, the keeper is dismissed over it.
                if try await !session.run(on: stream, known: known) { stream.close() }
            } catch let error as ChannelError {
                instance.services.logger.error(
                    "the harness broke the protocol: the sandbox is killed", ("instance", instance.id),
                    ("error", "\(error)"))
                // Whoever waits for the sandbox's end reads the rest by a connection of its own.
                stream.close()
                await sandbox.kill()
            } catch {
                stream.close()
                instance.services.logger.debug("a channel ended", ("instance", instance.id), ("error", "\(error)"))
            }
            // The daemon leaves its sandboxes alive when it goes.
            guard !Task.isCancelled else { return }
            instance.post(.sandboxEnded(attempt: attempt, await sandbox.termination()))
        }
    }

    /// Starts the instance's command in the sandbox.
    func launch(_ attempt: UInt64) {
        guard let session else { return }
        do {
            let message = try startMessage()
            stored.info.startedAt = .now()
            commandStarted = uptime
            // A daemon that comes after a crash counts its time from here on.
            save()
            finishLaunch(attempt) { instance in
                try await instance.beforeCommand()
                _ = try await session.start(Channel.taskProcess, message)
            }
        } catch {
            post(.launchFailed(attempt: attempt, Instance.explain(error), exitCode: 125))
        }
    }

    /// Does what is left of a start, up to what the kit wants to have done after the command was started.
    ///
    /// - Parameters:
    ///   - attempt: the run.
    ///   - begin: starts the command; nothing where an earlier daemon has done that.
    func finishLaunch(_ attempt: UInt64, _ begin: @escaping @Sendable (Instance) async throws -> Void = { _ in }) {
        background("launch") { instance in
            do {
                try await begin(instance)
                try await instance.afterCommand()
                instance.post(.launched(attempt: attempt))
            } catch let error as ProcessStartError {
                instance.post(.launchFailed(attempt: attempt, error.error, exitCode: error.exitCode))
            } catch let error as AegisError {
                instance.post(.launchFailed(attempt: attempt, error, exitCode: 125))
            } catch {
                // The channel ended; the sandbox's own end is reported by `follow`.
                instance.services.logger.debug("launch failed", ("instance", instance.id), ("error", "\(error)"))
            }
        }
    }

    /// The command with its environment: image, then secrets, then what the user gave (the later wins).
    private func startMessage() throws -> StartProcess {
        let config = try knownImage()
        let arguments = try config.commandLine(userCommand: stored.userCommand)
        stored.info.command = arguments
        let environment = try environment(config, more: [:])
        return StartProcess(
            kind: stored.info.expose.isEmpty ? .task : .server, arguments: arguments.map { Array($0.utf8) },
            environment: environment, directory: Array(workingDirectory(config).utf8),
            user: Array(try config.user(overriddenBy: stored.user).description.utf8), terminal: stored.tty,
            stdin: stored.stdin,
            createDirectory: true)
    }

    /// What the image says about running it; known from the first start on.
    func knownImage() throws(AegisError) -> ImageConfig {
        guard let image = stored.image else { throw .failed("internal", "the image's configuration is not known") }
        return image.config
    }

    /// D8: `--workdir`, else the image's if it is set and not `/`, else `/workspace`.
    func workingDirectory(_ config: ImageConfig) -> String { Self.workingDirectory(config, stored) }

    /// As above, before there is an instance.
    static func workingDirectory(_ config: ImageConfig, _ stored: StoredInstance) -> String {
        if let workdir = stored.workdir { return workdir }
        return config.workingDirectory.isEmpty || config.workingDirectory == "/"
            ? "/workspace" : config.workingDirectory
    }

    /// Where programs are looked for when nobody says otherwise.
    static let standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// The whole environment of a process of this instance, secrets included; never stored.
    func environment(_ config: ImageConfig, more: [String: String]) throws -> [[UInt8]] {
        var values: [String: [UInt8]] = [
            "PATH": Array(Self.standardPath.utf8)
        ]
        for entry in config.environment {
            let parts = entry.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            values[String(parts[0])] = parts.count == 2 ? Array(parts[1].utf8) : []
        }
        values["AEGIS_INSTANCE_ID"] = Array(id.utf8)
        values["AEGIS_INSTANCE_NAME"] = Array((stored.info.name ?? id).utf8)
        for (name, value) in guestEnvironment { values[name] = Array(value.utf8) }
        if stored.tty { values["TERM"] = values["TERM"] ?? Array("xterm".utf8) }
        let secrets = try services.secrets.resolve(stored.plainSecrets, earlier: runSecrets.values)
        try keep(secrets)
        if !secrets.isEmpty {
            try services.audit.record(
                AuditEvent(
                    .secretUsed, agent: id, parent: maker,
                    ("secrets", .array(secrets.map { .string($0.name) })), ("as", "environment")))
        }
        for secret in secrets { values[secret.name] = secret.value.reveal() }
        for (name, value) in inspectionEnvironment { values[name] = Array(value.utf8) }
        for (name, value) in stored.env { values[name] = Array(value.utf8) }
        for (name, value) in more { values[name] = Array(value.utf8) }
        return values.keys.sorted().map { name in
            var entry = Array(name.utf8)
            entry.append(UInt8(ascii: "="))
            entry.append(contentsOf: values[name] ?? [])
            return entry
        }
    }

    /// Removes what the instance alone had: its writable layer, its automatic workspace, its log.
    nonisolated func removeFiles() async {
        removeTrust()
        let stored = await self.stored
        // Side by side: each waits for the disk, and a client waits for both.
        async let workspace: Void = removeWorkspace(stored)
        async let layer: Void = removeLayerAndLog()
        await services.disk.remove(id, wasLimited: stored.info.limits.disk != nil)
        await workspace
        await layer
    }

    private nonisolated func removeWorkspace(_ stored: StoredInstance) async {
        // That of an agent's instance is there where its grants show it no whole workspace.
        guard stored.workspaceKind == .automatic || stored.workspaceKind == .agent else { return }
        do { try await services.workspaces.removeAutomatic(instance: id) } catch { leftBehind(error) }
    }

    private nonisolated func removeLayerAndLog() async {
        let (writable, log) = (self.writable, self.log)
        do {
            try await BlockingPool.shared.run { () throws -> Void in
                try Files.removeTree(writable)
                try log.delete()
            }
        } catch { leftBehind(error) }
    }

    private nonisolated func leftBehind(_ error: any Error) {
        services.logger.error("an instance left files behind", ("instance", id), ("error", "\(error)"))
    }
}
