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

    /// Removes what a program has been given a sandbox for whose agent has gone meanwhile.
    func leaveNoSandbox(of id: String) async {
        if live(id) == nil { await services.sandboxes?.remove(id) }
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
