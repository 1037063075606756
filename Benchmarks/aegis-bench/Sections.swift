import AegisIO
import LinuxSys

/// The parts of the report; each makes what it needs and removes it.
struct Sections: Sendable {
    let aegis: Aegis
    let docker: Docker
    let isQuick: Bool
    let scratch: String
    static let runtimes = ["runc", "runsc"]

    func count(_ full: Int, quick: Int) -> Int { isQuick ? quick : full }

    /// Rows of times: each contestant beside the one that it is compared with.
    func table(
        _ title: String, _ noteText: String, _ samples: [String: Samples], _ rows: [(name: String, against: String?)]
    ) -> ResultTable {
        var table = ResultTable(
            title: title, note: noteText,
            head: ["command", "samples", "p50 ms", "p99 ms", "compared with", "p50 more, ms", "p50 ratio"])
        for (name, against) in rows {
            guard let own = samples[name] else { continue }
            let other = against.flatMap { samples[$0] }
            table.rows.append([
                name, "\(own.values.count)", short(own.p50), short(own.p99), other == nil ? "–" : against ?? "–",
                other.map { short(own.p50 - $0.p50) } ?? "–", other.map { short(own.p50 / $0.p50) } ?? "–",
            ])
        }
        return table
    }

    // MARK: Starting

    func run() async throws -> [ResultTable] {
        var tables: [ResultTable] = []
        for runtime in Self.runtimes {
            try await aegis.idle("bare", runtime)
            let bare = try Bare(aegis, runtime: runtime)
            let bundle = try bare.bundle(0)
            let (aegis, docker) = (aegis, docker)
            var contestants = [
                Contestant(name: "aegis run -- true (\(runtime))") {
                    try await aegis.runner.time(aegis.command("run", "--isolation", runtime, "--", "true"))
                },
                Contestant(name: "bare \(runtime) run") { try await bare.time(0, bundle) },
            ]
            if docker.isReady {
                contestants.append(
                    Contestant(name: "docker run --rm") {
                        try await docker.time("run", "--rm", "--network", "none", "base", "true")
                    })
            }
            if let bwrap = try await bubblewrap() {
                contestants.append(Contestant(name: "bwrap") { try await aegis.runner.time(bwrap) })
            }
            let names = contestants.map(\.name)
            do {
                let samples = try await rounds(count(runtime == "runc" ? 60 : 25, quick: 5), contestants)
                tables.append(
                    table(
                        "Start: `aegis run -- true` on \(runtime)",
                        "Target: at most 12 ms more than bare at p50. A whole start, without the sandbox that is kept ready by default.",
                        samples,
                        names.map { ($0, $0 == names[1] ? nil : names[1]) }))
            } catch {
                bare.remove(bundle)
                try? await aegis.delete("bare")
                throw error
            }
            bare.remove(bundle)
            try await aegis.delete("bare")
        }
        return tables
    }

    /// bwrap needs mount points that the image leaves to the runtime: it gets a copy of the tree.
    private func bubblewrap() async throws -> [String]? {
        guard let program = Files.findExecutable("bwrap", path: "/usr/bin:/usr/local/bin") else { return nil }
        let tree = "\(scratch)/bwrap"
        if !Files.exists(tree) {
            _ = try await aegis.runner.time(["/bin/cp", "-al", try aegis.baseTree(), tree])
            for name in ["dev", "proc"] { try Files.makeDirectories("\(tree)/\(name)", mode: 0o755) }
        }
        return [program, "--ro-bind", tree, "/", "--proc", "/proc", "--dev", "/dev", "--unshare-all", "/bin/true"]
    }

    // MARK: In a running instance

