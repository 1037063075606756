import AegisCore
import AegisHTTPClient
import AegisIO
import AegisJSON
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisMCP

/// The client against servers of the official library, over both transports and in both revisions.
@Suite struct MCPPeerTests {
    private static let python: String = {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
        return (CurrentProcess.environment("AEGIS_TEST_PEERS") ?? "\(root)/.build/peers") + "/bin/python"
    }()
    private static let script: String = {
        #filePath.split(separator: "/").dropLast().map { "/\($0)" }.joined() + "/Peers/mcp_peer.py"
    }()

    /// A child of ours, as a server's process.
    private final class Child: MCPProcess {
        private let child: ChildProcess
        private let errors = Mutexed(false)
        init(_ child: ChildProcess) { self.child = child }
        func read() async throws -> MCPProcessOutput {
            if errors.change({ done in
                defer { done = true }; return !done
            }), let stderr = child.stderr {
                var line = ByteBuffer()
                _ = try await stderr.read(into: &line)
                return .stderr(line.takeAll()[...])
            }
            var bytes = ByteBuffer()
            guard try await child.stdout?.read(into: &bytes) ?? 0 > 0 else { return .ended("its output ended") }
            return .stdout(bytes.takeAll()[...])
        }
        func write(_ bytes: [UInt8]) async throws { try await child.stdin?.write(bytes) }
        func stop() async { await child.teardown([.closeInput(allow: .seconds(20)), .signal(9, allow: .seconds(5))]) }
    }

