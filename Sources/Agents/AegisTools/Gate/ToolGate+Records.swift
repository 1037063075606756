internal import AegisAudit
internal import AegisCapabilities
internal import AegisCore
internal import AegisJSON

extension ToolGate {
    // MARK: Before and after the effect (decision D34)

    /// What is known of the call from before; nil lets it run.
    func resumed(_ call: Call) -> ToolReply? {
        guard let journal = call.context.journal else { return nil }
        let state: CallState
        do { state = try journal.state(of: call.context.callID) } catch {
            return ToolReply(error).halting("what was done before cannot be read: \(error.message)")
        }
        switch state {
        case .unknown: return nil
        case .ended(let reply): return note(call, "reused", reply)
        case .begun:
            // Of a run that was stopped before its daemon ended, or comes from a backup, nobody wants to know any more.
            guard journal.isStopped || !call.entry.declaration.isIdempotent else { return nil }
            let reply = ToolReply(Self.interrupted(call.name))
            let noted = note(call, "unknown", reply)
            return saveEnd(call, noted)
        }
    }

    /// What became of a call that an earlier daemon began, of a tool that is not there any more, or not yet.
    private func resumed(_ name: String, _ context: ToolContext) -> ToolReply? {
        guard let journal = context.journal else { return nil }
        do throws(AegisError) {
            let reply: ToolReply
            switch try journal.state(of: context.callID) {
            case .unknown: return nil
            case .ended(let known): reply = known
            case .begun:
                reply = ToolReply(Self.interrupted(name))
                try journal.end(context.callID, with: reply)
            }
            let outcome: JSONValue = reply.code == "interrupted" ? "unknown" : "reused"
            try context.audit.record(context.event(.toolResumed, ("tool", .string(name)), ("outcome", outcome)))
            return reply
        } catch { return ToolReply(error).halting("what was done before cannot be read or saved: \(error.message)") }
    }

    private static func interrupted(_ name: String) -> AegisError {
        .failed(
            "interrupted", "interrupted: '\(Escaped.line(name, atMost: 128))' may or may not have happened",
            hint: "find out what is the case before you call it again")
    }

    private func note(_ call: Call, _ outcome: JSONValue, _ reply: ToolReply) -> ToolReply {
        record(call, call.context.event(.toolResumed, ("tool", .string(call.name)), ("outcome", outcome)), reply)
    }

    /// Saves that the call is about to have its effect.
    ///
    /// - Returns: nil when it is saved; else the answer instead of the effect.
    func begin(_ call: Call, grant: String) -> ToolReply? {
        let context = call.context
        do throws(AegisError) {
            try context.audit.record(
                context.event(
                    .toolInvoked, ("tool", .string(call.name)), ("input_hash", .string(call.inputHash)),
                    ("input_preview", .string(preview(call.input))), ("grant", .string(grant)),
                    ("effects", .string(call.entry.declaration.effects.rawValue)), ("door", .string(context.door))))
            try context.journal?.begin(context.callID, tool: call.name, input: call.input)
            return nil
        } catch {
            let refusal = AegisError.failed(
                "not-recorded", "'\(call.name)' was not run: it could not be recorded: \(error.message)",
                hint: error.hint)
            return ToolReply(refusal).halting(refusal.message)
        }
    }

    /// Whether the call was cut short by the daemon's end, and another one goes on with its run.
    func isLeft(_ call: Call) -> Bool { Task.isCancelled && call.context.journal?.isLeft == true }

    /// Saves how the call ended.
    func end(_ call: Call, _ reply: ToolReply, length: Int, microseconds: Int64) -> ToolReply {
        // What may be called again is called again by the next daemon.
        let isAgain = isLeft(call) && reply.code == "interrupted" && call.entry.declaration.isIdempotent
        let saved = isAgain ? reply : saveEnd(call, reply)
        var event = call.context.event(
            .toolResult, ("tool", .string(call.name)), ("success", .bool(!reply.isError)),
            ("bytes", .number(length)), ("microseconds", .number(microseconds)))
        if let code = reply.code { event.fields.append(JSONValue.Field("code", .string(code))) }
        return record(call, event, saved)
    }

    private func saveEnd(_ call: Call, _ reply: ToolReply) -> ToolReply {
        do throws(AegisError) { try call.context.journal?.end(call.context.callID, with: reply) } catch {
            return reply.halting("the outcome of '\(call.name)' could not be saved: \(error.message)")
        }
        return reply
    }

