import AegisCore
import AegisIO
import AegisJSON
import AegisTestSupport
import AegisWire
import LinuxSys
import Synchronization
import Testing

/// A server of methods on a Unix socket, for one test.
private struct RPCServer: Sendable {
    let loop: EventLoop
    let server: JSONRPCServer
    let path: String

    func connect() async throws -> RPCClient { RPCClient(try await Connect.unix(path: path, on: loop)) }
}

/// A client that speaks in lines.
private final class RPCClient {
    let stream: FileStream
    private var buffer = ByteBuffer()
    init(_ stream: FileStream) { self.stream = stream }

    func send(_ text: String) async throws { try await stream.write(text) }
    func request(_ id: Int, _ method: String, _ params: String = "{}") async throws {
        try await send(#"{"jsonrpc":"2.0","id":\#(id),"method":"\#(method)","params":\#(params)}"# + "\n")
    }
    /// The next line; nil at the end of the stream.
    func line() async throws -> JSONValue? {
        while true {
            if let end = buffer.firstOffset(of: 10) {
                defer { buffer.consume(1) }
                return try JSONValue(parsing: buffer.take(end))
            }
            if try await stream.read(into: &buffer) == 0 { return nil }
        }
    }
    func ids(_ count: Int) async throws -> [Int64?] {
        var ids: [Int64?] = []
        for _ in 0..<count { ids.append(try await line()?["id"]?.integer) }
        return ids
    }
}

private func withRPC(
    _ methods: [JSONRPCMethod], limits: JSONRPCLimits = JSONRPCLimits(), clock: (any Clock<Duration>)? = nil,
    _ test: @escaping @Sendable (RPCServer) async throws -> Void
) async throws {
    try await onLoop { loop in
        try await withTemporaryDirectory { directory in
            let path = "\(directory)/rpc.sock"
            let listener = try Listener.unix(path: path, on: loop)
            let server = JSONRPCServer(methods: methods, limits: limits, clock: clock ?? loop.clock)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    await withDiscardingTaskGroup { connections in
                        while let stream = try? await listener.accept() {
                            connections.addTask { await server.serve(stream) }
                        }
                    }
                }
                defer {
                    listener.close()
                    group.cancelAll()
                }
                try await test(RPCServer(loop: loop, server: server, path: path))
            }
            #expect(server.connectionCount == 0)
        }
    }
}

private func method(_ name: String, _ call: @escaping JSONRPCMethod.Call) -> JSONRPCMethod {
    JSONRPCMethod(name, params: "", call: call)
}
private let echo = method("echo") { params, _ in params }

@Suite struct JSONRPCServerTests {
    @Test func aSlowCallDoesNotHoldUpOthers() async throws {
        let release = Signal()
        let slow = method("slow") { _, _ in
            await release.wait()
            return "slow"
        }
        let free = method("free") { _, _ in
            release.set()
            return "free"
        }
        try await withRPC([slow, free, echo]) { server in
            let client = try await server.connect()
            try await client.request(1, "slow")
            try await client.request(2, "echo")
            #expect(try await client.ids(1) == [2])
            try await client.request(3, "free")
            #expect(Set(try await client.ids(2)) == [1, 3])
        }
    }

    @Test func onlySoManyRunAtOnceAndAllAreAnswered() async throws {
        let running = Mutex((now: 0, most: 0))
        let full = Signal()
        let hold = method("hold") { _, _ in
            let isFull = running.withLock { running in
                running.now += 1
                running.most = max(running.most, running.now)
                return running.now == 3
            }
            if isFull { full.set() } else { await full.wait() }
            running.withLock { $0.now -= 1 }
            // Those that come later find nobody to wait for.
            full.set()
            return .null
        }
        var limits = JSONRPCLimits()
        limits.inFlight = 3
        try await withRPC([hold], limits: limits) { server in
            let client = try await server.connect()
            for id in 0..<12 { try await client.request(id, "hold") }
            #expect(Set(try await client.ids(12)) == Set(0..<12))
        }
        #expect(running.withLock { $0.most } == 3)
    }

