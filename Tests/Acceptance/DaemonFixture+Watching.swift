import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The daemon that tests share which need none of their own.
actor SharedDaemon {
    static let instance = SharedDaemon()
    private var started: Task<String, any Error>?

    /// The home of the running daemon.
    func home() async throws -> String {
        if started == nil { started = Task { try await Self.start() } }
        guard let started else { throw CancellationError() }
        return try await started.value
    }

    private static func start() async throws -> String {
        let home = "/tmp/aegis-test-shared-\(try Random.hex(bytes: 6))"
        try Files.makeDirectories(home)
        try await onLoop { loop in
            let fixture = DaemonFixture(loop: loop, home: home)
            // A shell holds the reading end of a pipe: when this process ends, even by SIGKILL, it takes the daemon down.
            var pipe = try DescriptorPair.pipe()
            let reading = pipe.takeFirst()
            _ = pipe.takeSecond().take()
            let script = "read line; '\(DaemonFixture.cli)' down; rm -rf '\(home)'"
            let spec = ProcessSpec(
                executable: "/bin/sh", arguments: ["sh", "-c", script], environment: fixture.environment,
                stdin: .descriptor(reading.raw), stdout: .null, stderr: .null, newSession: true)
            _ = try ChildProcess.spawn(spec, on: loop)
            try await BaseImageCache.shared.install(into: fixture)
            try await fixture.up()
        }
        return home
    }
}

/// A CLI that runs beside the test.
final class RunningCommand: Sendable {
    let child: ChildProcess
    private let output: Task<[UInt8], any Error>
    private let errors: Task<[UInt8], any Error>

    init(_ child: ChildProcess) {
        self.child = child
        output = Task { try await child.stdout?.readAll(limit: 256 << 20) ?? [] }
        errors = Task { try await child.stderr?.readAll(limit: 16 << 20) ?? [] }
    }

    /// Waits for its end.
    func result() async throws -> CommandResult {
        let code: Int32
        do { code = try await withDeadline(.seconds(180)) { [child] in try await child.wait().shellCode } } catch {
            _ = child.signal(9)
            throw error
        }
        return CommandResult(code: code, stdout: try await output.value, stderr: try await errors.value)
    }
}

/// What an instance's record says.
struct Record: Decodable, Sendable {
    var id: String
    var name: String?
    var state: String
    var exitCode: Int32?
    var stopReason: String?
    var enabled: Bool
    var oomKilled: Bool

    private enum CodingKeys: String, CodingKey {
        case id, name, state, enabled
        case exitCode = "exit_code"
        case stopReason = "stop_reason"
        case oomKilled = "oom_killed"
    }
}

extension DaemonFixture {
    /// Starts the CLI and goes on; `discardingOutput` leaves its standard output unread.
    func begin(_ arguments: String...) throws -> RunningCommand { try begin(program: Self.cli, arguments) }

    /// Starts any program.
    func begin(program: String, _ arguments: [String]) throws -> RunningCommand {
        let spec = ProcessSpec(
            executable: program, arguments: [program] + arguments, environment: environment, stdin: .null,
            stdout: .pipe, stderr: .pipe)
        return RunningCommand(try ChildProcess.spawn(spec, on: loop))
    }

    /// Runs the CLI and expects it to succeed.
    @discardableResult
    func succeed(
        _ arguments: String..., input: [UInt8] = [], sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> CommandResult {
        let result = try await run(Self.cli, arguments, input: input)
        try #require(result.code == 0, "\(arguments): \(result)", sourceLocation: sourceLocation)
        return result
    }

    /// Expects a command to fail with a code of the CLI and a code of the error.
    func refuse(
        _ arguments: String..., code: Int32, error: String, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let result = try await run(Self.cli, arguments)
        #expect(
            result.code == code && result.err.contains("(\(error))"), "\(arguments): \(result)",
            sourceLocation: sourceLocation)
    }

    func record(_ instance: String) async throws -> Record {
        let json = try await succeed("instance", "info", instance, "--output", "json")
        return try JSONDecoder().decode(Record.self, from: Data(json.stdout))
    }

    func list() async throws -> [Record] {
        let json = try await succeed("instance", "list", "--output", "json")
        return try JSONDecoder().decode([Record].self, from: Data(json.stdout))
    }

    /// Waits until a condition of another process holds: it cannot tell us when it does.
    func eventually(
        _ what: String, within limit: Duration = .seconds(180), sourceLocation: SourceLocation = #_sourceLocation,
        _ condition: () async throws -> Bool
    ) async throws {
        let end = ContinuousClock.now + limit
        while try await !condition() {
            try #require(ContinuousClock.now < end, "not within \(limit): \(what)", sourceLocation: sourceLocation)
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    /// Kills the daemon as a crash does.
    func crash() async throws {
        let pid = try #require(daemonPid)
        let process = try ProcessHandle(pid: pid)
        try process.signal(9)
        let stream = try FileStream(process.descriptor.duplicate(), on: loop)
        try await stream.waitUntilReadable()
    }

    /// The node's id, which names its folders and groups.
    var node: String {
        get throws {
            try String(contentsOfFile: "\(home)/node", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        }
    }

    /// Host pids in the control group of an instance, its keeper left out.
    func processes(of id: String) throws -> [Int32] {
        var pids: Set<Int32> = []
        let groups = try FileManager.default.contentsOfDirectory(atPath: "/sys/fs/cgroup").map {
            "/sys/fs/cgroup/\($0)"
        }
        for group in groups + ["/sys/fs/cgroup"] {
            let walker = FileManager.default.enumerator(atPath: "\(group)/aegis-\(try node)/\(id)")
            while let name = walker?.nextObject() as? String {
                guard name.hasSuffix("cgroup.procs") else { continue }
                let text =
                    (try? kernelText("\(group)/aegis-\(try node)/\(id)/\(name)")) ?? ""
                pids.formUnion(text.split(separator: "\n").compactMap { Int32($0) }.filter { $0 > 1 })
            }
        }
        return pids.sorted()
    }

    /// What the database says of an instance's sandbox.
    func sandbox(of id: String) async throws -> SandboxRow {
        let row = try await run(
            "/usr/bin/sqlite3", ["\(home)/aegis.db", "SELECT CAST(record AS TEXT) FROM instances WHERE id = '\(id)'"])
        struct Row: Decodable { var sandbox: SandboxRow }
        return try JSONDecoder().decode(Row.self, from: Data(row.stdout)).sandbox
    }
}

/// A part of what the daemon saves of a live sandbox.
struct SandboxRow: Decodable, Sendable {
    var keeperPid: Int32
    var bootID: String
}
