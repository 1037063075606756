import AegisCore
import AegisJSON
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisInference

@Suite struct RecordingTests {
    private func request(_ text: String, max: Int = 100) -> ModelRequest {
        ModelRequest(model: "m", system: "s", messages: [.user(text)], maxOutputTokens: max, agent: "a")
    }
    private func ask(_ provider: any ModelProvider, _ request: ModelRequest) async -> (
        Result<ModelReply, ModelError>, [ModelDelta]
    ) {
        let deltas = Kept<[ModelDelta]>([])
        do throws(ModelError) {
            return (
                .success(try await provider.complete(request) { delta in deltas.change { $0.append(delta) } }),
                deltas.value
            )
        } catch {
            return (.failure(error), deltas.value)
        }
    }

    @Test func whatWasRecordedIsAnsweredAgainPieceByPiece() async throws {
        let folder = try TemporaryDirectory()
        let path = "\(folder.path)/run.jsonl"
        let live = try scripted(
            """
              - { times: 1, fail: { status: 429, retry_after: 1500ms, message: slow } }
              - { times: 1, when: { message: one }, reply: { text: first, tools: [{ name: f, raw: '{' }] } }
              - { when: { message: one }, reply: { text: second } }
              - { piece: 1, fail: { cut: 2 }, reply: { text: 'abc' } }

            """)
        let recorder = try RecordingProvider(live, path: path)
        let asked = [request("one"), request("one"), request("one"), request("two")]
        var before: [(Result<ModelReply, ModelError>, [ModelDelta])] = []
        for request in asked { before.append(await ask(recorder, request)) }
        #expect(try Files.status(path).permissions & 0o777 == 0o600)
        let replay = try ReplayProvider(name: "r", path: path)
        for (request, was) in zip(asked, before) {
            let now = await ask(replay, request)
            #expect(now.0 == was.0 && now.1 == was.1)
        }
        let (more, _) = await ask(replay, request("two"))
        #expect(
            more
                == .failure(ModelError(.invalidRequest, "\(path) has this request 1 times, and it was asked once more"))
        )
    }

    /// A provider that gives a vector for each text, and fails at one.
    private struct Embedding: ModelProvider {
        let name = "e"
        func complete(
            _ request: ModelRequest, onDelta: @Sendable (ModelDelta) -> Void
        ) async throws(ModelError) -> ModelReply {
            ModelReply(blocks: [], stop: .endTurn, usage: .zero, model: "m")
        }
        func embed(_ question: EmbeddingQuestion) async throws(ModelError) -> EmbeddingReply {
            if question.texts == ["bad"] { throw ModelError(.overloaded, status: 503, "busy") }
            let points = question.texts.map { [Float($0.utf8.count), 0.1, -Float.infinity] }
            return EmbeddingReply(points: points, usage: TokenUsage(input: 3))
        }
    }

    /// Vectors are given again to the bit; their lines say that programs of before cannot read them, and those beside them do not.
    @Test func vectorsAreRecordedAndAnsweredAgain() async throws {
        let folder = try TemporaryDirectory()
        let path = "\(folder.path)/run.jsonl"
        let recorder = try RecordingProvider(Embedding(), path: path)
        let questions = [["one", "eleven"], ["bad"]].map { EmbeddingQuestion(model: "m", texts: $0) }
        func results(_ provider: any ModelProvider) async -> [Result<EmbeddingReply, ModelError>] {
            var results: [Result<EmbeddingReply, ModelError>] = []
            for question in questions {
                do throws(ModelError) { results.append(.success(try await provider.embed(question))) } catch {
                    results.append(.failure(error))
                }
            }
            return results
        }
        let before = await results(recorder)
        _ = await ask(recorder, request("one"))
        let replay = try ReplayProvider(name: "r", path: path)
        let after = await results(replay)
        #expect(before == after && (try? after[0].get())?.points == [[3, 0.1, -.infinity], [6, 0.1, -.infinity]])
        let lines = try Files.read(path, limit: 1 << 20).split(separator: 10)
        #expect(try lines.map { try JSONValue(parsing: $0)["aegis_recording"]?.integer } == [2, 1, 1])
        let error = await #expect(throws: ModelError.self) { try await replay.embed(questions[0]) }
        #expect(error?.message.contains("asked once more") == true)
    }

    @Test func aQuestionThatWasNotRecordedIsRefusedWithTheNearestDifference() async throws {
        let folder = try TemporaryDirectory()
        let path = "\(folder.path)/run.jsonl"
        let recorder = try RecordingProvider(try scripted("  - reply: { text: x }\n"), path: path)
        for text in ["the first question", "another"] { _ = await ask(recorder, request(text)) }
        let replay = try ReplayProvider(name: "r", path: path)
        let differences = [
            (
                request("the first answer"),
                "number 1 of 2, which differs at messages[0].blocks[0].text, character 11: recorded '…e first question', asked '…e first answer'"
            ),
            (request("another", max: 7), "number 2 of 2, which differs at max_output_tokens: recorded 100, asked 7"),
        ]
        for (request, difference) in differences {
            let (result, _) = await ask(replay, request)
            guard case .failure(let error) = result else {
                Issue.record("it was answered")
                continue
            }
            #expect(
                error.kind == .invalidRequest && error.message.hasSuffix("the nearest is \(difference)"),
                "\(error.message)")
        }
    }

    @Test(arguments: [
        ("nonsense", "r:1: not JSON at byte 0"), ("{}", "r:1: it is no line of a recording"),
        (#"{"aegis_recording":3}"#, "r:1: it has version 3 of the format; this program reads 2"),
        (#"{"aegis_recording":1,"hash":"00","provider":"p","request":{},"reply":{}}"#, "r:1: "),
        (
            #"{"aegis_recording":1,"hash":"00","provider":"p","request":{},"error":{"kind":"network","message":"m"}}"#,
            "not the one that its hash was made of"
        ),
    ])
    func aBrokenRecordingIsRefusedWithItsLine(_ line: String, _ message: String) {
        let error = #expect(throws: AegisError.self) {
            try ReplayProvider(name: "r", path: "r", bytes: Array((line + "\n").utf8))
        }
        #expect(
            error?.code == "recording-broken" && error?.message.contains(message) == true, "\(error?.message ?? "")")
    }

    @Test func differencesAreFoundWhereverTheyAre() throws {
        let base = try JSONValue(parsing: #"{"a":[1,{"b":"x"}],"c":null}"#.utf8)
        let others = [
            (#"{"a":[1,{"b":"y"}],"c":null}"#, "a[1].b, character 1: recorded 'x', asked 'y'"),
            (#"{"a":[1],"c":null}"#, "a: 2 recorded, 1 asked"), (#"{"a":[1,{"b":"x"}]}"#, "c: recorded, but not asked"),
            (#"{"a":[1,{"b":"x"}],"c":null,"d":1}"#, "d: asked, but not recorded"),
            (#"{"a":7,"c":null}"#, #"a: recorded [1,{"b":"x"}], asked 7"#),
        ]
        for (text, difference) in others {
            #expect(JSONDifference.first(base, try JSONValue(parsing: text.utf8)) == difference)
        }
        #expect(JSONDifference.first(base, try JSONValue(parsing: #"{"c":null,"a":[1.0,{"b":"x"}]}"#.utf8)) == nil)
    }
}
