import AegisIO
import AegisTestSupport
import AegisWire
import Testing

@testable import AegisHTTPClient

/// Servers that hang, cut, drip and lie.
@Suite struct HTTPClientFaultTests {
    @Test(arguments: [
        ("", HTTPClientError.Kind.cut), ("HTTP/1.1 200 OK\r\nContent-Le", .cut),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", .cut),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", .cut),
        ("hello, I am no web server\r\n\r\n", .badAnswer), ("HTTP/1.1 2000 OK\r\n\r\n", .badAnswer),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", .cut),
        ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", .badAnswer),
        ("HTTP/1.1 200 OK\r\nX: a\u{0}b\r\n\r\n", .badAnswer),
    ])
    func anAnswerThatIsNoneSaysWhy(_ said: String, _ kind: HTTPClientError.Kind) async throws {
        try await withRawServer {
            try await $0.write(said)
        } _: { stage in
            var request = try stage.request()
            request.reusesConnection = false
            let error = await failure { _ = try await stage.client.fetch(request) }
            #expect(error?.kind == kind, "\(String(describing: error))")
            #expect(error?.mayHaveArrived == true)
        }
    }

    @Test func whatCameBeforeTheCutCanBeRead() async throws {
        try await withRawServer {
            try await $0.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        } _: { stage in
            try await stage.client.send(try stage.request()) { response in
                let first = try await response.read()
                #expect(first == Array("abc".utf8))
                #expect(await failure { _ = try await response.read() }?.kind == .cut)
            }
        }
    }

    @Test(arguments: [
        ("", HTTPClientError.Limit.firstByte), ("HTTP/1.1 200 OK\r\nX: y\r\n", .firstByte),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", .idle),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", .idle),
    ])
    func aServerThatHangsIsGivenUp(_ said: String, _ limit: HTTPClientError.Limit) async throws {
        let gone = Notes<Bool>()
        try await withRawServer { stream in
            try await stream.write(said)
            await untilGone(stream)
            gone.add(true)
        } _: { stage in
            var request = try stage.request()
            request.timeouts.firstByte = .milliseconds(limit == .firstByte ? 50 : 60_000)
            request.timeouts.idle = .milliseconds(limit == .idle ? 50 : 60_000)
            let error = await failure { _ = try await stage.client.fetch(request) }
            #expect(error?.kind == .timeout(limit), "\(String(describing: error))")
            _ = await gone.wait(for: 1)
        }
    }

    @Test func aServerThatDripsIsCutAtTheWholeLimit() async throws {
        let (reads, read) = AsyncStream.makeStream(of: Void.self)
        try await withRawServer { stream in
            try await stream.write("HTTP/1.1 200 OK\r\n\r\n")
            // A byte for each time the client comes to want one: it never waits for long, and never has enough.
            for await _ in reads { try await stream.write("x") }
        } _: { stage in
            var request = try stage.request()
            request.timeouts.total = .milliseconds(100)
            let error = await failure {
                try await stage.client.send(request) { response in
                    repeat { read.yield() } while try await response.read() != nil
                }
            }
            #expect(error?.kind == .timeout(.total))
        }
    }

    @Test func aHandshakeThatNeverComesIsALimitOfConnecting() async throws {
        try await onLoop { loop in
            let client = try HTTPClient(on: loop)
            defer { client.close() }
            try await serving(on: loop) {
                await untilGone($0)
            } _: { port in
                var request = ClientRequest(.get, try WebURL("https://127.0.0.1:\(port)/"))
                request.timeouts.connect = .milliseconds(50)
                let error = await failure { _ = try await client.fetch(request) }
                #expect(error?.kind == .timeout(.connect) && error?.mayHaveArrived == false)
            }
        }
    }

    @Test func nobodyThereIsSaidSo() async throws {
        try await withStage { stage in
            let closed = try Listener.tcp(address: "127.0.0.1", port: 0, on: stage.loop)
            let port = try closed.localPort()
            closed.close()
            let error = await failure { _ = try await stage.client.fetch(try stage.request(port: port)) }
            #expect(error?.kind == .connect && error?.message.contains("http://127.0.0.1:\(port)") == true)
            let unknown = ClientRequest(.get, try WebURL("http://no-such-host.invalid/"))
            let name = await failure { _ = try await stage.client.fetch(unknown) }
            #expect(name?.kind == .resolve)
        }
    }

    @Test(arguments: [false, true])
    func moreThanTheLimitIsTooLarge(_ announced: Bool) async throws {
        try await withRawServer { stream in
            try await stream.write("HTTP/1.1 200 OK\r\n\(announced ? "Content-Length: 100000000\r\n" : "")\r\n")
            while true { try await stream.write(pattern(10_000)) }
        } _: { stage in
            var request = try stage.request()
            request.maximumBody = 200_000
            #expect(await failure { _ = try await stage.client.fetch(request) }?.kind == .tooLarge)
        }
    }

    @Test func headersWithoutEndAreTooMany() async throws {
        try await withRawServer { stream in
            try await stream.write("HTTP/1.1 200 OK\r\n")
            while true { try await stream.write("X-Y: \(String(repeating: "z", count: 1000))\r\n") }
        } _: { stage in
            #expect(await failure { _ = try await stage.get() }?.kind == .badAnswer)
        }
    }

    @Test(arguments: ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"])
    func cancellingEndsTheConnectionAtOnce(_ said: String) async throws {
        let arrived = Notes<Bool>()
        let gone = Notes<Bool>()
        try await withRawServer { stream in
            try await stream.write(said)
            arrived.add(true)
            await untilGone(stream)
            gone.add(true)
        } _: { stage in
            let request = try stage.request()
            let task = Task {
                await failure {
                    try await stage.client.send(request) { response in
                        _ = try await response.read()
                        // Busy with something else; the connection is ended all the same.
                        _ = await gone.wait(for: 1)
                        _ = try await response.read()
                    }
                }
            }
            _ = await arrived.wait(for: 1)
            task.cancel()
            _ = await gone.wait(for: 1)
            #expect(await task.value?.kind == .cancelled)
            #expect(await stage.client.activeCount == 0)
        }
    }

    @Test func anAnswerThatNobodyReadsIsEndedWithItsResponse() async throws {
        let gone = Notes<Bool>()
        try await withRawServer { stream in
            try await stream.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            await untilGone(stream)
            gone.add(true)
        } _: { stage in
            _ = try await stage.client.open(try stage.request()).status
            _ = await gone.wait(for: 1)
        }
    }

    @Test func closingTheClientEndsWhatIsUnderWay() async throws {
        let arrived = Notes<Bool>()
        try await withRawServer { stream in
            arrived.add(true)
            await untilGone(stream)
        } _: { stage in
            async let error = failure { _ = try await stage.get() }
            _ = await arrived.wait(for: 1)
            stage.client.close()
            #expect(await error?.kind == .closed)
            #expect(await failure { _ = try await stage.get() }?.kind == .closed)
        }
    }

    @Test func aLoopThatEndsEndsItsClients() async throws {
        let loop = try EventLoop.startThread(name: "test-short")
        let client = try HTTPClient(on: loop)
        loop.stop()
        while !loop.hasEnded { await Task.yield() }
        let request = ClientRequest(.get, try WebURL("http://127.0.0.1:1/"))
        #expect(await failure { _ = try await client.fetch(request) }?.kind == .closed)
    }

    @Test func beginningOnAnotherThreadWhileTheLoopLivesIsABug() async throws {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let loop = try EventLoop.startThread(name: "test-alive")
            let engine = try CurlEngine(on: loop, limits: HTTPClientLimits())
            let request = ClientRequest(.get, try WebURL("http://127.0.0.1:1/"))
            let transfer = try CurlTransfer(request, address: nil, connectLimit: .seconds(1), engine: engine)
            _ = try await transfer.begin()
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("not on the client's loop"), "\(said)")
    }

    // MARK: Requests that are refused

    @Test(arguments: [
        ("X-A", "b\r\nX-Evil: c"), ("X-A\r\nX-Evil", "b"), ("X-A", "b\nc"), ("X-A", "b\u{0}"), ("X A", "b"), ("", "b"),
        ("Content-Length", "5"), ("Transfer-Encoding", "chunked"), ("Host", "other"), ("Connection", "close"),
    ])
    func aHeaderThatWouldBeAnotherIsRefused(_ name: String, _ value: String) async throws {
        try await withStage { stage in
            var request = ClientRequest(.get, try WebURL("http://127.0.0.1:1/"))
            request.headers.add(name, value)
            let error = await failure { _ = try await stage.client.fetch(request) }
            #expect(error?.kind == .invalidRequest && error?.mayHaveArrived == false)
        }
    }

    @Test(arguments: ["GET / HTTP/1.1\r\nX", "get", "", "CONNECT", "G T", String(repeating: "A", count: 40)])
    func aMethodThatIsNoneIsRefused(_ method: String) async throws {
        try await withStage { stage in
            let request = ClientRequest(HTTPMethod(rawValue: method), try WebURL("http://127.0.0.1:1/"))
            #expect(await failure { _ = try await stage.client.fetch(request) }?.kind == .invalidRequest)
        }
    }
}
