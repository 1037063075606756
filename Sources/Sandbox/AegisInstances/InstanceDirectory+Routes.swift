package import AegisCore
internal import AegisIO
package import AegisSandboxTypes

/// Exposed ports: what a router serves, and how they change.
extension InstanceDirectory {
    /// How long a router may take to listen on a new port.
    private static var bindPatience: Duration { .seconds(5) }

    /// Told whenever `exposures` has changed.
    package var routeChanges: ChangeBoard { services.routes }

    /// Counts the caller and returns when the instance runs: the only way to need one running (decision D25).
    ///
    /// - Parameters:
    ///   - id: the instance's id.
    ///   - why: who needs it.
    ///   - deadline: how long waking may take.
    /// - Returns: the hold.
    /// - Throws: see `Instance.hold`.
    package func hold(_ id: String, why: HoldReason, deadline: Duration) async throws -> Hold {
        try await instance(id).hold(why, deadline: deadline)
    }

    /// Every exposed port of every instance that is enabled, the oldest instance's first: where several want the same of a
    /// router, the one that had it before a restart comes first after it, too.
    package func exposures() async -> [Exposure] {
        var all: [Exposure] = []
        for instance in self.all.sorted(by: { ($0.createdAt, $0.id) < ($1.createdAt, $1.id) }) {
            all += await instance.exposures.sorted { $0.guestPort < $1.guestPort }
        }
        return all
    }

    /// A router listens on the public port of an exposure; the instance keeps the number.
    package func didBind(_ id: String, guestPort: UInt16, publicPort: UInt16) async {
        await (try? instance(id))?.didBind(guestPort, publicPort)
    }

    /// A router cannot listen on the public port of an exposure; the instance's record says why.
    package func bindFailed(_ id: String, guestPort: UInt16, _ error: AegisError) async {
        await (try? instance(id))?.bindFailed(guestPort, error)
    }

    /// Exposes a port of an instance, running or not, or changes how it is exposed.
    ///
    /// - Returns: the record; the router listens already.
    /// - Throws: `invalid-argument`, `port-in-use`; the instance is then as it was.
    package func expose(_ key: String, _ text: String, for caller: Caller) async throws -> InstanceInfo {
        let instance = try find(key, for: caller)
        let spec = try ExposeSpec(parsing: text)
        try await checkFree([spec], except: (instance.id, spec.guestPort), for: caller)
        let before = try await instance.setPort(spec)
        let now = await instance.info.expose.first { $0.guestPort == spec.guestPort }?.spec
        let isSame =
            before.map {
                $0.error == nil && $0.spec.address == now?.address && $0.publicPort == now?.publicPort
                    && $0.publicPort != 0
            } ?? false
        guard !isSame else {
            services.routes.post()
            return await instance.info
        }
        do { try await bind(instance, [spec.guestPort]) } catch {
            try? await instance.restorePort(spec.guestPort, before)
            services.routes.post()
            throw error
        }
        return await instance.info
    }

    /// Ends the exposure of a port.
    ///
    /// - Returns: the record.
    /// - Throws: `port-not-exposed`.
    package func unexpose(_ key: String, _ port: UInt16, for caller: Caller) async throws -> InstanceInfo {
        let instance = try find(key, for: caller)
        try await instance.removePort(port)
        services.routes.post()
        return await instance.info
    }

    /// Has a router listen on the ports of an instance that was just made.
    ///
    /// - Throws: `port-in-use`; the instance is gone then.
    func bindNew(_ instance: Instance) async throws {
        let ports = await instance.info.expose.map(\.guestPort)
        guard !ports.isEmpty else { return }
        do { try await bind(instance, ports) } catch {
            await instance.delete()
            throw error
        }
    }

    private func bind(_ instance: Instance, _ ports: [UInt16]) async throws {
        for port in ports { instance.bindings.expect(port) }
        services.routes.post()
        guard services.routes.isHeard, await instance.info.enabled else { return }
        for port in ports {
            // A router that is that slow says in the record what came of it.
            let outcome = try? await withDeadline(Self.bindPatience, clock: services.clock) {
                await instance.bindings.outcome(of: port)
            }
            if let error = outcome ?? nil { throw error }
        }
        // One that could not be had before is tried again by the router in its own time.
        for port in await instance.info.expose where ports.contains(port.guestPort) {
            if let error = port.error { throw AegisError.conflict(error.code, error.message, hint: error.hint) }
        }
    }

    /// - Throws: `port-in-use` when another exposure has a public port that is asked for.
    func checkFree(
        _ specs: [ExposeSpec], except own: (id: String, port: UInt16)?, for caller: Caller
    ) async throws(AegisError) {
        guard specs.contains(where: { $0.publicPort != 0 }) else { return }
        // The daemon is root: it must not listen for somebody where that user could not.
        if let spec = specs.first(where: { (1..<1024).contains($0.publicPort) }), caller.uid != 0 {
            throw AegisError(
                .denied, "port-privileged", "public port \(spec.publicPort) is for root to give",
                hint: "choose one from 1024 up, or write 0 for any free one")
        }
        for other in await exposures() where !(other.instance == own?.id && other.guestPort == own?.port) {
            guard let spec = specs.first(where: { $0.collides(with: other.spec) }) else { continue }
            let who = caller.maySee(owner: other.owner) ? "'\(other.name ?? other.instance)'" : "another instance"
            throw .conflict(
                "port-in-use", "port \(spec.publicPort) of \(spec.address) is taken by \(who)",
                hint: "choose another public port, or write 0 for any free one")
        }
    }
}
