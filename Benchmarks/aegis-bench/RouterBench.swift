import AegisIO
import LinuxSys

/// The router beside nginx and HAProxy as plain reverse proxies before the same server, one core each.
struct RouterBench: Sendable {
    let isQuick: Bool
    let loop: EventLoop
    let scratch: String

    private var runner: Runner { Runner(loop: loop, environment: ["PATH=/usr/bin:/bin"]) }
    private static let load = "64"
    /// What all tables say, since readers may think of more.
    private static let alone = "Aegis is its router alone, before a server on the host: no sandbox is in the way."

    func run() async throws -> [ResultTable] {
        try Files.makeDirectories(scratch, mode: 0o755)
        defer { try? Files.removeTree(scratch) }
        let relays = try await Relays(scratch: scratch, loop: loop)
        let outcome: Result<[ResultTable], any Error>
        do {
            outcome = .success([
                try await requests(relays), try await latency(relays), try await large(relays), try await idle(relays),
            ])
        } catch { outcome = .failure(error) }
        await relays.stop()
        return try outcome.get()
    }

    // MARK: Small requests

    private struct Run {
        var rate: Double
        var p50: Double
        var p99: Double
        var cpu: Double
    }

    /// One run of wrk on the clients' core.
    private func wrk(_ entry: Relays.Entry, connections: String, seconds: Int) async throws -> Run {
        let worker = entry.worker
        let before = worker.cpuTime
        let text = try await runner.output([
            "/usr/bin/taskset", "-c", Relays.clientCore, "wrk", "-t1", "-c\(connections)", "-d\(seconds)s", "--latency",
            "http://127.0.0.1:\(entry.port)/hello",
        ])
        let used = worker.cpuTime - before
        guard !text.contains("Socket errors"), !text.contains("Non-2xx") else {
            throw Runner.Failure(description: "requests through \(entry.name) failed: \(text)")
        }
        func words(_ key: String) -> [Substring] {
            text.split(separator: "\n").map { $0.split(separator: " ") }.first { $0.contains(Substring(key)) } ?? []
        }
        let count = Double(words("requests").first ?? "") ?? .nan
        return Run(
            rate: Double(words("Requests/sec:").last ?? "") ?? .nan, p50: milliseconds(words("50%").last),
            p99: milliseconds(words("99%").last), cpu: used / count * 1e6)
    }

