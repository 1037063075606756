internal import AegisAudit
internal import AegisBackends
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisLogs
internal import AegisNetwork
package import AegisSandboxTypes
internal import Synchronization

/// The instance's network, where it has one.
extension Instance {
    private nonisolated func member(_ stored: StoredInstance) -> NetworkMember {
        // What an agent's instance may reach is derived from the agent's grants: what is taken from the one is taken from both.
        NetworkMember(id: id, name: stored.info.name ?? id, owner: owner, parent: stored.agent?.agent ?? parent)
    }

    /// Links a booted sandbox whose command has not started yet.
    ///
    /// - Parameters:
    ///   - stored: its record.
    ///   - inspection: what its TLS is looked into with.
    ///   - sandbox: where it runs.
    ///   - isRunning: whether its command runs already: then the caller ends it when the network is not proved.
    /// - Throws: `network-unavailable`, `network-failed`, `policy-unproven`.
    nonisolated func openNetwork(
        _ stored: StoredInstance, _ inspection: Inspection?, _ sandbox: any Sandbox, isRunning: Bool = false
    ) async throws {
        let policy = try NetworkPolicy(stored.network, secrets: stored.brokeredSecrets)
        guard !policy.isClosed else { return }
        guard let namespace = sandbox.networkNamespace else {
            throw AegisError(
                .unavailable, "network-unavailable", "the backend '\(sandbox.record.backend)' has no networks",
                hint: "use --isolation runsc or runc, or leave --allow, --group and --network out")
        }
        let place = try await services.network.reserve(member(stored), policy)
        do { try await remember(place: place) } catch {
            await services.network.giveUp(id, place)
            throw error
        }
        do {
            try await services.network.attach(
                member(stored), place, policy: policy, inspection: inspection, namespace: namespace.raw,
                observer: NetworkNotes(instance: self))
        } catch {
            if let error = error as? AegisError, error.code == "policy-unproven", !isRunning {
                await notStarted(error)
            }
            try? await remember(place: nil)
            throw error
        }
        // The descriptor must live until here.
        withExtendedLifetime(namespace) {}
    }

    private func remember(place: NetworkService.Place?) throws {
        // Denials are counted from the opening on.
        if stored.place == nil { (stored.denials, earlierDenials) = (nil, 0) }
        stored.place = place
        try services.store.update(stored)
    }

    /// Changes what the instance may reach, at once and for later starts. Connections that are not allowed any more are cut.
    ///
    /// - Returns: the record after the change.
    /// - Throws: what is wrong with the request; `network-failed`; `policy-unproven`: the instance is stopped then.
    package func changeNetwork(_ request: NetworkRequest) async throws -> InstanceInfo {
        // Two at once would each undo, or keep, what the other has given.
        await networkTurn.enter(id)
        defer { networkTurn.leave(id) }
        // Whoever goes away while it boots has changed nothing.
        try await wait { $0.state != .starting }
        defer { reviewStandby() }
        // A client that goes away in the middle must not leave in force what no record says and nothing has proved.
        let outcome = Mutex<Result<InstanceInfo, any Error>?>(nil)
        await services.scope.spawn("network-change") { [self] in
            let result: Result<InstanceInfo, any Error>
            do { result = .success(try await change(to: request)) } catch { result = .failure(error) }
            outcome.withLock { $0 = result }
        }.wait()
        guard let result = outcome.withLock({ $0 }) else { throw CancellationError() }
        return try result.get()
    }

    private func change(to request: NetworkRequest) async throws -> InstanceInfo {
        // A boot under way would open what it read at its start. From here to the record nobody else has a turn.
        try await wait { $0.state != .starting }
        let policy = try NetworkPolicy(request, secrets: stored.brokeredSecrets)
        let before = stored
        guard !policy.inspects || inspection != nil || machine.state != .running && machine.state != .paused else {
            throw AegisError.conflict(
                "inspect-needs-start",
                "TLS can be looked into only from a start on: programs inside must trust the authority",
                hint: "stop the instance, then change its network")
        }
        stored.network = policy.isClosed ? nil : request
        stored.info.network = policy.mode.rawValue
        stored.info.allow = policy.mode == .listed ? policy.places : nil
        stored.info.group = policy.group
        try services.store.update(stored)
        guard let sandbox, machine.state == .running || machine.state == .paused else { return info }
        do {
            if let place = stored.place {
                try remember(place: try await services.network.change(id, place, to: policy))
            } else {
                try await openNetwork(stored, inspection, sandbox, isRunning: true)
            }
        } catch let error as AegisError where error.code == "policy-unproven" {
            stopUnproven(error)
            throw error
        } catch {
            // What is in force is what the record says.
            stored.network = before.network
            stored.info.network = before.info.network
            stored.info.allow = before.info.allow
            stored.info.group = before.info.group
            save()
            throw error
        }
        var open: [String] = []
        if let group = policy.group { open.append("the members of the group \(group)") }
        if !policy.places.isEmpty { open.append(policy.places.joined(separator: ", ")) }
        note(log.note("network: \(open.isEmpty ? "closed" : "may reach \(open.joined(separator: " and "))")"))
        return info
    }

    /// Ends an instance whose network was not proved.
    func stopUnproven(_ error: AegisError) {
        services.logger.error(
            "an instance is stopped: its network is not what it has to be", ("instance", id), ("error", "\(error)"))
        tellOfNetwork(.policyFailed, "policy-failed", error, done: "stopped")
        note(log.note("network: \(error.message); the instance is stopped"))
        send(.kill(.policy))
    }

