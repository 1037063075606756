import AegisIO
import LinuxSys

/// Ports of instances that sleep, by a client on loopback.
extension Sections {
    func serve() async throws -> [ResultTable] {
        var tables: [ResultTable] = []
        for runtime in Self.runtimes { tables.append(try await wakes(runtime)) }
        tables.append(try await crowd())
        tables.append(try await drops())
        tables.append(try await asleep())
        return tables
    }

    /// Python's own web server, with room for a crowd: its own five places would turn clients away for a second.
    private static let server = """
        import http.server as h
        h.ThreadingHTTPServer.request_queue_size = 1024
        print('listening', flush=True)
        h.test(h.SimpleHTTPRequestHandler, h.ThreadingHTTPServer, port=8000)
        """

    private func start(_ name: String, _ runtime: String) async throws -> UInt16 {
        try await start(name, runtime, Self.server)
    }

    /// Starts an instance with a web server that sleeps only when it is told to.
    ///
    /// - Parameters:
    ///   - name: of the instance.
    ///   - runtime: its isolation.
    ///   - server: a Python program that serves port 8000.
    ///   - more: further options.
    /// - Returns: its public port.
    /// - Throws: what keeps it from starting.
    func start(_ name: String, _ runtime: String, _ server: String, _ more: String...) async throws -> UInt16 {
        let words = aegis.command(
            "instance", "start", "--name", name, "--isolation", runtime, "--expose", "8000", "--idle-pause", "0s",
            "--idle-stop", "0s")
        _ = try await aegis.runner.time(words + more + ["--", "python3", "-c", server])
        let record = try await aegis.runner.output(aegis.command("instance", "info", name, "--output", "json"))
        let text = record.replacing(" ", with: "")
        guard let range = text.firstRange(of: "\"public_port\":"),
            let port = UInt16(text[range.upperBound...].prefix { $0.isNumber })
        else { throw Runner.Failure(description: "\(name) has no public port") }
        return port
    }

    /// Milliseconds from the start of a connection to the first byte of the answer, which must be a 200.
    func firstByte(_ port: UInt16, _ path: String = "/") async throws -> Double {
        let start = SystemTime.monotonic
        let stream = try await Connect.tcp(host: "127.0.0.1", port: port, on: aegis.loop)
        defer { stream.close() }
        let request = Array("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".utf8)
        try await stream.write(request[...])
        var buffer = ByteBuffer()
        _ = try await stream.read(into: &buffer, atMost: 4096)
        let elapsed = Double(SystemTime.monotonic - start) / 1e6
        let answer = String(decoding: buffer.take(buffer.readableBytes), as: UTF8.self)
        guard answer.contains(" 200 ") else { throw Runner.Failure(description: "the answer is \(answer.prefix(80))") }
        return elapsed
    }

    private func wakes(_ runtime: String) async throws -> ResultTable {
        let port = try await start("web", runtime)
        let aegis = aegis
        let stages: [(name: String, verb: String?, rounds: Int)] = [
            ("running", nil, count(100, quick: 10)), ("paused", "pause", count(100, quick: 10)),
            ("stopped", "stop", count(12, quick: 3)),
        ]
        var table = ResultTable(
            title: "Waking on \(runtime)",
            note:
                "From connecting to the first byte of a 200 of Python's own server, which takes some 60 ms to start by itself. "
                + "Target, paused: p50 at most 8 ms, p99 25 ms on runc.",
            head: ["instance", "samples", "p50 ms", "p99 ms"])
        for stage in stages {
            let contestant = Contestant(name: stage.name) {
                if let verb = stage.verb { _ = try await aegis.runner.time(aegis.command("instance", verb, "web")) }
                return try await firstByte(port)
            }
            guard let samples = try await rounds(stage.rounds, [contestant])[stage.name] else { continue }
            table.rows.append([stage.name, "\(samples.values.count)", short(samples.p50), short(samples.p99)])
        }
        let onStandby = try await wakesFromStandby(port, count(12, quick: 3))
        table.rows.append([
            "stopped, on standby", "\(onStandby.values.count)", short(onStandby.p50), short(onStandby.p99),
        ])
        try await aegis.delete("web")
        return table
    }

    /// The same for an instance that has stopped by itself and for which a sandbox was made ready.
    private func wakesFromStandby(_ port: UInt16, _ rounds: Int) async throws -> Samples {
        _ = try await aegis.runner.time(
            aegis.command("instance", "idle", "web", "--idle-stop", "100ms", "--idle-standby"))
        var samples = Samples()
        for round in 0...rounds {
            var isReady = false
            for _ in 0..<600 where !isReady {
                try await aegis.loop.clock.sleep(for: .milliseconds(50))
                let record = try await aegis.runner.output(aegis.command("instance", "info", "web", "--output", "json"))
                isReady = record.replacing(" ", with: "").contains("\"standby\":\"ready\"")
            }
            guard isReady else { throw Runner.Failure(description: "no sandbox was made ready for the next start") }
            let elapsed = try await firstByte(port)
            // The first one is for warming up, as in the other rows.
            if round > 0 { samples.add(elapsed) }
        }
        return samples
    }

