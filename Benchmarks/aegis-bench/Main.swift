import AegisIO
import Glibc
import LinuxSys

/// `aegis-bench`: measures Aegis beside its peers and prints a report.
@main
enum Main {
    static func main() {
        do {
            let options = try Options(Array(CommandLine.arguments.dropFirst()))
            try EventLoop.runMain { @Sendable loop in
                if let port = options.relay { return try await Relay(backend: port).run(on: loop) }
                if let steps = options.model { return try await ScriptedModel(steps: steps).run(on: loop) }
                if !options.ask.isEmpty { return try await Asker(ports: options.ask).run(on: loop) }
                try await Report(options: options, loop: loop).make()
            }
        } catch {
            note("\(error)")
            exit(1)
        }
    }
}

/// What to measure, and with which programs.
struct Options: Sendable {
    var binaries = "bin"
    var isQuick = false
    var only: Set<String> = []
    var write: String?
    /// A store with the base image, to be used instead of building one.
    var images: String?
    /// Be the router before a server on that port.
    var relay: UInt16?
    /// Be a model's server that asks for a tool so many times.
    var model: Int?
    /// Be the client of servers on these ports.
    var ask: [UInt16] = []

    init(_ words: [String]) throws {
        var words = words[...]
        func value(_ flag: String) throws -> String {
            guard let value = words.popFirst() else { throw Runner.Failure(description: "\(flag) needs a value") }
            return value
        }
        while let word = words.popFirst() {
            switch word {
            case "--quick": isQuick = true
            case "--bin": binaries = try value(word)
            case "--only": only = Set(try value(word).split(separator: ",").map(String.init))
            case "--write": write = try value(word)
            case "--images": images = try value(word)
            case "--relay": relay = UInt16(try value(word))
            case "--model": model = Int(try value(word))
            case "--ask":
                ask = words.compactMap { UInt16($0) }
                words = []
            default: throw Runner.Failure(description: "unknown flag \(word)")
            }
        }
    }
}

/// The whole run: sets the contestants up, measures, cleans up, writes.
struct Report: Sendable {
    let options: Options
    let loop: EventLoop

    func make() async throws {
        // What runs in this process alone needs neither root nor a daemon.
        if options.only.count == 1, let part = alone.first(where: { options.only == [$0.name] }) {
            return print(try await part.run().map(\.markdown).joined(separator: "\n"))
        }
        if options.only == ["router"] { return print(try await routerTables().map(\.markdown).joined(separator: "\n")) }
        guard CurrentProcess.effectiveUser == 0 else { throw Runner.Failure(description: "the bench needs root") }
        let scratch = "/var/tmp/aegis-bench-\(CurrentProcess.pid)"
        try Files.makeDirectories(scratch, mode: 0o711)
        let aegis = Aegis(options: options, home: "\(scratch)/home", loop: loop)
        let docker = Docker(home: "\(scratch)/docker", loop: loop)
        var outcome: Result<(text: String, isWhole: Bool), any Error>
        do {
            try await aegis.start()
            do { try await docker.start(image: aegis.baseTree()) } catch { note("docker is left out: \(error)") }
            outcome = .success(try await measure(aegis, docker, scratch))
        } catch { outcome = .failure(error) }
        await docker.stop()
        await aegis.stop()
        try Files.removeTree(scratch)
        let (report, isWhole) = try outcome.get()
        print(report)
        if let path = options.write {
            try Files.writeAtomically(path, Array((report + Self.words(of: path)).utf8), mode: 0o644)
        }
        if !isWhole { throw Runner.Failure(description: "some parts failed") }
    }

    /// What people wrote below the tables of an earlier run, from this line on.
    private static func words(of path: String) -> String {
        guard let old = try? Files.read(path, limit: 1 << 20) else { return "" }
        let lines = String(decoding: old, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        let kept = lines.drop { !$0.hasPrefix("<!-- By hand") }
        return kept.isEmpty ? "" : "\n" + kept.joined(separator: "\n")
    }

    private typealias Part = (name: String, run: @Sendable () async throws -> [ResultTable])

    /// What needs a process and nothing else.
    private var alone: [Part] {
        let (options, loop) = (options, loop)
        return [
            ("gate", { try Gate(isQuick: options.isQuick).run() }),
            ("memory", { try await MemorySearch(isQuick: options.isQuick, loop: loop).run() }),
            ("ledger", { try LedgerBench(isQuick: options.isQuick).run() }),
            ("turns", { try await TurnBench(isQuick: options.isQuick).run() }),
            (
                "agents",
                {
                    let scratch = "/var/tmp/aegis-bench-\(CurrentProcess.pid)-agents"
                    return try await AgentsBench(options: options, loop: loop, scratch: scratch).run()
                }
            ),
        ]
    }

    /// Runs a part in a process of its own: what others have left on the heap would be taken for what it needs.
    private func apart(_ name: String) async throws -> String {
        let program = try Files.readLink("/proc/self/exe")
        let words = [program, "--bin", options.binaries, "--only", name] + (options.isQuick ? ["--quick"] : [])
        let spec = ProcessSpec(executable: program, arguments: words, environment: CurrentProcess.environment)
        let output = try await runProcess(spec, outputLimit: 8 << 20, deadline: .seconds(3600), on: loop)
        // It says which contestants were left out.
        writeError(String(decoding: output.stderr, as: UTF8.self))
        guard output.status.shellCode == 0 else {
            throw Runner.Failure(description: "its process ended with \(output.status.shellCode)")
        }
        return String(decoding: output.stdout, as: UTF8.self)
    }

    private func routerTables() async throws -> [ResultTable] {
        let scratch = "/var/tmp/aegis-bench-\(CurrentProcess.pid)-router"
        return try await RouterBench(isQuick: options.isQuick, loop: loop, scratch: scratch).run()
    }

    private func measure(_ aegis: Aegis, _ docker: Docker, _ scratch: String) async throws -> (
        text: String, isWhole: Bool
    ) {
        let sections = Sections(aegis: aegis, docker: docker, isQuick: options.isQuick, scratch: scratch)
        let beside: [Part] = [
            ("idle", { try await sections.idle() }), ("run", { try await sections.run() }),
            ("warm", { try await sections.warm() }), ("exec", { try await sections.exec() }),
            ("stop", { try await sections.stop() }),
            ("cat", { try await sections.cat() }), ("many", { try await sections.many() }),
            ("serve", { try await sections.serve() }), ("reclaim", { try await sections.reclaim() }),
            ("router", { try await routerTables() }),
        ]
        let all =
            beside.map { part in (part.name, { try await part.run().map(\.markdown) }) }
            + alone.map { part in (part.name, { [try await apart(part.name)] }) }
        var tables: [String] = []
        var failures: [String] = []
        for (name, run) in all where options.only.isEmpty || options.only.contains(name) {
            note("measuring \(name)")
            // One part that fails must not take the others' figures with it; the report says so, and so does the exit code.
            do { tables += try await run() } catch {
                note("\(name) failed: \(error)")
                failures.append("**\(name) failed:** \(error)")
            }
        }
        let text =
            try await Machine(runner: aegis.runner).description(isQuick: options.isQuick)
            + tables.joined(separator: "\n") + failures.map { "\n\($0)\n" }.joined()
        return (text, failures.isEmpty)
    }
}

/// Says on standard error how far the bench is.
func note(_ text: String) { writeError("aegis-bench: \(text)\n") }