    /// Tells that an instance was not started, as its network was not proved. The start itself fails with the error.
    private func notStarted(_ error: AegisError) {
        tellOfNetwork(.policyFailed, "policy-failed", error, done: "not started")
    }

    /// Writes down what became of the network, and tells it to whoever follows events.
    private func tellOfNetwork(_ kind: AuditKind, _ event: String, _ error: AegisError, done: String) {
        audited(.network(kind, of: self, error, done: done))
        services.events.post(
            EventRecord(
                time: .now(), type: event, instance: id, name: stored.info.name, reason: error.code,
                message: error.message), owner: owner)
    }

    /// Takes the place of a sandbox that an earlier daemon has left, before any other instance can get it.
    func recallNetwork() async {
        guard let place = stored.place, let policy = try? NetworkPolicy(stored.network, secrets: stored.brokeredSecrets)
        else { return }
        do { try await services.network.recall(member(stored), policy, place) } catch {
            services.logger.error("a network place is lost", ("instance", id), ("error", "\(error)"))
        }
    }

    /// Opens the network of a sandbox that an earlier daemon has left; without it the sandbox has none.
    func adoptNetwork(_ sandbox: any Sandbox) async {
        guard let place = stored.place else { return }
        earlierDenials = stored.denials ?? 0
        do {
            guard let namespace = sandbox.networkNamespace else { return }
            try await services.network.attach(
                member(stored), place, policy: try NetworkPolicy(stored.network, secrets: stored.brokeredSecrets),
                inspection: inspection, namespace: namespace.raw,
                observer: NetworkNotes(instance: self), isTakenOver: true)
            withExtendedLifetime(namespace) {}
        } catch let error as AegisError where error.code == "policy-unproven" {
            stopUnproven(error)
        } catch {
            // It is nobody's now; what was linked of it has been taken away.
            await services.network.giveUp(id, place)
            try? remember(place: nil)
            services.logger.error("an instance has lost its network", ("instance", id), ("error", "\(error)"))
            let failure = error as? AegisError ?? .failed("network-failed", "\(error)")
            tellOfNetwork(.networkLost, "network-lost", failure, done: "goes on without a network")
            note(log.note("network: nothing can be reached any more: \(error)"))
        }
    }

    /// Takes the network of a sandbox that has ended.
    func closeNetwork() async {
        await networkTurn.enter(id)
        defer { networkTurn.leave(id) }
        guard let place = stored.place else { return }
        stored.place = nil
        await services.network.detach(id, place)
    }

    /// What the instance may reach, and the last proofs that it reaches nothing else.
    package func policyReport() async -> PolicyReport {
        let proved = await services.network.proved(id)
        return PolicyReport(
            instance: id, network: stored.info.network, group: stored.info.group, allow: stored.info.allow,
            denials: earlierDenials + proved.denials, dropped: proved.dropped, proofs: proved.proofs)
    }
}

/// Writes into the instance's log what its network refused, and tells it to whoever follows events.
private struct NetworkNotes: NetworkObserver {
    let instance: Instance

    func denied(_ denial: NetworkDenial, count: UInt64) {
        // The daemon's own log is nobody's to fill: the instance's has it, and the events.
        instance.services.logger.debug(
            "network denied", ("instance", denial.instance), ("host", denial.host),
            ("port", denial.port.map { "\($0)" } ?? "-"), ("reason", denial.reason), ("count", "\(count)"))
        var event = AuditEvent(
            .networkDenied, agent: denial.instance, parent: instance.maker, ("host", .string(denial.host)),
            ("port", denial.port.map { .number($0) } ?? .null), ("reason", .string(denial.reason)),
            ("count", .number(count)))
        if let places = denial.places { event.fields.append(JSONValue.Field("places", .number(places))) }
        instance.audited(event)
        tell(denial.text + (count > 1 ? ", \(count) times" : ""), denials: count) { name in
            EventRecord(
                time: .now(), type: "network-denied", instance: denial.instance, name: name, host: denial.host,
                port: denial.port, reason: denial.reason, message: denial.message, count: count,
                places: denial.places)
        }
    }

    func used(_ secrets: [String], host: String, method: String) throws(AegisError) {
        try instance.services.audit.record(
            AuditEvent(
                .secretUsed, agent: instance.id, parent: instance.maker,
                ("secrets", .array(secrets.map { .string($0) })),
                ("host", .string(host)), ("method", .string(method))))
    }

    func failed(_ error: AegisError) {
        let id = instance.id
        instance.audited(.network(.networkFailed, of: instance, error))
        tell("network: \(error.message) (\(error.code))") { name in
            EventRecord(
                time: .now(), type: "network-failed", instance: id, name: name, reason: error.code,
                message: error.message)
        }
    }

    func unproven(_ error: AegisError) {
        let instance = instance
        instance.afterwards("network-unproven") { await instance.stopUnproven(error) }
    }

    private func tell(_ text: String, denials: UInt64 = 0, _ event: @escaping @Sendable (String?) -> EventRecord) {
        let instance = instance
        instance.afterwards("network-note") { await instance.tell(text, denials, event) }
    }
}

extension Instance {
    fileprivate func tell(_ text: String, _ denials: UInt64, _ event: (String?) -> EventRecord) {
        if denials > 0 {
            // Whoever counts on after a crash must find what was told.
            stored.denials = (stored.denials ?? 0) + denials
            save()
        }
        note(log.note(text))
        services.events.post(event(stored.info.name), owner: owner)
    }
}
