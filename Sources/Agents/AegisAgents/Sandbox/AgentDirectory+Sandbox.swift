internal import AegisCapabilities
internal import AegisCore
internal import AegisIO
package import AegisJSON

extension AgentDirectory {
    /// Where the programs of an agent run.
    struct SandboxPlace: Sendable {
        /// Whose sandbox it is.
        var owner: AgentRecord
        var plan: SandboxPlan
    }

    /// The sandbox of an agent: that of the agent that has spawned it where both may see and reach the same, else its own.
    func sandbox(of process: AgentProcess) -> SandboxPlace {
        let plan = plan(of: process)
        var owner = process
        if let end = plan.ends { review(at: end) }
        while let parent = owner.record.parent.flatMap({ live($0) }), self.plan(of: parent) == plan { owner = parent }
        return SandboxPlace(owner: owner.record, plan: plan)
    }

    /// The sandbox of an agent, and leave to run a program in it: in one step, so that whatever is taken back is either not part of
    /// it or takes it back, too. `end` follows.
    func permit(_ process: AgentProcess, for needs: [SandboxPermit.Need]) -> (SandboxPlace, SandboxPermit) {
        let place = sandbox(of: process)
        let permit = SandboxPermit(
            agent: process.id, owner: place.owner.id, policy: place.plan.policy, needs: needs,
            ends: end(of: needs, for: process)
        ) { process.noteSandbox($0) }
        permits.append(permit)
        if let end = permit.ends { review(at: end) }
        return (place, permit)
    }

    /// One of a permit's requests was allowed: from now on the program goes with what has allowed it.
    func allow(_ permit: SandboxPermit, _ index: Int, by grant: GrantID, of process: AgentProcess) {
        permit.isAllowed(index, by: grant)
        permit.end(at: end(of: permit.needs, for: process))
        // It may have been taken back before this was known.
        guard obstacle(permit, process) == nil else { return permit.withdraw() }
        if let end = permit.ends { review(at: end) }
    }

    /// The program has ended. Removes what it has been given a sandbox for if its agent has gone meanwhile.
    func end(_ permit: SandboxPermit) async {
        permits.removeAll { $0 === permit }
        if live(permit.owner) == nil { await services.sandboxes?.remove(permit.owner) }
    }

    /// Ends the programs of an agent that goes, and all that run in its sandbox.
    func withdrawPermits(of id: String) {
        for permit in permits where permit.agent == id || permit.owner == id { permit.withdraw() }
    }

    /// Until when there are grants for all that is needed; nil is for good.
    private func end(of needs: [SandboxPermit.Need], for process: AgentProcess) -> Timestamp? {
        let (set, now) = (services.grants.grants(of: process.holder), services.now())
        return needs.compactMap { need -> Timestamp? in
            let ends = Self.bearers(of: need, in: set, at: now).map(\.standing.expires)
            return ends.contains(nil) ? nil : ends.compactMap(\.self).max()
        }.min()
    }

    /// The grants that a program can go on with: the one that has allowed it, for what is used up of that was used by it, and any
    /// other that has something left.
    private static func bearers(
        of need: SandboxPermit.Need, in set: GrantSet, at now: Timestamp
    ) -> [GrantSet.Held] {
        set.grants.filter { held in
            guard held.standing.revoked == nil, held.terms.capability.allows(need.request.action),
                held.standing.expires.map({ $0 > now }) ?? true
            else { return false }
            guard let grant = need.grant, grant != held.id else { return true }
            if case .allow = evaluate(need.request, with: GrantSet([held], protected: set.protected), at: now) {
                return true
            }
            return false
        }
    }

    /// Why a program may not go on with what it was begun with.
    private enum Obstacle {
        /// What it was begun with has changed.
        case changed
        /// The grant that allowed it has ended.
        case expired(Denial)
    }

    private func obstacle(_ permit: SandboxPermit, _ process: AgentProcess) -> Obstacle? {
        let (set, now) = (services.grants.grants(of: process.holder), services.now())
        for need in permit.needs where Self.bearers(of: need, in: set, at: now).isEmpty {
            // What people are told is about the grant that it had.
            let own = set.grants.filter { need.grant == nil || $0.id == need.grant }
            let decision = evaluate(need.request, with: GrantSet(own, protected: set.protected), at: now)
            if case .deny(let denial) = decision, denial.reason == .expired { return .expired(denial) }
            return .changed
        }
        return plan(of: process).policy == permit.policy ? nil : .changed
    }

