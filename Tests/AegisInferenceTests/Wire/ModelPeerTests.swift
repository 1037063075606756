import AegisCore
import AegisHTTPClient
import AegisIO
import AegisJSON
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisInference

/// Both dialects against the official libraries' own types, over real HTTP.
@Suite struct ModelPeerTests {
    private struct Stage: Sendable {
        let transport: HTTPModelTransport
        let base: String

        func endpoint(_ key: String = "right") -> ProviderEndpoint {
            ProviderEndpoint(name: "peer", baseURL: base, key: Secret(key))
        }
        var anthropic: AnthropicProvider { AnthropicProvider(endpoint(), over: transport) }
        var openai: OpenAICompatibleProvider {
            OpenAICompatibleProvider(endpoint(), options: OpenAIOptions(host: "api.openai.com"), over: transport)
        }
    }

    private static let python: String = {
        let root = #filePath.split(separator: "/").dropLast(4).map { "/\($0)" }.joined()
        return (CurrentProcess.environment("AEGIS_TEST_PEERS") ?? "\(root)/.build/peers") + "/bin/python"
    }()
    private static let script: String = {
        #filePath.split(separator: "/").dropLast(2).map { "/\($0)" }.joined() + "/Peers/model_peer.py"
    }()

    private func withPeer(_ test: @escaping @Sendable (Stage) async throws -> Void) async throws {
        guard (try? Files.status(Self.python, followLinks: true)) != nil else {
            throw AegisError(.notFound, "no-peers", "there is no \(Self.python)", hint: "run scripts/setup")
        }
        let program = String(decoding: try Files.read(Self.script, limit: 1 << 20), as: UTF8.self)
        try await onLoop { loop in
            let peer = try await PythonServer(program, python: Self.python, in: "/", on: loop)
            let client = try HTTPClient(on: loop)
            let result: Result<Void, any Error>
            do {
                try await test(
                    Stage(transport: HTTPModelTransport(client), base: "http://127.0.0.1:\(peer.port)/v1/"))
                result = .success(())
            } catch {
                result = .failure(error)
            }
            client.close()
            await peer.stop()
            try result.get()
        }
    }

    private static func request(_ model: String, _ messages: [ModelMessage]) -> ModelRequest {
        let schema: JSONValue = [
            "type": "object", "properties": ["path": ["type": "string"]], "required": ["path"],
            "additionalProperties": true,
        ]
        return ModelRequest(
            model: model, system: "Be brief.", messages: messages,
            tools: [
                ModelTool(name: "file_read", description: "Reads a file.", schema: schema),
                ModelTool(name: "now", description: "", schema: ["type": "object"]),
            ], maxOutputTokens: 100,  // The library of messages has no word for it any more.
            temperature: model.hasPrefix("gpt") ? 0.5 : nil, stopSequences: ["STOP"])
    }

