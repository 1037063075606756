import AegisIO
import AegisJSON
import LinuxSys

/// Agents in a real daemon: at rest, coming and going, and at work beside agents of other makers. Needs root.
struct AgentsBench: Sendable {
    let options: Options
    let loop: EventLoop
    let scratch: String
    static let steps = 50

    private func count(_ full: Int, quick: Int) -> Int { options.isQuick ? quick : full }

    func run() async throws -> [ResultTable] {
        try Files.makeDirectories("\(scratch)/home", mode: 0o711)
        let model = try await ModelProcess(steps: Self.steps, on: loop)
        let aegis = Aegis(options: options, home: "\(scratch)/home", loop: loop)
        var outcome: Result<[ResultTable], any Error>
        do {
            try Files.writeAtomically("\(aegis.home)/aegis-config.yaml", Array(config(model.port).utf8), mode: 0o600)
            _ = try await aegis.runner.time(aegis.command("up", "--ports", "auto"))
            outcome = .success(try await measure(aegis, model))
        } catch { outcome = .failure(error) }
        await aegis.stop()
        await model.stop()
        try? Files.removeTree(scratch)
        return try outcome.get()
    }

    private func config(_ port: UInt16) -> String {
        """
        apiVersion: 100monkeys.ai/v1
        kind: NodeConfig
        metadata: { name: bench }
        spec:
          agents: { max_live: 2000 }
          llm_providers:
            - name: scripted
              type: openai-compatible
              endpoint: http://127.0.0.1:\(port)/v1
              models: [{ alias: default, model: scripted, input_per_mtok: 0, output_per_mtok: 0 }]
        """
    }

    private func measure(_ aegis: Aegis, _ model: ModelProcess) async throws -> [ResultTable] {
        let client = try await AgentClient(socket: "\(aegis.home)/agentd.sock", on: loop)
        defer { client.close() }
        // The canaries of backends have ended when this answers.
        _ = try? await aegis.runner.output(aegis.command("doctor"))
        let work = try await peers(aegis, client, model)
        return [try await rest(aegis, client), try await cycles(client), work]
    }

    // MARK: At rest

    private func rest(_ aegis: Aegis, _ client: AgentClient) async throws -> ResultTable {
        let (number, seconds) = (count(1000, quick: 100), count(20, quick: 5))
        let daemon = try aegis.daemon
        func wakes() async throws -> Double {
            try await loop.clock.sleep(for: .seconds(3))
            let before = daemon.switches
            try await loop.clock.sleep(for: .seconds(Int64(seconds)))
            return Double(daemon.switches - before) / Double(seconds)
        }
        let quiet = try await wakes()
        let empty = (daemon.resident, daemon.anonymous)
        var ids: [String] = []
        for _ in 0..<number { ids.append(try await client.spawn(Self.manifest("persistent"))) }
        let busy = try await wakes()
        let full = (daemon.resident, daemon.anonymous)
        for id in ids { _ = try await client.call("agent.stop", ["agent_id": .string(id)]) }
        return ResultTable(
            title: "\(number) persistent agents at rest, in the daemon",
            note:
                "Wake-ups are voluntary context switches of all threads of the daemon, counted over \(seconds) s. Memory that no file "
                + "backs in brackets; it includes what SQLite and the allocator keep.",
            head: ["what", "without agents", "with them", "for each"],
            rows: [
                ["wake-ups per second", short(quiet), short(busy), "–"],
                [
                    "resident, KiB", "\(empty.0) (\(empty.1))", "\(full.0) (\(full.1))",
                    "\(short(Double(full.0 - empty.0) / Double(number))) (\(short(Double(full.1 - empty.1) / Double(number))))",
                ],
            ])
    }

    // MARK: Coming and going

    private func cycles(_ client: AgentClient) async throws -> ResultTable {
        var (spawns, stops) = (Samples(), Samples())
        for round in 0..<(count(1000, quick: 100) + 10) {
            let start = SystemTime.monotonic
            let id = try await client.spawn(Self.manifest("persistent"))
            let there = SystemTime.monotonic
            _ = try await client.call("agent.stop", ["agent_id": .string(id)])
            guard round >= 10 else { continue }
            spawns.add(Double(there - start) / 1e6)
            stops.add(Double(SystemTime.monotonic - there) / 1e6)
        }
        return ResultTable(
            title: "Agents that come and go",
            note:
                "One after the other through `agentd.sock`. A spawn is synced (the agent survives a loss of power): it takes what the disk "
                + "takes.",
            head: ["call", "samples", "p50 ms", "p99 ms"],
            rows: [("agent.spawn", spawns), ("agent.stop", stops)].map {
                [$0.0, "\($0.1.values.count)", short($0.1.p50), short($0.1.p99)]
            })
    }

    // MARK: At work

