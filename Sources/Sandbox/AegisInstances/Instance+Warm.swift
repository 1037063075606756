internal import AegisAudit
internal import AegisBackends
internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisImages
internal import AegisSandboxTypes
internal import AegisSecrets
internal import LinuxSys

/// A start in a sandbox that was kept ready.
extension Instance {
    /// The sandbox of a start: the one that was claimed, or a new one.
    nonisolated func takeOrBoot(_ stored: StoredInstance) async throws -> any Sandbox {
        // Here and not in the boot itself: what is kept ready for later is nobody's start.
        try services.audit.record(.starts(stored))
        services.starts.begin()
        defer { services.starts.end(now: uptime) }
        if let warm = try await takeWarm() { return warm }
        return try await prepareAndBoot(stored)
    }

    /// The sandbox that was claimed for this instance, as a start of its own would have left it.
    ///
    /// - Returns: nil when there is none, or when it is of no use any more: then the instance is started as any other.
    /// - Throws: what is wrong with the instance itself, as a start of its own would.
    nonisolated func takeWarm() async throws -> (any Sandbox)? {
        guard await warm != nil else { return nil }
        // A secret that is gone stops this start, too.
        for name in await stored.plainSecrets where name != "*" { _ = try services.secrets.value(of: name) }
        guard let claim = await handOver() else { return nil }
        do {
            try await claim.warm.woken()
            guard claim.warm.sandbox.isAlive else { throw AegisError.failed("sandbox-died", "it has ended") }
        } catch {
            services.logger.warning("a warm sandbox is of no use", ("instance", id), ("error", "\(error)"))
            await claim.warm.sandbox.kill()
            await claim.warm.sandbox.release()
            return nil
        }
        try await openNetwork(await stored, of: claim.warm.sandbox)
        return claim.warm.sandbox
    }

    private func handOver() -> WarmClaim? {
        guard let claim = warm else { return nil }
        warm = nil
        heldChannel = claim.warm.channel
        remember(image: claim.image, ids: claim.ids, backend: claim.choice)
        return claim
    }

    /// Removes a sandbox that was claimed and never started in.
    func dropWarm() async {
        guard let claim = warm else { return }
        warm = nil
        stored.sandbox = nil
        try? await claim.warm.woken()
        await claim.warm.sandbox.kill()
        await claim.warm.sandbox.release()
    }

    /// How an image is opened for an instance: one in a file or folder is read with the rights of who named it, as a mount
    /// is.
    nonisolated static func imageCaller(_ stored: StoredInstance, _ services: InstanceServices) -> ImageCaller {
        let opener = services.opener
        let caller = PathCaller(user: stored.info.owner, group: stored.ownerGroup)
        let open: LocalOpener = { path in
            try await opener.open(path, for: .init("image", needsDirectory: false, writes: false), as: caller)
                .reopened()
        }
        // What a program inside chose must not bring it more than its owner has given: the node has images that are its
        // administrators' alone, and users have their own.
        guard stored.info.parent == nil else { return .guest(open: open) }
        // The node's registry credentials are its administrators'.
        let isAdministrator = caller.user == 0 || caller.user == CurrentProcess.effectiveUser
        return isAdministrator ? .administrator(open: open) : .user(caller.user, open: open)
    }
}