    /// Records what has happened already: when that fails nothing more may happen.
    private func record(_ call: Call, _ event: AuditEvent, _ reply: ToolReply) -> ToolReply {
        do throws(AegisError) { try call.context.audit.record(event) } catch {
            return reply.halting("what '\(call.name)' did could not be recorded: \(error.message)")
        }
        return reply
    }

    /// The beginning of the arguments, for the ledger.
    private func preview(_ input: JSONValue) -> String { InputPreview.text(input, atMost: 200, mask: mask) }

    // MARK: Refusals

    /// Records a refusal and gives its answer.
    func refuse(_ call: Call, _ reply: ToolReply) -> ToolReply {
        let error = reply.value["error"]
        let event = call.context.event(
            .toolRefused, ("tool", .string(call.name)), ("input_hash", .string(call.inputHash)),
            ("code", error?["code"] ?? .null), ("reason", error?["message"] ?? .null),
            ("door", .string(call.context.door)))
        return record(call, event, reply)
    }

    func unknownTool(_ name: String, _ context: ToolContext) -> ToolReply {
        if let known = resumed(name, context) { return known }
        let granted = registry.entries(for: context.holder, in: context.grants, owner: context.owner, with: context.own)
            .map(\.declaration.name)
        let near = nearest(name, in: granted)
        let shown = Escaped.line(name, atMost: 128)
        let error =
            context.own?.problem(of: name)
            ?? AegisError.notFound(
                "tool-unknown", "there is no tool '\(shown)'", hint: near.map { "did you mean '\($0)'?" })
        let reply = ToolReply(error, details: [JSONValue.Field("tools", .array(granted.map { .string($0) }))])
        do throws(AegisError) {
            try context.audit.record(
                context.event(
                    .toolRefused, ("tool", .string(shown)), ("code", .string(error.code)),
                    ("reason", .string(error.message)), ("door", .string(context.door))))
        } catch { return reply.halting("a refusal could not be recorded: \(error.message)") }
        return reply
    }

    /// The answer to arguments that do not fit.
    func misfit(_ problems: [SchemaProblem], _ entry: ToolRegistry.Entry) -> ToolReply {
        let first = problems.first?.description ?? "they do not fit"
        let error = AegisError(
            .usage, "arguments-invalid", "the arguments of '\(entry.declaration.name)' do not fit: \(first)",
            hint: "nothing was done: call it again with arguments that fit its schema")
        let all = problems.map {
            JSONValue.object([.init("at", .string($0.path)), .init("problem", .string($0.what))])
        }
        return ToolReply(error, details: [JSONValue.Field("problems", .array(all))])
    }

    /// The answer to a refused request, with what is held of the kinds that would allow it.
    func denied(_ denial: Denial, _ call: Call, kinds: [CapabilityKind]) -> ToolReply {
        let held = call.context.grants.records(of: call.context.holder)
            .map(\.terms.capability).filter { kinds.contains($0.kind) }
        var details = [JSONValue.Field("reason", .string(denial.reason.rawValue))]
        details.append(JSONValue.Field("granted", .array(held.prefix(32).map { .string($0.description) })))
        if held.count > 32 { details.append(JSONValue.Field("granted_count", .number(held.count))) }
        if let retry = denial.retryAt { details.append(JSONValue.Field("retry_at", .string("\(retry)"))) }
        var error = denial.asAegisError
        // Those who hand over goals may not know that these are not among the tools of a goal.
        if kinds == [.tool], error.code == "capability-denied", call.name.hasPrefix("mcp.") {
            error = AegisError(
                error.kind, error.code, error.message,
                hint:
                    "tools of MCP servers are granted by name: 'tool: \(call.name)' among the capabilities of the manifest, or "
                    + "aegis goal --grant 'tool: \(call.name)'")
        }
        let reply = ToolReply(error, details: details)
        return denial.reason == .notRecorded ? reply.halting(denial.message) : reply
    }

    /// An end before the end: what was not only looked at may have happened.
    func interrupted(_ call: Call, _ why: String) -> AegisError {
        switch call.entry.declaration.effects {
        case .none, .reads: AegisError(.timeout, "interrupted", "'\(call.name)' did not end: \(why)")
        case .writes, .external:
            AegisError(
                .timeout, "interrupted", "'\(call.name)' did not end: \(why); it may or may not have happened",
                hint: "find out what is the case before you call it again")
        }
    }
}

extension ToolReply {
    /// The same answer, after which nothing more may happen.
    func halting(_ why: String) -> ToolReply {
        var reply = self
        reply.isError = true
        reply.halt = why
        return reply
    }
}
