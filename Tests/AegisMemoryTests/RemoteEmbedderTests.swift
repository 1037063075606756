import AegisCore
import AegisJSON
import AegisMemory
import Synchronization
import Testing

@Suite struct RemoteEmbedderTests {
    private func embedder(_ answer: String, status: Int = 200) -> RemoteEmbedder {
        RemoteEmbedder(provider: "local", name: "embed", dimensions: 2) { _ in (status, Array(answer.utf8)) }
    }

    @Test func textsGoOutInPortionsAndComeBackInTheirOrder() async throws {
        let asked = Mutex<[[String]]>([])
        let embedder = RemoteEmbedder(provider: "local", name: "embed", dimensions: 2, batch: 2) { body in
            let value = try JSONValue(parsing: body)
            let texts = value["input"]?.elements?.compactMap(\.text) ?? []
            #expect(value["model"] == "embed")
            asked.withLock { $0.append(texts) }
            // Back to front, as an answer may come.
            let data: [JSONValue] = texts.enumerated().reversed().map { index, text in
                ["index": .number(index), "embedding": [.number(text.utf8.count), .number("0.5")]]
            }
            return (200, JSONValue.object([.init("data", .array(data))]).compact)
        }
        #expect(try await embedder.embed(["a", "bb", "ccc"]) == [[1, 0.5], [2, 0.5], [3, 0.5]])
        #expect(asked.withLock { $0 } == [["a", "bb"], ["ccc"]] && embedder.model == "local/embed")
    }

    @Test(arguments: [
        (401, #"{"error":{"message":"bad key"}}"#, "it answered 401: bad key"),
        (404, #"{"error":"model not found"}"#, "it answered 404: model not found"), (500, "oops", "it answered 500"),
        (200, "oops", "its answer has no 'data'"), (200, #"{"data":[]}"#, "0 vectors came for 1 texts"),
        (200, #"{"data":[{"index":3,"embedding":[1,2]}]}"#, "out of range"),
        (200, #"{"data":[{"index":0,"embedding":["a"]}]}"#, "not a list of numbers"),
        (200, #"{"data":[{"index":0,"embedding":[1e999]}]}"#, "not a list of numbers"),
    ])
    func aBadAnswerIsAnError(status: Int, answer: String, message: String) async throws {
        let error = await #expect(throws: AegisError.self) {
            try await embedder(answer, status: status).embed(["x"])
        }
        #expect(error?.code == "embedding-failed" && error?.message.contains(message) == true)
    }
}
