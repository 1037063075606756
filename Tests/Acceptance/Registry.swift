import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Synchronization
import Testing

/// A real registry on loopback, with images that are made by hand and pushed into it.
final class Registry: Sendable {
    let port: Int
    private let directory: TemporaryDirectory
    private let process: ChildProcess
    private let fixture: DaemonFixture

    /// Starts one; `users` is the content of a password file, for a registry that wants credentials.
    init(_ fixture: DaemonFixture, users: String? = nil) async throws {
        self.fixture = fixture
        directory = try TemporaryDirectory()
        try Files.makeDirectories(directory.path("storage"))
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
        try Files.writeAtomically(directory.path("config.yml"), Array(config.utf8))
        var spec = ProcessSpec(
            executable: "/usr/bin/docker-registry",
            arguments: ["docker-registry", "serve", directory.path("config.yml")])
        spec.stderr = .pipe
        spec.parentDeathSignal = 9
        process = try await ChildProcess.spawnInBackground(spec, on: fixture.loop)
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

    func stop() async { _ = await process.teardown([.signal(15, allow: .seconds(5))]) }

    /// The full name of an image in it.
    func name(_ image: String) -> String { "127.0.0.1:\(port)/\(image)" }

    /// Makes an image of one layer and pushes it.
    ///
    /// - Parameters:
    ///   - image: `NAME:TAG`.
    ///   - config: the members of the configuration's `config` object.
    ///   - credentials: `USER:PASSWORD`.
    ///   - make: shell commands that fill the layer, the current directory.
    /// - Returns: the digest of the layer, in hexadecimal.
    /// - Throws: what the commands said.
    @discardableResult
    func push(_ image: String, config: String = "", credentials: String? = nil, _ make: String) async throws -> String {
        let script = """
            set -e; w=$(mktemp -d '\(directory.path)/push-XXXXXX'); cd "$w"; mkdir root blobs blobs/sha256; cd root
            \(make)
            cd ..; tar --numeric-owner -cf layer.tar -C root .
            diff=$(sha256sum layer.tar | cut -c1-64); gzip -1n layer.tar
            layer=$(sha256sum layer.tar.gz | cut -c1-64); lsize=$(stat -c %s layer.tar.gz); mv layer.tar.gz blobs/sha256/$layer
            printf '{"architecture":"%s","os":"linux","config":{%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
              "$(dpkg --print-architecture)" '\(config)' $diff > c
            conf=$(sha256sum c | cut -c1-64); csize=$(stat -c %s c); mv c blobs/sha256/$conf
            printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%s","size":%d}]}' \
              $conf $csize $layer $lsize > m
            man=$(sha256sum m | cut -c1-64); msize=$(stat -c %s m); mv m blobs/sha256/$man
            printf '{"imageLayoutVersion":"1.0.0"}' > oci-layout
            printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d}]}' $man $msize > index.json
            skopeo --insecure-policy copy -q --preserve-digests --dest-tls-verify=false \
              \(credentials.map { "--dest-creds \($0)" } ?? "") "oci:$w" docker://\(name(image)) >&2
            echo $layer; rm -rf "$w"
            """
        let result = try await fixture.run("/bin/sh", ["-c", script])
        try #require(result.code == 0, "\(result)")
        return result.out.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// The file that holds a blob.
    func blob(_ digest: String) -> String {
        directory.path("storage/docker/registry/v2/blobs/sha256/\(digest.prefix(2))/\(digest)/data")
    }

    /// A root file system with one static program, for images.
    static let busybox =
        "mkdir bin tmp etc; cp /bin/busybox bin/busybox; for n in sh cat echo env id pwd sleep true; do ln -s busybox bin/$n; done;"
}

/// Runs a test against a daemon and a registry.
func withRegistry(
    users: String? = nil, _ body: @escaping @Sendable (DaemonFixture, Registry) async throws -> Void
) async throws {
    try await DaemonFixture.with { f in
        let registry = try await Registry(f, users: users)
        do { try await body(f, registry) } catch {
            await registry.stop()
            throw error
        }
        await registry.stop()
    }
}

/// Stands before a registry and lets only so many bytes of its answers through; then connections stand still.
final class SlowLink: Sendable {
    private let listener: Listener
    private let registry: Int
    private let loop: EventLoop
    private let state: Mutex<(left: Int, stalled: Bool, connections: Int, waiters: [CheckedContinuation<Void, Never>])>

    init(before registry: Registry, bytes: Int, on loop: EventLoop) throws {
        listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
        self.registry = registry.port
        self.loop = loop
        state = Mutex((bytes, false, 0, []))
    }

    var port: Int { get throws { Int(try listener.localPort()) } }
    var connections: Int { state.withLock { $0.connections } }

    /// Runs `body` beside it.
    func during<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) async throws -> R {
        try await withThrowingTaskGroup(of: R?.self) { group in
            group.addTask {
                await self.serve()
                return nil
            }
            group.addTask { try await body() }
            while let result = try await group.next() {
                guard let result else { continue }
                group.cancelAll()
                return result
            }
            throw CancellationError()
        }
    }

    /// Waits until a connection stands still.
    func stalled() async {
        await withCheckedContinuation { waiter in
            let now = state.withLock { state in
                if !state.stalled { state.waiters.append(waiter) }
                return state.stalled
            }
            if now { waiter.resume() }
        }
    }

    /// Lets everything through again, for connections made from now on.
    func open() { state.withLock { $0 = (.max, false, $0.connections, []) } }

    private func serve() async {
        await withDiscardingTaskGroup { group in
            while let client = try? await listener.accept() {
                state.withLock { $0.connections += 1 }
                group.addTask { [self] in
                    await relay(client)
                    client.close()
                }
            }
            group.cancelAll()
        }
    }

    private func relay(_ client: FileStream) async {
        guard let server = try? await Connect.tcp(host: "127.0.0.1", port: UInt16(registry), on: loop) else { return }
        await withDiscardingTaskGroup { group in
            group.addTask { await self.answers(server, client) }
            var buffer = ByteBuffer()
            while let count = try? await client.read(into: &buffer, atMost: 64 << 10), count > 0 {
                guard (try? await server.write(buffer.takeAll()[...])) != nil else { break }
            }
            server.close()
            group.cancelAll()
        }
    }

    private func answers(_ server: FileStream, _ client: FileStream) async {
        var buffer = ByteBuffer()
        while let count = try? await server.read(into: &buffer, atMost: 64 << 10), count > 0 {
            let bytes = buffer.takeAll()
            let allowed = state.withLock { state -> Int in
                let allowed = min(state.left, bytes.count)
                state.left -= allowed
                return allowed
            }
            guard (try? await client.write(bytes[..<allowed])) != nil else { return }
            guard allowed < bytes.count else { continue }
            let waiters = state.withLock { state in
                state.stalled = true
                defer { state.waiters = [] }
                return state.waiters
            }
            for waiter in waiters { waiter.resume() }
            // Stands still until the other side closes; the registry's bytes are dropped.
            while let more = try? await server.read(into: &buffer, atMost: 64 << 10), more > 0 { buffer.removeAll() }
            return
        }
        client.close()
    }
}
