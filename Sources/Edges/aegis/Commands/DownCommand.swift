internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisWire
internal import LinuxSys

/// `aegis down`
enum DownCommand {
    static let command = Command(
        "down", "stop the daemon and all instances",
        details: "Instances are stopped with grace and can be started again; nothing is deleted.",
        options: [Option("keep", .flag, "leave the instances running, for the next daemon to take over")],
        examples: [
            Example("returns when it has gone", "aegis down"), Example("an upgrade", "aegis down --keep && aegis up"),
        ], run: run)

    /// How long a daemon may take to stop its instances and itself.
    static let patience = Duration.seconds(60)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let client: APIClient
        do throws(AegisError) { client = try await context.client() } catch {
            guard error.kind == .daemonNotRunning else { throw error }
            return try await withoutSocket(invocation, context)
        }
        let status = try await client.call(.get, APIClient.Route("status"))
        guard let pid = status["pid"]?.integer.flatMap(Int32.init(exactly:)) else {
            throw AegisError.failed("unreadable-answer", "the daemon did not tell its pid")
        }
        // Named before it is told to stop: afterwards the number could be another's.
        let process: ProcessHandle
        do throws(Errno) { process = try ProcessHandle(pid: pid) } catch {
            throw AegisError.failed("daemon-not-found", "aegisd (pid \(pid)) cannot be watched: \(error)")
        }
        try await client.call(
            .post, APIClient.Route("shutdown", query: invocation.has("keep") ? [("keep", "1")] : []))
        try await waitForEnd(process, pid, context)
        try await say("aegisd stopped (pid \(pid))\n", invocation, context)
        return 0
    }

    private static func say(_ text: String, _ invocation: Invocation, _ context: Context) async throws {
        if invocation.output == .text, !invocation.quiet { try await context.console.print(text) }
    }

    private static func waitForEnd(_ process: consuming ProcessHandle, _ pid: Int32, _ context: Context) async throws {
        let stream = try FileStream(process.descriptor.duplicate(), on: context.loop)
        do {
            try await withDeadline(patience) { try await stream.waitUntilReadable() }
        } catch let error as IOError where error.kind == .timeout {
            throw AegisError(
                .timeout, "daemon-not-stopped",
                "aegisd (pid \(pid)) did not stop within \(patience.components.seconds) seconds",
                hint: "see \(context.location.logFile)")
        }
    }

    /// Nobody listens: a daemon whose socket is gone is stopped by its pid file, what a dead one left is removed.
    private static func withoutSocket(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let location = context.location
        let file = (try? Files.read(location.pidFile, limit: 4096)).map { String(decoding: $0, as: UTF8.self) }
        guard let pid = file.flatMap({ Int32($0.prefix { $0.isNumber }) }), pid > 1,
            let process = try? ProcessHandle(pid: pid),
            isDaemon(pid)
        else {
            let stale = file != nil || Files.exists(location.socket)
            try? Files.removeFile(location.pidFile)
            try? Files.removeFile(location.socket)
            try await say(
                "aegisd is not running\(stale ? " (what an earlier one left was removed)" : "")\n", invocation, context)
            return 0
        }
        do throws(Errno) { try process.signal(15) } catch {
            throw AegisError.failed(
                "daemon-not-stopped", "aegisd (pid \(pid)) does not listen and cannot be signalled: \(error)")
        }
        try await waitForEnd(process, pid, context)
        try await say("aegisd stopped (pid \(pid); it did not listen any more)\n", invocation, context)
        return 0
    }

    /// Whether a pid from a file still belongs to an aegisd: the number may be another program's by now.
    private static func isDaemon(_ pid: Int32) -> Bool {
        guard let name = try? Files.read("/proc/\(pid)/comm", limit: 64) else { return false }
        return String(decoding: name, as: UTF8.self) == "aegisd\n"
    }
}