    /// Clients that come at once while the instance is stopped.
    private func crowd() async throws -> ResultTable {
        let clients = count(100, quick: 20)
        let port = try await start("web", "runc")
        _ = try await aegis.runner.time(aegis.command("instance", "stop", "web"))
        let before = try await starts("web")
        let wall = try await together(clients) { _ in _ = try await firstByte(port) }
        let boots = try await starts("web") - before
        try await aegis.delete("web")
        return ResultTable(
            title: "\(clients) connections at one stopped instance", note: "All must be answered, by one boot.",
            head: ["answers", "boots", "until the last, ms"], rows: [["\(clients)", "\(boots)", short(wall)]])
    }

    /// Clients that come and go while the instance is paused again and again.
    private func drops() async throws -> ResultTable {
        let clients = count(20_000, quick: 2000)
        let port = try await start("web", "runc")
        _ = try await firstByte(port)
        let loop = aegis.loop
        let words = ["", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
        let pauses = count(100, quick: 10)
        async let paused: Void = pause("web", times: pauses)
        let elapsed = try await together(50) { worker in
            for turn in 0..<(clients / 50) {
                let stream = try await Connect.tcp(host: "127.0.0.1", port: port, on: loop)
                try? await stream.write(words[(worker + turn) % words.count])
                if turn % 2 == 0 { stream.reset() } else { stream.close() }
            }
        }
        try await paused
        let last = try await firstByte(port)
        var open = -1
        for _ in 0..<100 where open != 0 {
            try await loop.clock.sleep(for: .milliseconds(100))
            let record = try await aegis.runner.output(aegis.command("instance", "info", "web", "--output", "json"))
            let text = record.replacing(" ", with: "")
            guard let range = text.firstRange(of: "\"connections\":") else { continue }
            open = Int(text[range.upperBound...].prefix { $0.isNumber }) ?? -1
        }
        let boots = try await starts("web")
        try await aegis.delete("web")
        guard open == 0, boots == 1 else {
            throw Runner.Failure(description: "\(open) connections are left, and there were \(boots) boots")
        }
        return ResultTable(
            title: "\(clients) connections dropped at an instance that is paused again and again",
            note:
                "A third says nothing, a third breaks off a request, a third does not wait for the answer. None may stay.",
            head: ["ms in all", "pauses meanwhile", "connections left", "boots", "answer after it, ms"],
            rows: [[short(elapsed), "\(pauses)", "\(open)", "\(boots)", short(last)]])
    }

    /// Pauses an instance by force, whatever it does.
    private func pause(_ name: String, times: Int) async throws {
        for _ in 0..<times {
            _ = try await aegis.runner.time(aegis.command("instance", "pause", "--force", name))
        }
    }

    /// How often the instance's server has begun to listen, by what it says of itself.
    private func starts(_ name: String) async throws -> Int {
        let log = try await aegis.runner.output(aegis.command("logs", name))
        return log.split(separator: "\n").count { $0 == "listening" }
    }

    /// Many instances that sleep.
    private func asleep() async throws -> ResultTable {
        let number = count(500, quick: 30)
        let daemonBefore = try aegis.daemon.resident
        for batch in stride(from: 0, to: number, by: 4) {
            _ = try await together(min(4, number - batch)) { index in
                let name = "s\(batch + index)"
                _ = try await aegis.runner.time(
                    aegis.command(
                        "instance", "start", "--name", name, "--isolation", "runc", "--", "sleep", "100000"))
                _ = try await aegis.runner.time(aegis.command("instance", "pause", name))
            }
        }
        let keepers = try aegis.keepers()
        let below = keepers.flatMap(\.children).map { ProcessView(pid: $0) }
        let deeper = below.flatMap(\.children).map { ProcessView(pid: $0) }
        let memory = (keepers + below + deeper).reduce(0) { $0 + $1.resident } / max(1, number)
        var list = Samples()
        for _ in 0..<10 { list.add(try await aegis.runner.time(aegis.command("instance", "list"))) }
        var wake = Samples()
        for index in stride(from: 0, to: number, by: max(1, number / 20)) {
            wake.add(try await aegis.runner.time(aegis.command("exec", "s\(index)", "--", "true")))
        }
        let daemon = try aegis.daemon.resident
        for batch in stride(from: 0, to: number, by: 8) {
            _ = try await together(min(8, number - batch)) { index in try await aegis.delete("s\(batch + index)") }
        }
        return ResultTable(
            title: "\(number) paused instances",
            note: "Of `sleep` on runc; resident memory, shared pages counted for each.",
            head: ["what", "measured"],
            rows: [
                ["keeper, namespace holder, harness and command of one", "\(memory) KiB"],
                ["daemon, resident, before and with them", "\(daemonBefore) and \(daemon) KiB"],
                ["`aegis instance list`, p50", "\(short(list.p50)) ms"],
                [
                    "`aegis exec X -- true` in any one, which wakes it, p50 and p99",
                    "\(short(wake.p50)) and \(short(wake.p99)) ms",
                ],
            ])
    }
}
