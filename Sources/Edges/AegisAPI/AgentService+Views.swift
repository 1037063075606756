package import AegisAgents
internal import AegisCore
package import AegisInstances
internal import AegisJSON

extension AgentService {
    /// What erases the archives of agents that want it.
    package var archives: ArchiveSweeper { ArchiveSweeper(services) }

    /// The id of a live agent that the caller may have to do with; nil when none is called that.
    package func id(of word: String, _ caller: Caller) async -> String? { try? find(word, caller).id }

    // MARK: Deployed manifests

    func deployed(_ caller: Caller) throws(AegisError) -> [JSONValue] {
        try manifests.list(owner: caller.uid == 0 ? nil : caller.uid).map { shown($0, withText: false) }
    }

    func deployed(_ name: String, _ caller: Caller) throws(AegisError) -> JSONValue {
        shown(try manifests.find(name, owner: caller.uid, ofAnybody: true), withText: true)
    }

    private func shown(_ entry: ManifestStore.Entry, withText: Bool) -> JSONValue {
        var fields: [JSONValue.Field]
        do throws(AegisError) { fields = self.fields(of: try entry.manifest()) } catch {
            // Written for another release: its text is still there to be looked at.
            fields = [.init("name", .string(entry.name)), .init("error", .string(error.message))]
        }
        fields.append(.init("deployed_at", .string("\(entry.deployed)")))
        fields.append(.init("owner", .number(entry.owner)))
        if withText { fields.append(.init("manifest", .string(entry.text))) }
        return .object(fields)
    }

    // MARK: Steps

    /// The steps of one agent, to be read and waited for.
    struct Steps: Sendable {
        let store: SessionStore
        let id: String
        let process: AgentProcess?

        /// The next few: each may have a megabyte.
        func read(from seq: Int) throws(AegisError) -> [JSONValue] {
            try store.steps(of: id, from: seq, limit: 32).map { entry in
                var fields: [JSONValue.Field] = [
                    .init("seq", .number(entry.seq)), .init("ts", .string("\(entry.time)")),
                ]
                if let trace = entry.trace { fields.append(.init("trace_id", .string(trace))) }
                fields += entry.step.json.fields ?? []
                return .object(fields)
            }
        }

        /// Whether there may be more steps.
        var isLive: Bool { process != nil }

        /// What `wait` compares with.
        func mark() async -> Int { process?.log.saved ?? 0 }

        /// Waits until there is more; false when there will be none.
        func wait(after mark: Int) async -> Bool { await process?.log.wait(after: mark) ?? false }
    }

    /// The steps of a live agent, or of one that lives no more and is still remembered.
    func steps(_ word: String, _ caller: Caller) async throws -> Steps {
        do {
            let process = try find(word, caller)
            return Steps(store: services.store, id: process.id, process: process)
        } catch {
            guard let owner = try services.store.owner(of: word), caller.uid == 0 || owner == caller.uid else {
                throw error
            }
            return Steps(store: services.store, id: word, process: nil)
        }
    }
}

extension AgentService {
    /// Whether a message of a live agent that the caller may have to do with is under way.
    func isUnderWay(_ trace: String, of word: String, _ caller: Caller) async throws -> Bool {
        await directory.isUnderWay(trace, of: try find(word, caller))
    }
}
