internal import AegisCore
package import AegisJSON

/// One server that is spoken to, in the revision that both sides know.
package struct MCPClient: Sendable {
    /// How long its requests may take.
    package struct Times: Sendable {
        /// The first words.
        package var hello = Duration.seconds(30)
        /// The question whether the server knows the stateless revision; servers before it may leave it without an answer.
        package var probe = Duration.seconds(5)
        /// A page of the list of tools.
        package var list = Duration.seconds(30)

        /// The usual times.
        package init() {}
    }

    /// What the server said of itself.
    package let hello: MCPHello
    let server: String
    let transport: any MCPTransport
    private let times: Times

    /// Pages and tools that a list may have.
    static let mostPages = 100
    static let mostTools = 1000
    /// How often a server may answer a call with a state to be sent back.
    private static let mostRounds = 3

    /// Begins to speak with a server.
    ///
    /// - Parameters:
    ///   - server: its name, for messages.
    ///   - transport: the way to it.
    ///   - choice: which revision is wanted.
    ///   - times: how long requests may take.
    /// - Throws: `mcp-unavailable`, `mcp-timeout`, `mcp-protocol`, `mcp-revision`; `MCPLegacy` when the server has to be started
    ///   again before it can be spoken to in a revision with sessions.
    package init(
        _ server: String, over transport: any MCPTransport, choice: MCPRevision.Choice = .auto, times: Times = Times()
    ) async throws {
        self.server = server
        self.transport = transport
        self.times = times
        let greeting = Greeting(server: server, transport: transport, times: times)
        switch choice {
        case .session: hello = try await greeting.initialize()
        case .stateless:
            guard let hello = try await greeting.discover(orElse: false) else {
                throw Self.unknownRevision(server, nil)
            }
            self.hello = hello
        case .auto:
            if let hello = try await greeting.discover(orElse: true) {
                self.hello = hello
            } else if transport.end != nil {
                throw MCPLegacy()
            } else {
                hello = try await greeting.initialize()
            }
        }
        guard hello.isStateless else {
            // Servers of this time tell changes also when they did not say that they would.
            transport.listen(revision: hello.revision)
            return
        }
        guard hello.tellsChanges else { return }
        let wanted: JSONValue = ["notifications": ["toolsListChanged": true]]
        transport.listen(
            MCPRequest(
                "subscriptions/listen", Self.modern(wanted), revision: hello.revision, timeout: .seconds(86_400)))
    }

    // MARK: Tools

    /// The server's tools.
    ///
    /// - Returns: their definitions, and what is wrong with those that cannot be offered.
    /// - Throws: as for any request; `mcp-protocol` for a list that does not end.
    package func tools() async throws -> (tools: [MCPToolDefinition], problems: [String]) {
        guard hello.hasTools else { return ([], []) }
        var found: [MCPToolDefinition] = []
        var problems: [String] = []
        var names: Set<String> = []
        var cursor: String?
        var seen: Set<String> = []
        for _ in 0..<Self.mostPages {
            let params: JSONValue = cursor.map { ["cursor": .string($0)] } ?? .object([])
            let page = try await result("tools/list", params, timeout: times.list)
            guard let tools = page["tools"]?.elements else {
                throw MCPFault.protocolBroken(server, "a list of tools without tools")
            }
            for entry in tools {
                guard found.count + problems.count < Self.mostTools else {
                    throw MCPFault.protocolBroken(server, "it lists more than \(Self.mostTools) tools")
                }
                do throws(MCPMalformed) {
                    let tool = try MCPToolDefinition(entry)
                    if names.insert(tool.name).inserted {
                        found.append(tool)
                    } else {
                        problems.append("'\(tool.name)' is listed twice")
                    }
                } catch { problems.append(error.why) }
            }
            guard let next = page["nextCursor"]?.text else { return (found, problems) }
            guard seen.insert(next).inserted else { break }
            cursor = next
        }
        throw MCPFault.protocolBroken(server, "its list of tools does not end")
    }

    /// Calls a tool.
    ///
    /// - Parameters:
    ///   - tool: the server's own name of it.
    ///   - arguments: its input.
    ///   - headers: what the tool's schema wants beside the message.
    ///   - timeout: how long the answer may take.
    /// - Returns: the result as the server sent it.
    /// - Throws: as for any request; `mcp-error` when the server refuses; `mcp-input-required` when it asks for what this
    ///   client does not give.
    package func call(
        _ tool: String, _ arguments: JSONValue, headers: [(name: String, value: String)] = [], timeout: Duration
    ) async throws -> JSONValue {
        var params: [JSONValue.Field] = [.init("name", .string(tool)), .init("arguments", arguments)]
        for _ in 0..<Self.mostRounds {
            let result = try await result("tools/call", .object(params), name: tool, headers: headers, timeout: timeout)
            switch result["resultType"]?.text ?? "complete" {
            case "complete": return result
            case "input_required":
                guard result["inputRequests"] == nil, let state = result["requestState"], state.text != nil else {
                    throw AegisError.failed(
                        "mcp-input-required",
                        "the MCP server '\(server)' wants to ask a person or a model before it goes on with '\(tool)', and"
                            + " nobody answers it here")
                }
                params.removeAll { $0.name == "requestState" }
                params.append(.init("requestState", state))
            case let kind:
                throw MCPFault.protocolBroken(server, "a result of the kind '\(MCPText.line(kind, most: 80))'")
            }
        }
        throw MCPFault.protocolBroken(server, "'\(tool)' is to be called again each time")
    }

    /// Finds out whether the server is there.
    package func ping(timeout: Duration) async throws {
        _ = try await result(hello.isStateless ? "server/discover" : "ping", .object([]), timeout: timeout)
    }

    private func result(
        _ method: String, _ params: JSONValue, name: String? = nil, headers: [(name: String, value: String)] = [],
        timeout: Duration
    ) async throws -> JSONValue {
        let whole = hello.isStateless ? Self.modern(params) : params
        var request = MCPRequest(method, whole, revision: hello.revision, timeout: timeout)
        request.name = name
        request.headers = headers
        switch try await transport.request(request) {
        case .result(let value):
            guard value.fields != nil else { throw MCPFault.protocolBroken(server, "a result that is no object") }
            return value
        case .failure(let error): throw MCPFault.refused(server, method, error)
        }
    }

    /// The parameters of a request of the stateless revision, which says with each what it is of.
    static func modern(_ params: JSONValue) -> JSONValue {
        let meta: JSONValue = [
            "io.modelcontextprotocol/protocolVersion": .string(MCPRevision.stateless),
            "io.modelcontextprotocol/clientInfo": software,
            "io.modelcontextprotocol/clientCapabilities": .object([]),
        ]
        return .object((params.fields ?? []) + [.init("_meta", meta)])
    }

    static let software: JSONValue = ["name": "aegis", "version": .string(Build.version)]

    static func unknownRevision(_ server: String, _ known: String?) -> AegisError {
        .failed(
            "mcp-revision",
            "the MCP server '\(server)' speaks no revision of the protocol that this release knows"
                + (known.map { ": it speaks \($0)" } ?? ""),
            hint: "known are \(([MCPRevision.stateless] + MCPRevision.withSession).joined(separator: ", "))")
    }
}

