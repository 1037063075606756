import AegisCore
import AegisHTTPClient
import AegisIO
import AegisJSON
import AegisTestSupport
import AegisWire
import Testing

@testable import AegisInference

@Suite struct ProviderTests {
    private static let question = ModelRequest(model: "m", messages: [.user("hi")], maxOutputTokens: 5)

    private func endpoint(_ base: String, key: String? = "sk-1", headers: [(String, String)] = []) -> ProviderEndpoint {
        ProviderEndpoint(name: "p", baseURL: base, key: key.map { Secret($0) }, headers: headers)
    }
    private func anthropic(_ transport: MemoryTransport, _ base: String = "https://a.example") -> AnthropicProvider {
        AnthropicProvider(endpoint(base), over: transport)
    }
    private func openai(_ transport: MemoryTransport, key: String? = "sk-1", headers: [(String, String)] = [])
        -> OpenAICompatibleProvider
    {
        OpenAICompatibleProvider(
            endpoint("http://o.example/v1/", key: key, headers: headers), options: OpenAIOptions(), over: transport)
    }

    @Test(arguments: ["https://a.example", "https://a.example/", "https://a.example/v1", "https://a.example/v1/"])
    func theMessagesAddressIsMadeFromEitherBase(_ base: String) async throws {
        let transport = MemoryTransport([AnthropicDecoderTests.stream])
        let reply = try await anthropic(transport, base).complete(Self.question) { _ in }
        #expect(reply.stop == .toolUse)
        let asked = try #require(transport.asked.all.first)
        #expect(asked.url == "https://a.example/v1/messages")
        #expect(asked.headers.contains("x-api-key: sk-1") && asked.headers.contains("anthropic-version: 2023-06-01"))
    }

