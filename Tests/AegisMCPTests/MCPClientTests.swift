import AegisCore
import AegisIO
import AegisJSON
import AegisTestSupport
import Testing

@testable import AegisMCP

/// The client against servers that answer what a test says, right and wrong.
@Suite struct MCPClientTests {
    @Test func aServerWithoutSessionsIsDiscoveredAndToldItsRevisionEachTime() async throws {
        try await Stage.run { stage in
            let server = ScriptedServer(Usual.stateless(tellsChanges: true))
            let client = try await MCPClient("s", over: stage.transport(server))
            #expect(client.hello.revision == "2026-07-28" && client.hello.software == "scripted 1")
            let listening = await server.message("subscriptions/listen")
            #expect(listening["params"]?["notifications"]?["toolsListChanged"] == true)
            #expect(try await client.tools().tools.map(\.name) == ["one"])
            let result = try await client.call("one", ["x": 1], timeout: .seconds(9))
            #expect(result["content"]?.elements?.count == 1)
            for message in server.messages {
                let meta = message["params"]?["_meta"]
                #expect(meta?["io.modelcontextprotocol/protocolVersion"]?.text == "2026-07-28", "\(message)")
                #expect(meta?["io.modelcontextprotocol/clientCapabilities"]?.fields?.isEmpty == true)
            }
            #expect(Set(server.messages.compactMap { $0["id"]?.integer }).count == server.messages.count)
        }
    }

    @Test func aServerOfBeforeIsInitialized() async throws {
        try await Stage.run { stage in
            let server = ScriptedServer(Usual.session)
            let client = try await MCPClient("s", over: stage.transport(server))
            #expect(client.hello.revision == "2025-11-25" && client.hello.software == "old 2")
            #expect(try await client.tools().tools.count == 1)
            #expect(server.methods == ["server/discover", "initialize", "notifications/initialized", "tools/list"])
            #expect(server.messages[1]["params"]?["protocolVersion"]?.text == "2025-11-25")
            #expect(server.messages[3]["params"]?["_meta"] == nil)
        }
    }