    @Test func aClientThatGoesCancelsItsCallsButNotItsNotifications() async throws {
        let events = Events()
        let release = Signal()
        let wait = method("wait") { _, context in
            events.emit(context.isNotification ? "notified" : "called")
            if context.isNotification {
                await release.wait()
                events.emit(Task.isCancelled ? "notification cancelled" : "notification done")
            } else {
                await untilCancelled()
                events.emit("call cancelled")
            }
            return .null
        }
        try await withRPC([wait]) { server in
            let client = try await server.connect()
            try await client.send(#"{"jsonrpc":"2.0","method":"wait"}"# + "\n")
            #expect(await events.next() == "notified")
            try await client.request(1, "wait")
            #expect(await events.next() == "called")
            client.stream.close()
            #expect(await events.next() == "call cancelled")
            release.set()
            #expect(await events.next() == "notification done")
        }
    }

    @Test func aClientThatGoesIsNoticedWhileNobodyReads() async throws {
        let events = Events()
        let wait = method("wait") { _, _ in
            events.emit("called")
            await untilCancelled()
            events.emit("cancelled")
            return .null
        }
        var limits = JSONRPCLimits()
        limits.inFlight = 1
        try await withRPC([wait], limits: limits) { server in
            let client = try await server.connect()
            for id in 0..<5 { try await client.request(id, "wait") }
            #expect(await events.next() == "called")
            client.stream.close()
            #expect(await events.next() == "cancelled")
        }
    }

    @Test func aClientThatOnlyStopsSendingGetsItsAnswers() async throws {
        let release = Signal()
        let slow = method("slow") { _, _ in
            await release.wait()
            return 1
        }
        try await withRPC([slow, echo]) { server in
            let client = try await server.connect()
            try await client.request(1, "slow")
            // The last line has no end.
            try await client.send(#"{"jsonrpc":"2.0","id":2,"method":"echo"}"#)
            try client.stream.closeWrite()
            #expect(try await client.ids(1) == [2])
            release.set()
            #expect(try await client.ids(1) == [1])
            #expect(try await client.line() == nil)
        }
    }

    @Test func requestsComeInPiecesAndInOne() async throws {
        try await withRPC([echo]) { server in
            let client = try await server.connect()
            for byte in #"{"jsonrpc":"2.0","id":1,"method":"echo","params":["ä"]}"#.utf8 {
                try await client.stream.write([byte])
            }
            try await client.send("\n\n  \r\n")
            #expect(try await client.line()?["result"] == ["ä"])
            let line = #"{"jsonrpc":"2.0","id":9,"method":"echo"}"# + "\n"
            try await client.send(String(repeating: line, count: 500))
            #expect(try await client.ids(500).allSatisfy { $0 == 9 })
            try await client.send("[\(line.dropLast()),\(line)]\n")
            // A batch ends with its line.
            #expect(try await client.line()?["error"]?["code"]?.integer == -32700)
        }
    }

    @Test func aLineThatIsTooLongIsAnErrorAndTheNextIsServed() async throws {
        var limits = JSONRPCLimits()
        limits.line = 1 << 10
        try await withRPC([echo], limits: limits) { server in
            let client = try await server.connect()
            try await client.send(String(repeating: "x", count: 300_000))
            let error = try await client.line()
            #expect(error?["error"]?["data"]?["code"]?.text == "request-too-large" && error?["id"] == .null)
            try await client.send("\n")
            try await client.request(1, "echo")
            #expect(try await client.ids(1) == [1])
        }
    }

    @Test func aClientThatTakesNothingIsHeldBackAndThenClosed() async throws {
        let clock = TestClock()
        let text = String(repeating: "x", count: 1 << 18)
        let large = method("large") { _, _ in .string(text) }
        var limits = JSONRPCLimits()
        limits.inFlight = 4
        limits.unsent = 1 << 18
        try await withRPC([large], limits: limits, clock: clock) { server in
            let client = try await server.connect()
            for id in 0..<40 { try await client.request(id, "large") }
            // Its answer fills what the kernel and the limit take: the writer waits for the client.
            await clock.sleepers(1)
            clock.advance(by: .seconds(61))
            var buffer = ByteBuffer()
            while let count = try? await client.stream.read(into: &buffer), count > 0 {}
            // What was under way when the limit was reached was at most one answer for each request in flight.
            #expect(buffer.readableBytes < 4 << 20)
        }
    }

    @Test func errorsAreTold() async throws {
        let methods = [
            method("aegis") { _, _ in throw AegisError.notFound("no-agent", "no agent 'x'", hint: "list them") },
            method("other") { _, _ in throw IOError.timeout },
        ]
        try await withRPC(methods) { server in
            let client = try await server.connect()
            try await client.request(1, "aegis")
            let first = try await client.line()?["error"]
            #expect(first?["code"]?.integer == -32004 && first?["data"]?["hint"]?.text == "list them")
            try await client.request(2, "other")
            #expect(try await client.line()?["error"]?["code"]?.integer == -32603)
            try await client.request(3, "aegsi")
            #expect(try await client.line()?["error"]?["data"]?["hint"]?.text == "did you mean 'aegis'?")
        }
    }

    @Test func connectionsBeyondTheLimitAreToldSo() async throws {
        var limits = JSONRPCLimits()
        limits.connections = 1
        try await withRPC([echo], limits: limits) { server in
            let client = try await server.connect()
            try await client.request(1, "echo")
            _ = try await client.line()
            let other = try await server.connect()
            #expect(try await other.line()?["error"]?["data"]?["code"]?.text == "too-many-connections")
            #expect(try await other.line() == nil)
        }
    }

    @Test func aPythonClientIsServed() async throws {
        let who = method("who") { _, context in ["user": .number(context.caller.user)] }
        let sum = method("sum") { params, _ in
            .number(params.elements?.compactMap(\.integer).reduce(0, +) ?? 0)
        }
        try await withRPC([who, sum, echo]) { server in
            let program = """
                import json, os, socket, sys, threading
                s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile("rw")
                def ask(**request):
                    f.write(json.dumps({"jsonrpc": "2.0", **request}) + "\\n"); f.flush()
                    return json.loads(f.readline())
                assert ask(id="a", method="who")["result"] == {"user": os.getuid()}
                assert ask(id=2.5, method="sum", params=[1, 2, 3]) == {"jsonrpc": "2.0", "id": 2.5, "result": 6}
                assert ask(id=1, method="nope")["error"]["code"] == -32601
                f.write(json.dumps([{"jsonrpc": "2.0", "method": "echo"}]
                    + [{"jsonrpc": "2.0", "method": "sum", "params": [i, i], "id": i} for i in range(50)]) + "\\n"); f.flush()
                assert {e["id"]: e["result"] for e in json.loads(f.readline())} == {i: 2 * i for i in range(50)}
                answers = []
                reader = threading.Thread(target=lambda: answers.extend(json.loads(f.readline()) for _ in range(300)))
                reader.start()
                for i in range(300):
                    s.sendall((json.dumps({"jsonrpc": "2.0", "method": "echo", "params": {"text": "ü" * i}, "id": i}) + "\\n").encode())
                reader.join()
                assert {a["id"]: len(a["result"]["text"]) for a in answers} == {i: i for i in range(300)}
                print("well")
                """
            let result = try await runTool("python3", ["-c", program, server.path], on: server.loop)
            #expect(result.out == "well\n", "\(result.error)")
        }
    }
}

/// Calls that go on after their answers.
@Suite struct JSONRPCFollowTests {
    private static func counting(_ count: Int, then end: Signal? = nil, gone: Signal? = nil) -> JSONRPCMethod {
        JSONRPCMethod("count", params: "") { _, context in
            try context.follow { notifier in
                for number in 1...count {
                    guard await notifier.notify("number", ["n": .number(number)]) else { break }
                }
                await end?.wait()
                gone?.set()
            }
            return "begun"
        }
    }

