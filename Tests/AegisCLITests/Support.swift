import AegisIO
import AegisJSON
import AegisTestSupport
import AegisWire
import LinuxSys
import Synchronization
import Testing

@testable import AegisClient
@testable import aegis

/// A caller at a fixed place, with the files and variables that a test gives it.
func caller(
    at directory: String = "/home/u/project", files: [String: Caller.FileKind] = [:], variables: [String: String] = [:]
) -> Caller {
    Caller(user: 1000, workingDirectory: directory, variable: { variables[$0] }, fileType: { files[$0] })
}

/// Reads words by the real table.
func parse(_ words: [String]) throws -> Invocation {
    guard case .run(_, let invocation) = try CommandLineParser(Commands.table).parse(words) else {
        Issue.record("\(words) did not parse as a command")
        return Invocation()
    }
    return invocation
}

/// Compares a text with a file of `Snapshots`; `UPDATE_SNAPSHOTS=1` rewrites it.
func expectSnapshot(_ text: String, _ name: String, source: SourceLocation = #_sourceLocation) throws {
    let folder = Files.split(#filePath).directory + "/Snapshots"
    let path = "\(folder)/\(name).txt"
    if CurrentProcess.environment("UPDATE_SNAPSHOTS") == "1" {
        try Files.makeDirectories(folder, mode: 0o755)
        try Files.writeAtomically(path, Array(text.utf8), mode: 0o644)
    }
    let expected = String(decoding: try Files.read(path, limit: 1 << 20), as: UTF8.self)
    if text != expected { Attachment.record(text, named: "\(name).txt", sourceLocation: source) }
    #expect(text == expected, "\(name) differs from its snapshot", sourceLocation: source)
}

/// A daemon that says what a test tells it to, on a real Unix socket of a home of its own.
final class ScriptedDaemon: Sendable {
    typealias Handler = @Sendable (HTTPServerRequest, consuming HTTPResponseWriter) async throws -> Void
    /// Speaks aegis-stream with a client; gets the request's body.
    typealias Stream = @Sendable (FrameConnection, JSONValue) async throws -> Void

    /// What to answer, by `METHOD /path` without the query.
    struct Script: Sendable {
        var answers: [String: (Int, String)] = [:]
        var handlers: [String: Handler] = [:]
        var streams: [String: Stream] = [:]

        /// Makes instances as the real one does, with the id `i-0123456789abcdef`.
        static func running(_ stream: @escaping Stream) -> Script {
            var script = Script()
            script.answers["POST /v1/instances"] = (201, #"{"id":"i-0123456789abcdef","name":null,"state":"stopped"}"#)
            script.streams["POST /v1/instances/i-0123456789abcdef/attach"] = stream
            return script
        }
    }

    /// A request as it came.
    struct Seen: Sendable, Equatable {
        var line: String
        var body: String
    }

    private let script: Script
    private let requests = Mutex<[Seen]>([])

    private init(_ script: Script) { self.script = script }

    /// The requests so far, in order.
    var seen: [Seen] { requests.withLock { $0 } }
    /// Their first lines.
    var lines: [String] { seen.map(\.line) }

    /// Runs `body` beside a daemon in a temporary home.
    static func run<R: Sendable>(
        _ script: Script, _ body: @escaping @Sendable (ScriptedDaemon, Program) async throws -> R
    ) async throws -> R {
        let home = try TemporaryDirectory()
        return try await onLoop { loop in
            let daemon = ScriptedDaemon(script)
            let program = try Program(home: home.path, loop: loop)
            return try await daemon.serving(home.path("aegisd.sock"), loop) { try await body(daemon, program) }
        }
    }

    /// Runs `body` while a daemon of this script listens.
    static func serve<R: Sendable>(
        _ script: Script, at path: String, on loop: EventLoop, _ body: @escaping @Sendable () async throws -> R
    ) async throws -> R { try await ScriptedDaemon(script).serving(path, loop, body) }

    private func serving<R: Sendable>(
        _ path: String, _ loop: EventLoop, _ body: @escaping @Sendable () async throws -> R
    ) async throws -> R {
        let listener = try Listener.unix(path: path, on: loop)
        let server = HTTPServer(clock: loop.clock) { request, writer in try await self.handle(request, writer) }
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await server.run([listener]) }
            defer { group.cancelAll() }
            let result = try await body()
            await server.shutdown(within: .zero)
            return result
        }
    }

    private func handle(_ request: HTTPServerRequest, _ writer: consuming HTTPResponseWriter) async throws {
        let path = request.head.target.raw.prefix { $0 != "?" }
        let key = "\(request.method) \(path)"
        if let handler = script.handlers[key] {
            requests.withLock { $0.append(Seen(line: "\(request.method) \(request.head.target.raw)", body: "")) }
            return try await handler(request, writer)
        }
        let body = try await request.body.collect(upTo: 1 << 20)
        requests.withLock {
            $0.append(
                Seen(line: "\(request.method) \(request.head.target.raw)", body: String(decoding: body, as: UTF8.self)))
        }
        if let stream = script.streams[key] {
            let json = body.isEmpty ? JSONValue.null : try JSONValue(parsing: body)
            let frames = FrameConnection(try await writer.upgrade(to: StreamProtocol.name))
            try await stream(frames, json)
            frames.close()
            return
        }
        let (status, text) = script.answers[key] ?? (404, #"{"error":{"code":"no-route","message":"no \#(key)"}}"#)
        try await writer.respond(status, headers: ["Content-Type": "application/json"], body: Array(text.utf8))
    }
}

extension FrameConnection {
    /// The first frame of a daemon.
    func hello(_ more: String = "") async throws {
        try await write(.hello(#"{"process":"p1","stdin_offset":0,"stdout_offset":0,"stderr_offset":0\#(more)}"#))
    }
    func out(_ text: String) async throws { try await write(.stdout, Array(text.utf8)[...]) }
    func err(_ text: String) async throws { try await write(.stderr, Array(text.utf8)[...]) }
}

/// The real `aegis` binary, built beside this test bundle.
struct Program: Sendable {
    struct Result: Sendable {
        var code: Int32
        var out: String
        var err: String
    }
    let home: String
    let loop: EventLoop
    var path: String

    init(home: String, loop: EventLoop) throws {
        self.home = home
        self.loop = loop
        path = try Self.binary()
    }

    static func binary() throws -> String {
        // The bundle is loaded by a helper elsewhere, so its own file is looked up in the list of mappings.
        let maps = String(decoding: try Files.read("/proc/self/maps", limit: 16 << 20), as: UTF8.self)
        let bundle = try #require(maps.split(separator: "\n").first { $0.hasSuffix(".xctest") })
        let file = String(bundle[try #require(bundle.firstIndex(of: "/"))...])
        return Files.split(file).directory + "/aegis"
    }

    func spec(_ words: [String], in directory: String? = nil, variables: [String] = []) -> ProcessSpec {
        ProcessSpec(
            executable: path, arguments: ["aegis"] + words,
            // The first of two values of a variable counts; a crash is to be a crash, without a reporter.
            environment: variables + [
                "AEGIS_HOME=\(home)", "HOME=\(home)", "PATH=/usr/bin:/bin", "SWIFT_BACKTRACE=enable=no",
            ],
            workingDirectory: directory ?? home)
    }

    /// Runs it to its end.
    func callAsFunction(
        _ words: String..., input: String = "", in directory: String? = nil, variables: [String] = []
    ) async throws -> Result {
        let (status, out, err) = try await runProcess(
            spec(words, in: directory, variables: variables), input: Array(input.utf8), outputLimit: 64 << 20,
            deadline: .seconds(180), on: loop)
        return Result(
            code: status.shellCode, out: String(decoding: out, as: UTF8.self), err: String(decoding: err, as: UTF8.self)
        )
    }
}

/// Credit of a scripted sender.
final class CreditGate: Sendable {
    private let available = Mutex(CreditWindow.size)
    private let changed = Signal()
    func add(_ count: Int) {
        available.withLock { $0 += count }
        changed.set()
    }
    func take(_ count: Int) async {
        while !available.withLock({ available in
            guard available >= count else { return false }
            available -= count
            return true
        }) { await changed.wait() }
    }
}