    /// Two turns with tools between them, the results in another order and in messages of their own.
    private static func converse(
        _ provider: any ModelProvider, _ model: String, _ test: (_ first: ModelReply, _ second: ModelReply) -> Void
    ) async throws {
        let deltas = Notes<ModelDelta>()
        var messages = [ModelMessage.user("Read /a and /ü")]
        let first = try await provider.complete(request(model, messages)) { deltas.add($0) }
        #expect(
            Outcome(deltas: deltas.all).joined.filter { if case .text = $0 { true } else { false } } == [
                .text("Reading both.")
            ])
        #expect(first.stop == .toolUse && first.text == "Reading both.")
        #expect(first.toolUses.map(\.name) == ["file_read", "file_read"])
        #expect(first.toolUses.first?.input == ["path": "/a"])
        #expect(
            first.toolUses.last?.input["deep"]?["x"]?.elements?.count == 2 && first.toolUses.last?.input["path"] == "/ü"
        )
        let ids = first.toolUses.map(\.id)
        messages.append(first.message)
        messages.append(ModelMessage(.user, [.toolResult(ToolOutput(id: ids[1], text: "two"))]))
        messages.append(
            ModelMessage(.user, [.text("Go on."), .toolResult(ToolOutput(id: ids[0], text: "none", isError: true))]))
        let second = try await provider.complete(request(model, messages)) { _ in }
        #expect(second.stop == .endTurn && second.toolUses.isEmpty)
        test(first, second)
    }

    // One peer for all of it: starting it, with both libraries, takes longer than everything else.
    @Test func bothDialectsAreThoseOfTheirLibraries() async throws {
        try await withPeer { stage in
            for model in ["claude-stream", "claude-whole"] { try await Self.messages(stage, model) }
            for model in ["gpt-stream", "gpt-whole"] { try await Self.completions(stage, model) }
            try await Self.conversationBegunElsewhere(stage)
            try await Self.wrongKeys(stage)
            try await Self.embeddings(stage)
        }
    }

    private static func messages(_ stage: Stage, _ model: String) async throws {
        try await converse(stage.anthropic, model) { first, second in
            #expect(first.blocks.first == .reasoning(text: "I look.", signature: "c2ln"))
            #expect(first.usage == TokenUsage(input: 11, output: 22, cacheRead: 33, cacheWrite: 44))
            #expect(first.model == "claude-peer")
            #expect(second.text == "Done: toolu_1=none! toolu_2=two ü")
        }
    }

    private static func completions(_ stage: Stage, _ model: String) async throws {
        try await converse(stage.openai, model) { first, second in
            #expect(first.usage == TokenUsage(input: 7, output: 22, cacheRead: 33, cacheWrite: 4))
            #expect(first.model == "gpt-peer")
            #expect(second.text == "Done: call_1=Error: none call_2=two ü")
        }
    }

    private static func conversationBegunElsewhere(_ stage: Stage) async throws {
        let foreign = [
            ModelMessage.user("a"),
            ModelMessage(
                .assistant,
                [
                    .reasoning(text: "I look.", signature: nil),
                    .toolUse(ToolUse(id: "x.y/1", name: "now", input: [:])),
                    .toolUse(ToolUse(id: "", name: "now", arguments: "{broken")),
                ]),
            ModelMessage(
                .user, [.toolResult(ToolOutput(id: "", text: "")), .toolResult(ToolOutput(id: "x.y/1", text: "1"))]),
            ModelMessage(.assistant, []), .user("b"),
        ]
        // Its thoughts have no signature and stay behind: the peer misses them, and nothing else.
        let error = await #expect(throws: ModelError.self) {
            try await stage.anthropic.complete(request("claude", foreign)) { _ in }
        }
        #expect(error?.message == "the thoughts came back as []")
        let reply = try await stage.openai.complete(request("gpt", foreign)) { _ in }
        #expect(reply.text == "Done: x_y_1=1 call= ü")
    }

    private static func wrongKeys(_ stage: Stage) async throws {
        let providers: [any ModelProvider] = [
            AnthropicProvider(stage.endpoint("wrong"), over: stage.transport),
            OpenAICompatibleProvider(stage.endpoint("wrong"), options: OpenAIOptions(), over: stage.transport),
        ]
        for provider in providers {
            let error = await #expect(throws: ModelError.self) {
                try await provider.complete(request("m", [.user("a")])) { _ in }
            }
            #expect(error?.kind == .auth && error?.status == 401 && error?.message.contains("wrong") == false)
        }
    }

    private static func embeddings(_ stage: Stage) async throws {
        let client = EmbeddingClient(stage.endpoint(), model: "embed", dimension: 3, over: stage.transport)
        let texts = (0..<150).map { String(repeating: "x", count: $0 % 7) }
        let points = try await client.embed(texts).points
        #expect(points == texts.map { [Float($0.count), 0.5, -1] })
        let other = EmbeddingClient(stage.endpoint(), model: "embed", dimension: 4, over: stage.transport)
        let error = await #expect(throws: ModelError.self) { try await other.embed(["a"]) }
        #expect(error?.message == "this model has 3 dimensions")
    }
}
