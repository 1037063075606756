internal import AegisAgents
internal import AegisCore
internal import AegisInstances
internal import AegisJSON
internal import AegisWire

/// The steps of an agent in their order, and between them, for who asks, what its model says while it says it.
struct AgentStream {
    /// Something to tell.
    enum Item { case step(JSONValue), live(LiveEvent), quiet }

    private let steps: AgentService.Steps
    private let listener: LiveListener?
    private let clock: any Clock<Duration>
    private let follows: Bool
    private var merge = LiveMerge()
    private var next: Int
    private var isOver = false

    /// Begins with a step. Who gives a listener ends it.
    init(
        _ steps: AgentService.Steps, from next: Int, follows: Bool, listener: LiveListener?, clock: any Clock<Duration>
    ) {
        self.steps = steps
        self.next = next
        self.follows = follows
        self.listener = listener
        self.clock = clock
    }

    /// What is next; nil when nothing will come any more.
    mutating func items() async throws -> [Item]? {
        while !Task.isCancelled {
            let mark = await steps.mark()
            let entries = try steps.read(from: next)
            // Behind the steps: what is told of an answer was told before the step that keeps it was saved.
            let said = merge.take(listener?.take() ?? [], steps: entries.count, from: next)
            next += entries.count
            var items = said[0].map { Item.live($0) }
            for (entry, after) in zip(entries, said.dropFirst()) {
                items.append(.step(entry))
                items += after.map { .live($0) }
            }
            guard items.isEmpty else { return items }
            guard follows, !isOver else { return nil }
            switch await wait(after: mark) {
            case .more: continue
            case .quiet: return [.quiet]
            case .over: isOver = true
            }
        }
        return nil
    }

    /// What came of waiting.
    private enum News: Sendable { case more, quiet, over }

    private func wait(after mark: Int) async -> News {
        let (steps, clock, listener) = (steps, clock, listener)
        return await withTaskGroup(of: News.self) { group in
            group.addTask { await steps.wait(after: mark) ? .more : .over }
            if let listener { group.addTask { await listener.wait(clock) ? .more : .quiet } }
            group.addTask {
                try? await clock.sleep(for: LedgerEvents.heartbeat)
                return .quiet
            }
            let first = await group.next() ?? .over
            group.cancelAll()
            return first
        }
    }
}

extension AgentService {
    /// Serves the steps of an agent as lines of JSON or as server-sent events.
    func serveSteps(_ context: RequestContext, _ writer: consuming HTTPResponseWriter) async throws {
        let steps = try await steps(context.parameter("id"), context.caller)
        let clock = services.clock
        let hears = try context.flag("deltas")
        if EventStreamWriter.isWanted(context.request) {
            let next = try EventStreamWriter.last(context).map { Int(clamping: min($0, UInt64(Int.max) - 1)) + 1 } ?? 0
            // Who comes back to what is over is told that there is nothing to come back to.
            guard try steps.isLive || !steps.read(from: next).isEmpty else { return try await writer.respond(204) }
            let listener = hears && steps.isLive ? services.live.listen(to: .agent(steps.id)) : nil
            defer { listener?.finish() }
            var stream = AgentStream(steps, from: next, follows: true, listener: listener, clock: clock)
            var events = try await EventStreamWriter(writer, clock: clock)
            while let items = try await stream.items() { for item in items { try await events.send(item) } }
            return try await events.finish()
        }
        let next = try context.query["after"].map { try AgentRoutes.number($0) + 1 } ?? 0
        let follows = try context.flag("follow")
        guard follows || !hears else {
            throw AegisError.usage("'deltas' is for who follows the agent", hint: "add follow=1")
        }
        let listener = hears && steps.isLive ? services.live.listen(to: .agent(steps.id)) : nil
        defer { listener?.finish() }
        var stream = AgentStream(steps, from: next, follows: follows, listener: listener, clock: clock)
        var lines = try await LineStreamWriter(writer, clock: clock)
        while let items = try await stream.items() {
            for item in items {
                switch item {
                case .step(let entry): try await lines.send([entry])
                case .live(let event): try await lines.send([event.json])
                case .quiet: break
                }
            }
        }
        try await lines.finish()
    }
}

extension EventStreamWriter {
    /// Sends one item. Pieces of answers have no number: who comes back goes on behind the last step.
    fileprivate mutating func send(_ item: AgentStream.Item) async throws {
        switch item {
        case .step(let entry): try await send(entry["kind"]?.text ?? "step", id: entry["seq"]?.unsigned, entry)
        case .live(let event): try await send(LiveEvent.name, id: nil, event.json)
        case .quiet: try await beat()
        }
    }
}
