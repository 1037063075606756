package import AegisConfig
internal import AegisCore
package import AegisTools

extension AgentDirectory {
    /// The longest message, in bytes.
    package static let messageLimit = 1 << 20

    /// Gives an agent a message and does not wait.
    ///
    /// - Returns: the trace by which `reply` finds the result.
    /// - Throws: `agent-not-found`, `mailbox-full`, `message-too-large`.
    package func send(
        _ text: String, to word: String, trace: String? = nil
    ) async throws -> String {
        try await deliver(text, to: try find(word), trace: trace).trace
    }

    /// Whether a message is under way with an agent.
    package func isUnderWay(_ trace: String, of process: AgentProcess) async -> Bool {
        await process.hasUnderWay(trace)
    }

    /// Whether a message has reached an agent, now or with a daemon before.
    func knows(_ trace: String, of process: AgentProcess) async throws -> Bool {
        if await process.hasUnderWay(trace) { return true }
        return try !services.store.steps(of: process.id, trace: trace).isEmpty
    }

    /// A trace for a message, for who wants to listen before it is given.
    package func newTrace() -> String { newID("t-") }

    /// Gives an agent a message and waits for what comes of it. A waiting task that is cancelled ends the turn if nobody else
    /// has asked for it.
    package func run(_ text: String, on process: AgentProcess, trace: String? = nil) async throws -> TurnResult {
        let (trace, waiter) = try await deliver(text, to: process, trace: trace, isAwaited: true)
        guard let result = await waiter.value() else {
            await process.forget(waiter, for: trace)
            // Where the daemon ends, the turn goes on with the next one.
            if !isEnding { await process.cancel(trace: trace) }
            throw CancellationError()
        }
        return result
    }

    /// Spawns an agent, runs it with one message, and removes it.
    ///
    /// - Parameters:
    ///   - file: its manifest.
    ///   - text: the message.
    ///   - spawner: who spawns it.
    ///   - quotesValues: whether messages may show what the manifest says.
    ///   - trace: of the message; nil for a new one.
    ///   - prompt: reads the file of a prompt.
    ///   - call: of a child, the call of its parent that starts it.
    ///   - spent: is told what it and all below it have used of models, however it ends.
    /// - Returns: its id, and what came of the message.
    /// - Throws: as `spawn`; `persistent-agent` for one that would live on.
    package func spawnAndRun(
        _ file: ConfigFile, _ text: String, by spawner: Spawner, quotesValues: Bool = true, trace: String? = nil,
        prompt: @escaping PromptReader = AgentDirectory.noPromptFile, startedBy call: CallSpending? = nil,
        spent: (@Sendable (ModelSpending) -> Void)? = nil
    ) async throws -> (id: String, result: TurnResult) {
        let process = try spawn(
            file, by: spawner, quotesValues: quotesValues, isOneShot: true, startedBy: call, prompt: prompt)
        do {
            guard !process.manifest.isPersistent else {
                throw AegisError.usage(
                    "'\(process.record.name)' is \(process.manifest.lifecycle.word): it does not end with its answer",
                    hint: "spawn it, then run it ('aegis agent spawn', 'aegis agent run')")
            }
            let result = try await run(text, on: process, trace: trace)
            if let used = await dismiss(process, "its work is done") { spent?(used) }
            return (process.id, result)
        } catch {
            if let used = await dismiss(process, "its run was given up") { spent?(used) }
            throw error
        }
    }

    /// Removes an agent that was run.
    ///
    /// - Returns: what it and all below it have used: also by questions that were still asked.
    private func dismiss(_ process: AgentProcess, _ reason: String) async -> ModelSpending? {
        // Its account is closed with its end, which may be another's doing.
        let earlier = services.models.spending(of: process.id)
        let left = try? await stop(process.id, reason: reason)
        return left ?? earlier
    }

    /// The result of a message, now or once it is there.
    ///
    /// - Parameters:
    ///   - trace: of the message.
    ///   - word: the agent.
    ///   - wait: whether to wait for it.
    /// - Returns: nil while it is under way and `wait` is false.
    /// - Throws: `trace-not-found`.
    package func reply(_ trace: String, of word: String, wait: Bool) async throws -> TurnResult? {
        let process = try find(word)
        if !wait, await process.hasUnderWay(trace) { return nil }
        if let waiter = await process.waiter(for: trace) {
            guard let result = await waiter.value() else {
                await process.forget(waiter, for: trace)
                throw CancellationError()
            }
            return result
        }
        let steps = try services.store.steps(of: process.id, trace: trace)
        guard let result = TurnResult(trace: trace, steps.map(\.step)) else {
            throw AegisError.notFound(
                "trace-not-found", "agent \(process.record.name) has no message with the trace '\(trace)'",
                hint: "it is what agent.run with wait: false has answered")
        }
        return result
    }

    func deliver(
        _ text: String, to process: AgentProcess, from origin: MailOrigin? = nil, due: Timestamp? = nil,
        trace: String? = nil, isAwaited: Bool = false
    ) async throws -> (trace: String, waiter: Waiter<TurnResult>) {
        guard text.utf8.count <= Self.messageLimit else {
            throw AegisError(
                .tooLarge, "message-too-large",
                "the message has \(text.utf8.count) bytes; \(Self.messageLimit) are taken",
                hint: "put it into a file that the agent may read")
        }
        guard text.contains(where: { !$0.isWhitespace }) else {
            throw AegisError.usage("the message is empty", hint: "say what the agent is to do")
        }
        let trace = trace ?? newID("t-")
        let mail = Mail(trace: trace, text: text, from: origin, due: due)
        return (trace, try await process.deliver(mail, isAwaited: isAwaited))
    }
}
