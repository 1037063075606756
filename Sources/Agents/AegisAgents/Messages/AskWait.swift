internal import AegisCapabilities
internal import AegisCore
internal import AegisJSON
internal import AegisTools

/// How the wait for an answer ended.
enum AskEnd: Sendable, Hashable {
    case answered(TurnResult)
    /// The time is over.
    case late
    /// What allowed it was taken back.
    case revoked
    /// The asker's turn was ended, or its daemon ends.
    case cancelled
}

/// One question of an agent to another, while it waits.
struct AskWait: Sendable {
    let directory: AgentDirectory
    let process: AgentProcess
    let trace: String
    /// What allowed the message.
    let grant: GrantID
    let context: ToolContext

    /// Waits for whatever comes first.
    func end(_ waiter: Waiter<TurnResult>, within limit: Duration) async -> AskEnd {
        let clock = directory.services.clock
        let end = await withTaskGroup(of: AskEnd.self) { group in
            group.addTask { await waiter.value().map { .answered($0) } ?? .cancelled }
            group.addTask {
                do { try await clock.sleep(for: limit) } catch { return .cancelled }
                return .late
            }
            group.addTask { [context, grant] in
                let isRevoked = await context.grants.revocation(
                    of: grant, or: .tool("agent_ask"), of: context.holder)
                return isRevoked ? .revoked : .cancelled
            }
            let first = await group.next() ?? .cancelled
            group.cancelAll()
            return first
        }
        await process.forget(waiter, for: trace)
        return end
    }

    /// What the asker's model reads. What was not begun is taken back where nobody waits for it any more.
    ///
    /// - Throws: `ask-timeout`, `ask-cancelled`, `agent-stopped`; `grant-revoked`; `CancellationError`.
    func reply(to end: AskEnd, after seconds: Int) async throws -> ToolReply {
        let name = "\(process.record.name) (\(process.id))"
        switch end {
        case .answered(let result): return try await answer(result, name)
        case .late:
            let isBack = await process.withdraw(trace: trace)
            throw AegisError(
                .timeout, "ask-timeout", "agent \(name) has not answered within \(seconds) seconds",
                hint: isBack
                    ? "it had not begun, and the message was taken back: ask again later, or go on without it"
                    : "it is still at work on it, but its answer will not reach you: go on without it, or ask again with a longer timeout"
            )
        case .revoked:
            await process.cancel(trace: trace)
            throw AegisError(
                .denied, "grant-revoked", "what allowed you to ask agent \(name) was taken back while you waited",
                hint: "go on without its answer")
        case .cancelled:
            // Where the daemon ends, the message goes on with the next one.
            if await !directory.isEnding { await process.cancel(trace: trace) }
            throw CancellationError()
        }
    }

    private func answer(_ result: TurnResult, _ name: String) async throws -> ToolReply {
        guard result.stop != .cancelled else {
            guard process.isLeaving else {
                throw AegisError.conflict(
                    "ask-cancelled", "somebody ended the turn in which agent \(name) worked on it",
                    hint: "do not just ask again; go on without it, or say what you need it for")
            }
            throw AgentProcess.stopped(process.id)
        }
        var fields: [JSONValue.Field] = [
            .init("from", .string(process.record.name)), .init("agent_id", .string(process.id)),
            .init("trace_id", .string(trace)), .init("response", .string(result.response)),
            .init("stop_reason", .string(result.stop.rawValue)),
        ]
        if let problem = result.problem {
            fields.append(.init("error", problem.json))
        }
        return ToolReply(.object(fields), isError: result.stop == .error)
    }
}
