package import AegisIO
internal import LinuxSys

/// A real registry on a loopback port, over a storage folder that tests may write by hand.
package final class Registry: Sendable {
    /// Its configuration and its storage.
    package let directory: TemporaryDirectory
    package let port: Int
    /// Who watches it.
    package let loop: EventLoop
    private let process: ChildProcess
    private let drain: Task<Void, any Error>

    /// Starts it; `users` is the content of a password file, for a registry that wants credentials.
    package init(users: String? = nil, on loop: EventLoop) async throws {
        self.loop = loop
        directory = try TemporaryDirectory()
        var auth = ""
        if let users {
            try Files.writeAtomically(directory.path("users"), Array(users.utf8))
            auth = "auth:\n  htpasswd:\n    realm: test\n    path: \(directory.path("users"))\n"
        }
        let config = """
            version: 0.1
            log: {level: info}
            storage:
              filesystem: {rootdirectory: \(directory.path("storage"))}
              cache: {}
            http: {addr: "127.0.0.1:0"}
            \(auth)
            """
        try Files.makeDirectories(directory.path("storage"))
        try Files.writeAtomically(directory.path("config.yml"), Array(config.utf8))
        guard let program = Files.findExecutable("docker-registry", path: "/usr/local/bin:/usr/bin:/bin") else {
            throw Errno.noSuchFile
        }
        var spec = ProcessSpec(
            executable: program, arguments: ["docker-registry", "serve", directory.path("config.yml")])
        spec.stderr = .pipe
        spec.parentDeathSignal = 9
        process = try await ChildProcess.spawnInBackground(spec, on: loop)
        port = try await Self.readPort(process.stderr)
        // What it goes on to say is read too: with its pipe full it would stand still.
        drain = Task { [process] in
            var rest = ByteBuffer()
            while let stream = process.stderr, try await stream.read(into: &rest, atMost: 64 << 10) > 0 {
                rest.removeAll()
            }
        }
    }

    /// The log says where it listens.
    private static func readPort(_ stream: FileStream?) async throws -> Int {
        var buffer = ByteBuffer()
        while let stream, try await stream.read(into: &buffer, atMost: 4096) > 0 {
            let text = String(decoding: buffer.readable, as: UTF8.self)
            guard let place = text.firstRange(of: "listening on 127.0.0.1:") else { continue }
            let digits = text[place.upperBound...].prefix { $0.isNumber }
            if digits.endIndex != text.endIndex, let port = Int(digits) { return port }
        }
        throw IOError.closed
    }

    /// Ends it.
    package func stop() async { _ = await process.teardown([.signal(15, allow: .seconds(5))]) }

    /// The full name of a repository or image in it.
    package func name(_ text: String) -> String { "127.0.0.1:\(port)/\(text)" }

    /// The file that holds a blob, by its digest in hexadecimal.
    package func blob(_ hex: String) -> String { path("blobs/sha256/\(hex.prefix(2))/\(hex)/data") }

    /// Writes a file of its storage.
    package func write(_ name: String, _ bytes: [UInt8]) throws {
        let whole = path(name)
        try Files.makeDirectories(Files.split(whole).directory)
        try Files.writeAtomically(whole, bytes)
    }

    private func path(_ name: String) -> String { directory.path("storage/docker/registry/v2/\(name)") }
}
