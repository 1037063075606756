import AegisCore
import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// What a command of the CLI did.
struct CommandResult: Sendable, CustomStringConvertible {
    var code: Int32
    var stdout: [UInt8]
    var stderr: [UInt8]
    var out: String { String(decoding: stdout, as: UTF8.self) }
    var err: String { String(decoding: stderr, as: UTF8.self) }
    var description: String { "exit \(code)\nstdout: \(out.prefix(2000))\nstderr: \(err.prefix(2000))" }
}

/// A real daemon in a home of its own, driven through the real CLI.
///
/// The base image is built once per machine and copied (hard links) into each home.
final class DaemonFixture: Sendable {
    let home: String
    let loop: EventLoop
    private let directory: TemporaryDirectory?
    /// What starts the daemon, put before the command.
    let launcher: [String]

    /// The built programs: those beside the test bundle, where everybody can run them.
    static let binaries: String = {
        let own =
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        return ReachablePrograms.place(of: URL(fileURLWithPath: own).deletingLastPathComponent().path)
    }()
    static var cli: String { "\(binaries)/aegis" }

    /// Runs a test against a started daemon; it is stopped and everything of it removed afterwards.
    static func with(
        config: String? = nil, launcher: [String] = [], _ body: @escaping @Sendable (DaemonFixture) async throws -> Void
    ) async throws {
        try await Crowd.enter {
            try await onLoop { loop in
                let fixture = try DaemonFixture(loop: loop, launcher: launcher)
                if let config {
                    try config.write(toFile: "\(fixture.home)/aegis-config.yaml", atomically: true, encoding: .utf8)
                }
                try await BaseImageCache.shared.install(into: fixture)
                do {
                    try await fixture.up()
                    try await body(fixture)
                } catch {
                    await fixture.end()
                    throw error
                }
                await fixture.end()
            }
        }
    }

    /// Runs a test against the daemon that all tests share; it goes when this process ends, however it ends.
    static func shared(_ body: @escaping @Sendable (DaemonFixture) async throws -> Void) async throws {
        let home = try await SharedDaemon.instance.home()
        try await Crowd.enter { try await onLoop { loop in try await body(DaemonFixture(loop: loop, home: home)) } }
    }

    /// A home without a daemon.
    init(loop: EventLoop, launcher: [String] = []) throws {
        self.loop = loop
        self.launcher = launcher
        let directory = try TemporaryDirectory()
        self.directory = directory
        home = directory.path("home")
        try Files.makeDirectories(home)
    }

    /// A daemon in a home that stays.
    init(loop: EventLoop, home: String) {
        self.loop = loop
        self.home = home
        launcher = []
        directory = nil
    }

    /// A place for the test's own files.
    func path(_ name: String) -> String { "\(directory?.path ?? home)/\(name)" }

    func up() async throws {
        let command = launcher + [Self.cli, "up", "--ports", "auto"]
        let result = try await run(command[0], Array(command.dropFirst()))
        try #require(result.code == 0, "\(result)")
    }

    private func end() async {
        let down = try? await aegis("down", deadline: .seconds(180))
        if down?.code != 0 { Issue.record("'down' failed: \(down.map(String.init(describing:)) ?? "no answer")") }
        // The daemon's log is what one wants to see when a test fails.
        if ProcessInfo.processInfo.environment["AEGIS_TEST_SHOW_LOG"] != nil,
            let log = FileManager.default.contents(atPath: "\(home)/aegisd.log")
        {
            FileHandle.standardError.write(log)
        }
        await tidyUp()
        try? Files.removeTree(home)
    }

    /// A daemon that a test killed for good leaves its sandboxes to the next one: be the next one.
    private func tidyUp() async {
        guard let text = try? String(contentsOfFile: "\(home)/node", encoding: .utf8) else { return }
        let node = text.trimmingCharacters(in: .whitespacesAndNewlines)
        guard node.count == 8, Files.exists("/run/aegis/\(node)") else { return }
        _ = try? await aegis("up", "--ports", "auto")
        _ = try? await aegis("down", deadline: .seconds(180))
    }

    /// The daemon's pid, from its file.
    var daemonPid: Int32? {
        (try? String(contentsOfFile: "\(home)/aegisd.pid", encoding: .utf8))
            .flatMap { Int32($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
            .flatMap { $0 > 1 ? $0 : nil }
    }

    var environment: [String] {
        var values = ProcessInfo.processInfo.environment
        values["AEGIS_HOME"] = home
        // Another program's, on a developer's machine.
        for name in ["DATABASE_URL", "AAOS_MEMORY_DB"] { values[name] = nil }
        // Tests count what there is: sandboxes that nobody asked for are made only where a test's own configuration says so.
        let config = (try? String(contentsOfFile: "\(home)/aegis-config.yaml", encoding: .utf8)) ?? ""
        values["AEGIS_INSTANCES_WARM"] = config.contains("warm:") ? nil : "0"
        return values.map { "\($0.key)=\($0.value)" }
    }

    /// Runs the CLI to its end.
    @discardableResult
    func aegis(
        _ arguments: String..., input: [UInt8] = [], directory: String? = nil, deadline: Duration = .seconds(120)
    ) async throws -> CommandResult {
        try await run(Self.cli, arguments, input: input, directory: directory, deadline: deadline)
    }

    /// Runs any program to its end, with the fixture's environment.
    @discardableResult
    func run(
        _ program: String, _ arguments: [String], input: [UInt8] = [], directory: String? = nil,
        deadline: Duration = .seconds(120)
    ) async throws -> CommandResult {
        var spec = ProcessSpec(executable: program, arguments: [program] + arguments, environment: environment)
        spec.workingDirectory = directory
        let (status, stdout, stderr) = try await runProcess(
            spec, input: input, outputLimit: 256 << 20, deadline: deadline, on: loop)
        return CommandResult(code: status.shellCode, stdout: stdout, stderr: stderr)
    }
}

/// The base image, built once per machine and kept; every fixture's store is a copy of hard links.
actor BaseImageCache {
    static let shared = BaseImageCache()
    private var ready: Task<Void, any Error>?
    private let path = ProcessInfo.processInfo.environment["AEGIS_TEST_CACHE"] ?? "/var/tmp/aegis-test-cache"

    /// Puts the image into a home that has no daemon yet.
    func install(into fixture: DaemonFixture) async throws {
        if ready == nil {
            let path = path
            let loop = fixture.loop
            ready = Task {
                guard !FileManager.default.fileExists(atPath: "\(path)/images/refs") else { return }
                let builder = DaemonFixture(loop: loop, home: path)
                try Files.makeDirectories(path)
                try await builder.up()
                let built = try await builder.aegis("image", "build", "base", deadline: .seconds(600))
                _ = try await builder.aegis("down")
                try #require(built.code == 0, "\(built)")
            }
        }
        try await ready?.value
        let copied = try await fixture.run("/bin/cp", ["-al", "\(path)/images", "\(fixture.home)/images"])
        try #require(copied.code == 0, "\(copied)")
    }
}
