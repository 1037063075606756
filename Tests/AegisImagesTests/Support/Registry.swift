import AegisIO
import AegisImages
import AegisTestSupport
import LinuxSys

/// A real registry on a loopback port, over a storage folder that tests write by hand.
final class Registry: Sendable {
    let directory: TemporaryDirectory
    let port: Int
    private let process: ChildProcess

    /// Starts it; `users` is the content of a password file, for a registry that wants credentials.
    init(users: String? = nil, on loop: EventLoop) async throws {
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
        let program = try unwrap(
            Files.findExecutable("docker-registry", path: "/usr/local/bin:/usr/bin:/bin"), "docker-registry")
        var spec = ProcessSpec(
            executable: program, arguments: ["docker-registry", "serve", directory.path("config.yml")])
        spec.stderr = .pipe
        spec.parentDeathSignal = 9
        process = try await ChildProcess.spawnInBackground(spec, on: loop)
        port = try await Self.readPort(process.stderr)
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
    func stop() async { _ = await process.teardown([.signal(15, allow: .seconds(5))]) }

    /// The full name of a repository.
    func name(_ repository: String) -> String { "127.0.0.1:\(port)/\(repository)" }

    /// A reference to an image in it.
    func reference(_ text: String) throws -> ImageReference { try ImageReference(parsing: name(text)) }

    private func write(_ path: String, _ bytes: [UInt8]) throws {
        let whole = directory.path("storage/docker/registry/v2/\(path)")
        try Files.makeDirectories(String(whole[..<(whole.lastIndex(of: "/") ?? whole.endIndex)]))
        try Files.writeAtomically(whole, bytes)
    }

    /// Stores a blob in a repository.
    func store(_ digest: Digest, _ bytes: [UInt8], in repository: String) throws {
        try write("blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)/data", bytes)
        try write("repositories/\(repository)/_layers/sha256/\(digest.hex)/link", Array("\(digest)".utf8))
    }

    /// Stores a manifest, and gives it a tag.
    func store(manifest: [UInt8], in repository: String, tag: String?) throws {
        let digest = Digest(of: manifest)
        try write("blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)/data", manifest)
        try write("repositories/\(repository)/_manifests/revisions/sha256/\(digest.hex)/link", Array("\(digest)".utf8))
        guard let tag else { return }
        try write("repositories/\(repository)/_manifests/tags/\(tag)/current/link", Array("\(digest)".utf8))
        try write(
            "repositories/\(repository)/_manifests/tags/\(tag)/index/sha256/\(digest.hex)/link", Array("\(digest)".utf8)
        )
    }

    /// Stores an image under `REPOSITORY:TAG`.
    func push(_ image: TestImage, _ name: String) throws {
        let parts = name.split(separator: ":").map(String.init)
        for blob in image.blobs { try store(blob.digest, blob.bytes, in: parts[0]) }
        try store(manifest: image.manifest, in: parts[0], tag: parts.count > 1 ? parts[1] : nil)
    }

    /// Changes what the registry holds under a digest.
    func damage(_ digest: Digest, _ bytes: [UInt8]) throws {
        try write("blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)/data", bytes)
    }

    /// Removes a blob, so that a pull that would fetch it again fails.
    func forget(_ digest: Digest) throws {
        try Files.removeTree(
            directory.path("storage/docker/registry/v2/blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)"))
    }
}

/// `#require` for initialisers that are not in a test's body.
func unwrap<T>(_ value: T?, _ what: String) throws -> T {
    guard let value else { throw Missing(what: what) }
    return value
}
struct Missing: Error { var what: String }
