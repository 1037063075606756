import AegisCore
import AegisIO
import AegisTestSupport
import AegisWire
import Testing

@Suite struct HTTPUpgradeTests {
    /// Sends back what comes until the end, then says so.
    static let echo: HTTPServer.Handler = { request, writer in
        guard let name = StreamProtocol.negotiate(request.headers), request.wantsUpgrade else {
            throw AegisError(.usage, "no-upgrade", "ask for aegis-stream/1")
        }
        let body = try await request.body.collect(upTo: 100)
        let stream = try await writer.upgrade(to: name, headers: ["X-Id": "7"])
        try await stream.write(body[...])
        var buffer = ByteBuffer()
        while try await stream.read(into: &buffer, atMost: 1000) > 0 {
            try await stream.write(buffer.readable)
            buffer.removeAll()
        }
        try await stream.write(Array("end".utf8)[...])
    }

    @Test func bytesSentWithTheRequestAreNotLost() async throws {
        try await withServer(Self.echo) { server in
            let client = try await server.raw()
            try await client.send(
                "POST / HTTP/1.1¬Host: a¬Connection: Upgrade¬Upgrade: aegis-stream/1¬Content-Length: 2¬¬{}early¬¬")
            try await client.expect(
                "HTTP/1.1 101 Switching Protocols¬Connection: Upgrade¬Upgrade: aegis-stream/1¬X-Id: 7¬¬{}early¬¬")
            try await client.send("late")
            try await client.expect("late")
            try client.stream.closeWrite()
            #expect(try await client.rest() == "end")
        }
    }

    @Test func clientAndServerAgree() async throws {
        try await withServer(Self.echo) { server in
            let connection = try await server.client()
            let request = HTTPRequestHead(.post, HTTPTarget(path: ["attach"]))
            guard
                case .switched(let head, let stream) = try await connection.upgrade(
                    request, to: StreamProtocol.name, body: [42])
            else {
                Issue.record("refused")
                return
            }
            #expect(head.headers.first("x-id") == "7" && !connection.isReusable)
            try await stream.write(Array("hello".utf8)[...])
            try stream.closeWrite()
            #expect(try await stream.readAll(limit: 100) == Array("*helloend".utf8))
            stream.close()
            await #expect(throws: HTTPError.self) { try await connection.send(request) }
        }
    }

    @Test func otherProtocolsAreRefusedAndTheConnectionGoesOn() async throws {
        try await withServer(Self.echo) { server in
            let connection = try await server.client()
            let request = HTTPRequestHead(.post, HTTPTarget(path: []))
            guard case .refused(let response) = try await connection.upgrade(request, to: "aegis-stream/2") else {
                Issue.record("switched")
                return
            }
            #expect(response.status == 400)
            _ = try await response.collect(upTo: 1000)
            #expect(connection.isReusable)
            let plain = try await connection.send(request)
            #expect(plain.status == 400)
        }
    }

    @Test func handlerCannotChangeToWhatTheClientDidNotOffer() async throws {
        try await withServer({ request, writer in _ = try await writer.upgrade(to: "aegis-stream/1") }) { server in
            for fields in ["", "Upgrade: aegis-stream/1¬", "Connection: upgrade¬Upgrade: websocket¬"] {
                let client = try await server.raw()
                try await client.send("GET / HTTP/1.1¬Host: a¬\(fields)¬")
                #expect(try await client.receive(12) == "HTTP/1.1 500")
            }
            let unread = try await server.raw()
            try await unread.send(
                "POST / HTTP/1.1¬Host: a¬Connection: upgrade¬Upgrade: aegis-stream/1¬Content-Length: 1¬¬x")
            #expect(try await unread.receive(12) == "HTTP/1.1 500")
        }
    }

    @Test func framesFlowBothWaysThroughAnUpgrade() async throws {
        try await withServer({ request, writer in
            let frames = FrameConnection(try await writer.upgrade(to: StreamProtocol.name))
            while let frame = try await frames.readFrame() {
                guard frame.kind == .stdin else { continue }
                try await frames.write(.stdout, frame.payload[...], end: frame.flags.contains(.end))
                if frame.flags.contains(.end) { break }
            }
            try await frames.write(.exit(3))
        }) { server in
            let connection = try await server.client()
            let request = HTTPRequestHead(.post, HTTPTarget(path: []))
            guard case .switched(_, let stream) = try await connection.upgrade(request, to: StreamProtocol.name) else {
                Issue.record("refused")
                return
            }
            let frames = FrameConnection(stream)
            let data = pattern(3_000_000)
            async let sent: Void = frames.write(.stdin, data[...], end: true)
            var received: [UInt8] = []
            var status: Int32?
            while let frame = try await frames.readFrame() {
                received += frame.kind == .stdout ? frame.payload : []
                status = frame.exitStatus ?? status
            }
            try await sent
            #expect(received == data && status == 3)
        }
    }
}
