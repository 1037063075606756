import AegisHTTPClient
import AegisIO
import AegisTestSupport
import AegisWire
import Testing

/// A client of one test, on the loop that the test's servers use as well.
struct Stage: Sendable {
    let loop: EventLoop
    let client: HTTPClient
    /// Where the stage's server listens; 0 without one.
    let port: UInt16

    func request(_ method: HTTPMethod = .get, _ path: String = "/", port: UInt16? = nil) throws -> ClientRequest {
        ClientRequest(method, try WebURL("http://127.0.0.1:\(port ?? self.port)\(path)"))
    }
    func get(_ path: String = "/") async throws -> (head: ClientResponseHead, body: [UInt8]) {
        try await client.fetch(try request(.get, path))
    }
}

/// Runs a test with a client and, given a handler, an HTTP server.
func withStage(
    limits: HTTPClientLimits = HTTPClientLimits(), _ handler: HTTPServer.Handler? = nil,
    _ test: @escaping @Sendable (Stage) async throws -> Void
) async throws {
    try await onLoop { loop in
        let client = try HTTPClient(on: loop, limits: limits)
        defer { client.close() }
        guard let handler else { return try await test(Stage(loop: loop, client: client, port: 0)) }
        let server = HTTPServer(clock: loop.clock, handler: handler)
        let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
        let stage = Stage(loop: loop, client: client, port: try listener.localPort())
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await server.run([listener]) }
            let result: Result<Void, any Error>
            do { result = .success(try await test(stage)) } catch { result = .failure(error) }
            await server.shutdown(within: .zero)
            try await group.waitForAll()
            try result.get()
        }
    }
}

/// Runs a test with a client and a server that speaks in raw bytes, after it has read a request's head.
func withRawServer(
    _ serve: @escaping @Sendable (FileStream) async throws -> Void,
    _ test: @escaping @Sendable (Stage) async throws -> Void
) async throws {
    try await onLoop { loop in
        let client = try HTTPClient(on: loop)
        defer { client.close() }
        try await serving(on: loop) { stream in
            try await readHead(stream)
            try await serve(stream)
        } _: { port in
            try await test(Stage(loop: loop, client: client, port: port))
        }
    }
}

/// Reads to the empty line.
@discardableResult
func readHead(_ stream: any ByteStream) async throws -> String {
    var buffer = ByteBuffer()
    while !String(decoding: buffer.readable, as: UTF8.self).contains("\r\n\r\n") {
        guard try await stream.read(into: &buffer, atMost: 4096) > 0 else { throw IOError.closed }
    }
    return String(decoding: buffer.readable, as: UTF8.self)
}

/// Waits until the client has gone.
func untilGone(_ stream: any ByteStream) async {
    var buffer = ByteBuffer()
    while let count = try? await stream.read(into: &buffer, atMost: 4096), count > 0 { buffer.removeAll() }
}

/// The family of the failure of a call that must fail.
func failure(_ body: () async throws -> Void, sourceLocation: SourceLocation = #_sourceLocation) async
    -> HTTPClientError?
{
    do {
        try await body()
        Issue.record("nothing failed", sourceLocation: sourceLocation)
    } catch let error as HTTPClientError {
        return error
    } catch {
        Issue.record("\(error)", sourceLocation: sourceLocation)
    }
    return nil
}

/// Bytes in which every place can be told from its neighbours.
func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) } }
