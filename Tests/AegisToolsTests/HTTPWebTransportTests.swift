import AegisHTTPClient
import AegisIO
import AegisTestSupport
import Testing

@testable import AegisTools

struct HTTPWebTransportTests {
    /// Answers one connection after the other with the same bytes, and counts them.
    private func served<R: Sendable>(
        _ answer: String, _ body: @escaping @Sendable (HTTPWebTransport, UInt16) async throws -> R
    ) async throws -> R {
        try await onLoop { loop in
            let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
            let client = try HTTPClient(on: loop)
            defer { client.close() }
            return try await withThrowingTaskGroup(of: R?.self) { group in
                group.addTask {
                    while let stream = try? await listener.accept() {
                        var buffer = ByteBuffer()
                        _ = try? await stream.read(into: &buffer, atMost: 4096)
                        try? await stream.write(Array(answer.utf8)[...])
                        stream.close()
                    }
                    return nil
                }
                group.addTask { try await body(HTTPWebTransport(client), try listener.localPort()) }
                while let result = try await group.next() {
                    if let result {
                        listener.close()
                        return result
                    }
                }
                throw CancellationError()
            }
        }
    }

    private func request(
        _ url: String, most: Int = 100, admits: @escaping WebRequest.AddressRule = { _, _ in true }
    ) -> WebRequest {
        WebRequest(url: url, headers: [("Accept", "*/*")], admits: admits, mostBytes: most, timeLimit: .seconds(60))
    }

    @Test func anAnswerIsReadUpToTheBound() async throws {
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n0123456789"
        let request = request
        try await served(answer) { web, port in
            let whole = try await web.get(request("http://127.0.0.1:\(port)/", 10, { _, _ in true }))
            #expect(whole.status == 404 && whole.body == Array("0123456789".utf8) && !whole.isTruncated)
            #expect(whole.header("content-type") == "text/plain")
            let cut = try await web.get(request("http://127.0.0.1:\(port)/", 4, { _, _ in true }))
            #expect(cut.body == Array("0123".utf8) && cut.isTruncated)
        }
    }

    @Test func redirectsAreAnswers() async throws {
        let request = request
        try await served("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n") {
            web, port in
            let answer = try await web.get(request("http://127.0.0.1:\(port)/", 10, { _, _ in true }))
            #expect(answer.status == 302 && answer.header("location") == "http://127.0.0.1:1/")
        }
    }

    @Test func noAddressIsConnectedToThatIsNotAdmitted() async throws {
        let request = request
        try await served("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") { web, port in
            for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1"] {
                let failure = await #expect(throws: WebFailure.self) {
                    let address = try? WebAddress(parsing: "http://public.example:\(port)/")
                    _ = try await web.get(
                        request("http://\(host):\(port)/", 10) { found, port in
                            // As the tool asks for a name, whatever it resolves to.
                            port == address?.port && address?.admits(found) { _ in nil } == true
                        })
                }
                #expect(failure?.kind == .refusedAddress, "\(host)")
            }
        }
    }

    @Test func failuresAreTold() async throws {
        let request = request
        try await served("no HTTP\r\n\r\n") { web, port in
            let failure = await #expect(throws: WebFailure.self) {
                try await web.get(request("http://127.0.0.1:\(port)/", 10, { _, _ in true }))
            }
            #expect(failure?.kind == .connection)
            let tls = await #expect(throws: WebFailure.self) {
                try await web.get(request("https://127.0.0.1:\(port)/", 10, { _, _ in true }))
            }
            #expect(tls?.kind == .certificate || tls?.kind == .connection)
        }
    }
}
