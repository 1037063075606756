internal import AegisCore
internal import AegisJSON
internal import AegisTools
internal import LinuxSys

/// A tool of a server, as agents call it: behind the same gate as every other (decision D14).
struct MCPTool: Tool {
    let declaration: ToolDeclaration
    let entry: MCPStore.Entry
    private let link: MCPLink
    private let desk: any MCPToolDesk

    init(_ entry: MCPStore.Entry, of link: MCPLink, asks: Bool, desk: any MCPToolDesk) {
        let (section, definition) = (link.section, entry.definition)
        let said = definition.description.isEmpty ? "a tool" : "in its own words: \(definition.description)"
        let limit = section.timeout(of: definition.name)
        declaration = ToolDeclaration(
            name: section.fullName(definition.name),
            description: "Of the MCP server '\(section.name)', another program, \(said)",
            input: definition.schema, effects: .external, asksApproval: asks,
            // The server may have to be started first.
            timeLimit: limit + section.startTimeout.duration + .seconds(60))
        self.entry = entry
        self.link = link
        self.desk = desk
    }

    func serves(user: UInt32) -> Bool { link.section.serves(user: user) }

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let definition = entry.definition
        let limit = link.section.timeout(of: definition.name)
        let headers = MCPParameterHeaders.values(of: input, schema: definition.schema)
        let result = try await use { client in
            // Only now: a server that was started for this has said anew what its tools are.
            guard desk.current(definition.name, of: link.section.name)?.hash == definition.hash else {
                throw AegisError.conflict(
                    "mcp-tool-changed", "'\(declaration.name)' is not any more what it was when it was called",
                    hint: "nothing was done: look at its description again")
            }
            try context.confirm(MCPTool.fact, is: definition.hash)
            // Servers are the node's: what anybody else agrees to counts for this call of their own agent.
            let isOperators = context.owner == 0 || context.owner == CurrentProcess.effectiveUser
            if context.approved != nil, isOperators { try desk.accepted(definition, of: link.section.name) }
            return try await client.call(definition.name, input, headers: headers, timeout: limit)
        }
        let framed = MCPCallResult.framed(result, from: declaration.name)
        return ToolReply(framed.value, isError: framed.isError)
    }

    /// What a server wrote beside its messages may hold what it was trusted with: that is for who runs it, and not for a model.
    private func use<T: Sendable>(_ body: (MCPClient) async throws -> T) async throws -> T {
        do { return try await link.use(proves: true, body) } catch var error as AegisError {
            MCPPlane.hideRemarks(in: &error)
            throw error
        }
    }

    /// What an approval is bound to beside the arguments.
    private static let fact = "definition"

    func preview(_ input: JSONValue, _ context: ToolContext) async throws -> ApprovalPreview {
        let definition = entry.definition
        var text = "calls '\(definition.name)' of the MCP server '\(link.section.name)' with\n\(input.pretty)\n"
        if !entry.isAccepted {
            let schema = String(decoding: definition.schema.compact, as: UTF8.self)
            text +=
                (entry.hasChanged
                    ? "\nIts description or schema is not the one that was agreed to before. It is now:\n"
                    : "\nNobody has agreed to this tool yet. Its description:\n")
                + "\(definition.description)\n\(MCPText.block(schema, most: 4096))\n"
        }
        return ApprovalPreview(
            text, facts: [MCPTool.fact: definition.hash],
            resource: "\(declaration.name) \(definition.hash.prefix(16))")
    }
}

/// What tools ask of those who keep them.
protocol MCPToolDesk: Sendable {
    /// The definition of a tool as it is now; nil when it is not there any more.
    func current(_ tool: String, of server: String) -> MCPToolDefinition?
    /// A person agreed to a definition.
    ///
    /// - Throws: when that cannot be kept; then nothing is called.
    func accepted(_ definition: MCPToolDefinition, of server: String) throws(AegisError)
}
