import AegisIO
import LinuxSys

/// The contestants of the router's part: a server, and reverse proxies before it, each on a core of its own choice.
final class Relays: Sendable {
    struct Entry: Sendable {
        let name: String
        let port: UInt16
        let process: ChildProcess
        /// nginx works in a child; the others in the process itself.
        var worker: ProcessView {
            let view = ProcessView(pid: process.pid)
            return view.children.first.map { ProcessView(pid: $0) } ?? view
        }
    }

    private let scratch: String
    private let loop: EventLoop
    let server: Entry
    let proxies: [Entry]
    /// Idle connections that every contestant, and their client, can have with the descriptors that a process may open.
    let mostConnections: Int
    var all: [Entry] { [server] + proxies }

    private static let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    /// Proxies have the first core; server and clients share the second.
    static let clientCore = "1"

    init(scratch: String, loop: EventLoop) async throws {
        self.scratch = scratch
        self.loop = loop
        // Some are left for what is open besides: logs, listeners, connections to the server.
        mostConnections = min(10_000, CurrentProcess.allowOpenFiles() - 600)
        let most = mostConnections + 200
        var started: [Entry] = []
        func start(_ name: String, _ port: UInt16, core: String, _ words: [String]) async throws -> Entry {
            guard let program = Files.findExecutable(words[0], path: Self.path) ?? Self.own(words[0]) else {
                throw Runner.Failure(description: "\(words[0]) is missing: run scripts/setup bench")
            }
            let spec = ProcessSpec(
                executable: "/usr/bin/taskset", arguments: ["taskset", "-c", core, program] + words.dropFirst(),
                environment: ["PATH=\(Self.path)"], stdout: .pipe, stderr: .inherit, parentDeathSignal: 15)
            let process = try ChildProcess.spawn(spec, on: loop)
            var bound = port
            if port == 0 { bound = try await Self.announced(process) }
            let entry = Entry(name: name, port: bound, process: process)
            started.append(entry)
            try await Self.answers(entry, loop)
            return entry
        }
        do {
            let ports = try Self.freePorts(3, loop)
            try Self.writeFiles(scratch, most: most, server: ports[0], nginx: ports[1], haproxy: ports[2])
            server = try await start("direct", ports[0], core: "1", ["nginx", "-c", "\(scratch)/server.conf"])
            let nginx = try await start("nginx", ports[1], core: "0", ["nginx", "-c", "\(scratch)/nginx.conf"])
            let haproxy = try await start(
                "haproxy", ports[2], core: "0", ["haproxy", "-q", "-db", "-f", "\(scratch)/haproxy.conf"])
            let aegis = try await start("aegis", 0, core: "0", ["aegis-bench", "--relay", "\(ports[0])"])
            proxies = [nginx, haproxy, aegis]
        } catch {
            for entry in started { await entry.process.teardown([.signal(15, allow: .seconds(5))]) }
            throw error
        }
    }

    func stop() async {
        for entry in all.reversed() { await entry.process.teardown([.signal(15, allow: .seconds(5))]) }
    }

    private static func own(_ name: String) -> String? {
        name == "aegis-bench" ? try? Files.readLink("/proc/self/exe") : nil
    }

    /// The number that the relay prints.
    private static func announced(_ process: ChildProcess) async throws -> UInt16 {
        var line = ByteBuffer()
        while line.firstOffset(of: 10) == nil {
            guard let output = process.stdout, try await output.read(into: &line) > 0 else { break }
        }
        guard let port = UInt16(String(decoding: line.readable.dropLast(), as: UTF8.self)) else {
            throw Runner.Failure(description: "the relay did not start")
        }
        return port
    }

    private static func answers(_ entry: Entry, _ loop: EventLoop) async throws {
        for attempt in 0... {
            do {
                let stream = try await Connect.tcp(host: "127.0.0.1", port: entry.port, on: loop)
                return stream.close()
            } catch {
                guard attempt < 100, entry.process.exitStatus == nil else {
                    throw Runner.Failure(description: "\(entry.name) does not listen: \(error)")
                }
                try await loop.clock.sleep(for: .milliseconds(50))
            }
        }
    }

    private static func freePorts(_ count: Int, _ loop: EventLoop) throws -> [UInt16] {
        let listeners = try (0..<count).map { _ in try Listener.tcp(address: "127.0.0.1", port: 0, on: loop) }
        defer { for listener in listeners { listener.close() } }
        return try listeners.map { try $0.localPort() }
    }

    private static func writeFiles(_ scratch: String, most: Int, server: UInt16, nginx: UInt16, haproxy: UInt16) throws
    {
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map { "\($0)_temp_path \(scratch)/\($0);" }
        func frame(_ name: String, _ body: String) -> String {
            """
            worker_processes 1; daemon off; pid \(scratch)/\(name).pid; error_log \(scratch)/\(name).log;
                        events { worker_connections \(most); }
            http { access_log off; sendfile on; keepalive_requests 100000000; keepalive_timeout 300s;
            \(folders.joined(separator: " "))
            \(body)
            }

            """
        }
        let files = [
            "server.conf": frame(
                "server",
                """
                server { listen 127.0.0.1:\(server) backlog=4096; root \(scratch)/www;
                location = /hello { default_type text/plain; return 200 "hello, world\\n"; } }
                """),
            // What it does not buffer it does not write to disk; the same fields as the router's.
            "nginx.conf": frame(
                "nginx",
                """
                upstream b { server 127.0.0.1:\(server); keepalive 256; keepalive_requests 100000000; }
                server { listen 127.0.0.1:\(nginx) backlog=4096; location / { proxy_pass http://b;
                proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
                proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
                proxy_set_header X-Forwarded-Proto http; proxy_set_header X-Forwarded-Host $http_host; } }
                """),
            "haproxy.conf": """
            global
              # It wants two descriptors for each connection that it may have, whether it comes to that or not, and would not
              # start where 20,000 are allowed.
              no strict-limits
              nbthread 1
              maxpipes 64
              maxconn \(most)
            defaults
              mode http
              timeout connect 5s
              timeout client 300s
              timeout server 300s
              option http-keep-alive
              option splice-auto
              http-reuse always
            frontend f
              bind 127.0.0.1:\(haproxy) backlog 4096
              option forwardfor
              http-request set-header X-Forwarded-Proto http
              http-request set-header X-Forwarded-Host %[req.hdr(host)]
              default_backend b
            backend b
              server s 127.0.0.1:\(server) pool-max-conn 256

            """,
        ]
        try Files.makeDirectories("\(scratch)/www", mode: 0o755)
        // The server's worker is another user.
        try Files.setPermissions(scratch, 0o755)
        for (name, text) in files { try Files.writeAtomically("\(scratch)/\(name)", Array(text.utf8), mode: 0o644) }
        try Files.setPermissions("\(scratch)/www", 0o755)
        let large = try FileDescriptor.open("\(scratch)/www/1g", [.writeOnly, .create], mode: 0o644)
        try large.setPermissions(0o644)
        try large.truncate(to: 1 << 30)
    }
}