    func exec() async throws -> [ResultTable] {
        var tables: [ResultTable] = []
        for runtime in Self.runtimes {
            try await aegis.idle("bare", runtime)
            let bare = try Bare(aegis, runtime: runtime)
            let (aegis, docker) = (aegis, docker)
            var contestants = [
                Contestant(name: "aegis exec X -- true (\(runtime))") {
                    try await aegis.runner.time(aegis.command("exec", "bare", "--", "true"))
                },
                Contestant(name: "\(runtime) exec") { try await bare.exec() },
                Contestant(name: "aegis version") { try await aegis.runner.time(aegis.command("version")) },
            ]
            if docker.isReady, runtime == "runc" {
                _ = try await docker.time("run", "-d", "--name", "live", "--network", "none", "base", "sleep", "100000")
                contestants.append(Contestant(name: "docker exec") { try await docker.time("exec", "live", "true") })
            }
            let names = contestants.map(\.name)
            let samples = try await rounds(count(runtime == "runc" ? 200 : 60, quick: 8), contestants)
            if docker.isReady, runtime == "runc" { _ = try await docker.time("rm", "-f", "live") }
            tables.append(
                table(
                    "Exec into a running instance on \(runtime)",
                    "Target: p50 at most \(runtime == "runc" ? 4 : 10) ms. `aegis version` is what starting our CLI alone takes.",
                    samples, names.map { ($0, $0 == names[0] ? nil : names[0]) }))
            try await aegis.delete("bare")
        }
        return tables
    }

    // MARK: Ending

    func stop() async throws -> [ResultTable] {
        var contestants: [Contestant] = []
        for runtime in Self.runtimes {
            let aegis = aegis
            contestants += [
                Contestant(name: "aegis instance delete (\(runtime), running)") {
                    try await aegis.idle("end", runtime)
                    return try await aegis.runner.time(aegis.command("instance", "delete", "end"))
                },
                Contestant(name: "aegis instance stop (\(runtime))") {
                    try await aegis.idle("end", runtime)
                    let time = try await aegis.runner.time(aegis.command("instance", "stop", "end"))
                    try await aegis.delete("end")
                    return time
                },
            ]
        }
        if docker.isReady {
            let docker = docker
            contestants.append(
                Contestant(name: "docker rm -f (running)") {
                    _ = try await docker.time(
                        "run", "-d", "--name", "end", "--network", "none", "base", "sleep", "100000")
                    return try await docker.time("rm", "-f", "end")
                })
        }
        let samples = try await rounds(count(30, quick: 4), contestants)
        return [
            table(
                "Stop and delete",
                "Target for stop and delete of a running instance: p50 at most 15 ms on runc, 60 ms on runsc. "
                    + "The command is `sleep`, which ends at SIGTERM.", samples, contestants.map { ($0.name, nil) })
        ]
    }

    // MARK: Output

    func cat() async throws -> [ResultTable] {
        let folder = "\(scratch)/big"
        try Files.makeDirectories(folder, mode: 0o755)
        let size = count(1024, quick: 128)
        _ = try await aegis.runner.time([
            "/usr/bin/dd", "if=/dev/urandom", "of=\(folder)/BIG", "bs=1M", "count=\(size)",
        ])
        let daemon = try aegis.daemon
        let before = daemon.resident
        let peak = Peak()
        let (aegis, docker) = (aegis, docker)
        var contestants = Self.runtimes.map { runtime in
            Contestant(name: "aegis run -- cat BIG (\(runtime))") {
                try await peak.watch(daemon, on: aegis.loop) {
                    try await aegis.runner.drain(
                        aegis.command(
                            "run", "--isolation", runtime, "--workspace", folder, "--", "cat", "/workspace/BIG"))
                }
            }
        }
        if docker.isReady {
            contestants.append(
                Contestant(name: "docker run -- cat BIG") {
                    try await docker.drain([
                        "run", "--rm", "--network", "none", "-v", "\(folder):/workspace", "base", "cat",
                        "/workspace/BIG",
                    ])
                })
        }
        let samples = try await rounds(count(3, quick: 1), contestants)
        var table = ResultTable(
            title: "Output: \(size) MiB through `cat`",
            note:
                "Target: at least docker's throughput, constant memory. Start and end included; aegis and docker both keep a "
                + "log. The daemon had \(before) KiB resident before and \(peak.value) KiB at its peak.",
            head: ["command", "samples", "p50 s", "MiB/s"])
        for contestant in contestants {
            guard let own = samples[contestant.name] else { continue }
            table.rows.append([
                contestant.name, "\(own.values.count)", short(own.p50 / 1000), short(Double(size) / own.p50 * 1000),
            ])
        }
        return [table]
    }

    // MARK: Doing nothing

