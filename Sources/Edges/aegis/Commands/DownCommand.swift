internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisWire
internal import LinuxSys

/// `aegis down`
enum DownCommand {
    static let command = Command(
        "down", "stop the daemon and all instances",
        details: """
            Instances are stopped with grace and can be started again; nothing is deleted. When the daemon has died and left
            instances running, one is started for as long as it takes to end them.
            """,
        options: [Option("keep", .flag, "leave the instances running, for the next daemon to take over")],
        examples: [
            Example("returns when it has gone", "aegis down"), Example("an upgrade", "aegis down --keep && aegis up"),
        ], run: run)

    /// How long a daemon may take to stop its instances and itself.
    static let patience = Duration.seconds(180)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let client: APIClient
        do throws(AegisError) { client = try await context.client() } catch {
            guard error.kind == .daemonNotRunning else { throw error }
            return try await withoutSocket(invocation, context)
        }
        let home = try await stop(client, keep: invocation.has("keep"), invocation, context)
        // A daemon that was killed on the way may have left some. One of another home than ours leaves its own.
        if !invocation.has("keep"), home == context.location.home { try await endRemains(invocation, context) }
        return 0
    }

    /// Asks a daemon to end and waits until it has gone.
    ///
    /// - Returns: its home.
    @discardableResult
    private static func stop(
        _ client: APIClient, keep: Bool, _ invocation: Invocation, _ context: Context
    ) async throws -> String? {
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
            .post, APIClient.Route("shutdown", query: keep ? [("keep", "1")] : []))
        try await waitForEnd(process, pid, context)
        try await say("aegisd stopped (pid \(pid))\n", invocation, context)
        return status["home"]?.text
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

    /// Nobody listens: a daemon whose socket is gone is stopped by its pid file; what a dead one left is ended and removed.
    private static func withoutSocket(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let location = context.location
        let file = (try? Files.read(location.pidFile, limit: 4096)).map { String(decoding: $0, as: UTF8.self) }
        if let pid = file.flatMap({ Int32($0.prefix { $0.isNumber }) }), pid > 1,
            let process = try? ProcessHandle(pid: pid), isDaemon(pid)
        {
            do throws(Errno) { try process.signal(15) } catch {
                throw AegisError.failed(
                    "daemon-not-stopped", "aegisd (pid \(pid)) does not listen and cannot be signalled: \(error)")
            }
            try await waitForEnd(process, pid, context)
            try await say("aegisd stopped (pid \(pid); it did not listen any more)\n", invocation, context)
            if !invocation.has("keep") { try await endRemains(invocation, context) }
            return 0
        }
        let stale = file != nil || Files.exists(location.socket)
        try? Files.removeFile(location.pidFile)
        try? Files.removeFile(location.socket)
        let remains = Remains(context)
        if invocation.has("keep"), remains.instances > 0 {
            try await say(
                "aegisd is not running; \(remains.words) left for the next one\n", invocation, context)
            return 0
        }
        if try await endRemains(invocation, context) { return 0 }
        try await say(
            "aegisd is not running\(stale ? " (what an earlier one left was removed)" : "")\n", invocation, context)
        return 0
    }

    /// Ends what a daemon that died has left running: the next daemon takes it over and stops it as always.
    ///
    /// - Returns: whether there was anything.
    /// - Throws: `instances-left` saying how many still run.
    @discardableResult
    private static func endRemains(_ invocation: Invocation, _ context: Context) async throws -> Bool {
        let before = Remains(context)
        guard !before.isEmpty else { return false }
        let what =
            before.instances == 0 ? "what it left is cleared away now" : "\(before.words) left behind and ended now"
        try await say("aegisd is not running; \(what)\n", invocation, context)
        var location = context.location
        location.candidates = [location.socket]
        do {
            var start = Invocation()
            start.values["ports"] = ["auto"]
            start.flags.insert("quiet")
            try await UpCommand.start(location, start, context)
            try await stop(APIClient.connect(location, on: context.loop), keep: false, invocation, context)
        } catch {
            // What probes left is cleared away by whichever daemon starts next.
            guard Remains(context).instances > 0 else { return true }
            throw left(Remains(context), because: "\((error as? AegisError)?.message ?? "\(error)")")
        }
        let after = Remains(context)
        guard after.instances == 0 else { throw left(after, because: "the daemon could not end them") }
        return true
    }

    private static func left(_ remains: Remains, because why: String) -> AegisError {
        .failed(
            "instances-left", "aegisd is not running, but \(remains.words) still there: \(why)",
            hint: "start it with 'aegis up', which takes them over, then stop it with 'aegis down'")
    }

    /// Whether a pid from a file still belongs to a live aegisd: the number may be another program's by now, and one that
    /// has ended may wait for a parent that does not fetch it.
    private static func isDaemon(_ pid: Int32) -> Bool {
        guard let bytes = try? Files.read("/proc/\(pid)/stat", limit: 4096) else { return false }
        // PID (NAME) STATE ...
        let text = String(decoding: bytes, as: UTF8.self)
        guard let open = text.firstIndex(of: "("), let close = text.lastIndex(of: ")") else { return false }
        let state = text[close...].dropFirst().first { $0 != " " }
        return text[text.index(after: open)..<close] == "aegisd" && state != "Z" && state != "X"
    }
}

/// What a daemon has in its run directory: one folder for each sandbox that lives or was not cleared away.
private struct Remains {
    /// Folders of instances.
    let instances: Int
    let isEmpty: Bool

    /// Looks for them; a home that never had a daemon has none.
    init(_ context: Context) {
        let file = try? Files.read("\(context.location.home)/node", limit: 64)
        let node = file.map { String(decoding: $0.prefix { $0 > 32 }, as: UTF8.self) } ?? ""
        guard node.utf8.count == 8, node.allSatisfy(\.isHexDigit) else {
            (instances, isEmpty) = (0, true)
            return
        }
        let caller = context.caller
        let root =
            caller.user == 0
            ? "/run/aegis"
            : "\(caller.variable("XDG_RUNTIME_DIR").flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp")/aegis-\(caller.user)"
        let names = ((try? Files.list("\(root)/\(node)")) ?? []).map(\.name)
        instances = names.count { $0.hasPrefix("i-") }
        isEmpty = !names.contains { $0.hasPrefix("i-") || $0.hasPrefix("probe-") }
    }

    var words: String { instances == 1 ? "1 instance is" : "\(instances) instances are" }
}
