internal import AegisBackends
internal import AegisCore
internal import AegisLogs
internal import AegisNetwork
package import AegisSandboxTypes

/// The instance's way out, where it has one.
extension Instance {
    /// Links a booted sandbox whose command has not started yet.
    nonisolated func openNetwork(_ stored: StoredInstance, _ sandbox: any Sandbox) async throws {
        let policy = try NetworkPolicy(stored.network)
        guard !policy.isClosed else { return }
        guard let namespace = sandbox.networkNamespace else {
            throw AegisError(
                .unavailable, "network-unavailable", "the backend '\(sandbox.record.backend)' has no networks",
                hint: "use --isolation runsc or runc, or leave --allow out")
        }
        let index = try await services.network.reserve()
        do { try await remember(uplink: index) } catch {
            await services.network.giveUp(index)
            throw error
        }
        do {
            try await services.network.attach(
                id, index: index, policy: policy, namespace: namespace.raw, observer: NetworkNotes(instance: self))
        } catch {
            try? await remember(uplink: nil)
            throw error
        }
        // The descriptor must live until here.
        withExtendedLifetime(namespace) {}
    }

    private func remember(uplink index: UInt32?) throws {
        stored.uplink = index
        try services.store.update(stored)
    }

    /// Changes what the instance may reach, at once and for later starts. Connections that are not allowed any more are cut.
    ///
    /// - Returns: the record after the change.
    /// - Throws: what is wrong with the request; `network-failed`.
    package func changeNetwork(_ request: NetworkRequest) async throws -> InstanceInfo {
        let policy = try NetworkPolicy(request)
        // A boot under way would take what it read at its start.
        try await wait { $0.state != .starting }
        stored.network = policy.isClosed ? nil : request
        stored.info.network = policy.mode.rawValue
        stored.info.allow = policy.mode == .listed ? policy.places : nil
        try services.store.update(stored)
        guard let sandbox, machine.state == .running || machine.state == .paused else { return info }
        if stored.uplink != nil {
            try await services.network.change(id, to: policy)
        } else {
            try await openNetwork(stored, sandbox)
        }
        note(log.note("network: \(policy.isClosed ? "closed" : "may reach \(policy.places.joined(separator: ", "))")"))
        return info
    }

    /// Opens the way out of a sandbox that an earlier daemon has left; without it the sandbox has none.
    func adoptNetwork(_ sandbox: any Sandbox) async {
        guard let index = stored.uplink else { return }
        do {
            guard let namespace = sandbox.networkNamespace else { return }
            try await services.network.attach(
                id, index: index, policy: try NetworkPolicy(stored.network), namespace: namespace.raw,
                observer: NetworkNotes(instance: self))
            withExtendedLifetime(namespace) {}
        } catch {
            services.logger.error("an instance has lost its network", ("instance", id), ("error", "\(error)"))
            note(log.note("network: nothing can be reached any more: \(error)"))
        }
    }

    /// Takes the way out of a sandbox that has ended.
    func closeNetwork() async {
        guard let index = stored.uplink else { return }
        stored.uplink = nil
        await services.network.detach(id, index: index)
    }
}

/// Writes into the instance's log what its network refused.
private struct NetworkNotes: NetworkObserver {
    let instance: Instance

    func denied(_ denial: NetworkDenial, suppressed: UInt64) {
        let more = suppressed > 0 ? "; \(suppressed) more of this kind" : ""
        tell(denial.text + more)
        instance.services.logger.info(
            "network denied", ("instance", denial.instance), ("host", denial.host),
            ("port", denial.port.map { "\($0)" } ?? "-"), ("reason", denial.reason))
    }

    func failed(_ text: String) { tell(text) }

    private func tell(_ text: String) {
        let instance = instance
        instance.afterwards("network-note") { await instance.note(instance.log.note(text)) }
    }
}
