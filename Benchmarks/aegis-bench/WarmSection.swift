import AegisIO
import LinuxSys

/// Runs in sandboxes that were kept ready, beside those that start one.
extension Sections {
    /// How many are kept ready.
    private static let size = 2
    /// Programs that follow one another in one process: what loading one takes there.
    private static let chain = 20

    func warm() async throws -> [ResultTable] {
        var tables: [ResultTable] = []
        var kept = ResultTable(
            title: "Kept ready",
            note:
                "\(Self.size) sandboxes of `base`. Wake-ups are those of the daemon, the keepers and all processes below them, "
                + "over \(count(5, quick: 3)) s in which nobody asks for anything.",
            head: ["what", "runc", "runsc"])
        var columns: [[String]] = []
        for runtime in Self.runtimes {
            await aegis.stop()
            _ = try await aegis.runner.time(
                aegis.command("up", "--ports", "auto", "--warm", "base@\(runtime)=\(Self.size)"))
            do {
                tables.append(try await claims(runtime))
                columns.append(try await idling())
            } catch {
                try await backToNormal()
                throw error
            }
        }
        try await backToNormal()
        let names = [
            "memory of one sandbox, by its control group", "keeper, resident", "wake-ups per second",
        ]
        kept.rows = names.indices.map { row in [names[row]] + columns.map { $0[row] } }
        return tables + [kept]
    }

    private func backToNormal() async throws {
        await aegis.stop()
        _ = try await aegis.runner.time(aegis.command("up", "--ports", "auto"))
        _ = try? await aegis.runner.output(aegis.command("doctor"))
    }

    private func claims(_ runtime: String) async throws -> ResultTable {
        let aegis = aegis
        try await aegis.idle("bare", runtime)
        let limits = runtime == "runc" ? ["--memory", "512Mi", "--cpus", "1"] : ["--cpus", "1"]
        let contestants = [
            Contestant(name: "aegis run -- true (\(runtime), claimed)") {
                try await full()
                return try await aegis.runner.time(aegis.command("run", "--isolation", runtime, "--", "true"))
            },
            Contestant(name: "the same with \(limits.joined(separator: " "))") {
                try await full()
                return try await aegis.runner.time(
                    aegis.command("run", "--isolation", runtime) + limits + ["--", "true"])
            },
            Contestant(name: "aegis run -- true (\(runtime), started)") {
                // What may have to be fetched anew takes none of them.
                try await aegis.runner.time(
                    aegis.command("run", "--isolation", runtime, "--pull", "always", "--", "true"))
            },
            Contestant(name: "aegis exec X -- true (\(runtime))") {
                try await full()
                return try await aegis.runner.time(aegis.command("exec", "bare", "--", "true"))
            },
            Contestant(name: "a program inside (\(runtime)), of a chain") {
                try await full()
                let chain = Array(repeating: "env", count: Self.chain) + ["true"]
                let whole = try await aegis.runner.time(aegis.command("exec", "bare", "--") + chain)
                let one = try await aegis.runner.time(aegis.command("exec", "bare", "--", "true"))
                return (whole - one) / Double(Self.chain)
            },
            Contestant(name: "aegis version") { try await aegis.runner.time(aegis.command("version")) },
        ]
        let samples = try await rounds(count(runtime == "runc" ? 60 : 25, quick: 5), contestants)
        try await aegis.delete("bare")
        let names = contestants.map(\.name)
        return table(
            "Claim: `aegis run -- true` on \(runtime)",
            "Target: p50 at most 10 ms. The pool is full and at rest before each sample. What no runtime of ours can take away is "
                + "the last but one row: `env` in the place of another `env`, \(Self.chain) times in one sandbox, without any start of a "
                + "process, a \(Self.chain)th of it.",
            samples,
            names.map { ($0, $0 == names[0] ? nil : names[0]) })
    }

    /// Waits until as many are ready as there should be, and until the processor has nothing more to do for them.
    private func full() async throws {
        for _ in 0..<600 {
            let status = try await aegis.runner.output(aegis.command("status"))
            if status.contains("\(Self.size) of \(Self.size) ready") {
                return try await aegis.loop.clock.sleep(for: .milliseconds(50))
            }
            try await aegis.loop.clock.sleep(for: .milliseconds(20))
        }
        throw Runner.Failure(description: "the pool does not fill")
    }

    /// What the pool costs while nobody wants anything of it.
    private func idling() async throws -> [String] {
        try await full()
        try await aegis.loop.clock.sleep(for: .seconds(3))
        let daemon = try aegis.daemon
        let keepers = try aegis.keepers()
        let all = [daemon] + keepers + descendants(of: keepers)
        let wakes = try await switches(of: all, count(5, quick: 3))
        let status = try await aegis.runner.output(aegis.command("status", "--output", "json"))
        let memory = number(after: "\"memory_bytes\":", in: status) / Self.size
        let resident = keepers.isEmpty ? 0 : keepers.reduce(0) { $0 + $1.resident } / keepers.count
        return ["\(memory >> 10) KiB", "\(resident) KiB", short(wakes)]
    }

    private func descendants(of processes: [ProcessView]) -> [ProcessView] {
        let below = processes.flatMap(\.children).map { ProcessView(pid: $0) }
        return below.isEmpty ? [] : below + descendants(of: below)
    }

    private func number(after word: String, in text: String) -> Int {
        guard let range = text.replacing(" ", with: "").firstRange(of: word) else { return 0 }
        return Int(text.replacing(" ", with: "")[range.upperBound...].prefix { $0.isNumber }) ?? 0
    }
}