    @Test func notificationsFollowTheAnswer() async throws {
        try await withRPC([Self.counting(3), echo]) { server in
            let client = try await server.connect()
            try await client.request(1, "count")
            #expect(try await client.line()?["result"] == "begun")
            for number in 1...3 {
                let line = try #require(try await client.line())
                #expect(line["method"] == "number" && line["params"]?["n"]?.integer == Int64(number))
                #expect(line["id"] == nil)
            }
            // Who only stops sending still gets everything.
            try await client.request(2, "count")
            try client.stream.closeWrite()
            var lines = 0
            while try await client.line() != nil { lines += 1 }
            #expect(lines == 4)
        }
    }

    @Test func aConnectionHasSoManyAndANotificationNone() async throws {
        let end = Signal()
        var limits = JSONRPCLimits()
        limits.follows = 2
        try await withRPC([Self.counting(1, then: end), echo], limits: limits) { server in
            let client = try await server.connect()
            for id in 1...2 {
                try await client.request(id, "count")
                for _ in 0..<2 { _ = try await client.line() }
            }
            try await client.request(3, "count")
            #expect(try await client.line()?["error"]?["data"]?["code"] == "too-many-subscriptions")
            try await client.send(#"{"jsonrpc":"2.0","method":"count"}"# + "\n")
            // Other calls go on as ever.
            try await client.request(5, "echo")
            #expect(try await client.line()?["id"]?.integer == 5)
            end.set()
        }
    }

    @Test func whoIsGoneEndsWhatFollows() async throws {
        let gone = Signal()
        let never = Signal()
        try await withRPC([Self.counting(1, then: never, gone: gone)]) { server in
            let client = try await server.connect()
            try await client.request(1, "count")
            for _ in 0..<2 { _ = try await client.line() }
            client.stream.close()
            await gone.wait()
        }
    }

    /// A client that reads nothing holds so much memory and no more; when it reads, all comes in order.
    @Test func aSlowReaderIsWaitedFor() async throws {
        var limits = JSONRPCLimits()
        limits.unsent = 1000
        try await withRPC([Self.counting(5000)], limits: limits) { server in
            let client = try await server.connect()
            try await client.request(1, "count")
            _ = try await client.line()
            for number in 1...5000 { #expect(try await client.line()?["params"]?["n"]?.integer == Int64(number)) }
        }
    }
}
