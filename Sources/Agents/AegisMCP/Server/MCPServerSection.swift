package import AegisConfig
package import AegisCore
internal import AegisSandboxTypes
internal import LinuxSys

/// When a person is asked before a tool of a server is called (decision D14). A description or schema that is not the one that was
/// agreed to is always asked about.
package enum MCPApproval: String, ConfigWord, Sendable {
    /// Each time.
    case always
    /// The first time, and when the tool has changed.
    case first
    /// When the tool has changed since it was first listed.
    case changed
}

extension MCPRevision.Choice: ConfigWord {}

/// One entry of `mcp_servers` in the daemon's configuration.
package struct MCPServerSection: ConfigSection, Sendable {
    package static let key = "mcp_servers"

    /// What is said of one tool.
    package struct ToolPolicy: Sendable, Hashable {
        /// When a person is asked; nil is what the server's entry says.
        package var approval: MCPApproval?
        /// How long a call may take; nil is what the server's entry says.
        package var timeout: TimeSpan?
    }

    /// Its name, the middle of `mcp.NAME.TOOL`.
    package var name: String
    /// Whether it is used at all.
    package var isEnabled = true
    /// The program and its arguments, of a server that is started here.
    package var command: [String] = []
    /// The address, of a server that runs elsewhere.
    package var url: String?
    /// Header fields for that, with references to secrets.
    package var headers: [MCPHeader] = []
    /// Which revision is spoken.
    package var revision = MCPRevision.Choice.auto
    /// How long a call may take, starting, and being unused until it is stopped (0 is for ever).
    package var timeout = TimeSpan.seconds(60)
    package var startTimeout = TimeSpan.seconds(120)
    package var idleStop = TimeSpan.seconds(300)
    /// What of its tools there is: names, or beginnings of names with a `*`. `deny` wins.
    package var allow: [String] = ["*"]
    package var deny: [String] = []
    package var approval = MCPApproval.changed
    package var tools: [String: ToolPolicy] = [:]
    /// Which users of the node may use it, by name or number: root and the daemon's own user always may. Empty is everybody.
    package var users: [String] = []
    /// The numbers of `users`, set by who can look names up.
    package var userIDs: Set<UInt32> = []
    /// What it runs in.
    package var sandbox = MCPSandbox()
    /// The name under which is kept what it said and what was agreed to; nil is its own. No two servers have the same.
    package var keptAs: String?

    /// A server with the usual settings.
    package init(_ name: String, command: [String] = [], url: String? = nil) {
        self.name = name
        self.command = command
        self.url = url
    }

    package init(from reader: ConfigReader) {
        name = reader.require("name", placeholder: "", check: Self.checkName)
        isEnabled = reader.read("enabled", default: true)
        command = reader.readList("command", of: String.self)
        url = reader.readIfPresent("url", check: Self.checkAddress)
        headers = MCPHeader.read(reader)
        revision = reader.read("protocol", default: MCPRevision.Choice.auto)
        timeout = reader.read("timeout", default: timeout, check: Self.within("1s", 1000, "1h", 3_600_000))
        startTimeout = reader.read(
            "start_timeout", default: startTimeout, check: Self.within("1s", 1000, "1h", 3_600_000))
        idleStop = reader.read("idle_stop", default: idleStop) {
            $0.milliseconds == 0 || (100...86_400_000).contains($0.milliseconds)
                ? nil : "must be from 100ms to 1d, or 0s for never"
        }
        allow = reader.readList("allow", of: String.self, default: ["*"], check: Self.checkPattern)
        deny = reader.readList("deny", of: String.self, check: Self.checkPattern)
        approval = reader.read("approval", default: MCPApproval.changed)
        users = reader.readList("users", of: String.self) {
            $0.isEmpty ? "must be the name or the number of a user" : nil
        }
        let policies = reader.namedSections("tools") { _, tool in
            ToolPolicy(
                approval: tool.readIfPresent("approval"),
                timeout: tool.readIfPresent("timeout", check: Self.within("1s", 1000, "1h", 3_600_000)))
        }
        tools = Dictionary(policies.map { ($0.key, $0.value) }) { first, _ in first }
        sandbox = MCPSandbox(from: reader)
        check(reader)
    }

    private func check(_ reader: ConfigReader) {
        switch (command.isEmpty, url) {
        case (true, nil): reader.report("the MCP server '\(name)' needs a command or a url")
        case (false, _?): reader.report("the MCP server '\(name)' has a command and a url: leave one of them out")
        case (true, _?):
            if let key = sandbox.given.first {
                reader.report("'\(key)' is for servers with a command, and '\(name)' has a url")
            }
        case (false, nil):
            if !headers.isEmpty { reader.report("'headers' is for servers with a url, and '\(name)' has a command") }
            sandbox.check(name, reader)
        }
    }

    /// What is wrong with the name of a server; nil when nothing is.
    package static func checkName(_ name: String) -> String? {
        let isPlain = name.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x2d
        }
        return isPlain && (1...24).contains(name.utf8.count) && name.utf8.first != 0x2d
            ? nil : "must be 1 to 24 of a-z, 0-9 and '-'"
    }

    private static func checkPattern(_ pattern: String) -> String? {
        let star = pattern.utf8.firstIndex(of: 0x2a)
        return pattern.isEmpty || (star != nil && star != pattern.utf8.index(before: pattern.utf8.endIndex))
            ? "must be the name of a tool, or the beginning of names with '*' at its end" : nil
    }

    private static func checkAddress(_ text: String) -> String? {
        let host = text.hasPrefix("https://") ? text.dropFirst(8) : text.hasPrefix("http://") ? text.dropFirst(7) : ""
        let isVisible = text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
        guard isVisible, let first = host.first, first != "/", !host.prefix(while: { $0 != "/" }).contains("@") else {
            return "must be an address such as https://host/mcp"
        }
        return nil
    }

    static func within(_ least: String, _ low: Int64, _ most: String, _ high: Int64) -> (TimeSpan) -> String? {
        { (low...high).contains($0.milliseconds) ? nil : "must be from \(least) to \(most)" }
    }

    // MARK: Tools

    /// Whether a tool of that name is used.
    package func admits(_ tool: String) -> Bool {
        func fits(_ pattern: String) -> Bool {
            pattern.hasSuffix("*") ? tool.hasPrefix(pattern.dropLast()) : tool == pattern
        }
        return allow.contains(where: fits) && !deny.contains(where: fits)
    }

    /// When a person is asked before a tool is called.
    package func approval(of tool: String) -> MCPApproval { tools[tool]?.approval ?? approval }

    /// How long a call of a tool may take.
    package func timeout(of tool: String) -> Duration { (tools[tool]?.timeout ?? timeout).duration }

    /// The name under which grants and models know a tool.
    package func fullName(_ tool: String) -> String { "mcp.\(name).\(tool)" }

    /// Whether a user of the node may use it.
    package func serves(user: UInt32) -> Bool {
        if users.isEmpty || user == 0 || user == CurrentProcess.effectiveUser { return true }
        return userIDs.contains(user)
    }

    /// The name under which it is kept.
    var keptName: String { keptAs ?? name }

    /// What a kept list of tools belongs to: with another command or address it counts for nothing.
    var origin: String {
        MCPToolDefinition.digest(
            Array(([url ?? "", sandbox.image ?? "", "\(sandbox.isHost)"] + command).joined(separator: "\0").utf8))
    }
}
