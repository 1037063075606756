internal import AegisCore
package import AegisIO
internal import LinuxSys
internal import Synchronization

/// Runs a program that we did not write.
package func runTool(
    _ program: String, _ arguments: [String], input: [UInt8] = [], in folder: String? = nil,
    environment: [String] = [], on loop: EventLoop
) async throws -> (code: Int32, out: String, error: String) {
    let path = Files.findExecutable(program, path: "/usr/local/bin:/usr/bin:/bin") ?? program
    var spec = ProcessSpec(executable: path, arguments: [program] + arguments)
    spec.workingDirectory = folder
    spec.environment = ["PATH=/usr/bin:/bin", "LC_ALL=C"] + environment
    let (status, out, error) = try await runProcess(
        spec, input: input, outputLimit: 64 << 20, deadline: .seconds(60), on: loop)
    return (status.shellCode, String(decoding: out, as: UTF8.self), String(decoding: error, as: UTF8.self))
}

/// Writes a program by another process: a descriptor of ours that is open for writing, and that a child started meanwhile has
/// inherited until it runs its own program, would make the file "busy" (ETXTBSY) for whoever starts it.
package func writeProgram(_ path: String, _ text: String, on loop: EventLoop) async throws {
    let written = try await runTool(
        "sh", ["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh", path], input: Array(text.utf8), on: loop)
    guard written.code == 0 else { throw IOError(.system, "writing \(path): \(written.error)") }
}

/// An authority of OpenSSL's own tools, and what it has signed.
package final class ToolAuthority: Sendable {
    /// Where everything of it lies.
    package let directory: TemporaryDirectory
    private let loop: EventLoop
    /// Its own certificate.
    package var certificate: [UInt8] { (try? Files.read(directory.path("root.pem"), limit: 1 << 16)) ?? [] }

    /// Makes it.
    package init(name: String = "root", on loop: EventLoop) async throws {
        self.loop = loop
        directory = try TemporaryDirectory()
        let config = """
            [req]
            distinguished_name = dn
            [dn]
            [ca]
            default_ca = own
            [own]
            database = index
            serial = serial
            new_certs_dir = .
            policy = any
            default_md = sha256
            copy_extensions = copy
            unique_subject = no
            [any]
            commonName = supplied
            """
        try Files.writeAtomically(directory.path("config"), Array(config.utf8))
        try Files.writeAtomically(directory.path("index"), [])
        try Files.writeAtomically(directory.path("serial"), Array("1000\n".utf8))
        try await openssl(
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                "root.key", "-out", "root.pem", "-subj", "/CN=\(name)", "-days", "30",
            ])
    }

    /// Runs the tool in the folder.
    package func openssl(_ arguments: [String]) async throws {
        let result = try await runTool("openssl", arguments, in: directory.path, on: loop)
        guard result.code == 0 else { throw IOError(.system, "openssl \(arguments): \(result.error)") }
    }

    /// Signs a certificate; `name.pem` and `name.key` are left in the folder.
    package func issue(
        _ name: String, names: String, from: String = "20200101000000Z", until: String = "20491231000000Z"
    )
        async throws
    {
        try await openssl(
            [
                "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                "\(name).key", "-out", "\(name).csr", "-subj", "/CN=\(name)", "-addext", "subjectAltName=\(names)",
            ])
        try await openssl(
            [
                "ca", "-batch", "-notext", "-config", "config", "-cert", "root.pem", "-keyfile", "root.key", "-in",
                "\(name).csr", "-out", "\(name).pem", "-startdate", from, "-enddate", until,
            ])
    }
}

/// Clients and servers that others wrote, which `scripts/setup` installs.
package enum TestPeers {
    /// The folder of their libraries, for the system's Python.
    ///
    /// - Throws: `no-peers` when they are not installed.
    package static func packages() throws -> String {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
        let folder = (CurrentProcess.environment("AEGIS_TEST_PEERS") ?? "\(root)/.build/peers") + "/lib"
        let found = ((try? Files.list(folder)) ?? []).map(\.name).first { $0.hasPrefix("python3.") }
        guard let found else {
            throw AegisError(.notFound, "no-peers", "there is no \(folder)", hint: "run scripts/setup")
        }
        return "\(folder)/\(found)/site-packages"
    }
}

/// A python program that prints the port it listens on and then serves.
package final class PythonServer: Sendable {
    /// Where it listens.
    package let port: UInt16
    private let process: ChildProcess

    /// Starts it.
    ///
    /// - Parameters:
    ///   - script: the program itself.
    ///   - arguments: for it.
    ///   - python: the interpreter; one of an environment brings that one's libraries.
    ///   - folder: where it works.
    ///   - packages: a folder of libraries; nil for those of the interpreter alone.
    ///   - loop: of its pipes.
    /// - Throws: when it ends before it has printed its port.
    package init(
        _ script: String, _ arguments: [String] = [], python: String = "/usr/bin/python3", in folder: String,
        packages: String? = nil, on loop: EventLoop
    ) async throws {
        var spec = ProcessSpec(executable: python, arguments: [python, "-c", script] + arguments)
        spec.workingDirectory = folder
        spec.environment = ["PATH=/usr/bin:/bin"] + (packages.map { ["PYTHONPATH=\($0)"] } ?? [])
        spec.stdout = .pipe
        spec.parentDeathSignal = 9
        process = try await ChildProcess.spawnInBackground(spec, on: loop)
        var line = ByteBuffer()
        while line.firstOffset(of: 10) == nil {
            guard try await process.stdout?.read(into: &line, atMost: 64) ?? 0 > 0 else { throw IOError.closed }
        }
        port = UInt16(String(decoding: line.readable, as: UTF8.self).prefix { $0.isNumber }) ?? 0
    }

    /// Ends it.
    package func stop() async { await process.teardown([.signal(9, allow: .seconds(5))]) }
}

/// Serves connections one after the other while a body runs.
package func serving<R: Sendable>(
    on loop: EventLoop, _ serve: @escaping @Sendable (FileStream) async throws -> Void,
    _ body: @escaping @Sendable (UInt16) async throws -> R
) async throws -> R {
    let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
    let port = try listener.localPort()
    return try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
            while let stream = try? await listener.accept() {
                try? await serve(stream)
                stream.close()
            }
        }
        let result = try await body(port)
        listener.close()
        group.cancelAll()
        return result
    }
}

/// What somebody noted, for a test to look at.
package final class Notes<Value: Sendable>: Sendable {
    private struct State {
        var values: [Value] = []
        var waiting: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }
    private let state = Mutex(State())
    /// Nothing yet.
    package init() {}

    /// Notes something.
    package func add(_ value: Value) {
        let ready = state.withLock { state in
            state.values.append(value)
            let count = state.values.count
            defer { state.waiting.removeAll { $0.count <= count } }
            return state.waiting.filter { $0.count <= count }.map(\.continuation)
        }
        for continuation in ready { continuation.resume() }
    }

    /// What was noted, in order.
    package var all: [Value] { state.withLock { $0.values } }

    /// Waits until so many things were noted.
    package func wait(for count: Int) async -> [Value] {
        await withCheckedContinuation { continuation in
            let isThere = state.withLock { state in
                if state.values.count >= count { return true }
                state.waiting.append((count, continuation))
                return false
            }
            if isThere { continuation.resume() }
        }
        return all
    }
}

/// Bytes that differ from each other in every place that matters.
package func scrambled(_ count: Int) -> [UInt8] {
    var state: UInt64 = 0x9e37_79b9_7f4a_7c15
    return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: state >> 33)
    }
}
