package import AegisJSON

/// What `aegis top` prints once: everything, as wide as it is.
package enum TopReport {
    /// The tables.
    package static func text(_ model: TopModel) -> String {
        var parts: [String] = []
        if !model.approvals.isEmpty {
            var table = Table(["APPROVAL", "AGENT", "TOOL", "RESOURCE", "EXPIRES"])
            for item in model.approvals {
                table.add([
                    item.id, item.agentName, item.tool, item.resource, item.expires.map { "\($0)" } ?? "-",
                ])
            }
            parts.append(table.text)
        }
        if model.agents.isEmpty {
            parts.append("No agents live\n")
        } else {
            var table = Table(["AGENT", "NAME", "STATE", "MODEL", "STEP", "MAIL", "TOKENS", "LEFT", "USD"])
            for item in model.agents {
                table.add([
                    item.id, item.name, item.state, item.model, item.step.map { "\($0)" } ?? "-", "\(item.mail)",
                    "\(item.tokens)", item.tokensLeft.map { "\($0)" } ?? "-", item.money,
                ])
            }
            parts.append(table.text)
        }
        if !model.goals.isEmpty {
            var table = Table(["GOAL", "STATE", "STOP", "TEXT"])
            for item in model.goals.prefix(10) {
                table.add([item.id, item.state, item.stop ?? "-", Plain.cut(item.text, to: 60)])
            }
            parts.append(table.text)
        }
        if !model.calls.isEmpty {
            var table = Table(["TIME", "AGENT", "TOOL", "OUTCOME", "INPUT"])
            for item in model.calls.suffix(10) {
                let outcome = item.isError.map { $0 ? item.code ?? "failed" : "ok" } ?? "running"
                table.add([item.time, model.name(of: item.agent), item.tool, outcome, Plain.cut(item.input, to: 60)])
            }
            parts.append(table.text)
        }
        return parts.joined(separator: "\n")
    }
}

extension TopModel {
    /// The same for programs.
    package var json: JSONValue {
        func text(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }
        return [
            "time": .string("\(time)"),
            "agents": .array(
                agents.map { item in
                    [
                        "id": .string(item.id), "name": .string(item.name), "state": .string(item.state),
                        "model": .string(item.model), "depth": .number(item.depth),
                        "step": item.step.map { .number($0) } ?? .null, "mail": .number(item.mail),
                        "tokens": .number(item.tokens), "tokens_left": item.tokensLeft.map { .number($0) } ?? .null,
                        "usd": .string(item.money),
                    ]
                }),
            "approvals": .array(
                approvals.map { item in
                    [
                        "id": .string(item.id), "agent_id": .string(item.agent), "agent_name": .string(item.agentName),
                        "tool": .string(item.tool), "resource": .string(item.resource),
                        "expires_at": text(item.expires.map { "\($0)" }),
                    ]
                }),
            "goals": .array(
                goals.map { item in
                    [
                        "id": .string(item.id), "state": .string(item.state), "stop_reason": text(item.stop),
                        "agent": text(item.agent), "text": .string(item.text),
                    ]
                }),
            "tool_calls": .array(
                calls.map { item in
                    [
                        "time": .string(item.time), "agent_id": .string(item.agent), "tool": .string(item.tool),
                        "success": item.isError.map { .bool(!$0) } ?? .null, "code": text(item.code),
                        "microseconds": item.microseconds.map { .number($0) } ?? .null,
                    ]
                }),
        ]
    }
}
