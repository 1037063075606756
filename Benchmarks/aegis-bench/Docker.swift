import AegisIO
import LinuxSys
import Synchronization

/// A docker daemon of the bench's own: private socket and folders, ended by its pid.
final class Docker: Sendable {
    let home: String
    let loop: EventLoop
    private let child = Mutex<ChildProcess?>(nil)
    private let ready = Mutex(false)

    init(home: String, loop: EventLoop) {
        self.home = home
        self.loop = loop
    }

    var isReady: Bool { ready.withLock { $0 } }
    var pid: Int32? { child.withLock { $0?.pid } }
    private var runner: Runner {
        Runner(
            loop: loop,
            environment: [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=\(home)",
                "DOCKER_HOST=unix://\(home)/d.sock",
            ])
    }
    private static let program = "/usr/bin/docker"
    private var client: String { Files.findExecutable("docker", path: "/usr/local/bin:/usr/bin") ?? Self.program }

    /// Starts the daemon and imports a tree as the image `base`.
    func start(image tree: String) async throws {
        try Files.makeDirectories(home)
        let log = try FileDescriptor.open("\(home)/log", [.writeOnly, .create, .append])
        let spec = ProcessSpec(
            executable: "/usr/sbin/dockerd",
            arguments: [
                "dockerd", "-H", "unix://\(home)/d.sock", "--data-root", "\(home)/data", "--exec-root", "\(home)/exec",
                "--pidfile", "\(home)/pid", "--bridge=none", "--iptables=false", "--ip6tables=false",
            ], environment: runner.environment, stdout: .descriptor(log.raw), stderr: .descriptor(log.raw),
            newSession: true)
        let daemon = try ChildProcess.spawn(spec, on: loop)
        child.withLock { $0 = daemon }
        for attempt in 0... {
            if (try? await runner.output([client, "version"])) != nil { break }
            guard attempt < 100, daemon.exitStatus == nil else {
                let text = (try? Files.read("\(home)/log", limit: 1 << 22)) ?? []
                throw Runner.Failure(
                    description: "dockerd is not ready: \(String(decoding: text.suffix(400), as: UTF8.self))")
            }
            try await loop.clock.sleep(for: .milliseconds(200))
        }
        try await runner.output(["/bin/sh", "-c", "tar -C '\(tree)' -c . | '\(client)' import - base"])
        ready.withLock { $0 = true }
    }

    func command(_ words: String...) -> [String] { [client] + words }
    func time(_ words: String...) async throws -> Double { try await runner.time([client] + words) }
    func drain(_ words: [String]) async throws -> Double { try await runner.drain([client] + words) }

    func stop() async {
        guard let daemon = child.withLock({ $0 }) else { return }
        await daemon.teardown([.signal(15, allow: .seconds(20))])
        // What a killed dockerd would leave mounted.
        let mounts = ProcessView(pid: CurrentProcess.pid).mounts.split(separator: "\n").map {
            $0.split(separator: " ")[4]
        }
        for mount in mounts.reversed() where mount.hasPrefix(home) { try? Mounts.unmount(String(mount), detach: true) }
    }
}
