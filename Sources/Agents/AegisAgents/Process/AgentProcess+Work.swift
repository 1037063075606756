internal import AegisAudit
internal import AegisCapabilities
internal import AegisCore
internal import AegisInference
package import AegisJSON
package import AegisTools

extension AgentProcess {
    /// Tools of one answer that run at once, when all of them say that they may.
    static let parallelCalls = 8

    // MARK: The model

    /// Asks the model for the next answer; what goes wrong ends the turn with its cause.
    func ask() async throws {
        guard let tools = try await makeRoom() else { return }
        let session = session
        var question = question(session.prompt, alias: manifest.model, tools: tools)
        let live = LiveAnswer(
            services.live, of: record, trace: session.turn?.trace ?? "", step: session.turn?.iterations ?? 0,
            position: session.count)
        question.live = live
        var reply: ModelReply
        do throws(AegisError) { reply = try await answer(question) } catch {
            live.end(isWhole: false)
            // Somebody wants it to end, or the daemon does: the loop knows which.
            if Task.isCancelled || isLeaving { return }
            // Providers count by tokenizers of their own: what seemed to fit is made smaller, and asked again. The failure is that of
            // the model which is asked first: what a fallback has less room for is not cut for good.
            if error.code == "context-too-long", tightens() { return }
            // A grant that is used up is a budget, too.
            let isBudget = error.code == "budget-exceeded" || error.code.hasPrefix("limit-")
            let stop: TurnStop = isBudget ? .budgetExceeded : .error
            return try await close(stop, TurnProblem(error))
        }
        reply.blocks = session.withOwnIDs(reply.blocks)
        let step = SessionStep.replied(reply.blocks, reply.stop, reply.usage)
        learned?.halvings = 0
        live.end(isWhole: true)
        do throws(AegisError) {
            if beginsCalls(reply) { log.stage(step) } else { try log.record(step) }
        } catch {
            // What is not kept was not said.
            live.restart()
            throw error
        }
        for block in reply.blocks {
            if case .text(let text) = block { tell(.agentThought, ("text", .string(Shown.preview(text)))) }
        }
    }

    /// Whether an answer asks for tools which are called without waiting for anybody: no person, and no server of a kit that starts.
    private func beginsCalls(_ reply: ModelReply) -> Bool {
        let policy = approvals
        return reply.stop == .toolUse
            && reply.toolUses.allSatisfy { use in
                services.registry.entry(use.name).map { !policy.asks($0.declaration) } ?? false
            }
    }

    private nonisolated var approvals: ApprovalPolicy {
        ApprovalPolicy(required: Set(manifest.approvalRequired + record.approvals))
    }

    private func question(_ messages: [ModelMessage], alias: String, tools: [ModelTool] = []) -> ModelQuestion {
        var question = ModelQuestion(
            alias: alias, system: record.systemPrompt(manifest), messages: messages, tools: tools,
            maxOutputTokens: manifest.maxOutputTokens, agent: id, name: record.name, tree: record.tree)
        question.priority = priority
        question.deadline = record.deadline
        return question
    }

    /// How urgent its calls of models are. Somebody waits for a child and does nothing meanwhile; nobody waits for what is done by the
    /// clock.
    nonisolated var priority: InferencePriority {
        if case .scheduled = manifest.lifecycle { return .low }
        return record.parent != nil ? .high : .normal
    }

    /// Makes the conversation fit its model's window.
    ///
    /// - Returns: the tools that its model is told of; nil when the turn was ended for want of room, or may take no more.
    private func makeRoom() async throws -> [ModelTool]? {
        let own = await ownTools()
        while true {
            let offered = services.registry.entries(for: holder, in: services.grants, owner: record.owner, with: own)
                .filter {
                    manifest.memory.episodicEnabled || !$0.declaration.name.hasPrefix("memory_")
                }
            switch ContextPlan.make(session, window(offered), canSummarize: canSummarize) {
            case .ready:
                return offered.map {
                    ModelTool(
                        name: $0.wireName, description: $0.declaration.description,
                        schema: $0.declaration.input)
                }
            case .summarize(let number):
                try await summarize(number)
                // What that took may have been the rest of what the turn may take.
                guard session.next(limits) == .ask else { return nil }
            case .drop(let number):
                try log.record(.dropped(messages: number))
                tell(.contextDropped, ("messages", .number(number)))
            case .shorten(let bytes):
                try log.record(.shortened(bytes: bytes))
                tell(.contextShortened, ("bytes", .number(bytes)))
            case .tooLong(let tokens, let room):
                try await close(
                    .error,
                    TurnProblem(
                        code: "context-too-long",
                        message:
                            "the message takes about \(tokens) tokens, and \(room) are left for it in the window of '\(manifest.model)'"
                    ))
                return nil
            }
            if Task.isCancelled { return nil }
        }
    }

    /// Takes in that its model has refused the conversation as too long. What is cut then is cut for good: it is not done over and
    /// over for a provider that refuses whatever it is asked.
    ///
    /// - Returns: false when it is not made smaller any more.
    private func tightens() -> Bool {
        let (used, halvings) = (ContextSize.tokens(session.prompt), learned?.halvings ?? 0)
        guard used > Self.leastRoom, halvings < Self.mostHalvings else { return false }
        learned = (max(Self.leastRoom, min(used, learned?.room ?? used) / 2), halvings + 1)
        return true
    }
    private static let leastRoom = 256
    private static let mostHalvings = 3

