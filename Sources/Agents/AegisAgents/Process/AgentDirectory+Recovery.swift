internal import AegisAudit
internal import AegisCapabilities
internal import AegisConfig
package import AegisCore
internal import AegisJSON

/// A daemon's beginning and end.
extension AgentDirectory {
    /// Makes anew the agents that the last daemon had: they go on where they were. Children whose parents' calls were cut by its
    /// end are stopped: nobody waits for their answers any more.
    ///
    /// - Parameter resuming: whether they go on at once; else with `resume`.
    /// - Throws: what SQLite says; an agent that alone cannot be brought back is told of in the daemon's log.
    package func recover(resuming: Bool = true) async throws(AegisError) {
        var unreadable: Set<String> = []
        for (id, text) in try services.store.records() {
            do {
                let record = try JSONValue(parsing: text.utf8).decode(AgentRecord.self)
                guard record.outlivesDaemon else {
                    try await forget(record)
                    continue
                }
                try revive(record)
            } catch {
                unreadable.insert(id)
                services.logger.error("an agent cannot be brought back", ("agent", id), ("error", "\(error)"))
            }
        }
        // What a daemon was killed over while it gave it, or took it away, belongs to nobody.
        let holders = Set(services.grants.snapshot().grants.map(\.holder.description))
        for holder in holders
        where holder.hasPrefix("a-") && agents[holder] == nil && !unreadable.contains(holder) {
            try services.grants.retire(HolderID(holder), reason: "its agent does not live")
        }
        // Those of agents that did not live on, and those that a daemon was killed over before it could remove them.
        await reviewSandboxes()
        if resuming { await resume() }
    }

    /// Ends an agent that does not outlive its daemon.
    private func forget(_ record: AgentRecord) async throws(AegisError) {
        services.audit.note(record.id, ownedBy: record.owner)
        defer { services.audit.note(record.id, ownedBy: nil) }
        try services.grants.retire(HolderID(record.id), reason: Self.endOfDaemon)
        try? services.models.dismiss(record)
        await services.gone(record)
        try services.audit.record(
            AuditEvent(
                .agentStopped, agent: record.id, parent: record.parent, ("reason", .string(Self.endOfDaemon))))
        try services.store.retire(record.id, at: services.now(), keeping: limits.remembered)
    }
    private static let endOfDaemon = "its daemon ended"

    /// Lets agents that were brought back go on.
    package func resume() async { for process in agents.values { await process.resume() } }

    private func revive(_ record: AgentRecord) throws(AegisError) {
        services.audit.note(record.id, ownedBy: record.owner)
        let manifest = try record.readManifest()
        let session = Session(try services.store.steps(of: record.id).lazy.map(\.step))
        let process = AgentProcess(
            record: record, manifest: manifest, session: session, mail: try services.store.mail(of: record.id),
            services: services, findTools: finder, ended: { _, _ in })
        try services.models.admit(record, manifest.budget)
        // Its grants are those that the book has kept, and no others: what was taken back does not return with a daemon.
        agents.insert(process)
        keepSchedule(of: process)
    }

    static func ending(_ remedy: String) -> AegisError {
        AegisError(.unavailable, "daemon-ending", "the daemon is ending", hint: "\(remedy) once it is back")
    }

    /// Takes no more agents and interrupts those that there are, which go on with the next daemon: before anything that their tools
    /// need is taken from them, so that none takes that for an answer.
    package func end() async {
        isEnding = true
        for process in agents.values { await process.interrupt() }
    }
}

extension AgentRecord {
    /// The manifest that the agent lives by, as it was spawned with it.
    ///
    /// - Throws: what is wrong with it: a release before this one may have taken what this one does not.
    func readManifest() throws(AegisError) -> AgentManifest {
        let prompt = prompt ?? ""
        let file = ConfigFile(name: name, bytes: Array(manifest.utf8))
        var manifest = try AgentManifest(file) { _ in prompt }
        try options.apply(to: &manifest)
        return manifest
    }
}