    func idle() async throws -> [ResultTable] {
        let seconds = count(10, quick: 5)
        let number = count(50, quick: 10)
        let daemon = try aegis.daemon
        try await aegis.loop.clock.sleep(for: .seconds(3))
        let quiet = try await switches(of: [daemon], seconds)
        let empty = (daemon.resident, daemon.anonymous)
        for index in 0..<number { try await aegis.idle("idle-\(index)", "runc") }
        try await aegis.loop.clock.sleep(for: .seconds(3))
        let keepers = try aegis.keepers()
        let busy = try await switches(of: [daemon], seconds)
        let keeperWakes = try await switches(of: keepers, seconds)
        let full = (daemon.resident, daemon.anonymous)
        let harnesses = keepers.flatMap(\.children).map { ProcessView(pid: $0) }.filter {
            $0.command != "aegis-ns"
        }
        let holders = keepers.flatMap(\.children).map { ProcessView(pid: $0) }.filter { $0.command == "aegis-ns" }
        func mean(_ list: [ProcessView]) -> String {
            list.isEmpty ? "–" : "\(list.reduce(0) { $0 + $1.resident } / list.count) KiB"
        }
        let means = (keepers: mean(keepers), holders: mean(holders), harnesses: mean(harnesses))
        for index in 0..<number { try await aegis.delete("idle-\(index)") }
        return [
            ResultTable(
                title: "Idle",
                note:
                    "Wake-ups are voluntary context switches of all threads, counted over \(seconds) s; \(number) instances on runc.",
                head: ["what", "measured", "target"],
                rows: [
                    ["daemon, wake-ups per second, no instance", short(quiet), "0"],
                    ["daemon, wake-ups per second, \(number) instances", short(busy), "0"],
                    ["keepers, wake-ups per second, all \(number)", short(keeperWakes), "–"],
                    ["daemon, resident, no instance", "\(empty.0) KiB (\(empty.1) anonymous)", "30720 KiB"],
                    ["daemon, resident, \(number) instances", "\(full.0) KiB (\(full.1) anonymous)", "–"],
                    ["daemon, per instance", "\((full.0 - empty.0) / number) KiB", "1024 KiB"],
                    ["keeper, resident, mean", means.keepers, "1536 KiB"],
                    ["namespace holder, resident, mean", means.holders, "–"],
                    ["harness, resident, mean", means.harnesses, "1536 KiB"],
                ])
        ]
    }

    func switches(of processes: [ProcessView], _ seconds: Int) async throws -> Double {
        let before = processes.reduce(0) { $0 + $1.switches }
        try await aegis.loop.clock.sleep(for: .seconds(Int64(seconds)))
        return Double(processes.reduce(0) { $0 + $1.switches } - before) / Double(seconds)
    }

    // MARK: Many at once

    func many() async throws -> [ResultTable] {
        let number = count(50, quick: 10)
        try await aegis.idle("bare", "runc")
        let bare = try Bare(aegis, runtime: "runc")
        let bundles = try (0..<number).map { try bare.bundle($0) }
        let aegis = aegis
        let contestants = [
            Contestant(name: "\(number) aegis run at once (runc)") {
                try await together(number) { _ in
                    _ = try await aegis.runner.time(aegis.command("run", "--isolation", "runc", "--", "true"))
                }
            },
            Contestant(name: "\(number) bare runc run at once") {
                try await together(number) { _ = try await bare.time($0, bundles[$0]) }
            },
        ]
        let samples = try await rounds(count(3, quick: 1), contestants)
        for bundle in bundles { bare.remove(bundle) }
        try await aegis.delete("bare")
        return [
            table(
                "Many at once", "All must succeed. Wall time until the last one has ended.", samples,
                [(contestants[0].name, contestants[1].name), (contestants[1].name, nil)])
        ]
    }
}

/// Milliseconds until all of a number of tasks have ended.
func together(_ number: Int, _ body: @escaping @Sendable (Int) async throws -> Void) async throws -> Double {
    let start = SystemTime.monotonic
    try await withThrowingTaskGroup(of: Void.self) { group in
        for index in 0..<number { group.addTask { try await body(index) } }
        try await group.waitForAll()
    }
    return Double(SystemTime.monotonic - start) / 1e6
}