    private func window(_ offered: [ToolRegistry.Entry]) -> ContextPlan.Window {
        let model = services.models.window(of: manifest.model)
        let window = min(manifest.memory.contextWindow ?? model, model)
        let fixed =
            ContextSize.tokens(record.systemPrompt(manifest))
            + offered.reduce(0) {
                $0 + 8 + ContextSize.tokens($1.declaration.description) + $1.schemaSize / 4
            }
        // An answer must fit, too; but a small window is not eaten up by a large one.
        let answer = min(manifest.maxOutputTokens, window / 4)
        return ContextPlan.Window(
            room: max(Self.leastRoom, min(window - fixed - answer, learned?.room ?? .max)),
            threshold: manifest.memory.summarizationThreshold,
            messages: manifest.memory.maxHistoryMessages)
    }

    /// Puts a summary in place of the oldest messages. The steps that they came from stay in the session: they are the archive.
    private func summarize(_ number: Int) async throws {
        let transcript = Transcript(
            notes: session.preamble, session.messages.prefix(number), mark: Frame.newMark())
        let task = transcript.task(limit: services.models.window(of: summarizer) * 2)
        var question = question([.user(task)], alias: summarizer)
        question.system = Transcript.summaryPrompt
        question.maxOutputTokens = min(2048, manifest.maxOutputTokens)
        do throws(AegisError) {
            let reply = try await answer(question)
            guard !reply.text.isEmpty else {
                try log.record(.spent(reply.usage))
                throw .failed("empty-summary", "the model gave no summary")
            }
            try log.record(.summarized(messages: number, text: reply.text, usage: reply.usage))
            tell(.contextSummarized, ("messages", .number(number)), ("model", .string(summarizer)))
        } catch {
            if Task.isCancelled { return }
            canSummarize = false
            tell(.contextSummarizationFailed, ("code", .string(error.code)), ("message", .string(error.message)))
        }
    }

    private var summarizer: String { manifest.memory.summarizationModel ?? manifest.model }

    // MARK: Tools

    /// Calls tools in the order of the answer; neighbours that say that they may run at the same time do. Those that were begun
    /// when a daemon ended are among them: the gate knows what becomes of them (decision D34).
    func call(_ uses: [ToolUse]) async throws {
        var left = uses[...]
        while let first = left.first {
            if Task.isCancelled || isLeaving { return }
            var batch = left.prefix(1)
            if isParallelSafe(first) { batch = left.prefix(Self.parallelCalls).prefix { isParallelSafe($0) } }
            left = left.dropFirst(batch.count)
            for (id, reply) in await replies(to: batch) {
                if let halt = reply.halt { throw AegisError.failed("not-recorded", halt) }
                // The gate has saved what it ran; what it refused is saved here.
                guard log.awaits(id), !(Task.isCancelled && reply.code == "interrupted") else { continue }
                try log.end(id, with: reply)
            }
        }
    }

    private func replies(to batch: ArraySlice<ToolUse>) async -> [(id: String, reply: ToolReply)] {
        if let only = batch.first, batch.count == 1 { return [(only.id, await reply(to: only))] }
        return await withTaskGroup(of: (String, ToolReply).self) { group in
            for use in batch { group.addTask { (use.id, await self.reply(to: use)) } }
            var replies: [(id: String, reply: ToolReply)] = []
            for await (id, reply) in group { replies.append((id, reply)) }
            return replies
        }
    }

    private func isParallelSafe(_ use: ToolUse) -> Bool {
        use.malformed == nil && services.registry.entry(use.name)?.declaration.isParallelSafe == true
    }

    private func reply(to use: ToolUse) async -> ToolReply {
        let context = await context(use)
        // What it was waiting for may be gone for that reason: nobody has tried the call.
        if Task.isCancelled { return ToolReply(AegisError.failed("interrupted", "interrupted before it was called")) }
        guard let malformed = use.malformed else {
            return await services.tools.call(use.name, input: use.input, context)
        }
        return services.tools.refuseMalformed(use.name, text: malformed, why: "it cannot be parsed", context)
    }

    private nonisolated func context(_ use: ToolUse) async -> ToolContext {
        let session = session
        var context = ToolContext(
            holder: holder, agent: id, name: record.name, parent: record.parent, trace: session.turn?.trace ?? "",
            step: session.turn?.iterations ?? 0, callID: use.id, grants: services.grants,
            files: await services.files(record), audit: services.audit, desk: services.desk,
            approvals: approvals, journal: log)
        context.identity = record.isPersistent ? id : nil
        context.owner = record.owner
        context.enclosing = startedBy
        // No sandbox is started for the tools of a turn that only ends.
        if services.registry.entry(use.name) == nil, !log.isStopped { context.own = await ownTools() }
        return context
    }

    // MARK: The ledger

    func tell(_ kind: AuditKind, _ fields: (String, JSONValue)...) { tell(kind, fields) }

    /// The same, also of a turn that is over.
    func tell(_ kind: AuditKind, _ fields: [(String, JSONValue)], trace: String? = nil) {
        let session = session
        var event = AuditEvent(
            kind, agent: id, parent: record.parent, trace: trace ?? session.turn?.trace, step: session.turn?.iterations)
        event.fields = fields.map { JSONValue.Field($0.0, $0.1) }
        // What is told here is told after the fact: what must not happen unrecorded is recorded by its gate.
        do throws(AegisError) { try services.audit.record(event) } catch {
            services.logger.error("the ledger does not take a record", ("agent", id), ("error", error.message))
        }
    }
}

extension AgentProcess {
    /// Calls a tool as this agent, beside its turns: what `tool.invoke` does. Grants, approvals and the ledger are the same. It does
    /// not wait for what the agent is doing.
    package nonisolated func invoke(_ tool: String, _ input: JSONValue, door: String) async -> ToolReply {
        var context = await context(ToolUse(id: "api-\(UInt64.random(in: 0 ... .max))", name: tool, input: input))
        context.door = door
        context.journal = nil
        return await services.tools.call(tool, input: input, context)
    }
}
