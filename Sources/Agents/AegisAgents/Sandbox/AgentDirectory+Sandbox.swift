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
    func permit(_ process: AgentProcess, for requests: [Request]) -> (SandboxPlace, SandboxPermit) {
        let place = sandbox(of: process)
        let permit = SandboxPermit(
            agent: process.id, owner: place.owner.id, policy: place.plan.policy, requests: requests
        ) { process.noteSandbox($0) }
        permits.append(permit)
        return (place, permit)
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

    /// Whether a program may still do what it was begun with.
    private func holds(_ permit: SandboxPermit, _ process: AgentProcess) -> Bool {
        guard plan(of: process).policy == permit.policy else { return false }
        let (set, now) = (services.grants.grants(of: process.holder), services.now())
        return permit.requests.allSatisfy { request in
            guard case .deny(let denial) = evaluate(request, with: set, at: now) else { return true }
            // What is used up was used by those that run.
            return ![.noGrant, .notCovered, .outOfReach, .revoked, .expired].contains(denial.reason)
        }
    }

    /// What programs of an agent see and reach, for people; nil when it may start none.
    package func sandboxView(of process: AgentProcess) async -> JSONValue? {
        let brings = (live(process.record.tree) ?? process).manifest.sandbox?.kit != nil
        let mayRun = services.grants.records(of: process.holder).contains { record in
            guard case .tool(let name) = record.terms.capability, brings else {
                return record.terms.capability.kind == .exec
            }
            return name?.hasPrefix("mcp.") ?? true
        }
        guard mayRun, let sandboxes = services.sandboxes else { return nil }
        let place = sandbox(of: process)
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
        await reviewSandboxes()
        // Also those whose sandbox is just being made.
        if let next = all.compactMap({ plan(of: $0).ends }).min() { review(at: next) }
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
        let outdated = permits.filter { permit in live(permit.agent).map { !holds(permit, $0) } ?? true }
        let owners = Set(outdated.map(\.owner))
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
