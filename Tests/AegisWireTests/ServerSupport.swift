import AegisCore
import AegisIO
import AegisTestSupport
import AegisWire
import Testing

/// A server of one test, listening on a Unix socket and on a TCP port of loopback.
struct TestServer: Sendable {
    let loop: EventLoop
    let server: HTTPServer
    let socketPath: String
    let port: UInt16

    func connect() async throws -> FileStream { try await Connect.unix(path: socketPath, on: loop) }

    /// A client that speaks in raw bytes.
    func raw() async throws -> RawClient { RawClient(try await connect()) }

    func client() async throws -> HTTPClientConnection { HTTPClientConnection(try await connect()) }
}

/// Runs a server around a test, on a loop of its own, and ends it.
func withServer<R: Sendable>(
    limits: HTTPServerLimits = HTTPServerLimits(), clock: (any Clock<Duration>)? = nil,
    _ handler: @escaping HTTPServer.Handler, test: @escaping @Sendable (TestServer) async throws -> R
) async throws -> R {
    try await onLoop { loop in
        try await withTemporaryDirectory { directory in
            let server = HTTPServer(limits: limits, clock: clock ?? loop.clock, handler: handler)
            let unix = try Listener.unix(path: "\(directory)/http.sock", on: loop)
            let tcp = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
            let running = TestServer(
                loop: loop, server: server, socketPath: "\(directory)/http.sock", port: try tcp.localPort())
            return try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await server.run([unix, tcp]) }
                let result: Result<R, any Error>
                do { result = .success(try await test(running)) } catch { result = .failure(error) }
                await server.shutdown(within: .zero)
                try await group.waitForAll()
                #expect(server.connectionCount == 0)
                return try result.get()
            }
        }
    }
}

/// Writes bytes as they are and waits for bytes as they come.
final class RawClient: Sendable {
    let stream: FileStream
    init(_ stream: FileStream) { self.stream = stream }

    func send(_ text: String) async throws { try await stream.write(wire(text)) }

    /// Reads exactly as much as the expected text has.
    func receive(_ count: Int) async throws -> String {
        var buffer = ByteBuffer()
        _ = try await stream.fill(&buffer, to: count)
        return String(decoding: buffer.takeAll(), as: UTF8.self).replacingLineEnds()
    }

    /// Reads what is expected and compares.
    func expect(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let found = try await receive(wire(text).count)
        #expect(found == text, sourceLocation: sourceLocation)
    }

    /// Reads to the end of the stream.
    func rest() async throws -> String {
        String(decoding: try await stream.readAll(limit: 32 << 20), as: UTF8.self).replacingLineEnds()
    }
}

extension String {
    /// `¬` for CR LF, as the tables write it.
    func replacingLineEnds() -> String {
        var out = ""
        for character in self {
            out += character == "\r\n" ? "¬" : String(character)
        }
        return out
    }
}

/// Events of handlers that tests wait for.
final class Events: Sendable {
    private let stream: AsyncStream<String>
    private let continuation: AsyncStream<String>.Continuation
    init() { (stream, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1000)) }
    func emit(_ event: String) { continuation.yield(event) }
    func next() async -> String {
        for await event in stream { return event }
        return "ended"
    }
}

/// Bytes in which every place can be told from its neighbours.
func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) } }