    private func milliseconds(_ text: Substring?) -> Double {
        guard let text else { return .nan }
        for (unit, factor) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3)] where text.hasSuffix(unit) {
            return (Double(text.dropLast(unit.count)) ?? .nan) * factor
        }
        return .nan
    }

    /// All contestants in turns, so that what disturbs one disturbs all; another one begins each time.
    private func inTurns(
        _ entries: [Relays.Entry], connections: String, rounds: Int, seconds: Int
    ) async throws -> [String: [Run]] {
        var runs: [String: [Run]] = [:]
        for round in 0...rounds {
            for turn in entries.indices {
                let entry = entries[(turn + round) % entries.count]
                let run = try await wrk(entry, connections: connections, seconds: round == 0 ? 1 : seconds)
                if round > 0 { runs[entry.name, default: []].append(run) }
            }
        }
        return runs
    }

    private func median(_ runs: [Run]?, _ part: (Run) -> Double) -> Double {
        var samples = Samples()
        for run in runs ?? [] { samples.add(part(run)) }
        return samples.p50
    }

    private func requests(_ relays: Relays) async throws -> ResultTable {
        let runs = try await inTurns(
            relays.all, connections: Self.load, rounds: isQuick ? 1 : 5, seconds: isQuick ? 2 : 4)
        var table = ResultTable(
            title: "Router: requests",
            note: "Target: at least 0.9 of the faster of nginx and HAProxy. wrk with \(Self.load) connections that are "
                + "kept alive; the proxy has one core, wrk and the server share another. Medians of interleaved runs. "
                + Self.alone,
            head: ["through", "requests/s", "of the faster", "p50 ms", "p99 ms", "CPU µs each"])
        let best = max(median(runs["nginx"], \.rate), median(runs["haproxy"], \.rate))
        for entry in relays.all {
            let own = runs[entry.name]
            table.rows.append([
                entry.name, short(median(own, \.rate)), short(median(own, \.rate) / best), short(median(own, \.p50)),
                short(median(own, \.p99)), short(median(own, \.cpu)),
            ])
        }
        return table
    }

    /// One connection, one request after the other.
    ///
    /// What a request takes here changes by tens of microseconds from one second to the next, with the machine below: those
    /// who are compared take turns of some milliseconds, or their differences mean nothing.
    private func latency(_ relays: Relays) async throws -> ResultTable {
        let runs = try await inTurns(relays.all, connections: "1", rounds: isQuick ? 1 : 6, seconds: 1)
        var p50: [String: Samples] = [:]
        var p99: [String: Samples] = [:]
        var added: [String: Samples] = [:]
        let count = isQuick ? 2 : 15
        for _ in 0..<count {
            let ports = relays.all.map { "\($0.port)" }
            let lines = try await runner.output(
                ["/usr/bin/taskset", "-c", Relays.clientCore, Files.readLink("/proc/self/exe"), "--ask"] + ports
            ).split(separator: "\n").map { $0.split(separator: " ").compactMap { Double($0) } }
            guard lines.count == relays.all.count, lines.allSatisfy({ $0.count == 2 }) else {
                throw Runner.Failure(description: "the client said something else: \(lines)")
            }
            for (entry, line) in zip(relays.all, lines) {
                p50[entry.name, default: Samples()].add(line[0])
                p99[entry.name, default: Samples()].add(line[1])
                added[entry.name, default: Samples()].add(line[0] - lines[0][0])
            }
        }
        var table = ResultTable(
            title: "Router: added latency",
            note:
                "Target: at most what the others add at p50. One connection, one request after the other, \(Asker.batch) "
                + "to each in turns of random order; medians of \(count) runs of \(Asker.rounds * Asker.batch) "
                + "requests to each, and the least and most that a run has found. Beside it what wrk says of runs of a "
                + "second in turns. " + Self.alone,
            head: ["through", "p50 µs", "p99 µs", "added at p50, µs", "least and most", "wrk: p50 µs"])
        for entry in relays.all {
            guard let p50 = p50[entry.name], let p99 = p99[entry.name], let more = added[entry.name] else { continue }
            table.rows.append([
                entry.name, tenth(p50.p50), tenth(p99.p50), tenth(more.p50),
                "\(tenth(more.percentile(0))) – \(tenth(more.percentile(1)))",
                tenth(median(runs[entry.name], \.p50) * 1000),
            ])
        }
        return table
    }

    private func tenth(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }

    // MARK: Large bodies

    private func large(_ relays: Relays) async throws -> ResultTable {
        var table = ResultTable(
            title: "Router: a body of 1 GiB",
            note: "Target: at least 0.9 of the faster of nginx and HAProxy. One download with curl. " + Self.alone,
            head: ["through", "samples", "MiB/s", "of the faster", "CPU ms"])
        var times: [String: Samples] = [:]
        var used: [String: Samples] = [:]
        for _ in 0..<(isQuick ? 2 : 5) {
            for entry in relays.all {
                let worker = entry.worker
                let before = worker.cpuTime
                let time = try await runner.time([
                    "/usr/bin/taskset", "-c", Relays.clientCore, "curl", "-sS", "--fail", "-o", "/dev/null",
                    "http://127.0.0.1:\(entry.port)/1g",
                ])
                times[entry.name, default: Samples()].add(time)
                used[entry.name, default: Samples()].add((worker.cpuTime - before) * 1e3)
            }
        }
        let best = min(times["nginx"]?.p50 ?? .nan, times["haproxy"]?.p50 ?? .nan)
        for entry in relays.all {
            guard let time = times[entry.name], let cpu = used[entry.name] else { continue }
            table.rows.append([
                entry.name, "\(time.values.count)", short(1_024_000 / time.p50), short(best / time.p50), short(cpu.p50),
            ])
        }
        return table
    }

    // MARK: Idle connections

    private func idle(_ relays: Relays) async throws -> ResultTable {
        let count = min(relays.mostConnections, isQuick ? 2000 : 10_000)
        var table = ResultTable(
            title: "Router: \(count) idle connections",
            note:
                "Each has made one request and stays open. Memory of the proxy that no file backs, beyond what it had. "
                + Self.alone,
            head: ["through", "KiB each", "KiB before", "KiB with all"])
        for entry in relays.proxies {
            let worker = entry.worker
            let before = worker.anonymous
            var open: [FileStream] = []
            defer { for stream in open { stream.close() } }
            for _ in 0..<count {
                let stream = try await Connect.tcp(host: "127.0.0.1", port: entry.port, on: loop)
                open.append(stream)
                try await stream.write("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
                var answer = ByteBuffer()
                while !String(decoding: answer.readable, as: UTF8.self).hasSuffix("world\n") {
                    guard try await stream.read(into: &answer) > 0 else {
                        throw Runner.Failure(description: "\(entry.name) closed a connection after \(open.count)")
                    }
                }
            }
            // Idle means that nothing has happened for a while.
            try await loop.clock.sleep(for: .seconds(3))
            let after = worker.anonymous
            table.rows.append([entry.name, short(Double(after - before) / Double(count)), "\(before)", "\(after)"])
        }
        return table
    }
}
