internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire
internal import LinuxSys

/// `aegis up`
enum UpCommand {
    static let command = Command(
        "up", "start the daemon",
        details: """
            Returns when it is ready, or says why it is not. Started again while it runs, it says so and changes nothing.
            """,
        options: [
            Option("config", .value("FILE"), "the configuration file", completion: .files),
            Option(
                "ports", .value("auto"), "take free ports instead of the configured ones", completion: .words(["auto"])),
            warm,
        ],
        examples: [
            Example("the usual place", "aegis up"),
            Example("a private one", "AEGIS_HOME=$PWD/.aegis aegis up --ports auto"),
            Example("two sandboxes of the base image kept ready for 'aegis run'", "aegis up --warm 2"),
            Example("one with limits of its own", "aegis up --warm base@runsc+memory=512Mi+pids=256=1"),
        ], run: run)

    /// For `aegis daemon`, too.
    static let warm = Option(
        "warm", .values("[IMAGE[@ISOLATION][+LIMIT=VALUE]=]N"),
        "keep N sandboxes of an image (base) ready; LIMIT: cpus, memory, disk or pids")

    /// How long a daemon may take to be ready.
    static let patience = Duration.seconds(60)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        if let ports = invocation["ports"], ports != "auto" {
            throw AegisError.usage(
                "'\(ports)' is not a choice of ports", hint: "write --ports auto, or set them in the configuration")
        }
        // Only this place counts: a daemon elsewhere (/run/aegis beside ~/.aegis) is another one.
        var location = context.location
        location.candidates = [location.socket]
        if let status = try await running(location, context) {
            try await report(status, "is already running", invocation, context)
            return 0
        }
        try await start(location, invocation, context)
        guard let status = try await running(location, context) else {
            throw AegisError.failed(
                "daemon-not-started", "aegisd said that it is ready, but does not answer",
                hint: "see \(location.logFile)")
        }
        try await report(status, "is ready", invocation, context)
        return 0
    }

    /// The status of the daemon of a location; nil when none runs.
    static func running(_ location: DaemonLocation, _ context: Context) async throws(AegisError) -> JSONValue? {
        do throws(AegisError) {
            let client = try await APIClient.connect(location, on: context.loop)
            return try await client.call(.get, APIClient.Route("status"))
        } catch {
            // One that is killed accepts until its last descriptor is closed, and then lets go of whoever asks.
            guard error.kind == .daemonNotRunning || error.code == "connection-lost" else { throw error }
            return nil
        }
    }

    private static func report(
        _ status: JSONValue, _ what: String, _ invocation: Invocation, _ context: Context
    ) async throws {
        try await context.show(status, invocation) {
            guard !invocation.quiet else { return "" }
            let report = try status.decoded(StatusReport.self)
            return "aegisd \(report.version) \(what) (pid \(report.pid), \(Plain.text(report.socket)))\n"
        }
    }

    /// Starts a daemon for a location and waits until it is ready.
    ///
    /// - Throws: why it is not.
    static func start(_ location: DaemonLocation, _ invocation: Invocation, _ context: Context) async throws {
        let program = try DaemonCommand.program()
        if let note = try prepareHome(location), !invocation.quiet {
            await context.console.say("aegis: \(note)\n")
        }
        let log = try openLog(location)
        let logStart = try log.status().size
        var pipe = try DescriptorPair.pipe()
        let ready = try FileStream(pipe.takeFirst(), on: context.loop)
        let end = pipe.takeSecond()
        // A crash must not write registers and memory, secrets among them, into the log (decision D20).
        var replacing = ["AEGIS_READY_FD=3", "SWIFT_BACKTRACE=enable=no"]
        // A relative one means the same to the daemon, and to whatever reads its environment later.
        if let given = context.caller.variable("AEGIS_HOME"), !given.isEmpty {
            replacing.append("AEGIS_HOME=\(location.home)")
        }
        let replaced = replacing.map { $0.prefix { $0 != "=" } + "=" }
        let environment =
            CurrentProcess.environment.filter { entry in !replaced.contains { entry.hasPrefix($0) } } + replacing
        var spec = ProcessSpec(
            executable: program, arguments: ["aegisd"] + DaemonCommand.arguments(invocation),
            environment: environment,
            stdin: .null, stdout: .descriptor(log.raw), stderr: .descriptor(log.raw), newSession: true)
        spec.extraDescriptors = [(childNumber: 3, source: end.raw)]
        let child = try ChildProcess.spawn(spec, on: context.loop)
        try end.close()
        do {
            try await waitUntilReady(child, ready, log: location.logFile, from: logStart)
        } catch {
            // Whatever it was, a daemon that is not ready is not left behind.
            _ = await child.teardown([.signal(15, allow: .seconds(5))])
            throw error
        }
    }

    /// Makes sure that the home is there and the caller's alone, before anything is written: another user may have laid a
    /// link where the log will be.
    ///
    /// - Returns: what was changed.
    private static func prepareHome(_ location: DaemonLocation) throws(AegisError) -> String? {
        do throws(Errno) {
            if !Files.exists(location.home) { try Files.makeDirectories(location.home, mode: 0o700) }
        } catch { throw unusable(location, error) }
        return try HomeFolder.secure(location.home)
    }

    private static func openLog(_ location: DaemonLocation) throws(AegisError) -> FileDescriptor {
        do throws(Errno) {
            return try FileDescriptor.open(location.logFile, [.writeOnly, .create, .append])
        } catch { throw unusable(location, error) }
    }

    private static func unusable(_ location: DaemonLocation, _ error: Errno) -> AegisError {
        .failed(
            "home-not-usable", "\(location.home) cannot be used: \(error)",
            hint: "choose another place with AEGIS_HOME")
    }

    /// Waits for `ready` or an error object on the pipe, or for the daemon's early end.
    private static func waitUntilReady(
        _ child: ChildProcess, _ ready: FileStream, log: String, from start: UInt64
    ) async throws {
        let answer: [UInt8]
        do {
            answer = try await withDeadline(patience) { try await ready.readAll(limit: 64 << 10) }
        } catch let error as IOError where error.kind == .timeout {
            throw AegisError.failed(
                "daemon-not-ready",
                "aegisd (pid \(child.pid)) was not ready within \(patience.components.seconds) seconds",
                hint: tail(log, from: start) ?? "see \(log)")
        }
        let text = String(decoding: answer, as: UTF8.self)
        if text.hasPrefix("ready") { return }
        if !answer.isEmpty { throw StreamJSON.error(text) }
        let status = try await child.wait()
        throw AegisError.failed(
            "daemon-not-started", "aegisd ended at once (\(status))", hint: tail(log, from: start) ?? "see \(log)")
    }

    /// The last lines that this start has written to the log.
    static func tail(_ path: String, from start: UInt64, lines count: Int = 8) -> String? {
        guard let file = try? FileDescriptor.open(path), let size = try? file.status().size, size > start else {
            return nil
        }
        var buffer = [UInt8](repeating: 0, count: Int(min(size - start, 8192)))
        guard let read = try? file.read(at: max(start, size - UInt64(buffer.count)), into: &buffer) else { return nil }
        let lines = String(decoding: buffer[..<read], as: UTF8.self).split(separator: "\n").suffix(count)
        return lines.isEmpty ? nil : "the end of \(path):\n    " + lines.joined(separator: "\n    ")
    }
}
