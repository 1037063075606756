internal import AegisCapabilities
internal import AegisCore
internal import AegisInference
package import AegisJSON
package import AegisTools

private enum MessageInput {
    static let to: JSONValue = [
        "type": "string", "minLength": 1, "maxLength": 256, "description": "The name or id of an agent that lives.",
    ]
    static let message: JSONValue = [
        "description": """
        What it is told, at most 64 KiB: a string, or a JSON value where the agent accepts such. It knows nothing of what you \
        know. Who you are is added by the runtime.
        """
    ]
}

/// `agent_send`: a message to another agent, without waiting.
package struct AgentSendTool: Tool {
    private let directory: AgentDirectory

    /// The tool of a directory.
    package init(_ directory: AgentDirectory) { self.directory = directory }

    package var declaration: ToolDeclaration {
        ToolDeclaration(
            name: "agent_send",
            description: "Sends a message to another agent of your owner, and does not wait for what comes of it.",
            input: [
                "type": "object", "properties": ["to": MessageInput.to, "message": MessageInput.message],
                "required": ["to", "message"], "additionalProperties": false,
            ], effects: .external, resources: [.message])
    }

    package func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let (process, trace): (AgentProcess, String)
        do { (process, trace) = try await send(input, context) } catch let misfit as MessageMisfit {
            return misfit.reply
        }
        return ToolReply([
            "status": "delivered", "to": .string(process.record.name), "agent_id": .string(process.id),
            "trace_id": .string(trace), "waiting": .number(process.standing.mail),
        ])
    }

    private func send(
        _ input: JSONValue, _ context: ToolContext
    ) async throws -> (AgentProcess, trace: String) {
        let message = input["message"] ?? .null
        let receiver = try await directory.receiver(
            input["to"]?.text ?? "", bytes: AgentDirectory.text(of: message).utf8.count, context)
        let process = receiver.process
        let trace: String
        do {
            let text = try directory.text(of: message, for: process)
            trace = try await directory.post(text, to: process, isAsked: false, context).trace
        } catch {
            receiver.giveUp()
            throw error
        }
        // What is sent counts with all that was reserved: its length.
        return (process, trace)
    }
}

/// `agent_ask`: a message to another agent, and its answer.
package struct AgentAskTool: Tool {
    private let directory: AgentDirectory
    /// Seconds that an answer is waited for when the model says nothing.
    static let usualTime = 300
    /// Seconds that an answer is waited for at most.
    static let longestTime = 86_400

    /// The tool of a directory.
    package init(_ directory: AgentDirectory) { self.directory = directory }

    package var declaration: ToolDeclaration {
        ToolDeclaration(
            name: "agent_ask",
            description: """
                Sends a message to another agent of your owner and waits for its answer, which is what it says, not what is so. \
                Several calls in one answer of yours ask at once.
                """,
            input: [
                "type": "object",
                "properties": [
                    "to": MessageInput.to, "message": MessageInput.message,
                    "timeout": [
                        "type": "integer", "minimum": 1, "maximum": .number(Self.longestTime),
                        "description": .string("Seconds to wait, \(Self.usualTime) when not given."),
                    ],
                ], "required": ["to", "message"], "additionalProperties": false,
            ], effects: .external, isParallelSafe: true, resources: [.message],
            timeLimit: .seconds(Self.longestTime + 60), endsWithGrant: true)
    }

    package func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let seconds = input["timeout"]?.integer.map { Int($0) } ?? Self.usualTime
        let message = input["message"] ?? .null
        let receiver = try await directory.receiver(
            input["to"]?.text ?? "", bytes: AgentDirectory.text(of: message).utf8.count, context)
        let process = receiver.process
        let text: String
        do { text = try directory.text(of: message, for: process) } catch {
            receiver.giveUp()
            guard let misfit = error as? MessageMisfit else { throw error }
            return misfit.reply
        }
        // A call from outside waits for itself: the agent's turns go on meanwhile.
        let isTurn = context.door == "loop"
        let (trace, waiter): (String, Waiter<TurnResult>)
        do { (trace, waiter) = try await begin(text, to: process, isTurn, context) } catch {
            receiver.giveUp()
            throw error
        }
        do {
            let wait = AskWait(
                directory: directory, process: process, trace: trace, grant: receiver.admission.grant, context: context)
            let end = await wait.end(waiter, within: .seconds(seconds))
            // Whoever takes it back in the last moment is heard, too.
            if case .answered = end { try receiver.admission.check() }
            let reply = try await wait.reply(to: end, after: seconds)
            if isTurn { await directory.endAsk(context.agent, for: process) }
            return reply
        } catch {
            if isTurn { await directory.endAsk(context.agent, for: process) }
            throw error
        }
    }

    /// Sends the question, unless nobody would ever answer.
    private func begin(
        _ text: String, to process: AgentProcess, _ isTurn: Bool, _ context: ToolContext
    ) async throws -> (String, Waiter<TurnResult>) {
        if isTurn { try await directory.beginAsk(context.agent, for: process) }
        do { return try await directory.post(text, to: process, isAsked: true, context) } catch {
            if isTurn { await directory.endAsk(context.agent, for: process) }
            throw error
        }
    }
}
