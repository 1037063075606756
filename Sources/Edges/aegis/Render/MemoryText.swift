package import AegisJSON

/// Memory as text.
package enum MemoryText {
    /// What `aegis memory list` prints without an agent.
    package static func places(_ items: [JSONValue]) -> String {
        guard !items.isEmpty else { return "Nothing is remembered\n" }
        var table = Table(["AGENT", "SCOPE", "USER", "RECORDS", "BYTES", "USED"])
        for item in items {
            table.add([
                item["agent_id"]?.text ?? "-", item["scope"]?.text ?? "", "\(item["owner"]?.unsigned ?? 0)",
                "\(item["records"]?.unsigned ?? 0)", "\(item["bytes"]?.unsigned ?? 0)", item["used_at"]?.text ?? "",
            ])
        }
        return table.text
    }

    /// Records, those of a search with how well they fit.
    package static func records(_ items: [JSONValue]) -> String {
        guard !items.isEmpty else { return "Nothing was found\n" }
        return items.map { item in
            let score = item["relevance_score"]?.double.map { "  \($0)" } ?? ""
            let head =
                "\(item["memory_id"]?.text ?? "")  \(item["category"]?.text ?? "")\(score)  \(item["created_at"]?.text ?? "")"
            return Plain.text(head) + "\n" + Plain.block(item["content"]?.text ?? "")
        }.joined()
    }
}

/// Skills as text.
package enum SkillText {
    /// What `aegis skill list` prints.
    package static func list(_ items: [JSONValue]) -> String {
        guard !items.isEmpty else { return "No skills\n" }
        var table = Table(["NAME", "SOURCE", "USED", "DESCRIPTION"])
        for item in items {
            table.add([
                item["name"]?.text ?? "", item["source"]?.text ?? "",
                item["usable"]?.flag == true ? "yes" : "not trusted",
                Plain.cut(item["description"]?.text ?? "", to: 80),
            ])
        }
        return table.text
    }

    /// What `aegis skill show` prints: what is known of it, then what agents read.
    package static func skill(_ item: JSONValue) -> String {
        var fields = Fields()
        fields.add("Skill", item["name"]?.text)
        fields.add("Description", item["description"]?.text)
        fields.add("Source", item["source"]?.text)
        fields.add("Folder", item["path"]?.text)
        fields.add("Hash", item["hash"]?.text)
        fields.add("License", item["license"]?.text)
        fields.add("Needs", item["compatibility"]?.text)
        if let command = item["trust_with"]?.text { fields.add("Not trusted", "'\(command)' lets agents use it") }
        for file in item["files"]?.elements ?? [] { fields.add("File", file["path"]?.text) }
        return fields.text + "\n" + Plain.block(item["instructions"]?.text ?? "")
    }
}
