import AegisHTTPClient
import AegisIO
import AegisTLS
import AegisTestSupport
import AegisWire
import LinuxSys
import Testing

@testable import AegisProxy

@Suite struct HTTPClientTLSTests {
    /// A client and a TLS server for `tls.example` on loopback, whose authority the client is told of.
    private func withTLS(
        protocols: [String] = [], name: String = "tls.example", trusts: Bool = true,
        _ serve: @escaping @Sendable (TLSStream) async throws -> Void,
        _ test: @escaping @Sendable (_ client: HTTPClient, _ request: ClientRequest) async throws -> Void
    ) async throws {
        let authority = try CertificateAuthority(name: "test")
        let server = try TLSServer(protocols: protocols)
        try await onLoop { loop in
            let client = try HTTPClient(on: loop, authorities: trusts ? Array(authority.certificate.utf8) : nil)
            defer { client.close() }
            try await serving(on: loop) { stream in
                let inside = try await server.accept(stream) { _ throws(TLSError) in try authority.leaf(for: name) }
                try await serve(inside)
            } _: { port in
                var request = ClientRequest(.get, try WebURL("https://tls.example:\(port)/path"))
                request.addresses = ["127.0.0.1"]
                try await test(client, request)
            }
        }
    }

    private static func answer(_ stream: TLSStream) async throws {
        try await readHead(stream)
        try await stream.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        try await stream.end()
    }

    @Test func aCertificateOfAKnownAuthorityIsTaken() async throws {
        try await withTLS(Self.answer) { client, request in
            let (_, body) = try await client.fetch(request)
            #expect(body == Array("hi".utf8))
        }
    }

    @Test func aCertificateOfAnotherAuthorityOrNameIsNot() async throws {
        let heard = Notes<Bool>()
        try await withTLS(trusts: false) { stream in
            try await readHead(stream)
            heard.add(true)
        } _: { client, request in
            let error = await failure { _ = try await client.fetch(request) }
            #expect(error?.kind == .tls && error?.mayHaveArrived == false)
        }
        try await withTLS(name: "other.example") { _ in
        } _: { client, request in
            #expect(await failure { _ = try await client.fetch(request) }?.kind == .tls)
        }
        #expect(heard.all.isEmpty)
    }

    @Test func anAnswerThatEndsEarlyIsACut() async throws {
        try await withTLS { stream in
            try await readHead(stream)
            try await stream.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhal\r\n")
            stream.close()
        } _: { client, request in
            #expect(await failure { _ = try await client.fetch(request) }?.kind == .cut)
        }
    }

    @Test func whereTLSOffersItHTTP2IsSpoken() async throws {
        try await withTLS(protocols: ["h2", "http/1.1"]) { stream in
            #expect(stream.applicationProtocol == "h2")
            try await HTTP2Answers.serve(stream, body: pattern(500_000))
        } _: { client, request in
            for _ in 0..<3 {
                let (head, body) = try await client.fetch(request)
                #expect(head.isHTTP2 && head.status == 200 && head.headers.first("x-path") == "/path")
                #expect(body == pattern(500_000))
            }
            var small = request
            small.maximumBody = 100_000
            #expect(await failure { _ = try await client.fetch(small) }?.kind == .tooLarge)
        }
    }

    @Test func anHTTP2AnswerIsReadNoFasterThanAsked() async throws {
        try await withTLS(protocols: ["h2"]) { stream in
            try await HTTP2Answers.serve(stream, body: [UInt8](repeating: 7, count: 40 << 20))
        } _: { client, request in
            var large = request
            large.maximumBody = 100 << 20
            try await client.send(large) { response in
                var count = 0
                while let bytes = try await response.read() {
                    #expect(bytes.count <= TransferMachineRoom.most)
                    count += bytes.count
                }
                #expect(count == 40 << 20)
            }
        }
    }

    @Test func cancellingEndsAnHTTP2Connection() async throws {
        let gone = Notes<Bool>()
        try await withTLS(protocols: ["h2"]) { stream in
            try? await HTTP2Answers.serve(stream, body: nil)
            gone.add(true)
        } _: { client, request in
            let answered = Notes<Bool>()
            let task = Task {
                await failure {
                    try await client.send(request) { response in
                        answered.add(true)
                        _ = try await response.read()
                    }
                }
            }
            _ = await answered.wait(for: 1)
            task.cancel()
            #expect(await task.value?.kind == .cancelled)
            _ = await gone.wait(for: 1)
        }
    }
}

/// The server's side of HTTP/2: the same answer to every request.
private final class HTTP2Answers: HTTP2Events {
    private let session: HTTP2Session
    /// Nil answers with a head only.
    private let body: [UInt8]?
    private var sent: [Int32: Int] = [:]

    private init(_ session: HTTP2Session, _ body: [UInt8]?) {
        self.session = session
        self.body = body
        session.events = self
    }

    static func serve(_ stream: TLSStream, body: [UInt8]?) async throws {
        guard let session = HTTP2Session(isServer: true, limits: ProxyLimits()) else { return }
        let answers = HTTP2Answers(session, body)
        defer { withExtendedLifetime(answers) {} }
        var buffer = ByteBuffer()
        while true {
            while true {
                var out = ByteBuffer()
                guard session.produce(into: &out, about: 64 << 10) else { return }
                if out.isEmpty { break }
                try await stream.write(out.readable)
            }
            buffer.removeAll()
            guard try await stream.read(into: &buffer) > 0 else { return }
            if let problem = session.receive(buffer.readable) { throw IOError(.system, problem) }
        }
    }

    func headers(_ stream: Int32, _ section: HTTP2Fields, ends: Bool) {
        session.submit(.response, stream, HTTP2Fields([":status": "200", "x-path": section.text(":path") ?? ""]))
    }
    func produce(_ stream: Int32, into room: UnsafeMutableRawBufferPointer) -> HTTP2Portion {
        guard let body else { return HTTP2Portion(count: 0, next: .nothingNow) }
        let start = sent[stream, default: 0]
        let count = min(room.count, body.count - start)
        unsafe room.copyBytes(from: body[start..<(start + count)])
        sent[stream] = start + count
        return HTTP2Portion(count: count, next: start + count == body.count ? .end : .more)
    }
    func data(_ stream: Int32, _ bytes: Span<UInt8>) {}
    func ended(_ stream: Int32) {}
    func finished(_ stream: Int32) {}
    func closed(_ stream: Int32, code: UInt32) {}
    func unsent(_ stream: Int32) {}
    func goaway() {}
    func invalid(_ stream: Int32, _ section: HTTP2Fields) { Issue.record("a request breaks the rules of HTTP/2") }
}
