package import AegisJSON

/// Budgets as text.
extension AgentText {
    private static func tokens(_ json: JSONValue?, none: String) -> String { json?.integer.map { "\($0)" } ?? none }
    private static func money(_ json: JSONValue?, none: String) -> String { json?.text ?? none }

    /// What `aegis agent budget` prints.
    package static func budgets(_ items: [JSONValue]) -> String {
        guard !items.isEmpty else { return "No agents live\n" }
        var table = Table(["AGENT", "NAME", "CALLS", "TOKENS", "HELD", "LEFT", "USD", "USD LEFT"])
        for item in items {
            table.add([
                item["agent_id"]?.text ?? "", item["name"]?.text ?? "", "\(item["total"]?["calls"]?.integer ?? 0)",
                tokens(item["used"]?["tokens"], none: "0"), tokens(item["reserved"]?["tokens"], none: "0"),
                tokens(item["left"]?["tokens"], none: "-"), money(item["used"]?["usd"], none: "0"),
                money(item["left"]?["usd"], none: "-"),
            ])
        }
        return table.text
    }

    /// What `aegis agent budget ID` prints.
    package static func budget(_ item: JSONValue) -> String {
        var fields = Fields()
        fields.add("Agent", "\(item["name"]?.text ?? "") (\(item["agent_id"]?.text ?? ""))")
        add(item, to: &fields, "")
        if let tree = item["tree"], tree["agent_id"] != item["agent_id"] {
            fields.add("Tree", tree["agent_id"]?.text)
            add(tree, to: &fields, "Tree ")
        }
        fields.add("Refused", item["refusals"]?.integer.flatMap { $0 > 0 ? "\($0) calls" : nil })
        return fields.text
    }

    private static func add(_ item: JSONValue, to fields: inout Fields, _ prefix: String) {
        func both(_ json: JSONValue?, none: String) -> String {
            "\(tokens(json?["tokens"], none: none)) tokens, \(money(json?["usd"], none: none)) USD"
        }
        let limit = item["limit"]
        let period = limit?["period"]?.text.map { " in \($0)" } ?? ""
        let limits = [
            limit?["max_tokens"]?.integer.map { "\($0) tokens" }, limit?["max_usd"]?.text.map { "\($0) USD" },
        ].compactMap(\.self)
        fields.add(prefix + "Limit", limits.isEmpty ? "none" : limits.joined(separator: ", ") + period)
        fields.add(prefix + "Used", both(item["used"], none: "0"))
        fields.add(prefix + "Held", both(item["reserved"], none: "0"))
        fields.add(prefix + "Left", both(item["left"], none: "any number of"))
        fields.add(prefix + "Calls", item["total"]?["calls"]?.integer.map { "\($0)" })
    }
}