    @Test func theCompletionsAddressStandsBehindItsBase() async throws {
        let transport = MemoryTransport([OpenAIDecoderTests.stream])
        _ = try await openai(transport).complete(Self.question) { _ in }
        let asked = try #require(transport.asked.all.first)
        #expect(
            asked.url == "http://o.example/v1/chat/completions" && asked.headers.contains("authorization: Bearer sk-1"))
    }

    @Test func aServerWithoutKeysGetsNoneAndItsOwnHeadersCount() async throws {
        let transport = MemoryTransport([OpenAIDecoderTests.stream])
        _ = try await openai(transport, key: nil, headers: [("Accept", "x"), ("X-Team", "y")]).complete(Self.question) {
            _ in
        }
        #expect(transport.asked.all.first?.headers == ["content-type: application/json", "Accept: x", "X-Team: y"])
    }

    @Test func whatNobodyCountsIsEstimatedFromBothSides() async throws {
        let transport = MemoryTransport([
            #"data: {"choices":[{"delta":{"content":"12345678"},"finish_reason":"stop"}]}"# + "\n\n"
        ])
        let reply = try await openai(transport).complete(Self.question) { _ in }
        let sent = transport.asked.all.first?.body.utf8.count ?? 0
        #expect(reply.usage == TokenUsage(input: (sent + 3) / 4, output: 2, isEstimated: true) && reply.model == "m")
    }

    @Test(arguments: [
        (TransportError.Kind.connect, ModelError.Kind.network), (.name, .network), (.tls, .network),
        (.badAddress, .invalidRequest),
        (.timeout(.idle), .timeout), (.timeout(.connect), .network), (.closed, .cutStream), (.badAnswer, .badAnswer),
        (.tooLarge, .tooLarge),
        (.cancelled, .cancelled),
    ])
    func aFailureBelowHTTPIsOneOfTheModel(_ below: TransportError.Kind, _ kind: ModelError.Kind) async throws {
        let transport = MemoryTransport(["data: "], failure: TransportError(below, "words"))
        let error = await #expect(throws: ModelError.self) {
            try await openai(transport).complete(Self.question) { _ in }
        }
        #expect(error == ModelError(kind, "words"))
    }

    @Test func whatFollowsTheEndIsNotReadAndNoFailure() async throws {
        let transport = MemoryTransport(
            [OpenAIDecoderTests.stream, "garbage"], failure: TransportError(.closed, "late"))
        #expect(try await openai(transport).complete(Self.question) { _ in }.stop == .toolUse)
    }

    @Test(arguments: [
        (#"{"data":[{"index":0,"embedding":[1,2]}]}"#, "2 embeddings were asked for, 1 came"),
        (#"{"data":[{"index":0,"embedding":[1,2]},{"index":0,"embedding":[1,2]}]}"#, "comes twice"),
        (#"{"data":[{"index":0,"embedding":[1,2]},{"index":1,"embedding":[1]}]}"#, "1 numbers, not 2"),
        (#"{"data":[{"embedding":[1,2]},{"embedding":[]}]}"#, "no numbers"),
        (#"{"data":[{"embedding":[1,"x"]},{"embedding":[1,2]}]}"#, "no number"),
        (#"{"data":[{"embedding":[1,1e300]},{"embedding":[1,2]}]}"#, "finite"),
        (#"{"data":[{"embedding":"AACAPwAAAEA"},{"embedding":[1,2]}]}"#, "base64"),
        (#"{"data":[{"embedding":"AADAfwAAAEA="},{"embedding":[1,2]}]}"#, "finite"), ("{}", "0 came"),
        (#"{"error":{"message":"busy"}}"#, "busy"), ("[]", "JSON"),
    ])
    func embeddingsThatAreNoneAreRefused(_ answer: String, _ words: String) async throws {
        let transport = MemoryTransport([answer], type: "application/json")
        let client = EmbeddingClient(endpoint("http://o.example/v1"), model: "e", over: transport)
        let error = await #expect(throws: ModelError.self) { try await client.embed(["a", "b"]) }
        #expect(error?.message.contains(words) == true, "\(String(describing: error))")
    }

    @Test func bothFormsOfEmbeddingsAreRead() async throws {
        let transport = MemoryTransport(
            [
                #"{"data":[{"index":1,"embedding":[0.5,-2]},{"index":0,"embedding":"AACAPwAAAEA="}],"usage":{"prompt_tokens":7}}"#
            ],
            type: "application/json")
        let client = EmbeddingClient(endpoint("http://o.example/v1"), model: "e", over: transport)
        let reply = try await client.embed(["a", "b"])
        #expect(reply == EmbeddingReply(points: [[1, 2], [0.5, -2]], usage: TokenUsage(input: 7)))
        #expect(try await client.embed([]).points.isEmpty && transport.asked.all.count == 1)
    }

    /// As many as a server takes at once, in order; a text that is too long for that goes alone.
    @Test func textsAreAskedForInPortions() {
        let long = String(repeating: "x", count: EmbeddingQuestion.mostBytes + 1)
        let cases: [([String], [Int])] = [
            ([], []), (["a"], [1]), (Array(repeating: "a", count: 150), [64, 64, 22]), (["a", long, "b"], [1, 1, 1]),
        ]
        for (texts, counts) in cases {
            let portions = EmbeddingQuestion.portions(of: texts)
            #expect(portions.map(\.count) == counts && portions.flatMap(\.self) == texts)
        }
    }

    @Test(arguments: [
        ("", [] as [UInt8]?), ("AQ==", [1]), ("AQI=", [1, 2]), ("AQID", [1, 2, 3]), ("A", nil), ("AQ=", nil),
        ("A===", nil), ("AQ I", nil), ("=AAA", nil),
    ])
    func base64IsReadStrictly(_ text: String, _ bytes: [UInt8]?) {
        #expect(Base64.decode(text) == bytes)
        if let bytes { #expect(Base64.encode(bytes) == text) }
    }

    // MARK: Over HTTP

    /// A provider at a server that speaks in raw bytes.
    private func withServer(
        timeouts: TransportTimeouts = TransportTimeouts(),
        _ serve: @escaping @Sendable (FileStream) async throws -> Void,
        _ test: @escaping @Sendable (OpenAICompatibleProvider) async throws -> Void
    ) async throws {
        try await onLoop { loop in
            let client = try HTTPClient(on: loop)
            defer { client.close() }
            try await serving(on: loop) { stream in
                var buffer = ByteBuffer()
                while !String(decoding: buffer.readable, as: UTF8.self).contains("\"max_tokens\":5") {
                    guard try await stream.read(into: &buffer, atMost: 4096) > 0 else { return }
                }
                try await serve(stream)
            } _: { port in
                let endpoint = ProviderEndpoint(name: "p", baseURL: "http://127.0.0.1:\(port)", timeouts: timeouts)
                try await test(
                    OpenAICompatibleProvider(endpoint, options: OpenAIOptions(), over: HTTPModelTransport(client)))
            }
        }
    }

    private static let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    private static let piece = #"data: {"choices":[{"delta":{"content":"abc"}}]}"# + "\n\n"

    @Test func aStreamThatIsCutIsToldAsCut() async throws {
        try await withServer {
            try await $0.write(Self.head + Self.piece)
        } _: { provider in
            let deltas = Notes<ModelDelta>()
            let error = await #expect(throws: ModelError.self) {
                try await provider.complete(Self.question) { deltas.add($0) }
            }
            #expect(error?.kind == .cutStream && deltas.all == [.text("abc")])
        }
    }

    @Test func aServerThatHangsIsTooSlow() async throws {
        try await withServer(timeouts: TransportTimeouts(idle: .milliseconds(50))) { stream in
            try await stream.write(Self.head + Self.piece)
            _ = try await stream.readAll(limit: 10)
        } _: { provider in
            let error = await #expect(throws: ModelError.self) { try await provider.complete(Self.question) { _ in } }
            #expect(error?.kind == .timeout)
        }
    }

    @Test func aServerThatTalksForEverAfterTheEndIsLeft() async throws {
        let gone = Notes<Bool>()
        try await withServer { stream in
            defer { gone.add(true) }
            try await stream.write(Self.head + OpenAIDecoderTests.stream)
            while true { try await stream.write(": still here\n\n") }
        } _: { provider in
            let reply = try await provider.complete(Self.question) { _ in }
            #expect(reply.stop == .toolUse)
            _ = await gone.wait(for: 1)
        }
    }

    @Test func theConnectionIsKeptForTheNextQuestion() async throws {
        let peers = Notes<String>()
        try await onLoop { loop in
            let server = HTTPServer(clock: loop.clock) { request, response in
                _ = try await request.body.collect(upTo: 1 << 20)
                peers.add("\(request.peer)")
                var body = try await response.stream(200, headers: ["Content-Type": "text/event-stream"])
                try await body.write(Array(OpenAIDecoderTests.stream.utf8))
                try await body.finish()
            }
            let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
            let client = try HTTPClient(on: loop)
            let endpoint = ProviderEndpoint(name: "p", baseURL: "http://127.0.0.1:\(try listener.localPort())")
            let provider = OpenAICompatibleProvider(
                endpoint, options: OpenAIOptions(), over: HTTPModelTransport(client))
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await server.run([listener]) }
                for _ in 0..<5 { _ = try await provider.complete(Self.question) { _ in } }
                client.close()
                await server.shutdown(within: .zero)
                try await group.waitForAll()
            }
        }
        #expect(peers.all.count == 5 && Set(peers.all).count == 1)
    }

    @Test func cancellingClosesTheConnection() async throws {
        let gone = Notes<Bool>()
        try await withServer { stream in
            defer { gone.add(true) }
            try await stream.write(Self.head + Self.piece)
            _ = try await stream.readAll(limit: 10)
        } _: { provider in
            let deltas = Notes<ModelDelta>()
            let task = Task {
                await #expect(throws: ModelError.self) { try await provider.complete(Self.question) { deltas.add($0) } }
            }
            _ = await deltas.wait(for: 1)
            task.cancel()
            _ = await gone.wait(for: 1)
            #expect(await task.value?.kind == .cancelled)
        }
    }

    @Test func nobodyThereIsANetworkFailure() async throws {
        try await onLoop { loop in
            let client = try HTTPClient(on: loop)
            defer { client.close() }
            for (base, kind) in [
                ("http://127.0.0.1:1", ModelError.Kind.network), ("ftp://x", .invalidRequest), ("", .invalidRequest),
            ] {
                let provider = OpenAICompatibleProvider(
                    ProviderEndpoint(name: "p", baseURL: base), options: OpenAIOptions(),
                    over: HTTPModelTransport(client))
                let error = await #expect(throws: ModelError.self) {
                    try await provider.complete(Self.question) { _ in }
                }
                #expect(error?.kind == kind)
            }
        }
    }
}
