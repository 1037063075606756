internal import AegisAudit
internal import AegisCapabilities
internal import AegisCore
internal import AegisJSON
internal import AegisTools

extension AgentDirectory {
    /// Who is meant when an agent names another: one of the same owner, by its id or name.
    ///
    /// Whether it may write to an agent of that name is asked first: who may not learns nothing of who lives.
    ///
    /// - Parameters:
    ///   - word: what its model wrote.
    ///   - bytes: how long the message is.
    ///   - context: who calls.
    /// - Returns: the agent, and the leave to write to it.
    /// - Throws: a `Denial`; `agent-not-found` with who can be written to; `agent-ambiguous`; `agent-not-listening`.
    func receiver(_ word: String, bytes: Int, _ context: ToolContext) throws -> Receiver {
        let found = Result { () throws(AegisError) in try find(word, owner: context.owner) }
        var name = word
        if case .success(let process) = found { name = process.record.name }
        let admission = try services.grants.admit(
            Request(.message(to: name), needs: Amounts(bytes: UInt64(bytes))), by: context.holder)
        let process: AgentProcess
        do { process = try found.get() } catch {
            admission.refund()
            guard error.code == "agent-not-found" else { throw error }
            let names = reachable(by: context)
            throw AegisError.notFound(
                error.code, error.message,
                hint: names.isEmpty
                    ? "no agent that you may write to lives now; go on without it"
                    : "you can write to \(names.joined(separator: ", "))")
        }
        guard process.id != context.agent else {
            admission.refund()
            throw AegisError.usage("'\(word)' is yourself", hint: "write to another agent, or just go on")
        }
        guard process.record.takesMessages else {
            admission.refund()
            throw AegisError.conflict(
                "agent-not-listening",
                "agent \(process.record.name) (\(process.id)) works on one task and goes with its answer",
                hint: "go on without it; what it found comes back to whoever gave it its task")
        }
        return Receiver(process: process, admission: admission)
    }

    /// Another agent, with the leave to write to it.
    struct Receiver: ~Copyable, Sendable {
        let process: AgentProcess
        let admission: Admission

        /// The message was not sent: the attempt counts, and none of its bytes.
        consuming func giveUp() { admission.settle() }
    }

    /// A message as its receiver reads it, when it takes it.
    static func text(of message: JSONValue) -> String {
        message.text ?? String(decoding: message.pretty.utf8, as: UTF8.self)
    }

    private func reachable(by context: ToolContext) -> [String] {
        let held = services.grants.records(of: context.holder).map(\.terms.capability)
        let names = all.filter { process in
            process.record.owner == context.owner && process.id != context.agent && process.record.takesMessages
                && held.contains { $0.allows(.message(to: process.record.name)) }
        }.map(\.record.name)
        return Array(Set(names).sorted().prefix(20))
    }

    /// Checks a message against what its receiver takes, and makes it the text that the receiver reads.
    ///
    /// - Returns: the text.
    /// - Throws: `message-invalid` with what is wrong; `message-too-large`.
    nonisolated func text(of message: JSONValue, for process: AgentProcess) throws -> String {
        let name = process.record.name
        if let accepts = process.manifest.accepts {
            let schema: JSONSchema
            do { schema = try JSONSchema(accepts) } catch {
                throw AegisError.failed("message-invalid", "what agent \(name) accepts cannot be read: \(error)")
            }
            if let problems = schema.problems(message) {
                throw MessageMisfit(name: name, problems: problems, schema: accepts)
            }
        } else if message.text == nil {
            throw AegisError.usage("agent \(name) takes messages in words", hint: "give 'message' as a string")
        }
        let text = Self.text(of: message)
        guard text.utf8.count <= Frame.messageLimit else {
            throw AegisError(
                .tooLarge, "message-too-large",
                "the message has \(text.utf8.count) bytes; an agent takes \(Frame.messageLimit) of another",
                hint: "write it into a file that both may read, and name that")
        }
        guard text.contains(where: { !$0.isWhitespace }) else {
            throw AegisError.usage("the message is empty", hint: "say what the agent is to do or to know")
        }
        return text
    }

    /// Tells the ledger, then puts the message into the mailbox of its receiver.
    ///
    /// - Returns: its trace there, and what gives the result.
    /// - Throws: `mailbox-full`, `agent-stopped`; what the ledger says.
    func post(
        _ text: String, to process: AgentProcess, isAsked: Bool, _ context: ToolContext
    ) async throws -> (trace: String, waiter: Waiter<TurnResult>) {
        let trace = newID("t-")
        let origin = MailOrigin(
            agent: context.agent, name: context.name, trace: context.trace, step: context.step)
        try context.audit.record(
            context.event(
                .messageSent, ("to", .string(process.record.name)), ("to_id", .string(process.id)),
                ("message_trace", .string(trace)), ("bytes", .number(text.utf8.count)), ("asks", .bool(isAsked))))
        let framed = Frame.mail(text, from: origin, isAsked: isAsked, mark: frameMark())
        return try await deliver(framed, to: process, from: origin, trace: trace)
    }

    /// Notes that an agent's turn waits for another agent.
    ///
    /// - Throws: `ask-cycle` when nobody would ever answer.
    func beginAsk(_ asker: String, for process: AgentProcess) throws(AegisError) {
        let children = { (id: String) in self.all.filter { $0.record.parent == id }.map(\.id) }
        guard let circle = asks.begin(asker, for: process.id, children: children) else { return }
        let names = circle.map { id in (try? find(id))?.record.name ?? id }
        throw .conflict(
            "ask-cycle", "nobody would ever answer: \(names.joined(separator: " waits for "))",
            hint: "end your turn with what you have, or use agent_send, which does not wait")
    }

    /// Notes that it waits no more.
    func endAsk(_ asker: String, for process: AgentProcess) { asks.end(asker, for: process.id) }
}

/// A message that does not fit what its receiver takes, with all that helps to write one that does.
struct MessageMisfit: Error {
    var name: String
    var problems: [SchemaProblem]
    var schema: JSONValue

    var reply: ToolReply {
        let first = problems.first?.description ?? "it does not fit"
        let error = AegisError(
            .usage, "message-invalid", "agent \(name) does not take this message: \(first)",
            hint: "nothing was sent: write it as 'accepts' says")
        let all = problems.map {
            JSONValue.object([.init("at", .string($0.path)), .init("problem", .string($0.what))])
        }
        return ToolReply(error, details: [.init("problems", .array(all)), .init("accepts", schema)])
    }
}
