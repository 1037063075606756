internal import AegisBackends
internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisMCP
internal import AegisSandboxTypes
internal import AegisSecrets
internal import LinuxSys
internal import Synchronization

/// MCP servers at the host, for who writes the daemon's configuration (decision D14): as another user, without privileges or a
/// way to them, in a control group of their own, with Landlock, and without a network unless the entry says that they have the
/// host's. Whatever of that is not to be had, the server does not start.
struct MCPHostPlace: MCPProcessHost {
    /// This daemon's own program, for the helper that becomes the server.
    let program: String
    let cgroups: CgroupManager
    let secrets: SecretStore
    let loop: EventLoop
    let scope: TaskScope

    private static let path = "/usr/local/bin:/usr/bin:/bin"

    func start(_ server: MCPServerSection) async throws -> any MCPProcess {
        let sandbox = server.sandbox
        guard CurrentProcess.effectiveUser == 0 else {
            throw AegisError(
                .unavailable, "mcp-host-refused",
                "the MCP server '\(server.name)' at the host needs a daemon of root's",
                hint: "leave 'host: true' out: then it runs in an instance")
        }
        let (cgroups, secrets) = (cgroups, secrets)
        // One that is still ending keeps its own: its end is none of this one's.
        let name = "mcp-\(server.name)-\(String(UInt32.random(in: 0 ... .max), radix: 16))"
        let (account, values, group) = try await BlockingPool.shared.run {
            let account = try Self.account(sandbox.user ?? "", server.name)
            let values = try secrets.resolve(sandbox.secrets)
            let limits = Limits(cpus: sandbox.cpus, memory: sandbox.memory, pids: sandbox.pids)
            return (account, values, try cgroups.make(name, cgroups.resolve(limits)))
        }
        do {
            // Closed like any other server, unless its entry says otherwise.
            let network: SharedDescriptor?
            if sandbox.networkMode == "host" {
                network = nil
            } else {
                // The kernel makes one at a time, and may let us wait.
                network = try await BlockingPool.shared.run { [name = server.name] in try Self.closedNetwork(name) }
            }
            var spec = ProcessSpec(executable: program, arguments: try arguments(server))
            spec.namespaces = network.map { [$0.raw] } ?? []
            spec.environment =
                ["PATH=\(Self.path)", "HOME=\(String(decoding: account.home, as: UTF8.self))", "LANG=C.UTF-8"]
                + sandbox.environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
                + values.map { "\($0.name)=\(String(decoding: $0.value.reveal(), as: UTF8.self))" }
            spec.workingDirectory = sandbox.workdir ?? "/"
            (spec.stdin, spec.stdout, spec.stderr) = (.pipe, .pipe, .pipe)
            spec.newSession = true
            spec.user = UserIdentity(user: account.uid, group: account.gid, groups: account.groups)
            spec.noNewPrivileges = true
            spec.cgroups = group.procsFiles
            spec.parentDeathSignal = 9
            spec.outOfMemoryScore = 500
            let child = try await ChildProcess.spawnInBackground(spec, on: loop)
            // It has entered it by now.
            withExtendedLifetime(network) {}
            return MCPHostProcess(child, group, scope, loop.clock)
        } catch {
            group.removeFolders()
            throw error
        }
    }

    private static func closedNetwork(_ server: String) throws(AegisError) -> SharedDescriptor {
        do throws(Errno) { return SharedDescriptor(try NetworkNamespace.makeClosed()) } catch {
            throw AegisError(
                .unavailable, "mcp-host-refused",
                "the MCP server '\(server)' is not started at the host: its network cannot be closed: \(error)",
                hint: "'network: { mode: host }' lets it have the host's")
        }
    }

    /// Whom it runs as: never root.
    private static func account(_ user: String, _ server: String) throws -> Account {
        func refused(_ why: String) -> AegisError {
            AegisError(.usage, "mcp-host-refused", "the MCP server '\(server)' is not started at the host: \(why)")
        }
        let account: Account
        do {
            account = try Accounts.resolve(
                Array(user.utf8), passwd: try Files.read("/etc/passwd", limit: Accounts.fileLimit),
                group: try Files.read("/etc/group", limit: Accounts.fileLimit))
        } catch { throw refused("there is no user '\(user)'") }
        guard account.uid != 0, account.gid != 0, !account.groups.contains(0) else {
            throw refused("'\(user)' is root, or in its group")
        }
        return account
    }

    private func arguments(_ server: MCPServerSection) throws(AegisError) -> [String] {
        guard let name = server.command.first, let found = Files.findExecutable(name, path: Self.path),
            found.hasPrefix("/")
        else {
            throw AegisError(
                .usage, "mcp-host-refused", "there is no program '\(server.command.first ?? "")' at the host",
                hint: "name it with its path")
        }
        var places: [String] = []
        for text in server.sandbox.mounts {
            let mount = try MountSpec(parsing: text)
            places += [mount.readOnly ? "--read" : "--write", mount.source]
        }
        return [program, "--helper", "mcp"] + places + ["--", found] + server.command.dropFirst()
    }
}

/// A child of the daemon, as a server's process.
private final class MCPHostProcess: MCPProcess {
    private let child: ChildProcess
    private let group: InstanceCgroup
    private let clock: any Clock<Duration>
    private let listening: TaskScope.Handle
    private let remarks = Remarks()

    /// The end of what it wrote to standard error; it is told when it has ended.
    private final class Remarks: Sendable {
        private let bytes = Mutex([UInt8]())
        func add(_ more: [UInt8]) { bytes.withLock { $0 = ($0 + more).suffix(4096) } }
        func take() -> [UInt8] {
            bytes.withLock { bytes in
                defer { bytes = [] }
                return bytes
            }
        }
    }

    init(_ child: ChildProcess, _ group: InstanceCgroup, _ scope: TaskScope, _ clock: any Clock<Duration>) {
        self.child = child
        self.group = group
        self.clock = clock
        listening = scope.spawn("mcp: standard error") { [remarks] in
            var bytes = ByteBuffer()
            while let count = try? await child.stderr?.read(into: &bytes), count > 0 { remarks.add(bytes.takeAll()) }
        }
    }

    func read() async throws -> MCPProcessOutput {
        var bytes = ByteBuffer()
        if try await child.stdout?.read(into: &bytes) ?? 0 > 0 { return .stdout(bytes.takeAll()[...]) }
        let status = await child.teardown([.signal(15, allow: .seconds(2))])
        group.killMembers()
        await listening.wait()
        let last = remarks.take()
        if !last.isEmpty { return .stderr(last[...]) }
        return .ended(status.map { "it ended with exit code \($0.shellCode)" } ?? "it does not end")
    }

    func write(_ bytes: [UInt8]) async throws { try await child.stdin?.write(bytes) }

    func stop() async {
        await child.teardown([.closeInput(allow: .seconds(2)), .signalGroup(15, allow: .seconds(2))])
        group.killMembers()
        await listening.wait()
        child.stdout?.close()
        // What was killed is gone a moment later; what is left then, the next daemon removes.
        for _ in 0..<100 where !group.removeFolders() { try? await clock.sleep(for: .milliseconds(20)) }
    }
}