    private func check(_ client: MCPClient, _ expected: String) async throws {
        #expect(client.hello.revision == expected && client.hello.software == "peer 7", "\(client.hello)")
        try await client.ping(timeout: .seconds(60))
        let listed = try await client.tools()
        #expect(
            listed.problems.isEmpty
                && Set(listed.tools.map(\.name)) == ["add", "fail", "picture", "hang", "wait", "grow"])
        let add = try #require(listed.tools.first { $0.name == "add" })
        #expect(add.description == "Adds two numbers." && add.schema["properties"]?["a"] != nil)
        let sum = MCPCallResult.framed(
            try await client.call("add", ["a": 2, "b": 3], timeout: .seconds(60)), from: "mcp.peer.add")
        #expect(!sum.isError && sum.value["text"] == "5" && sum.value["structured"]?["result"] == 5, "\(sum)")
        let failed = MCPCallResult.framed(
            try await client.call("fail", .object([]), timeout: .seconds(60)), from: "x")
        #expect(failed.isError && failed.value.pretty.contains("no such thing"))
        let picture = MCPCallResult.framed(
            try await client.call("picture", .object([]), timeout: .seconds(60)), from: "x")
        #expect(picture.value["other_parts"]?.elements?.first?["note"] == "not shown: 5 bytes")
    }

    /// A call that takes too long, and one that nobody waits for any more; then the server still answers.
    private func giveUp(_ client: MCPClient) async throws {
        #expect(
            await code { _ = try await client.call("hang", .object([]), timeout: .milliseconds(300)) } == "mcp-timeout")
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                let error = await code { _ = try await client.call("hang", .object([]), timeout: .seconds(600)) }
                #expect(error == "CancellationError")
            }
            group.cancelAll()
        }
        #expect(try await client.call("add", ["a": 1, "b": 1], timeout: .seconds(60))["isError"]?.flag != true)
    }

    @Test(arguments: [(MCPRevision.Choice.auto, "2026-07-28"), (.session, "2025-11-25")])
    func overStandardStreams(_ choice: MCPRevision.Choice, _ revision: String) async throws {
        try await onLoop { loop in
            let scope = TaskScope(on: loop)
            var spec = ProcessSpec(
                executable: Self.python, arguments: [Self.python, Self.script, "stdio"],
                environment: ["PATH=/usr/bin:/bin"],
                stdin: .pipe, stdout: .pipe, stderr: .pipe)
            spec.parentDeathSignal = 9
            let child = try await ChildProcess.spawnInBackground(spec, on: loop)
            let (changes, tell) = AsyncStream.makeStream(of: Void.self)
            let transport = MCPStdioTransport("peer", Child(child), scope: scope, clock: loop.clock) { notice in
                if notice == .toolsChanged { tell.yield() }
            }
            let result: Result<Void, any Error>
            do {
                var times = MCPClient.Times()
                (times.probe, times.hello) = (.seconds(60), .seconds(60))
                let client = try await MCPClient(
                    "peer", over: transport, choice: choice, times: times)
                try await self.check(client, revision)
                #expect(transport.remarks.contains("peer is starting"))
                try await self.giveUp(client)
                _ = try await client.call("grow", .object([]), timeout: .seconds(60))
                try await withDeadline(.seconds(60)) { for await _ in changes { break } }
                #expect(try await client.tools().tools.contains { $0.name == "late" })
                result = .success(())
            } catch { result = .failure(error) }
            await transport.close()
            await scope.end()
            try result.get()
            #expect(child.exitStatus != nil)
        }
    }

    /// Answers whatever it is asked with questions, and never with an answer.
    private static let asker = """
        import http.server
        class Asker(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments): pass
            def do_POST(self):
                self.rfile.read(int(self.headers['Content-Length']))
                self.send_response(200)
                self.send_header('Content-Type', 'text/event-stream')
                self.end_headers()
                try:
                    for number in range(1000000):
                        self.wfile.write(b'data: {"jsonrpc":"2.0","id":%d,"method":"roots/list"}\\n\\n' % number)
                except OSError: pass
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Asker)
        print(server.server_port, flush=True)
        server.serve_forever()
        """

    @Test func whoOnlyAsksIsLeft() async throws {
        try await onLoop { loop in
            let peer = try await PythonServer(Self.asker, [], python: Self.python, in: "/", on: loop)
            let http = try HTTPClient(on: loop)
            let scope = TaskScope(on: loop)
            let result: Result<String?, any Error>
            do {
                let transport = try MCPHTTPTransport(
                    "asker", "http://127.0.0.1:\(peer.port)/mcp", headers: [], client: http, scope: scope,
                    clock: loop.clock
                ) { _ in }
                var times = MCPClient.Times()
                times.hello = .seconds(600)
                result = .success(
                    await code {
                        _ = try await MCPClient("asker", over: transport, choice: .session, times: times)
                    })
                await transport.close()
            } catch { result = .failure(error) }
            await scope.end()
            http.close()
            await peer.stop()
            #expect(try result.get() == "mcp-protocol")
        }
    }

    @Test(arguments: [
        (MCPRevision.Choice.auto, "2026-07-28", "events"), (.session, "2025-11-25", "events"),
        (.session, "2025-11-25", "json"), (.stateless, "2026-07-28", "json"), (.session, "2025-11-25", "kept"),
    ])
    func overHTTP(_ choice: MCPRevision.Choice, _ revision: String, _ form: String) async throws {
        let program = String(decoding: try Files.read(Self.script, limit: 1 << 20), as: UTF8.self)
        try await onLoop { loop in
            let peer = try await PythonServer(program, ["http", form], python: Self.python, in: "/", on: loop)
            let http = try HTTPClient(on: loop)
            let scope = TaskScope(on: loop)
            let (changes, tell) = AsyncStream.makeStream(of: Void.self)
            let result: Result<Void, any Error>
            do {
                let transport = try MCPHTTPTransport(
                    "peer", "http://127.0.0.1:\(peer.port)/mcp", headers: [], client: http, scope: scope,
                    clock: loop.clock
                ) { notice in if notice == .toolsChanged { tell.yield() } }
                let client = try await MCPClient("peer", over: transport, choice: choice)
                try await self.check(client, revision)
                try await self.giveUp(client)
                // One that keeps its events may close a stream, and is asked for what follows.
                let waited = MCPCallResult.framed(
                    try await client.call("wait", .object([]), timeout: .seconds(120)), from: "x")
                #expect(waited.value["text"] == "waited", "\(waited)")
                _ = try await client.call("grow", .object([]), timeout: .seconds(60))
                try await withDeadline(.seconds(60)) { for await _ in changes { break } }
                #expect(try await client.tools().tools.contains { $0.name == "late" })
                await transport.close()
                #expect(await code { _ = try await client.tools() } == "mcp-unavailable")
                let missing = try MCPHTTPTransport(
                    "peer", "http://127.0.0.1:\(peer.port)/nothing", headers: [], client: http, scope: scope,
                    clock: loop.clock
                ) { _ in }
                #expect(await code { _ = try await MCPClient("peer", over: missing) } == "mcp-unavailable")
                result = .success(())
            } catch { result = .failure(error) }
            await scope.end()
            http.close()
            await peer.stop()
            try result.get()
        }
    }
}
