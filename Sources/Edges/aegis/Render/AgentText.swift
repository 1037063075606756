package import AegisCore
package import AegisJSON

/// Agents as text.
package enum AgentText {
    /// What `aegis agent deploy` and `validate` print.
    package static func manifest(_ json: JSONValue, done: String) -> String {
        var fields = Fields()
        fields.add("Agent", "\(json["name"]?.text ?? "") (\(done))")
        fields.add("Model", json["model"]?.text)
        fields.add("Lifecycle", json["lifecycle"]?.text)
        for grant in json["capabilities"]?.elements ?? [] { fields.add("May", grant.text) }
        for tool in json["approval_required"]?.elements ?? [] { fields.add("Asks before", tool.text) }
        fields.add("Files", json["file_policy"]?.text.map(Self.filePolicy))
        if let budget = json["budget"] {
            let period = budget["reset_period_seconds"]?.unsigned ?? 0
            let amounts = [
                budget["max_tokens"]?.unsigned.map { "\($0) tokens" }, budget["max_usd"]?.text.map { "\($0) USD" },
            ].compactMap(\.self)
            fields.add(
                "Budget",
                amounts.joined(separator: " and ")
                    + (period > 0 ? " in \(TimeSpan.seconds(Int64(clamping: period)))" : ""))
        }
        if let calls = json["max_iterations"]?.unsigned, let tokens = json["max_turn_tokens"]?.unsigned {
            fields.add("A turn takes", "\(calls) model calls and \(tokens) tokens at most")
        }
        for warning in json["warnings"]?.elements ?? [] { fields.add("Warning", warning.text) }
        return fields.text
    }

    /// What `aegis agent list` prints.
    package static func deployed(_ items: [JSONValue]) -> String {
        guard !items.isEmpty else { return "No agents are deployed\n" }
        var table = Table(["NAME", "MODEL", "LIFECYCLE", "GRANTS", "DEPLOYED"])
        for item in items {
            table.add([
                item["name"]?.text ?? "", item["model"]?.text ?? "", item["lifecycle"]?.text ?? "",
                "\(item["capabilities"]?.elements?.count ?? 0)", item["deployed_at"]?.text ?? "",
            ])
        }
        return table.text
    }

    /// What `aegis agent ps` prints.
    package static func processes(_ items: [JSONValue], now: Timestamp) -> String {
        guard !items.isEmpty else { return "No agents live\n" }
        var table = Table(["ID", "NAME", "STATE", "LIFECYCLE", "MODEL", "GRANTS", "PARENT", "CREATED"])
        for item in items {
            table.add([
                item["id"]?.text ?? "", item["name"]?.text ?? "", item["state"]?.text ?? "",
                item["lifecycle"]?.text ?? "", item["model"]?.text ?? "",
                "\(item["capability_count"]?.unsigned ?? 0)", item["parent"]?.text ?? "-",
                item["created_at"]?.text ?? "",
            ])
        }
        return table.text
    }

    /// What `aegis agent status` prints.
    package static func process(_ item: JSONValue) -> String {
        var fields = Fields()
        fields.add("Id", item["id"]?.text)
        fields.add("Name", item["name"]?.text)
        fields.add("State", item["state"]?.text)
        fields.add("Works on", item["trace"]?.text)
        fields.add("Lifecycle", item["lifecycle"]?.text)
        fields.add("Model", item["model"]?.text)
        fields.add("Parent", item["parent"]?.text)
        fields.add("Depth", item["depth"]?.unsigned.map { "\($0)" })
        fields.add("Grants", item["capability_count"]?.unsigned.map { "\($0)" })
        let sandbox = item["sandbox"]
        for line in sandbox?["shows"]?.elements ?? [] {
            fields.add("Programs", line.text)
        }
        fields.add("Files", sandbox?["file_policy"]?.text.map(Self.filePolicy))
        fields.add("Sandbox", sandbox?["instance"]?.text)
        fields.add("Metadata", (item["metadata"]?.compact).map { Plain.text(String(decoding: $0, as: UTF8.self)) })
        fields.add("Created", item["created_at"]?.text)
        return fields.text
    }

    /// What the policy of a sandbox's files means for what its programs do (decision D1).
    private static func filePolicy(_ word: String) -> String {
        switch word {
        case "mounts": "mounts (single operations of programs are neither decided nor recorded)"
        default: word
        }
    }

    /// What `aegis agent grants` prints.
    package static func grants(_ items: [JSONValue]) -> String {
        guard !items.isEmpty else { return "It may do nothing\n" }
        var table = Table(["ID", "CAPABILITY", "CALLS", "FROM"])
        for item in items {
            table.add([
                item["id"]?.text ?? "", item["terms"]?["capability"]?.text ?? item["capability"]?.text ?? "",
                "\(item["calls"]?.unsigned ?? 0)", item["parent"]?.text ?? "-",
            ])
        }
        return table.text
    }

    /// What `aegis tool list` prints.
    package static func tools(_ items: [JSONValue]) -> String {
        guard !items.isEmpty else { return "No tools\n" }
        var table = Table(["NAME", "EFFECTS", "APPROVAL", "DESCRIPTION"])
        for item in items {
            table.add([
                item["name"]?.text ?? "", item["effects"]?.text ?? "", item["approval"]?.flag == true ? "asks" : "-",
                brief(item["description"]?.text ?? ""),
            ])
        }
        return table.text
    }

    /// The first line of a text that may be another program's.
    private static func brief(_ text: String) -> String {
        let line = text.prefix { !$0.isNewline }
        return line.count > 120 ? line.prefix(119) + "…" : String(line)
    }

    /// What `aegis approval list` prints: each with what would be done, as a block.
    package static func approvals(_ items: [JSONValue]) -> String {
        guard !items.isEmpty else { return "Nothing waits for an answer\n" }
        return items.map(approvalHead).joined(separator: "\n")
    }

    /// What `aegis approval show` prints: the same, with each argument as a block of its own.
    package static func approval(_ item: JSONValue) -> String {
        let arguments = (item["input"]?.fields ?? []).map { field in
            let text = field.value.text ?? field.value.pretty
            return "\n" + Plain.text(field.name) + ":\n" + Plain.block(text)
        }
        return approvalHead(item) + arguments.joined()
    }

    private static func approvalHead(_ item: JSONValue) -> String {
        let head =
            "\(item["id"]?.text ?? "")  \(item["agent_name"]?.text ?? "") (\(item["agent_id"]?.text ?? "")) wants "
            + "\(item["tool"]?.text ?? ""), until \(item["expires_at"]?.text ?? "")"
        let preview = item["preview"]?.text ?? item["preview"]?["text"]?.text ?? item["description"]?.text ?? ""
        return Plain.text(head) + "\n" + Plain.block(preview)
    }

    /// What `aegis goal list` prints.
    package static func goals(_ items: [JSONValue]) -> String {
        guard !items.isEmpty else { return "No goals\n" }
        var table = Table(["ID", "STATE", "STOP", "TOKENS", "USD", "CREATED", "GOAL"])
        for item in items {
            let tokens = (item["input_tokens"]?.integer ?? 0) + (item["output_tokens"]?.integer ?? 0)
            table.add([
                item["id"]?.text ?? "", item["state"]?.text ?? "", item["stop_reason"]?.text ?? "-", "\(tokens)",
                item["cost_usd"]?.text ?? "-", item["created_at"]?.text ?? "",
                Plain.cut(item["text"]?.text ?? "", to: 60),
            ])
        }
        return table.text
    }

    /// What `aegis goal show` prints.
    package static func goal(_ item: JSONValue) -> String {
        var fields = Fields()
        fields.add("Goal", item["id"]?.text)
        fields.add("Text", item["text"]?.text)
        fields.add("State", item["state"]?.text)
        fields.add("Stop", item["stop_reason"]?.text)
        fields.add("Error", item["error"]?["message"]?.text)
        fields.add("Agent", item["agent"]?.text)
        if let input = item["input_tokens"]?.integer, let output = item["output_tokens"]?.integer {
            fields.add("Tokens", "\(input) in, \(output) out, with its children's")
        }
        fields.add("Cost", item["cost_usd"]?.text.map { "\($0) USD" })
        fields.add("Created", item["created_at"]?.text)
        fields.add("Ended", item["ended_at"]?.text)
        fields.add("Answer", item["response"]?.text)
        return fields.text
    }

    /// One step of `aegis agent logs`.
    package static func step(_ json: JSONValue) -> String {
        let time = Plain.text(json["ts"]?.text ?? "")
        func line(_ what: String, _ text: String) -> String {
            "\(time) \(what): " + Plain.block(text.isEmpty ? "-" : text)
        }
        switch json["kind"]?.text {
        case "began": return line("message", json["text"]?.text ?? "")
        case "replied": return (json["blocks"]?.elements ?? []).map { block($0, line) }.joined()
        case "outcome":
            let output = json["output"]
            return line(output?["is_error"]?.flag == true ? "tool error" : "tool result", output?["text"]?.text ?? "")
        case "stopped": return line("stop", "somebody wants the turn to end")
        case "ended":
            let why = json["error"]?["message"]?.text.map { " (\($0))" } ?? ""
            return line("end", (json["stop"]?.text ?? "") + why)
        case "summarized": return line("summary", json["text"]?.text ?? "")
        case "restarted": return line("restarted", "the turn is begun anew where it stood")
        case "note": return line("note", json["text"]?.text ?? "")
        case "shortened": return line("shortened", "texts to \(json["bytes"]?.unsigned ?? 0) bytes")
        case "dropped": return line("dropped", "\(json["messages"]?.unsigned ?? 0) of the oldest messages")
        default: return ""
        }
    }

    private static func block(_ block: JSONValue, _ line: (String, String) -> String) -> String {
        switch block["type"]?.text {
        case "text": line("says", block["text"]?.text ?? "")
        case "reasoning": line("thinks", block["text"]?.text ?? "")
        case "tool_use":
            line(
                "calls \(block["name"]?.text ?? "")",
                block["malformed"]?.text ?? String(decoding: (block["input"] ?? .null).compact, as: UTF8.self))
        default: ""
        }
    }
}