    private static func ended(_ denial: Denial) -> AegisError {
        AegisError(
            .denied, "grant-expired", "the program was ended: \(denial.message)",
            hint: "what it did until then has happened")
    }

    /// What programs of an agent see and reach, for people; nil when it may start none.
    package nonisolated func sandboxView(of process: AgentProcess) async -> JSONValue? {
        let brings = (live(process.record.tree) ?? process).manifest.sandbox?.kit != nil
        let mayRun = services.grants.records(of: process.holder).contains { record in
            guard case .tool(let name) = record.terms.capability, brings else {
                return record.terms.capability.kind == .exec
            }
            return name?.hasPrefix("mcp.") ?? true
        }
        // Most have none: who looks at many agents waits for the directory because of the others alone.
        guard mayRun, let sandboxes = services.sandboxes else { return nil }
        let place = await sandbox(of: process)
        let isThere = await sandboxes.plans().contains { $0.agent == place.owner.id }
        return [
            "instance": isThere ? .string(place.owner.id) : .null,
            // Single operations of programs are neither decided nor recorded, only those of the file tools (decision D1).
            "file_policy": "mounts", "shows": .array(place.plan.summary.map { .string($0) }),
        ]
    }

    /// A grant ends for the programs that run, too. One task waits for the first end that there is.
    private func review(at end: Timestamp) {
        if let sandboxReview, sandboxReview.end <= end { return }
        sandboxReview?.task.cancel()
        let (clock, now) = (services.clock, services.now)
        let task = services.scope.spawn("sandboxes") { [self] in
            // The wall's time may lag behind the clock that waits.
            while now() <= end {
                let left = end.milliseconds - now().milliseconds + 1
                do { try await clock.sleep(for: .milliseconds(max(1, left))) } catch { return }
            }
            await reviewEnds()
        }
        sandboxReview = (end, task)
    }

    private func reviewEnds() async {
        sandboxReview = nil
        // What ends while sandboxes are removed is looked at again.
        let now = services.now()
        await reviewSandboxes()
        // Also those whose sandbox is just being made.
        let ends = all.compactMap { plan(of: $0).ends } + permits.compactMap(\.ends)
        if let next = ends.filter({ $0 > now }).min() { review(at: next) }
    }

    private func plan(of process: AgentProcess) -> SandboxPlan {
        // What it runs in was said by the person who has spawned the first: children have a part of that.
        let block = (live(process.record.tree) ?? process).manifest.sandbox ?? AgentManifest.Sandbox()
        let grants = services.grants
        return SandboxPlan(block, grants.grants(of: process.holder), at: services.now())
    }

    /// Removes sandboxes that see or reach something else than their agents' grants have now, and those of agents that are gone:
    /// when this returns no program has what was taken back.
    package func reviewSandboxes() async {
        guard let sandboxes = services.sandboxes else { return }
        // A child may have less than the agent in whose sandbox its program runs.
        var owners: Set<String> = []
        for permit in permits {
            let found = live(permit.agent).map { obstacle(permit, $0) } ?? .changed
            guard let found else { continue }
            owners.insert(permit.owner)
            if case .expired(let denial) = found { permit.withdraw(because: Self.ended(denial)) }
        }
        for permit in permits where owners.contains(permit.owner) { permit.withdraw() }
        for owner in owners { await sandboxes.remove(owner) }
        for (agent, policy) in await sandboxes.plans() {
            if let process = live(agent) {
                let plan = plan(of: process)
                if let end = plan.ends { review(at: end) }
                if plan.policy == policy { continue }
            }
            await sandboxes.remove(agent)
        }
    }
}

extension SandboxPlan {
    /// The plan as a text, to be compared.
    package var policy: String {
        (try? JSONValue(encoding: self)).map { String(decoding: $0.canonical, as: UTF8.self) } ?? ""
    }
}
