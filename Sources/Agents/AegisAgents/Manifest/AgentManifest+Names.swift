internal import AegisCapabilities
package import AegisCore
package import AegisTools

/// Names in a manifest that mean nothing here. What such a name grants is nothing; where a person was to be asked it is a mistake.
extension AgentManifest {
    /// Tools that a configuration has or has not: naming them is no mistake. Servers of programs come and go as well.
    private static func mayCome(_ name: String) -> Bool { name == "web_search" || name.hasPrefix("mcp.") }

    /// The name of a tool that a person is to be asked for, and that is none: the real one would be called unasked.
    ///
    /// - Parameters:
    ///   - tools: those that there are.
    ///   - quotesValues: whether the message may show the name.
    /// - Throws: `approval-unknown` with the nearest one.
    package func checkApprovals(_ tools: ToolRegistry, quotesValues: Bool = true) throws(AegisError) {
        for name in approvalRequired where !Self.mayCome(name) && tools.entry(name)?.declaration.name != name {
            throw AegisError(
                .usage, "approval-unknown",
                quotesValues
                    ? "approval_required names '\(name)', and there is no such tool"
                    : "approval_required names a tool that there is not",
                hint: quotesValues ? Self.near(name, tools) : nil)
        }
    }

    /// A grant that would do nothing in an agent, although it is one: who writes it believes that the agent has it.
    ///
    /// - Parameter quotesValues: whether the message may show the grant.
    /// - Throws: `capability-without-effect`.
    package func checkCapabilities(quotesValues: Bool = true) throws(AegisError) {
        for grant in capabilities where grant.capability.kind == .secret {
            throw AegisError(
                .usage, "capability-without-effect",
                (quotesValues ? "'\(grant.capability)'" : "a capability for a secret")
                    + " would have no effect: agents and their programs are given no secrets",
                hint:
                    "leave it out, and give the secret to what needs it: to an MCP server (mcp_servers, or a kit's), whose tool "
                    + "the agent is granted, or to an instance of your own ('aegis run --secret')")
        }
    }

    /// What else is named and is not there: it may come yet, so that this is said and no more.
    ///
    /// - Parameter services: the tools and models of the node.
    /// - Returns: a sentence for each.
    package func unknownNames(_ services: AgentServices) -> [String] {
        var texts = approvalRequired.filter { isMistyped($0, services.registry) }.map { name in
            "approval_required names '\(name)', which its server does not have"
                + Self.also(Self.near(name, services.registry))
        }
        for grant in capabilities {
            switch grant.capability {
            case .tool(let name?) where !Self.mayCome(name) && services.registry.entry(name) == nil:
                texts.append(
                    "'tool: \(name)' is for a tool that there is not" + Self.also(Self.near(name, services.registry)))
            case .model(let name):
                let question = ModelQuestion(
                    alias: name, system: "", messages: [], tools: [], maxOutputTokens: 1, agent: "", name: "", tree: "")
                do throws(AegisError) { _ = try services.models.quote(question) } catch {
                    if error.code == "model-unknown" { texts.append(error.message + Self.also(error.hint)) }
                }
            default: break
            }
        }
        return texts
    }

    /// Whether a name is that of no tool of an MCP server whose tools are there: what is meant would be called unasked.
    private func isMistyped(_ name: String, _ tools: ToolRegistry) -> Bool {
        let parts = name.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "mcp", tools.entry(name)?.declaration.name != name else { return false }
        return tools.declarations.contains { $0.name.hasPrefix("mcp.\(parts[1]).") }
    }

    private static func also(_ hint: String?) -> String { hint.map { "; \($0)" } ?? "" }

    private static func near(_ name: String, _ tools: ToolRegistry) -> String? {
        nearest(name, in: tools.declarations.map(\.name)).map { "did you mean '\($0)'?" }
    }
}
