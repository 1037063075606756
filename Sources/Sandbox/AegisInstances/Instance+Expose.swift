package import AegisCore
internal import AegisIO
package import AegisSandboxTypes

/// The ports of an instance and its leases, as they are changed while it lives.
extension Instance {
    /// The longest lease.
    package static let longestLease = TimeSpan.seconds(86_400)

    /// What a router has to serve of this instance; nothing of one that is disabled or on its way out.
    var exposures: [Exposure] {
        guard stored.info.enabled, machine.phase != .removing, machine.phase != .deleted, !machine.isLeaving else {
            return []
        }
        return stored.info.expose.map { port in
            var exposure = Exposure(instance: id, name: stored.info.name, owner: owner, spec: port.spec)
            exposure.routing = stored.kit?.routing
            return exposure
        }
    }

    /// Exposes a port, or changes how it is exposed. A port that was there keeps its public number unless another is named.
    ///
    /// - Returns: what was there before.
    /// - Throws: `invalid-argument` when there are too many; what the database says.
    func setPort(_ spec: ExposeSpec) throws -> ExposedPort? {
        guard guestAPI.port != spec.guestPort else {
            throw AegisError.usage(
                "port \(spec.guestPort) inside \(label) is the guest API's",
                hint: "let the server listen on another port, or make the instance with --guest-api PORT or off")
        }
        var ports = stored.info.expose
        let index = ports.firstIndex { $0.guestPort == spec.guestPort }
        let before = index.map { ports[$0] }
        var new = ExposedPort(spec)
        if let before, before.spec.address == spec.address {
            if spec.publicPort == 0, before.error == nil { new.spec.publicPort = before.publicPort }
            if new.publicPort == before.publicPort { new.error = before.error }
        }
        if let index {
            ports[index] = new
        } else {
            guard ports.count < ExposeSpec.limit else {
                throw AegisError.usage(
                    "\(label) exposes \(ports.count) ports, the most there may be", hint: "unexpose one first")
            }
            ports.append(new)
        }
        try replacePorts(ports)
        return before
    }

    /// Puts a port back as it was, after its change could not be carried out.
    func restorePort(_ number: UInt16, _ before: ExposedPort?) throws {
        var ports = stored.info.expose.filter { $0.guestPort != number }
        if let before { ports.append(before) }
        try replacePorts(ports)
    }

    /// Ends the exposure of a port.
    ///
    /// - Throws: `port-not-exposed` naming those that are.
    func removePort(_ number: UInt16) throws {
        guard stored.info.expose.contains(where: { $0.guestPort == number }) else {
            let known = stored.info.expose.map { String($0.guestPort) }
            throw AegisError.notFound(
                "port-not-exposed", "\(label) does not expose port \(number)",
                hint: known.isEmpty ? "it exposes none" : "it exposes \(known.joined(separator: ", "))")
        }
        try replacePorts(stored.info.expose.filter { $0.guestPort != number })
    }

    private func replacePorts(_ ports: [ExposedPort]) throws {
        let before = stored.info.expose
        stored.info.expose = ports
        do { try services.store.update(stored) } catch {
            stored.info.expose = before
            throw error
        }
        applyIdleRules()
    }

    /// Changes when the instance sleeps; what is nil stays.
    ///
    /// - Throws: `invalid-argument`; what the database says.
    package func setIdlePolicy(_ change: IdlePolicy) async throws -> InstanceInfo {
        try change.validate()
        try Instance.checkReclaim(change)
        let before = stored.info.idle
        var policy = before ?? IdlePolicy()
        policy.pause = change.pause ?? policy.pause
        policy.stop = change.stop ?? policy.stop
        policy.cpu = change.cpu ?? policy.cpu
        policy.reclaim = change.reclaim ?? policy.reclaim
        policy.standby = change.standby ?? policy.standby
        try Instance.checkStandby(policy, isEphemeral: stored.info.ephemeral)
        stored.info.idle = policy
        do { try services.store.update(stored) } catch {
            stored.info.idle = before
            throw error
        }
        applyIdleRules()
        if policy.standby == true { reviewStandby() } else { await dropStandby() }
        return info
    }

    /// - Throws: `invalid-argument` where a sandbox is wished ready for a next start, and there is none.
    static func checkStandby(_ policy: IdlePolicy, isEphemeral: Bool) throws(AegisError) {
        guard policy.standby == true, isEphemeral else { return }
        throw .usage(
            "a run has no next start that a sandbox could be kept ready for",
            hint: "leave --idle-standby out, or make an instance with 'aegis instance start --name NAME'")
    }

    /// A router listens on a port's public number: it is the instance's from now on.
    func didBind(_ guestPort: UInt16, _ publicPort: UInt16) {
        guard let index = stored.info.expose.firstIndex(where: { $0.guestPort == guestPort }) else { return }
        var port = stored.info.expose[index]
        port.spec.publicPort = publicPort
        port.error = nil
        if stored.info.expose[index] != port {
            stored.info.expose[index] = port
            save()
        }
        bindings.finish(guestPort, nil)
    }

    /// Nobody can listen on a port's public number.
    func bindFailed(_ guestPort: UInt16, _ error: AegisError) {
        guard let index = stored.info.expose.firstIndex(where: { $0.guestPort == guestPort }) else { return }
        // What is recorded is tried again; what is refused at once is not, and does not say so.
        let hint = [error.hint, "it is tried again every few seconds"].compactMap(\.self).joined(separator: "; ")
        stored.info.expose[index].error = RecordedError(AegisError(error.kind, error.code, error.message, hint: hint))
        save()
        bindings.finish(guestPort, error)
    }

    // MARK: Leases

    /// Keeps the instance awake for some time, or ends that.
    ///
    /// - Throws: `invalid-argument`; `instance-stopped`: a lease starts nothing.
    package func keepAlive(_ request: KeepaliveRequest) async throws -> Lease {
        guard request.ttl <= Self.longestLease else {
            throw AegisError.usage("a lease of \(request.ttl) is too long", hint: "at most \(Self.longestLease)")
        }
        guard request.ttl.milliseconds > 0 else {
            endLease()
            save()
            return Lease(expiresAt: nil)
        }
        let hold = try await self.hold(.lease, deadline: .seconds(30))
        // A stop may have come between the hold and this step: it has ended all leases, and must not leave this one behind.
        guard machine.phase == .running || machine.state == .paused else { throw stopped("keep it awake") }
        let end = Timestamp(milliseconds: Timestamp.now().milliseconds + request.ttl.milliseconds)
        stored.lease = end
        save()
        beginLease(SharedHold(hold), for: request.ttl.duration)
        return Lease(expiresAt: end)
    }

    /// Goes on with a lease that was given before the daemon came.
    func recoverLease() {
        guard let end = stored.lease else { return }
        let left = end.milliseconds - Timestamp.now().milliseconds
        guard left > 0, left <= Self.longestLease.milliseconds, machine.phase == .running else {
            stored.lease = nil
            return
        }
        beginLease(SharedHold(holds.hold(.lease)), for: .milliseconds(left))
    }

    private func beginLease(_ hold: SharedHold, for span: Duration) {
        leaseTask?.cancel()
        leaseHold = hold
        let clock = services.clock
        leaseTask = services.scope.spawn("instance-lease") { [weak self] in
            try? await clock.sleep(for: span)
            if !Task.isCancelled { await self?.endLease() }
        }
    }

    /// Ends the lease: it has run out, or the instance is down.
    func endLease() {
        leaseTask?.cancel()
        leaseTask = nil
        leaseHold = nil
        stored.lease = nil
    }
}
