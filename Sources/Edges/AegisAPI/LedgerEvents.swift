package import AegisAgents
package import AegisAudit
internal import AegisCore
internal import AegisIO
package import AegisInstances
internal import AegisJSON

/// What happens on the node, told to those whom it concerns: the records of the ledger, as they are written. REST and JSON-RPC tell
/// the same.
///
/// Whoever listens holds a place in the ledger and no memory: one that is slow reads later, and one that was away goes on where it
/// was. What was dropped from the disk meanwhile is counted.
package struct LedgerEvents: Sendable {
    private let audit: AuditService
    let clock: any Clock<Duration>
    /// Whose an agent or instance is.
    private let isOwn: @Sendable (String, Caller) async -> Bool
    /// The id that a word means.
    private let resolve: @Sendable (String, Caller) async throws -> String

    /// After how much silence a listener hears that it is still connected.
    static let heartbeat = Duration.seconds(15)
    /// How far back a listener may begin, in records of all kinds.
    static let longestTail: UInt64 = 10_000

    /// Tells of agents and instances.
    package init(
        _ audit: AuditService, agents: AgentDirectory, store: SessionStore, instances: InstanceDirectory,
        clock: any Clock<Duration>
    ) {
        self.audit = audit
        self.clock = clock
        isOwn = { id, caller in
            // By its id alone: the name that somebody gives an agent says nothing of what else is called so.
            if let process = agents.live(id) { return process.record.owner == caller.uid }
            if let owner = try? store.owner(of: id) { return owner == caller.uid }
            return (try? instances.find(id, for: caller)) != nil
        }
        resolve = { word, caller in
            let unknown: AegisError
            do throws(AegisError) { return try agents.find(word, owner: caller.uid == 0 ? nil : caller.uid).id } catch {
                unknown = error
            }
            guard unknown.code == "agent-not-found" else { throw unknown }
            // What has gone has its records still.
            if let owner = try store.owner(of: word), caller.uid == 0 || owner == caller.uid { return word }
            if let instance = try? instances.find(word, for: caller) { return instance.id }
            // Instances are not remembered, and root hears of everybody's.
            if caller.uid == 0, Names.isInstanceID(word) { return word }
            throw unknown
        }
    }

    /// Finds what somebody wants to hear of: a word that nothing is ever recorded of would be answered with silence.
    ///
    /// - Parameters:
    ///   - word: the name or id of a live agent, the id of one that has gone, or an instance; nil is all.
    ///   - caller: who asks; what is somebody else's is not there for him.
    /// - Returns: the id that stands in the ledger.
    /// - Throws: `agent-not-found`; `agent-ambiguous`.
    func subject(_ word: String?, _ caller: Caller) async throws -> String? {
        guard let word else { return nil }
        return try await resolve(word, caller)
    }

    /// Which events somebody wants to hear.
    struct Wish: Sendable {
        var caller: Caller
        /// Kinds, or the first words of kinds (`tool` for `tool_invoked`); empty is all.
        var types: [String] = []
        /// Only those about this agent or instance.
        var agent: String?

        init(_ caller: Caller, types: [String], agent: String?) throws(AegisError) {
            guard !types.contains(LiveEvent.name) else {
                throw .usage(
                    "'\(LiveEvent.name)' is not in the ledger",
                    hint: "GET /v1/processes/ID/events?deltas=1 tells it, and events.subscribe of JSON-RPC")
            }
            for type in types { try AuditKind.check(type, takesBeginnings: true) }
            self.caller = caller
            self.types = types
            self.agent = agent
        }

        func admits(kind: String) -> Bool {
            types.isEmpty || types.contains { kind == $0 || kind.hasPrefix($0 + "_") }
        }
    }

    /// One event.
    struct Event: Sendable {
        var seq: UInt64
        var kind: String
        var json: JSONValue
    }

    /// What came of waiting.
    struct Batch: Sendable {
        var events: [Event] = []
        /// Records that are not on the disk any more.
        var lost: UInt64 = 0
        /// Nothing has happened for a while.
        var isQuiet = false
        /// The ledger is closed: the daemon ends.
        var isOver = false
    }

    /// A listener's place, and what it knows of who owns what.
    struct Listener: Sendable {
        fileprivate var cursor: LedgerCursor
        fileprivate var own: [String: Bool] = [:]
        /// The last record that it has passed.
        var seq: UInt64 { cursor.seq }
    }

    /// Begins to listen: after a record that is known, or from now on.
    ///
    /// - Throws: `audit-unreadable`.
    func listen(after seq: UInt64?) async throws -> Listener { Listener(cursor: try await audit.cursor(after: seq)) }

    /// Begins so many records before the newest.
    ///
    /// - Throws: `audit-unreadable`.
    func listen(back count: UInt64) async throws -> Listener {
        let head = audit.ledger.head.seq
        guard count > 0 else { return try await listen(after: nil) }
        // From the first one on nothing is lost that ever was.
        guard head > count else { return Listener(cursor: try await audit.cursor(after: 0)) }
        return try await listen(after: head - count)
    }

    /// Whether there is something after a record.
    func hasMore(after seq: UInt64) -> Bool { audit.ledger.head.seq > seq }

    /// Waits for what comes next; an empty batch after a while of silence.
    ///
    /// - Throws: `audit-unreadable`; `CancellationError`.
    func next(_ listener: inout Listener, _ wish: Wish) async throws -> Batch {
        if !(await hasNews(after: listener.seq)) {
            try Task.checkCancellation()
            return Batch(isQuiet: true, isOver: audit.ledger.isClosed)
        }
        let found = try await audit.more(listener.cursor, AuditFilter())
        listener.cursor = found.cursor
        var batch = Batch(lost: found.lost)
        for line in found.lines.split(separator: 10) {
            guard let record = try? JSONValue(parsing: line), let kind = record["kind"]?.text, wish.admits(kind: kind),
                let seq = record["seq"]?.unsigned
            else { continue }
            let subject = record["agent"]?.text
            guard wish.agent == nil || wish.agent == subject else { continue }
            // Whose it was when it was written; a goal that waits has no agent yet.
            let owner = (subject == nil ? record["fields"]?["owner"] : record["owner"])?.unsigned
            guard await concerns(subject, ownedBy: owner, wish.caller, &listener) else { continue }
            batch.events.append(Event(seq: seq, kind: kind, json: Self.shown(record)))
        }
        return batch
    }

    private func hasNews(after seq: UInt64) async -> Bool {
        let (ledger, clock) = (audit.ledger, clock)
        guard ledger.head.seq <= seq else { return true }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await ledger.wait(after: seq) }
            group.addTask { try? await clock.sleep(for: Self.heartbeat) }
            await group.next()
            group.cancelAll()
        }
        return ledger.head.seq > seq
    }

    private func concerns(
        _ subject: String?, ownedBy owner: UInt64?, _ caller: Caller, _ listener: inout Listener
    ) async -> Bool {
        guard caller.uid != 0 else { return true }
        guard let subject, owner == nil else { return owner == UInt64(caller.uid) }
        // A record of an earlier release, or of what has gone: only what is known of it now can be said.
        if let known = listener.own[subject] { return known }
        let isOwn = await isOwn(subject, caller)
        if listener.own.count >= 1000 { listener.own = [:] }
        listener.own[subject] = isOwn
        return isOwn
    }

    /// Without what only proves that the record is the one that was written.
    private static func shown(_ record: JSONValue) -> JSONValue {
        .object((record.fields ?? []).filter { !["v", "prev", "hash"].contains($0.name) })
    }
}
