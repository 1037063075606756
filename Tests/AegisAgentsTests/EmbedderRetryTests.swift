import AegisCore
import AegisInference
import AegisTestSupport
import Synchronization
import Testing

@testable import AegisAgents

/// A provider of embeddings that fails: how often and how long it is asked again.
@Suite struct EmbedderRetryTests {
    /// Breaks off each request after a time.
    private final class Failing: ModelTransport {
        let asked = Mutex(0)
        private let clock: TestClock
        private let time: Duration

        init(_ clock: TestClock, after time: Duration) {
            self.clock = clock
            self.time = time
        }

        func post(
            _ url: String, headers: [(String, String)], body: [UInt8], timeouts: TransportTimeouts,
            onHead: (_ status: Int, _ headers: [(String, String)]) throws -> Void,
            onBody: (ArraySlice<UInt8>) async throws -> Void
        ) async throws(TransportError) {
            asked.withLock { $0 += 1 }
            clock.advance(by: time)
            throw TransportError(.closed, "the connection broke")
        }
    }

    private static func embedder(_ transport: Failing, _ clock: TestClock) -> ProviderEmbedder {
        ProviderEmbedder(
            ProviderEndpoint(name: "local", baseURL: "http://127.0.0.1:1/v1"), model: "m", dimensions: 4,
            over: transport,
            patience: .seconds(30), clock: clock)
    }

    @Test(arguments: [(Duration.zero, 4), (.seconds(12), 3), (.seconds(30), 1)])
    func itIsAskedAgainUntilItsTimeIsOver(_ time: Duration, _ count: Int) async throws {
        let clock = TestClock()
        let transport = Failing(clock, after: time)
        let embedder = Self.embedder(transport, clock)
        let work = Task { try await embedder.embed(["a"]) }
        for _ in 1..<count {
            await clock.sleepers(1)
            clock.advance(by: try #require(clock.deadlines.first) - clock.now.offset)
        }
        let error = await #expect(throws: AegisError.self) { _ = try await work.value }
        #expect(error?.code == "embedding-failed" && error?.message.contains("the connection broke") == true)
        #expect(transport.asked.withLock { $0 } == count)
    }

    @Test func whoIsCancelledInAPauseAsksNoMore() async throws {
        let clock = TestClock()
        let transport = Failing(clock, after: .zero)
        let embedder = Self.embedder(transport, clock)
        let work = Task { try await embedder.embed(["a"]) }
        await clock.sleepers(1)
        work.cancel()
        await #expect(throws: CancellationError.self) { _ = try await work.value }
        #expect(transport.asked.withLock { $0 } == 1)
    }
}