    private func peers(_ aegis: Aegis, _ client: AgentClient, _ model: ModelProcess) async throws -> ResultTable {
        let daemon = try aegis.daemon
        let others = try await PeerProcess.all(port: model.port, on: loop)
        let own = Contestant(name: Self.ownName) { try await Self.work(client) }
        var samples: [String: Samples] = [:]
        let before = daemon.cpuTime
        do {
            samples = try await rounds(
                count(20, quick: 3),
                [own] + others.map { peer in Contestant(name: peer.title) { try await peer.work() } })
        } catch {
            for peer in others { await peer.stop() }
            throw error
        }
        let runs = Double(count(20, quick: 3) + 1)
        var table = ResultTable(
            title: "\(Self.steps) steps of a tool, beside other makers' agents",
            note:
                "Each run is one conversation with the same server of chat completions, which asks for a tool \(Self.steps) times; the tool "
                + "returns its input. Aegis: `agent.spawn_and_run` at the daemon, every step saved in SQLite, every call in the ledger. The "
                + "others run in a Python process that is warm, and keep nothing unless it says so. Processor time and memory are those of "
                + "the process, without the server's.",
            head: ["agent", "runs", "p50 ms", "p99 ms", "ratio", "CPU ms each", "resident MiB"])
        let base = samples[own.name]?.p50 ?? .nan
        func add(_ name: String, _ cpu: Double, _ resident: Int) {
            guard let own = samples[name] else { return }
            table.rows.append([
                name, "\(own.values.count)", short(own.p50), short(own.p99), short(own.p50 / base), short(cpu),
                short(Double(resident) / 1024),
            ])
        }
        add(own.name, (daemon.cpuTime - before) / runs * 1000, daemon.resident)
        for peer in others {
            let view = ProcessView(pid: peer.pid)
            add(peer.title, (view.cpuTime - peer.startCPU) / runs * 1000, view.resident)
            await peer.stop()
        }
        return table
    }

    private static let ownName = "aegis"

    private static func work(_ client: AgentClient) async throws -> Double {
        let start = SystemTime.monotonic
        let result = try await client.call(
            "agent.spawn_and_run", ["manifest": .string(manifest("on-demand")), "message": "go"])
        let elapsed = Double(SystemTime.monotonic - start) / 1e6
        guard result["response"]?.text == "done", result["iterations"]?.integer == Int64(steps) + 1 else {
            throw Runner.Failure(description: "aegis: \(String(decoding: result.compact, as: UTF8.self))")
        }
        return elapsed
    }

    static func manifest(_ lifecycle: String) -> String {
        """
        name: worker
        model: default
        lifecycle: \(lifecycle)
        max_iterations: \(steps + 10)
        system_prompt: You are a test.
        capabilities: ["tool: echo"]
        """
    }
}

/// One connection to `agentd.sock`, one call at a time.
final class AgentClient: Sendable {
    private let stream: FileStream

    init(socket: String, on loop: EventLoop) async throws {
        stream = try await Connect.unix(path: socket, on: loop)
    }

    func close() { stream.close() }

    func call(_ method: String, _ parameters: JSONValue) async throws -> JSONValue {
        let request: JSONValue = ["jsonrpc": "2.0", "id": 1, "method": .string(method), "params": parameters]
        try await stream.write((request.compact + [10])[...])
        var line = ByteBuffer()
        while line.firstOffset(of: 10) == nil {
            guard try await stream.read(into: &line, atMost: 64 << 10) > 0 else {
                throw Runner.Failure(description: "\(method): the daemon has closed the connection")
            }
        }
        let answer = try JSONValue(parsing: line.takeAll().dropLast())
        guard let result = answer["result"] else {
            throw Runner.Failure(description: "\(method): \(String(decoding: answer.compact, as: UTF8.self))")
        }
        return result
    }

    func spawn(_ manifest: String) async throws -> String {
        guard let id = try await call("agent.spawn", ["manifest": .string(manifest)])["agent_id"]?.text else {
            throw Runner.Failure(description: "agent.spawn gave no id")
        }
        return id
    }
}

/// The server of chat completions, in a process of its own.
final class ModelProcess: Sendable {
    let port: UInt16
    private let process: ChildProcess

    init(steps: Int, on loop: EventLoop) async throws {
        let program = try Files.readLink("/proc/self/exe")
        process = try ChildProcess.spawn(
            ProcessSpec(
                executable: program, arguments: [program, "--model", "\(steps)"], environment: [], stdout: .pipe,
                stderr: .inherit, parentDeathSignal: 15), on: loop)
        guard let port = UInt16(try await readLine(process)) else {
            throw Runner.Failure(description: "the model's server gave no port")
        }
        self.port = port
    }

    func stop() async { await process.teardown([.signal(15, allow: .seconds(5))]) }
}

/// A line that a process writes; empty at the end.
func readLine(_ process: ChildProcess) async throws -> String {
    var line = ByteBuffer()
    while line.firstOffset(of: 10) == nil {
        guard let output = process.stdout, try await output.read(into: &line) > 0 else { return "" }
    }
    return String(decoding: line.readable.dropLast(), as: UTF8.self)
}
