package import AegisJSON

/// MCP servers as text.
package enum MCPListText {
    /// What `aegis mcp list` prints.
    package static func servers(_ items: [JSONValue]) -> String {
        guard !items.isEmpty else { return "No MCP servers: the configuration names them in mcp_servers\n" }
        var table = Table(["NAME", "STATE", "PLACE", "REVISION", "TOOLS", "ASK", "LAST ERROR"])
        for item in items {
            let tools = item["tools"]?.elements ?? []
            table.add([
                item["name"]?.text ?? "", item["state"]?.text ?? "", place(item),
                item["revision"]?.text ?? "-", "\(tools.count)",
                "\(tools.count { $0["approval"]?.flag == true })", item["last_error"]?["message"]?.text ?? "-",
            ])
        }
        // "It ended with exit code 1" helps nobody without what it wrote.
        let causes = items.compactMap { item in
            item["last_error"]?["hint"]?.text.map { "  \(Plain.text(item["name"]?.text ?? "")): \(Plain.text($0))\n" }
        }
        return table.text + causes.joined()
    }

    /// Where a server is; one that has the network of the host says so.
    private static func place(_ item: JSONValue) -> String {
        (item["place"]?.text ?? "") + (item["network"]?.text == "host" ? ", its network" : "")
    }
}
