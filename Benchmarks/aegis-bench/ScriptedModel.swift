import AegisIO
import AegisWire

/// `aegis-bench --model STEPS`: a server of chat completions that asks for the tool `echo` until a conversation has so many results,
/// then answers. It keeps nothing and parses no more than it must: every client waits for it alike. Prints its port.
struct ScriptedModel: Sendable {
    let steps: Int

    func run(on loop: EventLoop) async throws {
        let steps = steps
        let server = HTTPServer(clock: loop.clock) { request, response in
            let body = try await request.body.collect(upTo: 16 << 20)
            let done = Self.count("\"tool_call_id\"", in: body)
            let isStream = Self.count("\"stream\":true", in: body) + Self.count("\"stream\": true", in: body) > 0
            let message = done < steps ? Self.call(done + 1) : #""content":"done""#
            let end = done < steps ? "tool_calls" : "stop"
            let usage =
                #""usage":{"prompt_tokens":\#(body.count / 4),"completion_tokens":20,"total_tokens":\#(body.count / 4 + 20)}"#
            let head = #""id":"chatcmpl-1","created":1700000000,"model":"scripted","#
            guard isStream else {
                let text =
                    #"{\#(head)"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",\#(message)},"finish_reason":"\#(end)"}],\#(usage)}"#
                try await response.respond(200, headers: ["Content-Type": "application/json"], body: Array(text.utf8))
                return
            }
            let pieces = [
                #"{\#(head)"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant",\#(message)},"finish_reason":null}]}"#,
                #"{\#(head)"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"\#(end)"}],\#(usage)}"#,
                "[DONE]",
            ]
            let text = pieces.map { "data: \($0)\n\n" }.joined()
            try await response.respond(200, headers: ["Content-Type": "text/event-stream"], body: Array(text.utf8))
        }
        let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
        writeOutput("\(try listener.localPort())\n")
        await server.run([listener])
    }

    private static func call(_ number: Int) -> String {
        let arguments = #"{\"message\":\"what step \#(number) says\"}"#
        return
            #""content":null,"tool_calls":[{"index":0,"id":"call_\#(number)","type":"function","function":{"name":"echo","arguments":"\#(arguments)"}}]"#
    }

    /// How often a text occurs.
    private static func count(_ text: String, in bytes: [UInt8]) -> Int {
        let text = Array(text.utf8)
        var (count, at) = (0, 0)
        while at + text.count <= bytes.count {
            if bytes[at] == text[0], bytes[at..<(at + text.count)].elementsEqual(text) {
                count += 1
                at += text.count
            } else {
                at += 1
            }
        }
        return count
    }
}
