import AegisCore
import AegisIO
import AegisTestSupport
import AegisWire
import Synchronization
import Testing

@Suite struct HTTPServerTimeTests {
    private static let ok: HTTPServer.Handler = { _, writer in try await writer.respond(200) }
    private static let okText = "HTTP/1.1 200 OK¬Content-Length: 0¬¬"

    @Test func slowHeadIsAnsweredWith408() async throws {
        let clock = TestClock()
        try await withServer(clock: clock, Self.ok) { server in
            let client = try await server.raw()
            try await client.send("GET / HTTP/1.1¬Host")
            await clock.sleepers(1)
            clock.advance(by: .seconds(9))
            try await client.send(": ")
            clock.advance(by: .seconds(1))
            let answer = try await client.rest()
            #expect(answer.hasPrefix("HTTP/1.1 408 Request Timeout¬") && answer.contains("request-timeout"))
        }
    }

    @Test func silentConnectionIsClosed() async throws {
        let clock = TestClock()
        try await withServer(clock: clock, Self.ok) { server in
            let client = try await server.raw()
            await clock.sleepers(1)
            clock.advance(by: .seconds(10))
            #expect(try await client.rest() == "")
        }
    }

    @Test func idleConnectionIsClosedInItsTimeAndASlowSecondHeadInItsOwn() async throws {
        let clock = TestClock()
        try await withServer(clock: clock, Self.ok) { server in
            let idle = try await server.raw()
            try await idle.send("GET / HTTP/1.1¬Host: a¬¬")
            try await idle.expect(Self.okText)
            await clock.sleepers(1)
            clock.advance(by: .seconds(59))
            await clock.sleepers(1)
            try await idle.send("GET / HTTP/1.1¬Host: a¬¬")
            try await idle.expect(Self.okText)
            let slow = try await server.raw()
            try await slow.send("GET / HTTP/1.1¬Host: a¬¬GET")
            try await slow.expect(Self.okText)
            await clock.sleepers(1)
            clock.advance(by: .seconds(10))
            #expect(try await slow.rest().hasPrefix("HTTP/1.1 408"))
            await clock.sleepers(1)
            clock.advance(by: .seconds(49))
            await clock.sleepers(1)
            clock.advance(by: .seconds(1))
            #expect(try await idle.rest() == "")
        }
    }

    /// Who reads is waited for, however long it takes; who reads nothing is not.
    @Test func aReaderIsCutOffOnlyWhenItReadsNothing() async throws {
        let clock = TestClock()
        let ended = Mutex<HTTPError.Code?>(nil)
        let handler: HTTPServer.Handler = { _, writer in
            var body = try await writer.stream(200)
            do {
                while true { try await body.write(pattern(200_000), within: .seconds(60), clock: clock) }
            } catch {
                ended.withLock { $0 = (error as? HTTPError)?.code }
                throw error
            }
        }
        let server = HTTPServer(clock: clock, handler: handler)
        let (near, far) = BytePipe.pair(capacity: 4096)
        async let served: Void = server.serve(far, peer: .unknown)
        try await near.write(wire("GET / HTTP/1.1¬Host: x¬¬")[...])
        var read = 0
        for _ in 0..<10 {
            var buffer = ByteBuffer()
            _ = try await near.fill(&buffer, to: 32 << 10)
            read += buffer.readableBytes
            // It waits for the next part to be taken.
            let now = clock.now.offset
            while clock.deadlines != [now + .seconds(60)] { await Task.yield() }
            clock.advance(by: .seconds(50))
        }
        #expect(read == 320 << 10)
        while ended.withLock({ $0 }) == nil {
            clock.advance(by: .seconds(60))
            await Task.yield()
        }
        #expect(ended.withLock { $0 } == .timeout)
        let rest = try? await near.readAll(limit: 1 << 20)
        #expect((rest?.count ?? 0) <= 4096)
        await served
    }