    @Test func aServerThatLeavesTheProbeWithoutAnswerIsInitialized() async throws {
        try await Stage.run { stage in
            let server = ScriptedServer { message, server in
                if message["method"]?.text != "server/discover" { Usual.session(message, server) }
            }
            async let client = MCPClient("s", over: stage.transport(server))
            await stage.clock.sleepers(1)
            stage.clock.advance(by: .seconds(5))
            let hello = try await client.hello
            #expect(hello.revision == "2025-11-25")
            #expect(
                server.methods == [
                    "server/discover", "notifications/cancelled", "initialize", "notifications/initialized",
                ])
        }
    }

    @Test(arguments: [
        (#"{"supportedVersions": ["2026-07-28", "2027-01-01"]}"#, "2026-07-28"),
        (#"{"supportedVersions": ["2025-11-25"]}"#, "2025-11-25"),
        (#"{"supportedVersions": ["2031-01-01"]}"#, "mcp-revision"),
    ])
    func theNewestRevisionOfBothIsTaken(_ said: String, _ expected: String) async throws {
        try await Stage.run { stage in
            let result = try JSONValue(json: said)
            let server = ScriptedServer { message, server in
                if message["method"]?.text == "server/discover" { return server.answer(message, result) }
                Usual.session(message, server)
            }
            var found = ""
            let failed = await code { found = try await MCPClient("s", over: stage.transport(server)).hello.revision }
            #expect(failed ?? found == expected || failed == expected)
        }
    }

    @Test func aModernServerIsNotTakenForOneOfBefore() async throws {
        try await Stage.run { stage in
            let server = ScriptedServer { message, server in
                server.refuse(message, -32022, data: ["supported": ["2031-01-01"], "requested": "2026-07-28"])
            }
            #expect(await code { _ = try await MCPClient("s", over: stage.transport(server)) } == "mcp-revision")
            #expect(server.methods == ["server/discover"])
            let session = ScriptedServer { message, server in
                if message["method"]?.text == "server/discover" {
                    return server.refuse(message, -32022, data: ["supported": ["2025-11-25"]])
                }
                Usual.session(message, server)
            }
            let client = try await MCPClient("s", over: stage.transport(session))
            #expect(client.hello.revision == "2025-11-25")
            let strange = ScriptedServer { message, server in
                if message["method"]?.text == "initialize" {
                    return server.answer(message, ["protocolVersion": "1999-01-01", "capabilities": .object([])])
                }
                Usual.session(message, server)
            }
            #expect(await code { _ = try await MCPClient("s", over: stage.transport(strange)) } == "mcp-revision")
        }
    }

    @Test func listsComeInPagesAndHaveAnEnd() async throws {
        try await Stage.run { stage in
            let server = ScriptedServer { message, server in
                guard message["method"]?.text == "tools/list" else { return Usual.stateless()(message, server) }
                let cursor = message["params"]?["cursor"]?.text
                server.answer(
                    message,
                    cursor == nil
                        ? ["tools": [.tool("one"), .tool("bad name"), .tool("one")], "nextCursor": "2"]
                        : ["tools": [.tool("two"), ["name": "bare"]]])
            }
            let listed = try await MCPClient("s", over: stage.transport(server)).tools()
            #expect(listed.tools.map(\.name) == ["one", "two"] && listed.problems.count == 3, "\(listed)")
            let endless = ScriptedServer { message, server in
                guard message["method"]?.text == "tools/list" else { return Usual.stateless()(message, server) }
                server.answer(message, ["tools": [], "nextCursor": "again"])
            }
            let client = try await MCPClient("s", over: stage.transport(endless))
            #expect(await code { _ = try await client.tools() } == "mcp-protocol")
        }
    }

    @Test func whatAServerAsksIsRefusedUnlessItIsAPing() async throws {
        try await Stage.run { stage in
            let server = ScriptedServer(Usual.session)
            _ = try await MCPClient("s", over: stage.transport(server))
            server.say(["jsonrpc": "2.0", "id": "p", "method": "ping"])
            #expect(await server.message("answer")["result"]?.fields?.isEmpty == true)
            for method in ["sampling/createMessage", "roots/list", "elicitation/create"] {
                server.say(["jsonrpc": "2.0", "id": 7, "method": .string(method), "params": .object([])])
                let answer = await server.message("answer")
                #expect(answer["error"]?["code"]?.integer == -32601 && answer["id"]?.integer == 7, "\(answer)")
            }
        }
    }

    /// Each way in which a server fails while it is asked, and what is said of it.
    @Test func faultsAreTold() async throws {
        try await Stage.run { stage in
            func outcome(_ react: @escaping ScriptedServer.Reaction, largest: Int = 8 << 20) async throws -> AegisError?
            {
                let server = ScriptedServer { message, server in
                    guard message["method"]?.text == "tools/call" else { return Usual.stateless()(message, server) }
                    react(message, server)
                }
                let transport = stage.transport(server, largest: largest)
                let client = try await MCPClient("s", over: transport)
                do {
                    _ = try await client.call("one", .object([]), timeout: .seconds(9))
                    return nil
                } catch let error as AegisError { return MCPLink.told(error, remarks: transport.remarks) }
            }
            let cut = try await outcome { _, server in
                server.mutter("Traceback\nBoom: \u{1b}[31mred\n")
                server.say(#"{"jsonrpc": "2.0", "id": 3, "res"#)
                server.die()
            }
            #expect(
                cut?.code == "mcp-unavailable" && cut?.message.contains("exit code 3") == true,
                "\(String(describing: cut))")
            #expect(cut?.hint == "it wrote: Traceback | Boom: [31mred")
            let huge = try await outcome(
                { _, server in server.say(String(repeating: "x", count: 5000)) }, largest: 4096)
            #expect(huge?.code == "mcp-protocol")
            let refused = try await outcome { message, server in server.refuse(message, -32602, "no tool\u{7}") }
            #expect(refused?.code == "mcp-error" && refused?.message.contains("code -32602: no tool") == true)
            let asking = try await outcome { message, server in
                server.answer(message, ["resultType": "input_required", "inputRequests": ["a": .object([])]])
            }
            #expect(asking?.code == "mcp-input-required")
            let odd = try await outcome { message, server in server.answer(message, ["resultType": "maybe"]) }
            #expect(odd?.code == "mcp-protocol")
            // Lines that are no messages, and answers to nothing, are passed over.
            let noisy = try await outcome { message, server in
                server.say(
                    "starting up...\n\n[1, 2\n{\"jsonrpc\": \"2.0\", \"id\": 999, \"result\": {}}\nnull\n\"x\"\n")
                server.say("{\"jsonrpc\": \"2.0\", \"id\": null, \"error\": {\"code\": -32700, \"message\": \"\"}}\r\n")
                server.answer(message, ["content": []])
            }
            #expect(noisy == nil)
            let again = try await outcome { message, server in
                let isSecond = message["params"]?["requestState"]?.text == "s"
                server.answer(
                    message, isSecond ? ["content": []] : ["resultType": "input_required", "requestState": "s"])
            }
            #expect(again == nil)
        }
    }

    @Test func whoeverGivesUpTellsTheServer() async throws {
        try await Stage.run { stage in
            let server = ScriptedServer { message, server in
                if message["method"]?.text != "tools/call" { Usual.stateless()(message, server) }
            }
            let client = try await MCPClient("s", over: stage.transport(server))
            async let hung = code { _ = try await client.call("one", .object([]), timeout: .seconds(9)) }
            let call = await server.message("tools/call")
            await stage.clock.sleepers(1)
            stage.clock.advance(by: .seconds(9))
            #expect(await hung == "mcp-timeout")
            let told = await server.message("notifications/cancelled")
            #expect(told["params"]?["requestId"] == call["id"])
            // An answer that comes late harms nobody.
            server.answer(call, ["content": []])
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    let error = await code { _ = try await client.call("one", .object([]), timeout: .seconds(9)) }
                    #expect(error == "CancellationError")
                }
                _ = await server.message("tools/call")
                group.cancelAll()
            }
            #expect(await server.message("notifications/cancelled")["params"]?["requestId"] != call["id"])
        }
    }

    @Test func linesAreWholeHoweverTheyCome() throws {
        let text = Array("one\ntwo\r\n\nthree\n".utf8)
        for first in 0...text.count {
            for second in first...text.count {
                var splitter = LineSplitter(most: 5)
                var lines: [String] = []
                for piece in [text[..<first], text[first..<second], text[second...]] {
                    try splitter.feed(piece) { lines.append(String(decoding: $0, as: UTF8.self)) }
                }
                #expect(lines == ["one", "two", "three"])
            }
        }
        var splitter = LineSplitter(most: 5)
        #expect(throws: LineSplitter.TooLong.self) { try splitter.feed(Array("sixsix\n".utf8)[...]) { _ in } }
        splitter = LineSplitter(most: 5)
        try splitter.feed(Array("four".utf8)[...]) { _ in }
        #expect(throws: LineSplitter.TooLong.self) { try splitter.feed(Array("ty".utf8)[...]) { _ in } }
    }
}
