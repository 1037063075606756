import AegisIO
import AegisProxy
import AegisTestSupport
import Testing

/// Messages that two readers could read in two ways: none gets past the relay.
@Suite struct SmugglingTests {
    private static let inner = "GET /smuggled HTTP/1.1¬Host: b¬¬"

    /// `¬` is CR LF, `↓` a lone LF, `←` a lone CR, `∅` a NUL.
    private static let heads: [String] = [
        // Two lengths.
        "Content-Length: 6¬Transfer-Encoding: chunked¬¬0¬¬",
        "Transfer-Encoding: chunked¬Content-Length: 3¬¬1¬a¬0¬¬",
        "Content-Length: 0¬Content-Length: 35¬¬", "Content-Length: 3, 0¬¬abc",
        "Content-Length: 3¬content-length: 4¬¬abc",
        // Lengths that are none.
        "Content-Length: +3¬¬abc", "Content-Length: -1¬¬", "Content-Length: 0x3¬¬abc", "Content-Length: 3 3¬¬abc",
        "Content-Length:¬¬", "Content-Length: 3.0¬¬abc", "Content-Length: 99999999999999999999¬¬",
        "Content-Length: ٣¬¬abc",
        // Codings that are not exactly `chunked`.
        "Transfer-Encoding: xchunked¬¬0¬¬", "Transfer-Encoding: chunked, identity¬¬0¬¬",
        "Transfer-Encoding: chunked chunked¬¬0¬¬",
        "Transfer-Encoding: chunked¬Transfer-Encoding: chunked¬¬0¬¬",
        "Transfer-Encoding: cow¬Transfer-Encoding: chunked¬¬0¬¬",
        "Transfer-Encoding: identity¬¬", "Transfer-Encoding: \"chunked\"¬¬0¬¬", "Transfer-Encoding:¬¬",
        "Transfer-Encoding: ,chunked;q=1¬¬0¬¬",
        // Names and lines that some read and others do not.
        "Transfer-Encoding : chunked¬¬0¬¬", " Transfer-Encoding: chunked¬¬0¬¬", "X: y¬ Transfer-Encoding: chunked¬¬0¬¬",
        "X: y¬\tContent-Length: 3¬¬abc", "Transfer-Encoding↓: chunked¬¬0¬¬", "X: y↓Transfer-Encoding: chunked¬¬0¬¬",
        "X: y↓↓", "X: y←Content-Length: 3¬¬abc", "X: y←←", "X: ∅¬¬", "X∅: y¬¬", "Content-Length∅: 3¬¬abc", "X¬¬",
        ": y¬¬",
        "X y: z¬¬", "Content-Length: 3∅¬¬abc", "Foo: bar←↓↓", "Content_Length¬: 3¬¬",
        // Hosts.
        "Host: c¬¬", "Host: a b¬¬", "Host:¬Host: a¬¬",
        // Chunks.
        "Transfer-Encoding: chunked¬¬0x1¬a¬0¬¬", "Transfer-Encoding: chunked¬¬1 ¬a¬0¬¬",
        "Transfer-Encoding: chunked¬¬-1¬a¬0¬¬",
        "Transfer-Encoding: chunked¬¬1↓a¬0¬¬", "Transfer-Encoding: chunked¬¬1¬ab0¬¬",
        "Transfer-Encoding: chunked¬¬1¬a↓0¬¬",
        "Transfer-Encoding: chunked¬¬1;x↓¬a¬0¬¬", "Transfer-Encoding: chunked¬¬fffffffffffffffff¬a¬0¬¬",
        "Transfer-Encoding: chunked¬¬¬a¬0¬¬",
        "Transfer-Encoding: chunked¬¬0¬X y: z¬¬", "Transfer-Encoding: chunked¬¬0¬X: y↓¬",
    ]
    private static let lines: [String] = [
        "GET  / HTTP/1.1", "GET / HTTP/1.1 ", "GET /\tHTTP/1.1", "GET / HTTP/2.0", "GET / http/1.1", "GET /",
        "GET / HTTP/1.1↓X: y",
        "GET /a b HTTP/1.1", "G∅T / HTTP/1.1", "GET /∅ HTTP/1.1", "GET http://a@b/ HTTP/1.1", "GET http:/// HTTP/1.1",
        "GET /#x HTTP/1.1", " GET / HTTP/1.1", "GET / HTTP/1.10", "GET / HTTP/11", "CONNECT a:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "GET //a HTTP/1.1←",
    ]

    private static func bytes(_ text: String) -> [UInt8] {
        wire(text.replacing("↓", with: "\n").replacing("←", with: "\r").replacing("∅", with: "\0"))
    }

