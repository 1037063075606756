import AegisCore
import AegisIO
import AegisTestSupport
import AegisWire
import Testing

/// Clients that send no more, and wait for their answer or have gone.
@Suite struct HTTPHalfCloseTests {
    private func connect(_ server: TestServer, _ way: String) async throws -> RawClient {
        guard way == "tcp" else { return try await server.raw() }
        return RawClient(try await Connect.tcp(host: "127.0.0.1", port: server.port, on: server.loop))
    }

    @Test(arguments: ["unix", "tcp"]) func whoEndsItsSideWithTheRequestIsAnswered(_ way: String) async throws {
        try await withServer(HTTPServerTests.echo) { server in
            for _ in 0..<200 {
                let client = try await connect(server, way)
                try await client.send("GET /a HTTP/1.1¬Host: x¬¬GET /b HTTP/1.1¬Host: x¬¬")
                try client.stream.closeWrite()
                #expect(
                    try await client.rest()
                        == "HTTP/1.1 200 OK¬Content-Length: 6¬¬GET a HTTP/1.1 200 OK¬Content-Length: 6¬¬GET b ")
            }
        }
    }

    @Test func aRequestThatIsNotWholeIsNotWaitedFor() async throws {
        try await withServer(HTTPServerTests.echo) { server in
            let client = try await server.raw()
            try await client.send("POST /a HTTP/1.1¬Host: x¬Content-Length: 5¬¬ab")
            try client.stream.closeWrite()
            let answer = try await client.rest()
            #expect(!answer.contains("200 OK"), "\(answer)")
        }
    }

    /// However long the answer takes: a client of this host is known to be there, and to have gone.
    @Test(arguments: ["unix", "tcp"]) func aClientOfThisHostIsWaitedForUntilItHasGone(_ way: String) async throws {
        let (events, gate) = (Events(), Events())
        let clock = TestClock()
        let handler: HTTPServer.Handler = { request, writer in
            let body = try await request.body.collect(upTo: 10)
            events.emit("started")
            _ = await gate.next()
            events.emit(Task.isCancelled ? "cancelled" : "answers")
            try await writer.respond(200, body: body)
        }
        try await withServer(clock: clock, handler) { server in
            for answers in [true, false] {
                let client = try await connect(server, way)
                try await client.send("POST / HTTP/1.1¬Host: a¬Content-Length: 2¬¬hi")
                try client.stream.closeWrite()
                #expect(await events.next() == "started")
                for _ in 0..<10 {
                    while clock.deadlines.isEmpty { await Task.yield() }
                    clock.advance(by: .seconds(60))
                }
                if answers {
                    gate.emit("go")
                    #expect(await events.next() == "answers")
                    #expect(try await client.rest() == "HTTP/1.1 200 OK¬Content-Length: 2¬¬hi")
                } else {
                    client.stream.close()
                    #expect(await Self.next(of: events, as: clock) == "cancelled")
                }
            }
        }
    }

    /// Of others nobody can tell: who takes nothing has its time, and as long again after whatever it takes.
    @Test func whoMayHaveGoneHasItsTime() async throws {
        let (events, gate) = (Events(), Events())
        let clock = TestClock()
        let server = HTTPServer(clock: clock) { _, writer in
            var body = try await writer.stream(200)
            events.emit("started")
            while !Task.isCancelled {
                _ = await gate.next()
                if !Task.isCancelled { try await body.write(Array("a".utf8)) }
                events.emit(Task.isCancelled ? "cancelled" : "wrote")
            }
            try await body.finish()
        }
        let (near, far) = BytePipe.pair()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await server.watch() }
            group.addTask { await server.serve(far, peer: .unknown) }
            try await near.write(wire("GET / HTTP/1.1¬Host: x¬¬")[...])
            try near.closeWrite()
            #expect(await events.next() == "started")
            for _ in 0..<4 {
                for _ in 0..<18 {
                    while clock.deadlines.isEmpty { await Task.yield() }
                    clock.advance(by: .milliseconds(500))
                }
                gate.emit("go")
                #expect(await events.next() == "wrote")
            }
            #expect(await Self.next(of: events, as: clock) == "cancelled")
            #expect(clock.now.offset >= .seconds(4 * 9 + 10))
            group.cancelAll()
        }
        near.close()
    }

    /// Lets time go by, in the steps in which clients are looked for, until something happens.
    private static func next(of events: Events, as clock: TestClock) async -> String {
        await withTaskGroup(of: String?.self) { group in
            group.addTask { await events.next() }
            group.addTask {
                while !Task.isCancelled {
                    if !clock.deadlines.isEmpty { clock.advance(by: HTTPServerLimits().endedTick) }
                    await Task.yield()
                }
                return nil
            }
            let event = await group.next()
            group.cancelAll()
            return (event ?? nil) ?? "nothing"
        }
    }
}
