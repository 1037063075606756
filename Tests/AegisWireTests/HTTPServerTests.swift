import AegisCore
import AegisIO
import AegisTestSupport
import AegisWire
import Glibc
import Testing

@Suite struct HTTPServerTests {
    /// Answers with what it got.
    static let echo: HTTPServer.Handler = { request, writer in
        let body = try await request.body.collect(upTo: 1 << 20)
        let text = "\(request.method) \(request.path.joined(separator: "/")) \(String(decoding: body, as: UTF8.self))"
        try await writer.respond(200, body: Array(text.utf8))
    }

    @Test func requestsOnOneConnectionAreAnsweredInOrder() async throws {
        try await withServer(Self.echo) { server in
            let client = try await server.raw()
            try await client.send("GET /a HTTP/1.1¬Host: x¬¬")
            try await client.expect("HTTP/1.1 200 OK¬Content-Length: 6¬¬GET a ")
            try await client.send(
                "POST /b HTTP/1.1¬Host: x¬Content-Length: 2¬¬hiPOST /c HTTP/1.1¬Host: x¬Transfer-Encoding: chunked¬¬"
                    + "3¬abc¬0¬¬HEAD /d HTTP/1.1¬Host: x¬Connection: close¬¬GET /e HTTP/1.1¬Host: x¬¬")
            let answers = try await client.rest()
            #expect(
                answers == "HTTP/1.1 200 OK¬Content-Length: 9¬¬POST b hiHTTP/1.1 200 OK¬Content-Length: 10¬¬POST c abc"
                    + "HTTP/1.1 200 OK¬Content-Length: 7¬Connection: close¬¬")
        }
    }

    @Test func requestsThatComeByteByByteAreAnswered() async throws {
        try await withServer(Self.echo) { server in
            let client = try await server.raw()
            for byte in wire("POST /b HTTP/1.1¬Host: x¬Content-Length: 2¬¬hiGET /c HTTP/1.1¬Host: x¬¬") {
                try await client.stream.write([byte])
            }
            try await client.expect(
                "HTTP/1.1 200 OK¬Content-Length: 9¬¬POST b hiHTTP/1.1 200 OK¬Content-Length: 6¬¬GET c ")
        }
    }

    @Test func olderClientsGetTheirRules() async throws {
        try await withServer({ request, writer in
            if request.path == ["stream"] {
                var body = try await writer.stream(200)
                try await body.write(Array("abc".utf8))
                try await body.finish()
            } else {
                try await writer.respond(200, body: [111, 107])
            }
        }) { server in
            let closing = try await server.raw()
            try await closing.send("GET / HTTP/1.0¬¬")
            #expect(try await closing.rest() == "HTTP/1.1 200 OK¬Content-Length: 2¬Connection: close¬¬ok")
            let keeping = try await server.raw()
            try await keeping.send("GET / HTTP/1.0¬Connection: keep-alive¬¬")
            try await keeping.expect("HTTP/1.1 200 OK¬Content-Length: 2¬Connection: keep-alive¬¬ok")
            try await keeping.send("GET /stream HTTP/1.0¬Connection: keep-alive¬¬")
            #expect(try await keeping.rest() == "HTTP/1.1 200 OK¬Connection: close¬¬abc")
        }
    }

    @Test func brokenRequestGetsAJSONAnswerAndTheConnectionEnds() async throws {
        try await withServer(Self.echo) { server in
            let client = try await server.raw()
            try await client.send("GET / HTTP/1.1¬¬GET /x HTTP/1.1¬Host: a¬¬")
            let answer = try await client.rest()
            #expect(answer.hasPrefix("HTTP/1.1 400 Bad Request¬Content-Type: application/json¬Connection: close¬"))
            #expect(
                answer.hasSuffix(
                    "¬¬{\"error\":{\"code\":\"malformed-request\",\"message\":\"the Host header is missing\"}}\n"))
            let proxy = try await server.raw()
            try await proxy.send("CONNECT a:1 HTTP/1.1¬Host: a:1¬¬")
            #expect(try await proxy.receive(12) == "HTTP/1.1 501")
        }
    }

    @Test func streamedAnswersAreFramed() async throws {
        try await withServer({ request, writer in
            switch request.path.first {
            case "chunks":
                var body = try await writer.stream(201, headers: ["X": "y"])
                try await body.write(Array("abc".utf8))
                try await body.write([])
                try await body.write([UInt8](repeating: 120, count: 70_000))
                try await body.finish(trailers: ["Sum": "1"])
            case "length":
                var body = try await writer.stream(200, length: 4)
                try await body.write([97, 98])
                try await body.write([99, 100])
                try await body.finish()
            case "nothing": try await writer.respond(204, body: [1, 2, 3])
            case "unchanged": try await writer.stream(304).finish()
            default: try await writer.respond(200)
            }
        }) { server in
            let client = try await server.raw()
            try await client.send("GET /chunks HTTP/1.1¬Host: x¬¬")
            let big = String(repeating: "x", count: 70_000)
            try await client.expect(
                "HTTP/1.1 201 Created¬X: y¬Transfer-Encoding: chunked¬¬3¬abc¬11170¬\(big)¬0¬Sum: 1¬¬")
            try await client.send("HEAD /chunks HTTP/1.1¬Host: x¬¬GET /length HTTP/1.1¬Host: x¬¬")
            try await client.expect("HTTP/1.1 201 Created¬X: y¬Transfer-Encoding: chunked¬¬")
            try await client.expect("HTTP/1.1 200 OK¬Content-Length: 4¬¬abcd")
            try await client.send("GET /nothing HTTP/1.1¬Host: x¬¬GET /unchanged HTTP/1.1¬Host: x¬¬")
            try await client.send("GET /empty HTTP/1.1¬Host: x¬Connection: close¬¬")
            #expect(
                try await client.rest() == "HTTP/1.1 204 No Content¬¬HTTP/1.1 304 Not Modified¬¬"
                    + "HTTP/1.1 200 OK¬Content-Length: 0¬Connection: close¬¬")
        }
    }

    @Test func clientIsToldToGoOnOnlyWhenItsBodyIsRead() async throws {
        try await withServer({ request, writer in
            if request.path == ["refuse"] {
                throw AegisError(.denied, "not-yours", "no")
            }
            let body = try await request.body.collect(upTo: 10)
            try await writer.respond(200, body: body)
        }) { server in
            let client = try await server.raw()
            try await client.send("PUT / HTTP/1.1¬Host: x¬Expect: 100-continue¬Content-Length: 2¬¬")
            try await client.expect("HTTP/1.1 100 Continue¬¬")
            try await client.send("hi")
            try await client.expect("HTTP/1.1 200 OK¬Content-Length: 2¬¬hi")
            try await client.send("PUT /refuse HTTP/1.1¬Host: x¬Expect: 100-continue¬Content-Length: 2¬¬")
            try await client.expect("HTTP/1.1 403 Forbidden¬Content-Type: application/json¬Content-Length: 46¬")
            #expect(
                try await client.rest()
                    == "Connection: close¬¬{\"error\":{\"code\":\"not-yours\",\"message\":\"no\"}}\n")
        }
    }

    @Test func tooLargeBodiesAreRefusedBeforeAndWhileTheyAreRead() async throws {
        try await withServer({ request, writer in
            _ = try await request.body.collect(upTo: 10)
            try await writer.respond(200)
        }) { server in
            let announced = try await server.raw()
            try await announced.send("PUT / HTTP/1.1¬Host: x¬Content-Length: 11¬¬0123456789a")
            try await announced.expect("HTTP/1.1 413 Content Too Large¬Content-Type: application/json¬")
            let chunked = try await server.raw()
            try await chunked.send("PUT / HTTP/1.1¬Host: x¬Transfer-Encoding: chunked¬¬b¬0123456789a¬0¬¬")
            let head = try await chunked.receive(12)
            #expect(head == "HTTP/1.1 413")
            let broken = try await server.raw()
            try await broken.send("PUT / HTTP/1.1¬Host: x¬Transfer-Encoding: chunked¬¬z¬")
            let answer = try await broken.rest()
            #expect(answer.hasPrefix("HTTP/1.1 400") && answer.contains("malformed-request"))
        }
    }

    @Test func smallUnreadBodiesAreSkippedAndLargeOnesEndTheConnection() async throws {
        try await withServer({ _, writer in try await writer.respond(200) }) { server in
            let client = try await server.raw()
            let body = String(repeating: "b", count: 60_000)
            try await client.send("PUT / HTTP/1.1¬Host: x¬Content-Length: 60000¬¬\(body)")
            try await client.expect("HTTP/1.1 200 OK¬Content-Length: 0¬¬")
            try await client.send("PUT / HTTP/1.1¬Host: x¬Transfer-Encoding: chunked¬¬ea60¬\(body)¬0¬¬")
            try await client.expect("HTTP/1.1 200 OK¬Content-Length: 0¬¬")
            try await client.send("PUT / HTTP/1.1¬Host: x¬Content-Length: 70000¬¬")
            #expect(try await client.rest() == "HTTP/1.1 200 OK¬Content-Length: 0¬Connection: close¬¬")
            let chunks = try await server.raw()
            try await chunks.send("PUT / HTTP/1.1¬Host: x¬Transfer-Encoding: chunked¬¬ea60¬\(body)¬ea60¬\(body)¬0¬¬")
            #expect(try await chunks.rest() == "HTTP/1.1 200 OK¬Content-Length: 0¬¬")
        }
    }

    @Test func failuresOfHandlersBecomeAnswersOrCutTheConnection() async throws {
        try await withServer({ request, writer in
            switch request.path.first {
            case "known": throw AegisError.notFound("no-instance", "no instance 'x'", hint: "see aegis instance list")
            case "unknown": throw IOError(.system, "disk on fire")
            case "silent": _ = consume writer
            case "header": try await writer.respond(200, headers: ["X": "a\r\nb"])
            case "framing": try await writer.respond(200, headers: ["Content-Length": "1"])
            case "short":
                var body = try await writer.stream(200, length: 5)
                try await body.write([97])
                try await body.finish()
            default:
                var body = try await writer.stream(200)
                try await body.write([97])
                throw AegisError.failed("late", "too late to say")
            }
        }) { server in
            let client = try await server.raw()
            try await client.send("GET /known HTTP/1.1¬Host: x¬¬")
            let known =
                #"{"error":{"code":"no-instance","message":"no instance 'x'","hint":"see aegis instance list"}}"#
            try await client.expect(
                "HTTP/1.1 404 Not Found¬Content-Type: application/json¬Content-Length: 94¬¬\(known)\n")
            for (path, words) in [
                ("unknown", "disk on fire"), ("silent", "not answered"), ("header", "'X' cannot be sent"),
                ("framing", "content-length"),
            ] {
                let client = try await server.raw()
                try await client.send("GET /\(path) HTTP/1.1¬Host: x¬Connection: close¬¬")
                let answer = try await client.rest()
                #expect(answer.hasPrefix("HTTP/1.1 500 ") && answer.contains(words), "\(answer)")
            }
            for path in ["short", "late"] {
                let client = try await server.raw()
                try await client.send("GET /\(path) HTTP/1.1¬Host: x¬¬")
                let answer = try await client.rest()
                #expect(answer.hasSuffix(path == "short" ? "¬¬a" : "¬¬1¬a¬"))
            }
        }
    }

    @Test func peerIsTheKernelsWord() async throws {
        try await withServer({ request, writer in
            try await writer.respond(200, body: Array("\(request.peer)".utf8))
        }) { server in
            let unix = HTTPClientConnection(try await server.connect())
            let mine = try await unix.send(HTTPRequestHead(.get, HTTPTarget(path: []))).collect(upTo: 100)
            #expect(String(decoding: mine, as: UTF8.self) == "uid \(getuid()), pid \(getpid())")
            let stream = try await Connect.tcp(host: "127.0.0.1", port: server.port, on: server.loop)
            let port = try stream.localPort()
            let tcp = HTTPClientConnection(stream)
            let answer = try await tcp.send(HTTPRequestHead(.get, HTTPTarget(path: []))).collect(upTo: 100)
            #expect(String(decoding: answer, as: UTF8.self) == "127.0.0.1:\(port)")
        }
    }
}
