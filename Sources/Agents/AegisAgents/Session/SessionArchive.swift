internal import AegisConfig
package import AegisCore
internal import AegisIO
internal import AegisInference
internal import AegisJSON

/// What a session keeps of messages that a summary stands for: `memory.archive_ttl_days` says for how long.
///
/// Steps are never taken out, for a session is what its steps amount to: what they said is.
package enum SessionArchive {
    /// What stands in place of a text that was erased.
    static let mark = "(erased: the archive of this agent keeps it no longer)"

    /// The step from which on everything is still shown to the model, or belongs to the last turn.
    package static func boundary(of steps: some Sequence<SessionStep>) -> Int {
        var session = Session()
        // The step that each of the messages began with.
        var first: [Int] = []
        var turn = 0
        var number = 0
        for step in steps {
            let before = session.messages.count
            session.apply(step)
            switch step {
            case .summarized(let gone, _, _, _), .dropped(let gone, _):
                first.removeFirst(min(max(gone, 0), first.count))
            default:
                let more = max(0, session.messages.count - before)
                first += Array(repeating: number, count: more)
            }
            if case .began = step { turn = number }
            number += 1
        }
        // The last turn stays: it may be under way, or be begun anew.
        return min(first.first ?? number, turn)
    }

    /// A step of the same form that says nothing of what was said.
    package static func erased(_ step: SessionStep) -> SessionStep {
        switch step {
        case .began(let trace, _, let from): .began(trace: trace, text: mark, from: from)
        case .replied(let blocks, let stop, let usage): .replied(blocks.map(erased), stop, usage)
        case .outcome(let output): .outcome(ToolOutput(id: output.id, text: mark, isError: output.isError))
        // A summary that another one has taken in.
        case .summarized(let number, _, let usage, let mark):
            .summarized(messages: number, text: Self.mark, usage: usage, mark: mark)
        case .intent, .stopped, .ended, .dropped, .shortened, .restarted, .spent, .note: step
        }
    }

    private static func erased(_ block: ModelMessage.Block) -> ModelMessage.Block {
        switch block {
        case .text: .text(mark)
        case .reasoning: .reasoning(text: mark, signature: nil)
        case .toolUse(let use): .toolUse(ToolUse(id: use.id, name: use.name, input: .object([])))
        case .toolResult(let output):
            .toolResult(ToolOutput(id: output.id, text: mark, isError: output.isError))
        }
    }

    /// Erases what a session has archived before a time.
    ///
    /// - Parameters:
    ///   - agent: whose session.
    ///   - time: what was archived before it goes.
    ///   - store: where the steps are.
    /// - Returns: how many steps were erased.
    /// - Throws: what SQLite says; `session-unreadable`.
    @discardableResult
    package static func erase(_ agent: String, before time: Timestamp, in store: SessionStore) throws(AegisError) -> Int
    {
        let entries = try store.steps(of: agent)
        let end = boundary(of: entries.lazy.map(\.step))
        // The last summary is what the model is still shown.
        let summary = entries.lastIndex { if case .summarized = $0.step { true } else { false } }
        var count = 0
        for (index, entry) in entries.prefix(end).enumerated() where entry.time < time && index != summary {
            let step = erased(entry.step)
            guard step != entry.step else { continue }
            try store.replace(step, of: agent, at: entry.seq)
            count += 1
        }
        return count
    }
}

/// Erases archives that are older than their agents' manifests want them: once at a daemon's start, then every hour.
package struct ArchiveSweeper: Sendable {
    private let services: AgentServices

    /// A sweeper for the agents of a store.
    package init(_ services: AgentServices) { self.services = services }

    /// Runs until the task is cancelled.
    package func run() async {
        while !Task.isCancelled {
            await sweep()
            do { try await services.clock.sleep(for: .seconds(3600)) } catch { return }
        }
    }

    /// Looks through all agents once, those that live no more and are still remembered among them.
    package func sweep() async {
        let (store, now, logger) = (services.store, services.now(), services.logger)
        do {
            let records = try await BlockingPool.shared.run { try store.records(retired: true) }
            for (id, text) in records {
                guard let days = Self.days(text) else { continue }
                let before = Timestamp(milliseconds: now.milliseconds - Int64(days) * 86_400_000)
                try await BlockingPool.shared.run { _ = try SessionArchive.erase(id, before: before, in: store) }
            }
        } catch { logger.error("archives cannot be erased", ("error", "\(error)")) }
    }

    /// What the manifest of a record says.
    private static func days(_ text: String) -> Int? {
        // Few say it, and reading a manifest takes a while.
        guard text.contains("archive_ttl_days"),
            let record = try? JSONValue(parsing: text.utf8).decode(AgentRecord.self)
        else { return nil }
        let file = ConfigFile(name: record.name, bytes: Array(record.manifest.utf8))
        let manifest = try? AgentManifest(file) { _ throws(AegisError) in record.prompt ?? "" }
        return manifest?.memory.archiveTTLDays
    }
}
