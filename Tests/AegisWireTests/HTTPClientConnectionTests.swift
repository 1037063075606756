import AegisCore
import AegisIO
import AegisTestSupport
import AegisWire
import Testing

@Suite struct HTTPClientConnectionTests {
    private static let target = HTTPTarget(path: ["x"])

    /// A client whose server is the test itself.
    private static func pair(_ loop: EventLoop) -> (HTTPClientConnection, any ByteStream) {
        let (near, far) = BytePipe.pair()
        return (HTTPClientConnection(near), far)
    }

    @Test(arguments: [0, 1, 65_536, 65_537, 10_000_000])
    func bodiesArriveWholeInBothDirections(_ count: Int) async throws {
        try await withServer({ request, writer in
            let body = try await request.body.collect(upTo: 20_000_000)
            if request.query.first("chunks") != nil {
                var out = try await writer.stream(200)
                for start in stride(from: 0, to: body.count, by: 100_000) {
                    try await out.write(body[start..<min(start + 100_000, body.count)])
                }
                try await out.finish(trailers: ["Count": "\(body.count)"])
            } else {
                try await writer.respond(200, body: body)
            }
        }) { server in
            let data = pattern(count)
            let connection = try await server.client()
            let whole = try await connection.send(HTTPRequestHead(.post, Self.target), body: data)
            #expect(try await whole.collect(upTo: count) == data)
            for length in [nil, count] {
                let target = HTTPTarget(path: [], query: HTTPQuery([("chunks", "")]))
                let response = try await connection.send(HTTPRequestHead(.put, target), length: length) { writer in
                    for start in stride(from: 0, to: data.count, by: 77_777) {
                        try await writer.write(data[start..<min(start + 77_777, data.count)])
                    }
                }
                #expect(try await response.collect(upTo: count) == data)
                #expect(response.trailers.first("count") == "\(count)")
            }
            #expect(connection.isReusable)
        }
    }

    @Test func connectionIsBusyUntilTheBodyIsRead() async throws {
        try await withServer({ _, writer in try await writer.respond(200, body: [1, 2, 3]) }) { server in
            let connection = try await server.client()
            let first = try await connection.send(HTTPRequestHead(.get, Self.target))
            #expect(!connection.isReusable)
            await #expect(throws: HTTPError.self) { try await connection.send(HTTPRequestHead(.get, Self.target)) }
            #expect(try await first.collect(upTo: 3) == [1, 2, 3])
            #expect(try await first.collect(upTo: 3) == [])
            let head = try await connection.send(HTTPRequestHead(.head, Self.target))
            #expect(head.headers.first("content-length") == "3" && connection.isReusable)
            let large = try await connection.send(HTTPRequestHead(.get, Self.target))
            let error = await #expect(throws: HTTPError.self) { try await large.collect(upTo: 2) }
            #expect(error?.code == .tooLarge && !connection.isReusable)
        }
    }

    @Test func earlyRefusalEndsALongUpload() async throws {
        try await withServer({ request, writer in throw AegisError(.tooLarge, "no-room", "full") }) { server in
            for length in [nil, 50_000_000] {
                let connection = try await server.client()
                let response = try await connection.send(HTTPRequestHead(.put, Self.target), length: length) { writer in
                    for _ in 0..<500 { try await writer.write([UInt8](repeating: 0, count: 100_000)[...]) }
                }
                #expect(response.status == 413)
                #expect(String(decoding: try await response.collect(upTo: 1000), as: UTF8.self).contains("no-room"))
                #expect(!connection.isReusable)
            }
        }
    }

    @Test func failingBodyIsTheCallersError() async throws {
        struct Unreadable: Error {}
        try await withServer({ request, writer in
            var buffer = ByteBuffer()
            while try await request.body.read(into: &buffer) > 0 {}
            try await writer.respond(200)
        }) { server in
            let connection = try await server.client()
            await #expect(throws: Unreadable.self) {
                try await connection.send(HTTPRequestHead(.put, Self.target), length: nil) { writer in
                    try await writer.write([1])
                    throw Unreadable()
                }
            }
            #expect(!connection.isReusable)
            let short = try await server.client()
            let error = await #expect(throws: HTTPError.self) {
                try await short.send(HTTPRequestHead(.put, Self.target), length: 2) { try await $0.write([1]) }
            }
            #expect(error?.code == .misuse)
        }
    }

    @Test func requestBytesAreExact() async throws {
        try await onLoop { loop in
            let (connection, server) = Self.pair(loop)
            let request = HTTPRequestHead(.post, HTTPTarget(path: ["a b"]), headers: ["X": "y"])
            async let response = connection.send(request, body: [104, 105])
            let text = "POST /a%20b HTTP/1.1¬X: y¬Host: localhost¬Content-Length: 2¬¬hi"
            var buffer = ByteBuffer()
            #expect(try await server.fill(&buffer, to: wire(text).count))
            #expect(buffer.takeAll() == wire(text))
            try await server.write(wire("HTTP/1.1 103 Early¬¬HTTP/1.1 200 OK¬Connection: close¬¬ab"))
            try server.closeWrite()
            #expect(try await response.collect(upTo: 10) == [97, 98])
            #expect(!connection.isReusable)
        }
    }

    static let broken = [
        "", "HTTP/1.1 200", "HTTP/1.1 200 OK¬Content-Length: 5¬¬abc",
        "HTTP/1.1 200 OK¬Transfer-Encoding: chunked¬¬5¬ab",
        "SSH-2.0-x¬", "HTTP/1.1 101 Switching Protocols¬¬", "HTTP/1.1 200 OK¬Content-Length: 1¬Content-Length: 2¬¬",
    ]
    @Test(arguments: broken) func brokenAnswersAreTypedErrors(_ text: String) async throws {
        try await onLoop { loop in
            let (connection, server) = Self.pair(loop)
            try await server.write(wire(text))
            try server.closeWrite()
            await #expect(throws: HTTPError.self) {
                let response = try await connection.send(HTTPRequestHead(.get, Self.target))
                _ = try await response.collect(upTo: 100)
            }
            #expect(!connection.isReusable)
        }
    }

    @Test func cancelledRequestEndsAtOnce() async throws {
        try await onLoop { loop in
            let (connection, server) = Self.pair(loop)
            let task = Task(executorPreference: loop) {
                try await connection.send(HTTPRequestHead(.get, Self.target)).status
            }
            var buffer = ByteBuffer()
            _ = try await server.read(into: &buffer, atMost: 1000)
            task.cancel()
            let error = await #expect(throws: HTTPError.self) { try await task.value }
            #expect(error?.code == .cancelled)
            #expect(!connection.isReusable)
        }
    }

    @Test func whatCannotBeSentIsNotSent() async throws {
        try await onLoop { loop in
            let (connection, _) = Self.pair(loop)
            for request in [
                HTTPRequestHead(.get, Self.target, headers: ["X": "a\nb"]),
                HTTPRequestHead(HTTPMethod(rawValue: "G T"), Self.target),
                HTTPRequestHead(.get, Self.target, headers: ["transfer-encoding": "chunked"]),
            ] {
                let error = await #expect(throws: HTTPError.self) { try await connection.send(request) }
                #expect(error?.code == .misuse && connection.isReusable)
            }
        }
    }
}