    @Test func slowBodyEndsTheHandlersReadAndIsAnsweredWith408() async throws {
        let clock = TestClock()
        let events = Events()
        try await withServer(
            clock: clock,
            { request, writer in
                events.emit("reads")
                if request.path == ["stream"] {
                    var buffer = ByteBuffer()
                    while try await request.body.read(into: &buffer) > 0 {}
                } else {
                    _ = try await request.body.collect(upTo: 100)
                }
                try await writer.respond(200)
            }
        ) { server in
            for path in ["stream", "collect"] {
                let client = try await server.raw()
                try await client.send("PUT /\(path) HTTP/1.1¬Host: a¬Content-Length: 5¬¬ab")
                // The handler sets its deadline without letting this task run in between.
                #expect(await events.next() == "reads")
                await clock.sleepers(1)
                clock.advance(by: .seconds(60))
                #expect(try await client.rest().hasPrefix("HTTP/1.1 408 "))
            }
        }
    }

    @Test func steadyBodyMayTakeLongButCollectingMayNot() async throws {
        let clock = TestClock()
        let events = Events()
        try await withServer(
            clock: clock,
            { request, writer in
                var buffer = ByteBuffer()
                while try await request.body.read(into: &buffer) > 0 { events.emit("read") }
                try await writer.respond(200)
            }
        ) { server in
            let client = try await server.raw()
            try await client.send("PUT / HTTP/1.1¬Host: a¬Content-Length: 5¬¬")
            for _ in 0..<5 {
                await clock.sleepers(1)
                clock.advance(by: .seconds(50))
                try await client.send("x")
                #expect(await events.next() == "read")
            }
            try await client.expect(Self.okText)
        }
    }

    @Test(.timeLimit(.minutes(15))) func unreadBodyMayNotBeDribbledForLong() async throws {
        let clock = TestClock()
        try await withServer(clock: clock, Self.ok) { server in
            let client = try await server.raw()
            try await client.send("POST / HTTP/1.1¬Host: a¬Content-Length: 60000¬¬")
            try await client.expect(Self.okText)
            // A byte each second does not buy more than the five seconds for all of them.
            for _ in 0..<5 {
                try await client.send("x")
                await clock.sleepers(1)
                clock.advance(by: .seconds(1))
            }
            await clock.sleepers(1)
            clock.advance(by: HTTPServerLimits().lingerTime)
            #expect(try await client.rest() == "")
        }
    }

    @Test func refusalsCarryTheirStatusAndFields() async throws {
        let handler: HTTPServer.Handler = { _, _ in
            throw HTTPRefusal(405, headers: ["Allow": "GET, HEAD"], AegisError(.usage, "not-so", "no"))
        }
        try await withServer(handler) { server in
            let client = try await server.client()
            let answer = try await client.send(HTTPRequestHead(.put, HTTPTarget(path: ["x"])))
            #expect(answer.status == 405 && answer.headers.first("allow") == "GET, HEAD")
            let body = String(decoding: try await answer.collect(upTo: 1000), as: UTF8.self)
            #expect(body.contains("\"code\":\"not-so\""))
            client.close()
        }
    }

    @Test func connectionsBeyondTheLimitAreToldSo() async throws {
        var limits = HTTPServerLimits()
        limits.connections = 2
        try await withServer(limits: limits, Self.ok) { server in
            let first = try await server.raw()
            try await first.send("GET / HTTP/1.1¬Host: a¬¬")
            try await first.expect(Self.okText)
            let second = try await server.raw()
            try await second.send("GET / HTTP/1.1¬Host: a¬¬")
            try await second.expect(Self.okText)
            let third = try await server.client()
            let refused = try await third.send(HTTPRequestHead(.get, HTTPTarget(path: [])))
            #expect(refused.status == 503)
            let body = String(decoding: try await refused.collect(upTo: 1000), as: UTF8.self)
            #expect(body.contains("too-many-connections"))
            third.close()
            first.stream.close()
            second.stream.close()
        }
    }

