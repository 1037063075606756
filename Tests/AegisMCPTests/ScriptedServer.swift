import AegisCore
import AegisIO
import AegisJSON
import AegisTestSupport
import Synchronization

@testable import AegisMCP

/// A server's process that does what a test says.
final class ScriptedServer: MCPProcess {
    typealias Reaction = @Sendable (_ message: JSONValue, _ server: ScriptedServer) -> Void

    private let outputs: AsyncStream<MCPProcessOutput>
    private let feed: AsyncStream<MCPProcessOutput>.Continuation
    private let react: Reaction
    private let state = Mutex((messages: [JSONValue](), stops: 0))
    private let seen: AsyncStream<String>
    private let tell: AsyncStream<String>.Continuation

    init(_ react: @escaping Reaction) {
        (outputs, feed) = AsyncStream.makeStream(of: MCPProcessOutput.self)
        (seen, tell) = AsyncStream.makeStream(of: String.self)
        self.react = react
    }

    var messages: [JSONValue] { state.withLock { $0.messages } }
    var methods: [String] { messages.map { $0["method"]?.text ?? "answer" } }
    var stops: Int { state.withLock { $0.stops } }

    /// Waits until a message of that method has come.
    func message(_ method: String) async -> JSONValue {
        for await word in seen where word == method { break }
        return messages.last { ($0["method"]?.text ?? "answer") == method } ?? .null
    }

    /// Waits until it was stopped.
    func gone() async { for await _ in seen {} }

    func say(_ text: String) { feed.yield(.stdout(Array(text.utf8)[...])) }
    func say(_ message: JSONValue) { feed.yield(.stdout((message.compact + [10])[...])) }
    func mutter(_ text: String) { feed.yield(.stderr(Array(text.utf8)[...])) }
    func die(_ how: String = "it ended with exit code 3") { feed.yield(.ended(how)) }
    func answer(_ message: JSONValue, _ result: JSONValue) {
        say(["jsonrpc": "2.0", "id": message["id"] ?? .null, "result": result])
    }
    func refuse(_ message: JSONValue, _ code: Int64, _ text: String = "no", data: JSONValue = .null) {
        say([
            "jsonrpc": "2.0", "id": message["id"] ?? .null,
            "error": ["code": .number(code), "message": .string(text), "data": data],
        ])
    }

    func read() async throws -> MCPProcessOutput {
        for await output in outputs { return output }
        throw CancellationError()
    }

    func write(_ bytes: [UInt8]) async throws {
        let message = try JSONValue(parsing: bytes)
        state.withLock { $0.messages.append(message) }
        tell.yield(message["method"]?.text ?? "answer")
        react(message, self)
    }

    func stop() async {
        state.withLock { $0.stops += 1 }
        feed.finish()
        tell.finish()
    }
}

extension JSONValue {
    init(json text: String) throws { try self.init(parsing: Array(text.utf8)) }

    static func tool(_ name: String, _ description: String = "does things") -> JSONValue {
        ["name": .string(name), "description": .string(description), "inputSchema": ["type": "object"]]
    }
}

/// What usual servers answer.
enum Usual {
    static func stateless(_ tools: [JSONValue] = [.tool("one")], tellsChanges: Bool = false) -> ScriptedServer.Reaction
    {
        { message, server in
            switch message["method"]?.text {
            case "server/discover":
                server.answer(
                    message,
                    [
                        "resultType": "complete", "supportedVersions": ["2026-07-28"],
                        "capabilities": ["tools": ["listChanged": .bool(tellsChanges)]],
                        "_meta": ["io.modelcontextprotocol/serverInfo": ["name": "scripted", "version": "1"]],
                    ])
            case "tools/list": server.answer(message, ["resultType": "complete", "tools": .array(tools)])
            case "tools/call":
                server.answer(message, ["content": [["type": "text", "text": "done"]], "isError": false])
            default: break
            }
        }
    }

    static let session: ScriptedServer.Reaction = { message, server in
        switch message["method"]?.text {
        case "server/discover": server.refuse(message, -32601)
        case "initialize":
            server.answer(
                message,
                [
                    "protocolVersion": "2025-11-25", "capabilities": ["tools": .object([])],
                    "serverInfo": ["name": "old", "version": "2"],
                ])
        case "tools/list": server.answer(message, ["tools": [.tool("one")]])
        case "tools/call": server.answer(message, ["content": [["type": "text", "text": "done"]]])
        default: break
        }
    }
}

/// A scope, a clock that stands still, and a transport over a scripted server.
struct Stage: Sendable {
    let scope: TaskScope
    let clock = TestClock()
    let notices = Mutexed<[MCPNotice]>([])

    func transport(_ server: ScriptedServer, largest: Int = 8 << 20) -> MCPStdioTransport {
        MCPStdioTransport("s", server, scope: scope, clock: clock, largest: largest) { notice in
            notices.change { $0.append(notice) }
        }
    }

    /// Runs a test, and ends everything that it left.
    static func run(_ body: @escaping @Sendable (Stage) async throws -> Void) async throws {
        try await onLoop { loop in
            let scope = TaskScope(on: loop)
            let result: Result<Void, any Error>
            do { result = .success(try await body(Stage(scope: scope))) } catch { result = .failure(error) }
            await scope.end()
            try result.get()
        }
    }
}

/// A value that several tasks change.
final class Mutexed<Value: Sendable>: Sendable {
    private let state: Mutex<Value>
    init(_ value: Value) { state = Mutex(value) }
    var value: Value { state.withLock { $0 } }
    @discardableResult func change<R: Sendable>(_ body: (inout Value) -> R) -> R {
        state.withLock { value in body(&value) }
    }
}

/// The code of the error that something throws; nil when it does not.
func code(_ body: () async throws -> Void) async -> String? {
    do {
        try await body()
        return nil
    } catch let error as AegisError { return error.code } catch { return "\(type(of: error))" }
}