    /// What follows is never seen by the server, whatever part of the message is.
    private func isRefused(_ message: String) async throws {
        let seen = Box([UInt8]())
        try await withProxy { peer, _ in
            while true {
                var piece = ByteBuffer()
                guard try await peer.stream.read(into: &piece) > 0 else { return }
                seen.change { $0 += piece.readable }
            }
        } test: { proxy in
            let client = try await proxy.client()
            try await client.stream.write(Self.bytes(message + Self.inner))
            let answer = try await client.rest()
            #expect(answer.hasPrefix("HTTP/1.1 4") || answer.hasPrefix("HTTP/1.1 5"), "\(message): \(answer)")
            #expect(answer.contains("¬Connection: close¬"), "\(message): \(answer)")
            #expect(answer.components(of: "¬Content-Type: ") == 1, "\(message): \(answer)")
        }
        let text = String(decoding: seen.change { $0 }, as: UTF8.self)
        #expect(!text.contains("smuggled"), "\(message): \(text)")
    }

    @Test(arguments: heads) func ambiguousSectionsAreRefused(_ head: String) async throws {
        try await isRefused("POST / HTTP/1.1¬Host: a¬\(head)")
    }

    @Test(arguments: lines) func ambiguousRequestLinesAreRefused(_ line: String) async throws {
        try await isRefused("\(line)¬Host: a¬¬")
    }

    @Test(arguments: [
        "HTTP/1.1 200 OK¬Content-Length: 3¬Content-Length: 4¬¬abc",
        "HTTP/1.1 200 OK¬Content-Length: 3¬Transfer-Encoding: chunked¬¬abc",
        "HTTP/1.1 200 OK¬Transfer-Encoding: chunked, identity¬¬", "HTTP/1.1 200 OK↓Content-Length: 0¬¬",
        "HTTP/1.1 200 OK¬X: y¬ z¬¬",
        "HTTP/1.1 20 OK¬¬", "HTTP/1.1 2000 OK¬¬", "HTTP/1.1 200 OK¬Content-Length : 3¬¬abc", "ICY 200 OK¬¬",
        "HTTP/1.1 200 OK¬X∅: y¬¬",
    ])
    func ambiguousResponsesAreNotPassedOn(_ response: String) async throws {
        try await withProxy { peer, _ in
            _ = try await peer.head()
            try await peer.stream.write(Self.bytes(response + "HTTP/1.1 200 OK¬X: smuggled¬Content-Length: 0¬¬"))
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("GET / HTTP/1.1¬Host: a¬¬GET /2 HTTP/1.1¬Host: a¬Connection: close¬¬")
            let answer = try await client.rest()
            #expect(answer.hasPrefix("HTTP/1.1 502 Bad Gateway¬"), "\(response): \(answer)")
            #expect(!answer.contains("smuggled"), "\(response): \(answer)")
        }
    }

    /// Whatever comes is refused, or read by the server exactly as by the relay: one answer for each request that it saw.
    @Test func damagedMessagesNeverMultiply() async throws {
        let requests = [
            "POST / HTTP/1.1¬Host: a¬Content-Length: 3¬Connection: close¬¬abc",
            "POST / HTTP/1.1¬Host: a¬Transfer-Encoding: chunked¬¬3¬abc¬0¬X: y¬¬",
        ].map { wire($0) }
        let heads = Counter()
        try await withProxy { peer, _ in
            while true {
                guard !(try await peer.head()).hasPrefix("END") else { return }
                _ = heads.next()
                try await peer.send("HTTP/1.1 200 OK¬Connection: close¬Content-Length: 0¬¬")
                try peer.stream.closeWrite()
                _ = try await peer.drain()
            }
        } test: { proxy in
            var random = Mutator(seed: 11)
            for _ in 0..<300 {
                let before = heads.current
                let client = try await proxy.client()
                let message = random.mutate(random.pick(requests), others: requests)
                try? await client.stream.write(message)
                try? client.stream.closeWrite()
                // A connection that was reset has answers that did not arrive; its server may still be reading.
                let answer = try? await client.rest()
                client.stream.close()
                while proxy.backend.open.current > 0 { await Task.yield() }
                guard let answer else { continue }
                #expect(
                    heads.current - before <= max(1, answer.components(of: "HTTP/1.1 ")),
                    "\(String(decoding: message, as: UTF8.self).debugDescription): \(answer)")
            }
        }
    }
}

extension String {
    fileprivate func components(of part: String) -> Int {
        self.split(separator: part, omittingEmptySubsequences: false).count - 1
    }
}