    @Test func clientThatLeavesCancelsAHandlerThatWaits() async throws {
        let events = Events()
        try await withServer({ request, writer in
            events.emit("started")
            await untilCancelled()
            events.emit(Task.isCancelled ? "cancelled" : "not cancelled")
            try await writer.respond(200)
        }) { server in
            for early in [false, true] {
                let client = try await server.raw()
                try await client.send("POST / HTTP/1.1¬Host: a¬Content-Length: 0¬¬")
                // Also when the client is gone before the handler has begun.
                if early { client.stream.close() }
                #expect(await events.next() == "started")
                client.stream.close()
                #expect(await events.next() == "cancelled")
            }
        }
    }

    @Test func clientThatLeavesCancelsAHandlerThatStreams() async throws {
        let events = Events()
        try await withServer({ request, writer in
            var body = try await writer.stream(200)
            do throws(HTTPError) {
                while true { try await body.write([UInt8](repeating: 1, count: 10_000)) }
            } catch {
                events.emit("\(Task.isCancelled || error.code == .closed || error.code == .cancelled)")
                throw error
            }
        }) { server in
            let client = try await server.raw()
            try await client.send("GET / HTTP/1.1¬Host: a¬¬")
            _ = try await client.receive(100)
            client.stream.close()
            #expect(await events.next() == "true")
        }
    }

    @Test func shutdownLetsExchangesEndAndClosesIdleConnections() async throws {
        let events = Events()
        let gate = Events()
        let clock = TestClock()
        try await withServer(
            clock: clock,
            { request, writer in
                events.emit("started")
                _ = await gate.next()
                try await writer.respond(200)
            }
        ) { server in
            let idle = try await server.raw()
            try await idle.send("GET / HTTP/1.1¬Host: a¬¬")
            #expect(await events.next() == "started")
            gate.emit("go")
            try await idle.expect(Self.okText)
            let busy = try await server.raw()
            try await busy.send("GET / HTTP/1.1¬Host: a¬¬")
            #expect(await events.next() == "started")
            async let stopped: Void = server.server.shutdown(within: .seconds(5))
            #expect(try await idle.rest() == "")
            await #expect(throws: (any Error).self) { try await server.connect() }
            gate.emit("go")
            #expect(try await busy.rest() == "HTTP/1.1 200 OK¬Content-Length: 0¬Connection: close¬¬")
            await stopped
        }
    }

    @Test func shutdownCutsWhatDoesNotEndInTime() async throws {
        let events = Events()
        let clock = TestClock()
        try await withServer(
            clock: clock,
            { request, writer in
                events.emit("started")
                await untilCancelled()
                events.emit("cancelled")
            }
        ) { server in
            let client = try await server.raw()
            try await client.send("GET / HTTP/1.1¬Host: a¬¬")
            #expect(await events.next() == "started")
            async let stopped: Void = server.server.shutdown(within: .seconds(5))
            // The keeper may sleep for the deadline of the head, which is over.
            while !clock.deadlines.contains(.seconds(5)) { await Task.yield() }
            clock.advance(by: .seconds(5))
            #expect(await events.next() == "cancelled")
            #expect(try await client.rest() == "")
            await stopped
        }
    }

    @Test func cancellingTheServerEndsEverything() async throws {
        let events = Events()
        try await onLoop { loop in
            let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
            let port = try listener.localPort()
            let server = HTTPServer(clock: loop.clock) { _, writer in
                events.emit("started")
                await untilCancelled()
                events.emit("cancelled")
                try await writer.respond(200)
            }
            let running = Task(executorPreference: loop) { await server.run([listener]) }
            let idle = RawClient(try await Connect.tcp(host: "127.0.0.1", port: port, on: loop))
            let busy = RawClient(try await Connect.tcp(host: "127.0.0.1", port: port, on: loop))
            try await busy.send("GET / HTTP/1.1¬Host: a¬¬")
            #expect(await events.next() == "started")
            running.cancel()
            await running.value
            #expect(await events.next() == "cancelled")
            #expect(try await idle.rest() == "" && server.connectionCount == 0)
            await #expect(throws: IOError.self) { try await Connect.tcp(host: "127.0.0.1", port: port, on: loop) }
        }
    }
}