/// The server ended at the question whether it knows the stateless revision: it has to be started again, and not asked that.
package struct MCPLegacy: Error, Sendable {
    /// It is as said.
    package init() {}
}

/// The first words with a server.
struct Greeting: Sendable {
    let server: String
    let transport: any MCPTransport
    let times: MCPClient.Times

    /// Asks a server of the stateless revision what it has.
    ///
    /// - Parameter isProbe: whether a server that does not know the question may be one with sessions.
    /// - Returns: nil when the server is one with sessions.
    /// - Throws: when it is neither, or not there.
    func discover(orElse isProbe: Bool) async throws -> MCPHello? {
        let request = MCPRequest(
            "server/discover", MCPClient.modern(.object([])), revision: MCPRevision.stateless,
            timeout: isProbe ? times.probe : times.hello)
        let answer: MCPAnswer
        do { answer = try await transport.request(request) } catch let error as AegisError {
            guard isProbe, error.code == "mcp-timeout" || transport.end != nil else { throw error }
            return nil
        }
        switch answer {
        case .result(let value):
            let versions = value["supportedVersions"]?.elements?.compactMap(\.text) ?? []
            if versions.contains(MCPRevision.stateless) {
                let software = value["_meta"]?["io.modelcontextprotocol/serverInfo"] ?? value["serverInfo"]
                return MCPHello(
                    revision: MCPRevision.stateless, software: software, capabilities: value["capabilities"])
            }
            return try fallBack(versions, isProbe)
        case .failure(let error) where MCPRemoteError.modern.contains(error.code):
            let versions = error.data?["supported"]?.elements?.compactMap(\.text) ?? []
            guard error.code == MCPRemoteError.unsupportedRevision, !versions.isEmpty else {
                throw MCPFault.refused(server, "server/discover", error)
            }
            return try fallBack(versions, isProbe)
        case .failure(let error):
            if !isProbe { throw MCPFault.refused(server, "server/discover", error) }
            return nil
        }
    }

    private func fallBack(_ versions: [String], _ isProbe: Bool) throws(AegisError) -> MCPHello? {
        guard isProbe, versions.contains(where: { MCPRevision.withSession.contains($0) }) else {
            throw MCPClient.unknownRevision(
                server, MCPText.line(versions.prefix(20).joined(separator: ", "), most: 400))
        }
        return nil
    }

    /// Begins a session.
    func initialize() async throws -> MCPHello {
        let params: JSONValue = [
            "protocolVersion": .string(MCPRevision.withSession[0]), "capabilities": .object([]),
            "clientInfo": MCPClient.software,
        ]
        let request = MCPRequest("initialize", params, revision: nil, timeout: times.hello)
        switch try await transport.request(request) {
        case .failure(let error): throw MCPFault.refused(server, "initialize", error)
        case .result(let value):
            let revision = value["protocolVersion"]?.text ?? ""
            guard MCPRevision.withSession.contains(revision) else {
                throw MCPClient.unknownRevision(server, "'\(MCPText.line(revision, most: 40))'")
            }
            let hello = MCPHello(
                revision: revision, software: value["serverInfo"], capabilities: value["capabilities"])
            try await transport.notify("notifications/initialized", revision: revision)
            return hello
        }
    }
}
