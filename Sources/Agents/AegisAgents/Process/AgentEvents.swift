package import AegisAudit
internal import AegisCore
internal import AegisInference
internal import AegisJSON

extension AuditKind {
    /// An agent has come, with its grants.
    package static let agentSpawned = AuditKind("agent_spawned")
    /// An agent is gone.
    package static let agentStopped = AuditKind("agent_stopped")
    /// An agent sends another one a message: `to`, `to_id`, `message_trace`, `bytes`, `asks`.
    package static let messageSent = AuditKind("agent_message_sent")
    /// A message has reached an agent, and a turn begins: `bytes`; from an agent also `from`, `from_trace`, `from_step`.
    package static let messageReceived = AuditKind("agent_message_received")
    /// A program waits for the image of its sandbox: `text`.
    package static let sandboxWaits = AuditKind("agent_sandbox_waits", .report)
    /// What a model said.
    package static let agentThought = AuditKind("agent_thought", .report)
    /// A turn has ended: `stop_reason`, `iterations`, `input_tokens`, `output_tokens`, `code`.
    package static let executionCompleted = AuditKind("agent_execution_completed")
    /// A step of a session, or a message, could not be saved: `code`, `message`, `times`.
    package static let sessionStoreError = AuditKind("session_store_error")
    /// Old messages were replaced by a summary.
    package static let contextSummarized = AuditKind("context_summarized")
    /// There was no summary to be had.
    package static let contextSummarizationFailed = AuditKind("context_summarization_failed")
    /// Old messages were left out.
    package static let contextDropped = AuditKind("context_dropped")
    /// Texts of what was left were cut: `bytes`.
    package static let contextShortened = AuditKind("context_shortened")
    /// All of them.
    package static let ofAgents: [AuditKind] = [
        .agentSpawned, .agentStopped, .messageSent, .messageReceived, .sandboxWaits, .agentThought,
        .executionCompleted, .sessionStoreError, .contextSummarized, .contextSummarizationFailed, .contextDropped,
        .contextShortened,
    ]
}

extension AgentProcess {
    /// Tells that something of an agent could not be saved.
    static func unsaved(
        _ record: AgentRecord, _ services: AgentServices
    ) -> @Sendable (AegisError, String?, Int) -> Void {
        let (id, parent, audit, logger) = (record.id, record.parent, services.audit, services.logger)
        return { error, trace, times in
            var event = AuditEvent(.sessionStoreError, agent: id, parent: parent, trace: trace)
            event.fields = [
                .init("code", .string(error.code)), .init("message", .string(String(error.message.prefix(300)))),
                .init("times", .number(times)),
            ]
            do throws(AegisError) { try audit.record(event) } catch {
                logger.error("the ledger does not take a record", ("agent", id), ("error", error.message))
            }
        }
    }

    func tellReceived(_ mail: Mail) {
        var fields: [(String, JSONValue)] = [("bytes", .number(mail.text.utf8.count))]
        if let origin = mail.from {
            fields += [
                ("from", .string(origin.agent)), ("from_trace", .string(origin.trace)),
                ("from_step", .number(origin.step)),
            ]
        }
        tell(.messageReceived, fields)
    }

    /// Says why a program does not run yet, to whoever looks at the agent.
    nonisolated func noteSandbox(_ text: String) {
        var event = AuditEvent(
            .sandboxWaits, agent: id, parent: record.parent, trace: log.current.turn?.trace,
            step: log.current.turn?.iterations)
        event.fields = [.init("text", .string(text))]
        // What cannot be told does not keep the program from running.
        _ = try? services.audit.record(event)
        try? log.record(.note(text))
    }

    func tellEnded(_ result: TurnResult) {
        var fields: [(String, JSONValue)] = [
            ("stop_reason", .string(result.stop.rawValue)), ("iterations", .number(result.iterations)),
            ("input_tokens", .number(result.usage.totalInput)), ("output_tokens", .number(result.usage.output)),
        ]
        if let problem = result.problem { fields.append(("code", .string(problem.code))) }
        tell(.executionCompleted, fields, trace: result.trace)
    }
}
