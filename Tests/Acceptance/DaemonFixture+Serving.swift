import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// What the record says of a port.
struct Served: Decodable, Sendable {
    struct Port: Decodable, Sendable {
        var guest: Int
        var number: Int
        var url: String?
        var error: Problem?
        private enum CodingKeys: String, CodingKey {
            case url, error
            case guest = "guest_port"
            case number = "public_port"
        }
    }
    struct Problem: Decodable, Sendable { var code: String }
    var state: String
    var connections: Int
    var expose: [Port]
}

extension DaemonFixture {
    func served(_ name: String) async throws -> Served {
        let json = try await succeed("instance", "info", name, "--output", "json")
        return try JSONDecoder().decode(Served.self, from: Data(json.stdout))
    }

    func url(_ name: String) async throws -> String { try #require(try await served(name).expose[0].url) }

    /// One GET; the body, or a failed expectation.
    func get(
        _ url: String, _ more: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> String {
        let result = try await run("/usr/bin/curl", ["-sS", "--max-time", "60", "--fail-with-body"] + more + [url])
        #expect(result.code == 0, "\(url): \(result)", sourceLocation: sourceLocation)
        return result.out
    }

    /// How often the instance's command has begun; each run writes the line "run".
    func runs(_ name: String) async throws -> Int {
        try await succeed("logs", name).out.split(separator: "\n").count { $0 == "run" }
    }

    /// Whether its command has begun so many times, and no more. What a command writes takes another way to us than what its
    /// server answers, and may come later.
    func hasRun(_ name: String, _ times: Int) async throws -> Bool {
        try await eventually("\(name) has begun \(times) times") { try await runs(name) >= times }
        return try await runs(name) == times
    }

    /// Starts a small web server that is exposed.
    func serve(_ name: String, _ backend: String, _ spec: String = "80", _ more: String...) async throws {
        let script = "echo run; echo hello > /tmp/index.html; cd /tmp; exec python3 -m http.server 80"
        let result = try await run(
            Self.cli,
            ["instance", "start", "--name", name, "--isolation", backend, "--expose", spec] + more
                + ["--", "sh", "-c", script])
        try #require(result.code == 0, "\(result)")
    }
}

/// Clients and servers that others wrote, and the programs of ours that use them.
enum ServePeers {
    private static let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    /// The folder of the programs.
    static let programs = tests.appendingPathComponent("AegisRouterTests/Peers").path
    /// The Python environment that `scripts/setup` makes.
    private static let environment =
        ProcessInfo.processInfo.environment["AEGIS_TEST_PEERS"]
        ?? tests.deletingLastPathComponent().appendingPathComponent(".build/peers").path

    /// The folder of the libraries, which the Python of the base image can use as well.
    private static func packages() throws -> String {
        let folders = (try? FileManager.default.contentsOfDirectory(atPath: "\(environment)/lib")) ?? []
        let name = try #require(folders.first { $0.hasPrefix("python3.") }, "no \(environment): run scripts/setup")
        return "\(environment)/lib/\(name)/site-packages"
    }

    /// The server and clients of the library h2.
    static func h2() throws -> String {
        let path = tests.appendingPathComponent("AegisBrokerTests/Peers/h2_peer.py").path
        return String(decoding: try Files.read(path, limit: 1 << 20), as: UTF8.self)
    }

    /// Options of an instance that has both inside.
    static func mounts() throws -> [String] {
        ["--mount", "\(programs):/peers", "--mount", "\(try packages()):/packages", "--env", "PYTHONPATH=/packages"]
    }

    /// Words that run a program of ours on the host, with its libraries.
    static func command(_ program: String, _ words: [String]) -> (program: String, arguments: [String]) {
        ("\(environment)/bin/python", ["\(programs)/\(program).py"] + words)
    }
}

/// An instance that runs `guest.py`.
struct Guest: Sendable {
    let name: String
    let fixture: DaemonFixture
    fileprivate let folder: TemporaryDirectory

    /// The file that lets it listen.
    var permission: String { folder.path("go") }
    /// Lets it listen.
    func go() throws { try Files.writeAtomically(permission, [], synced: false) }
    /// Keeps its next run from listening.
    func halt() throws { try Files.removeFile(permission) }
    /// Lets it send the body of `/late`.
    func tell() throws { try Files.writeAtomically(folder.path("late"), [], synced: false) }
    /// Deletes the instance; its workspace lasts until then.
    func delete() async throws { try await fixture.succeed("instance", "delete", name) }
}

extension DaemonFixture {
    /// Runs a client on the host to its end; it must succeed.
    func peer(
        _ program: String, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> String {
        let command = ServePeers.command(program, words)
        let result = try await run(
            "/usr/bin/env", ["GRPC_VERBOSITY=NONE", command.program] + command.arguments, deadline: .seconds(110))
        #expect(result.code == 0, "\(words): \(result)", sourceLocation: sourceLocation)
        return result.out
    }

    /// Starts a client on the host and goes on.
    func beginPeer(_ program: String, _ words: String...) throws -> RunningCommand {
        let command = ServePeers.command(program, words)
        return try begin(program: command.program, command.arguments)
    }

    /// Starts `guest.py` with its ports exposed; it listens once it may.
    func guest(_ name: String, _ backend: String, _ specs: [String], _ more: String...) async throws -> Guest {
        let guest = Guest(name: name, fixture: self, folder: try TemporaryDirectory())
        let ports = specs.map { String($0.prefix { $0.isNumber }) }
        try await succeed(
            words: ["instance", "start", "--name", name, "--isolation", backend, "--workspace", guest.folder.path]
                + specs.flatMap { ["--expose", $0] } + ["--mount", "\(ServePeers.programs):/peers"] + more
                + ["--", "python3", "/peers/guest.py"] + ports)
        return guest
    }

    /// Runs the CLI and expects it to succeed.
    func succeed(words: [String], sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let result = try await run(Self.cli, words)
        try #require(result.code == 0, "\(words): \(result)", sourceLocation: sourceLocation)
    }

    /// The public number of a port inside.
    func number(_ name: String, _ guest: Int) async throws -> String {
        let ports = try await served(name).expose
        return "\(try #require(ports.first { $0.guest == guest }?.number))"
    }

    /// Status and body of one GET with curl, whose own code is 0.
    func ask(
        _ url: String, _ more: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> (status: String, body: String) {
        let result = try await run(
            "/usr/bin/curl", ["-sS", "--max-time", "90", "-w", "%{http_code}"] + more + [url])
        #expect(result.code == 0, "\(url): \(result)", sourceLocation: sourceLocation)
        return (String(result.out.suffix(3)), String(result.out.dropLast(3)))
    }

    /// Status and error code of a GET that the router answers itself.
    func refused(_ url: String, sourceLocation: SourceLocation = #_sourceLocation) async throws -> String {
        struct Answer: Decodable {
            struct Problem: Decodable { var code: String }
            var error: Problem
        }
        let answer = try await ask(url, sourceLocation: sourceLocation)
        let decoded = try? JSONDecoder().decode(Answer.self, from: Data(answer.body.utf8))
        return "\(answer.status) \(decoded?.error.code ?? answer.body)"
    }
}
