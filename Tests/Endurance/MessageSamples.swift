import AegisIO
import AegisJSON
import AegisTestSupport

@testable import AegisMCP
@testable import AegisWire

/// Messages of clients and of MCP servers.
extension FuzzTests {
    static let rpcLines: [[UInt8]] = [
        #"{"jsonrpc":"2.0","id":1,"method":"agent.list","params":{"limit":3}}"# + "\n"
            + #"{"jsonrpc":"2.0","method":"audit.note","params":[]}"# + "\r\n\n",
        #"[{"jsonrpc":"2.0","id":"a","method":"x"},{"jsonrpc":"2.0","id":null,"method":"y"},{"jsonrpc":"2.0","method":"z"},7]"#
            + "\n",
        #"{"jsonrpc":"2.0","id":12345678901234567890,"method":"ä\ud83d\ude00","params":{"a":{"b":[1e400,-0,null]}}}"#,
        "[]\n" + String(repeating: "[", count: 300) + "\n" + #"{"jsonrpc":"1.0","id":{},"metod":1}"# + "\n",
    ].map { Array($0.utf8) }

    static let mcpLines: [[UInt8]] = mcpBodies.map { Array(($0 + "\n").utf8) }
    static let mcpEvents: [[UInt8]] =
        mcpBodies.map { Array("event: message\nid: 7\ndata: \($0)\n\n".utf8) } + [
            Array(
                ": ping\r\n\r\nretry: 5\r\ndata: {\"jsonrpc\":\"2.0\",\rdata: \"method\":\"notifications/x\"}\r\r".utf8)
        ]

    private static let mcpBodies = [
        #"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"add","title":"Add","description":"Adds.\u202e\u0007","inputSchema":{"type":"object","properties":{"a":{"type":"integer","x-mcp-header":"A"}},"required":["a"]}},{"name":"b c","inputSchema":{}}]}}"#,
        #"{"jsonrpc":"2.0","id":2,"result":{"isError":true,"content":[{"type":"text","text":"so\u001b[31m it is"},{"type":"image","mimeType":"image/png","data":"aGk="},{"type":"resource","resource":{"uri":"a:b","text":"t"}},{"type":"resource_link","uri":"c:d"}],"structuredContent":{"k\u200b":[1,{"l":"m"}]}}}"#,
        #"[{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage"},{"jsonrpc":"2.0","method":"notifications/tools/list_changed"},{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no","data":["2025-11-25"]}}]"#,
    ]
}

extension Transcript {
    /// The lines of a client, and what a server that answers each call at once says to them.
    static func rpc(_ pieces: [[UInt8]]) -> Transcript {
        var transcript = Transcript()
        var limits = JSONRPCLimits()
        limits.line = 250
        var lines = JSONRPCLines(limit: limits.line)
        var machine = JSONRPCMachine(limits: limits)
        var buffer = ByteBuffer()
        func say(_ bytes: [UInt8]?) {
            guard let bytes else { return }
            machine.sent(bytes.count)
            for line in bytes.split(separator: 10) {
                if (try? JSONValue(parsing: line)) == nil { transcript.say("no JSON: \(line)") }
                if line.starts(with: #"{"jsonrpc":"2.0","error""#.utf8) { transcript.fail(saying: "refused") }
            }
            transcript.say(String(decoding: bytes, as: UTF8.self))
        }
        func take(ended: Bool) {
            while let line = lines.next(in: &buffer, ended: ended) {
                switch line {
                case .line(let bytes): say(machine.received(JSONRPCMessage(line: bytes[...], batchLimit: 3)))
                case .tooLong: transcript.fail(saying: "too long")
                }
                while let job = machine.start() {
                    say(machine.finished(job.ticket, .success(job.request.params)))
                }
            }
        }
        for piece in pieces {
            buffer.append(piece)
            take(ended: false)
        }
        take(ended: true)
        if !machine.isIdle { transcript.say("something is left to do") }
        return transcript
    }

    static func mcpLines(_ pieces: [[UInt8]]) -> Transcript {
        var transcript = Transcript()
        var splitter = LineSplitter(most: 600)
        do throws(LineSplitter.TooLong) {
            for piece in pieces { try splitter.feed(piece[...]) { transcript.take(server: $0) } }
        } catch { transcript.fail(error) }
        return transcript
    }

    static func mcpEvents(_ pieces: [[UInt8]]) -> Transcript {
        var transcript = Transcript()
        var parser = EventStreamParser(maximum: 600)
        do {
            for piece in pieces { try parser.feed(piece[...]) { transcript.take(server: $0.data[...]) } }
            if let last = parser.finish() { transcript.take(server: last.data[...]) }
        } catch { transcript.fail(error) }
        return transcript
    }

    /// What a client makes of one text of a server, down to what a model would read of it.
    private mutating func take(server bytes: ArraySlice<UInt8>) {
        do throws(MCPMalformed) {
            for message in try MCPIncoming.parse(bytes) {
                say("\(message)")
                guard case .answer(_, .result(let result)) = message else { continue }
                for tool in result["tools"]?.elements ?? [] {
                    do throws(MCPMalformed) { say("\(try MCPToolDefinition(tool).checked)") } catch { say(error.why) }
                }
                say(Self.checked(MCPCallResult.framed(result, from: "mcp.x.y").value))
            }
        } catch { fail(error) }
    }

    /// A value as text, and where it has what nobody may see.
    fileprivate static func checked(_ value: JSONValue) -> String {
        let text = String(decoding: value.compact, as: UTF8.self)
        let isClean = (try? JSONValue(parsing: text.utf8)) == value && MCPText.tree(value, most: 1 << 24) == value
        return isClean ? text : "NOT CLEAN: \(text)"
    }
}

extension MCPToolDefinition {
    fileprivate var checked: String { "\(name) \(hash) \(Transcript.checked(kept))" }
}
