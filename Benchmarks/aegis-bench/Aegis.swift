import AegisIO
import LinuxSys

/// A daemon in a home of its own, and what runs in it.
struct Aegis: Sendable {
    let options: Options
    let home: String
    let loop: EventLoop
    let runner: Runner

    init(options: Options, home: String, loop: EventLoop) {
        self.options = options
        self.home = home
        self.loop = loop
        runner = Runner(
            loop: loop,
            environment: [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "AEGIS_HOME=\(home)",
                // A start is a whole one, except where a section says otherwise.
                "AEGIS_INSTANCES_WARM=0", "AEGIS_INSTANCES_MAX=1000",
            ])
    }

    var cli: String { "\(options.binaries)/aegis" }
    func command(_ words: String...) -> [String] { [cli] + words }

    func start() async throws {
        try Files.makeDirectories(home)
        if let images = options.images { _ = try await runner.time(["/bin/cp", "-al", images, "\(home)/images"]) }
        _ = try await runner.time(command("up", "--ports", "auto"))
        // The canaries of all backends have ended when this answers.
        _ = try? await runner.output(command("doctor"))
        if options.images == nil {
            note("building the base image")
            _ = try await runner.time(command("image", "build", "base"))
        }
    }

    func stop() async { _ = try? await runner.time(command("down")) }

    var daemon: ProcessView {
        get throws {
            let text = String(decoding: try Files.read("\(home)/aegisd.pid", limit: 64), as: UTF8.self)
            guard let pid = Int32(text.split(separator: "\n").first ?? ""), pid > 1 else {
                throw Runner.Failure(description: "no pid of the daemon")
            }
            return ProcessView(pid: pid)
        }
    }

    /// The only layer of the base image.
    func baseTree() throws -> String {
        let layers = "\(home)/images/layers/sha256"
        guard let name = try Files.list(layers).map(\.name).first else {
            throw Runner.Failure(description: "no layer in \(layers)")
        }
        return "\(layers)/\(name)/tree"
    }

    /// Starts an instance that does nothing, and waits until it does that.
    func idle(_ name: String, _ isolation: String) async throws {
        _ = try await runner.time(
            command("run", "-d", "--name", name, "--isolation", isolation, "--", "sleep", "100000"))
        // `run -d` answers when the instance is made; a process inside can only start when it is up.
        _ = try await runner.time(command("exec", name, "--", "true"))
    }

    func delete(_ name: String) async throws { _ = try await runner.time(command("instance", "delete", name)) }

    /// The keepers of all sandboxes.
    func keepers() throws -> [ProcessView] {
        try daemon.children.map { ProcessView(pid: $0) }.filter { $0.command == "aegis-keep" }
    }
}

/// The runtime alone, in what the keeper of a live instance made for it.
final class Bare: Sendable {
    private let runtime: String
    private let directory: String
    private let id: String
    private let config: String
    private let namespaces: [HeldDescriptor]
    private let procs: [String]
    private let owner: (user: UInt32, group: UInt32)
    private let runner: Runner

    /// Finds the only live instance of a daemon.
    init(_ aegis: Aegis, runtime: String) throws {
        self.runtime = runtime
        guard let keeper = try aegis.keepers().first,
            let holder = keeper.children.first(where: { ProcessView(pid: $0).command == "aegis-ns" }),
            let root = keeper.mounts.split(separator: "\n").lazy.compactMap({ line -> Substring? in
                let fields = line.split(separator: " ")
                return fields.count > 4 && fields[4].hasPrefix("/run/aegis/") && fields[4].hasSuffix("/root")
                    ? fields[4] : nil
            }).first
        else { throw Runner.Failure(description: "no live instance") }
        let directory = String(root.dropLast(5))
        self.directory = directory
        id = Files.split(directory).name
        config = String(decoding: try Files.read("\(directory)/config.json", limit: 1 << 22), as: UTF8.self)
        func namespace(_ pid: Int32, _ name: String) throws(Errno) -> HeldDescriptor {
            HeldDescriptor(try FileDescriptor.open("/proc/\(pid)/ns/\(name)", .readOnly))
        }
        var list = [try namespace(keeper.pid, "mnt")]
        let status = try Files.status("\(directory)/rt")
        owner = (status.user, status.group)
        if runtime == "runsc" {
            list += [try namespace(holder, "net"), try namespace(holder, "user")]
            let id = id
            let groups = keeper.children.map { ProcessView(pid: $0) }.flatMap(\.cgroups)
            procs = Set(
                groups.filter { $0.path.contains(id) }.map { group in
                    let name =
                        group.controllers.hasPrefix("name=")
                        ? String(group.controllers.dropFirst(5)) : group.controllers
                    return ["/sys/fs/cgroup/\(name)", "/sys/fs/cgroup/unified"].map {
                        $0 + group.path + "/cgroup.procs"
                    }
                    .first { Files.exists($0) } ?? ""
                }
            ).filter { !$0.isEmpty }.sorted()
        } else {
            procs = []
        }
        namespaces = list
        runner = aegis.runner
    }

    private var flags: [String] {
        runtime == "runsc"
            ? [
                "/usr/bin/runsc", "--root", "\(directory)/rt", "--network=host", "--ignore-cgroups",
                "--file-access=exclusive",
            ]
            : ["/usr/sbin/runc", "--root", "\(directory)/rt"]
    }

    /// A bundle for one more sandbox in the same root.
    func bundle(_ number: Int) throws -> String {
        let folder = "\(Files.split(directory).directory)/bench-\(number)"
        try? Files.removeTree(folder)
        try Files.makeDirectories(folder, mode: 0o755)
        try Files.setPermissions(folder, 0o755)
        var text = replacing(config, "\"args\":[\"/.aegis/harness\"]", "\"args\":[\"/bin/true\"]")
        if let range = range(text, "\"cgroupsPath\":\""),
            let name = self.range(text, "/\(id)\"", from: range.upperBound)
        {
            text.replaceSubrange(name, with: "/bench-\(number)\"")
        }
        try Files.writeAtomically("\(folder)/config.json", Array(text.utf8), mode: 0o644)
        return folder
    }

    func time(_ number: Int, _ bundle: String) async throws -> Double {
        try await start(flags + ["run", runtime == "runsc" ? "-bundle" : "--bundle", bundle, "bench-\(number)"])
    }

    /// A process in the live instance.
    func exec() async throws -> Double { try await start(flags + ["exec", id, "/bin/true"]) }

    private func start(_ words: [String]) async throws -> Double {
        try await runner.time(
            words, namespaces: namespaces.map(\.raw), cgroups: procs,
            user: runtime == "runsc" ? UserIdentity(user: 0, group: 0) : nil)
    }

    func remove(_ bundle: String) { try? Files.removeTree(bundle) }

    private func range(_ text: String, _ word: String, from start: String.Index? = nil) -> Range<String.Index>? {
        text[(start ?? text.startIndex)...].firstRange(of: word)
    }
    private func replacing(_ text: String, _ word: String, _ other: String) -> String {
        text.replacing(word, with: other)
    }
}

/// A descriptor that several commands use.
final class HeldDescriptor: Sendable {
    private let descriptor: FileDescriptor
    init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
    var raw: Int32 { descriptor.raw }
}
