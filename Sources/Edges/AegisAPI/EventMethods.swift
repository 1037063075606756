internal import AegisAgents
internal import AegisCore
internal import AegisInstances
internal import AegisJSON
package import AegisWire
internal import Synchronization

/// `events.subscribe`, `events.unsubscribe`: what happens, as notifications `events.event`; and what agents say while they say it, as
/// `agent.delta`.
package final class EventMethods: Sendable {
    private let events: LedgerEvents
    private let service: AgentService
    /// What ends each subscription, and whose it is.
    private let open = Mutex<[String: (owner: UInt32, end: Waiter<Bool>)]>([:])

    /// Offers the events of a node.
    package init(_ events: LedgerEvents, agents: AgentService) {
        self.events = events
        service = agents
    }

    /// Both methods.
    package var methods: [JSONRPCMethod] {
        [
            JSONRPCMethod(
                "events.subscribe",
                params: "types ([]: all of the ledger; agent.delta), agent_id, after (the last seq that was seen)"
            ) {
                [self] params, context in
                try await subscribe(
                    try RPCParameters(params, known: ["types", "agent_id", "after"], positional: 1), context)
            },
            JSONRPCMethod("events.unsubscribe", params: "subscription") { [self] params, context in
                let parameters = try RPCParameters(params, known: ["subscription"], positional: 1)
                let id = try parameters.text("subscription")
                guard let known = open.withLock({ $0[id] }), known.owner == context.caller.user else {
                    throw AegisError.notFound("subscription-not-found", "there is no subscription '\(id.prefix(100))'")
                }
                known.end.resolve(true)
                return ["ok": true, "subscription": .string(id)]
            },
        ]
    }

    private func subscribe(_ parameters: RPCParameters, _ context: JSONRPCContext) async throws -> JSONValue {
        let caller = Caller(uid: context.caller.user, gid: context.caller.group)
        let wanted = try parameters.optionalTexts("types") ?? []
        let types = wanted.filter { $0 != LiveEvent.name }
        let agent = try await events.subject(try parameters.optionalText("agent_id"), caller)
        let wish = try LedgerEvents.Wish(caller, types: types, agent: agent)
        let after = try parameters.optionalInteger("after", in: 0...Int.max).map { UInt64($0) }
        let listener = try await events.listen(after: after)
        let live = wanted == types ? nil : service.services.live.listen(to: try await subject(agent, caller))
        let isLedgerWanted = wanted.isEmpty || !types.isEmpty
        let id = "s-" + String(UInt64.random(in: 1 << 60 ... .max), radix: 16)
        let end = Waiter<Bool>()
        do {
            try context.follow { [self] notifier in
                defer { live?.finish() }
                open.withLock { $0[id] = (caller.uid, end) }
                let reason = await withTaskGroup(of: String.self) { group in
                    if isLedgerWanted { group.addTask { await self.tell(id, listener, wish, notifier) } }
                    if let live { group.addTask { await self.tell(id, live, notifier) } }
                    group.addTask { await end.value() == true ? "unsubscribed" : "gone" }
                    let first = await group.next() ?? "gone"
                    group.cancelAll()
                    return first
                }
                open.withLock { $0[id] = nil }
                _ = await notifier.notify("events.end", ["subscription": .string(id), "reason": .string(reason)])
            }
        } catch {
            live?.finish()
            throw error
        }
        return ["subscription": .string(id), "seq": .number(listener.seq)]
    }

    /// What a caller may hear: who may read an agent's answers may hear them.
    private func subject(_ agent: String?, _ caller: Caller) async throws -> LiveAnswers.Subject {
        guard let agent else { return caller.uid == 0 ? .everybody : .owner(caller.uid) }
        return .agent(try service.find(agent, caller).id)
    }

    private func tell(_ id: String, _ live: LiveListener, _ notifier: JSONRPCNotifier) async -> String {
        while await live.wait(service.services.clock) {
            for event in live.take() {
                let params: JSONValue = ["subscription": .string(id), "delta": event.json]
                guard await notifier.notify(LiveEvent.name, params) else { return "gone" }
            }
        }
        return "gone"
    }

    private func tell(
        _ id: String, _ start: LedgerEvents.Listener, _ wish: LedgerEvents.Wish, _ notifier: JSONRPCNotifier
    ) async -> String {
        var listener = start
        while !Task.isCancelled {
            let batch: LedgerEvents.Batch
            do { batch = try await events.next(&listener, wish) } catch { return "\(AgentService.code(of: error))" }
            if batch.lost > 0 {
                let gap: JSONValue = ["subscription": .string(id), "lost": .number(batch.lost)]
                guard await notifier.notify("events.gap", gap) else { return "gone" }
            }
            for event in batch.events {
                let params: JSONValue = ["subscription": .string(id), "event": event.json]
                guard await notifier.notify("events.event", params) else { return "gone" }
            }
            if batch.isOver { return "daemon-ending" }
        }
        return "gone"
    }
}

extension AgentService {
    /// The stable word of an error.
    static func code(of error: any Error) -> String { (error as? AegisError)?.code ?? "internal-error" }
}
