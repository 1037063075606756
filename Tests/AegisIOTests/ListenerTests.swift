import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct ListenerTests {
    @Test func longSocketPathWorks() async throws {
        let directory = try TemporaryDirectory()
        let deep = directory.path(Array(repeating: "a-rather-long-folder-name", count: 8).joined(separator: "/"))
        try Files.makeDirectories(deep)
        let path = "\(deep)/socket"
        #expect(path.utf8.count > 200)
        try await onLoop { loop in
            let listener = try Listener.unix(path: path, mode: 0o660, on: loop)
            #expect(try Files.status(path).permissions == 0o660)
            async let accepted = listener.accept()
            let client = try await Connect.unix(path: path, on: loop)
            try await client.write("far")
            client.close()
            #expect(try await accepted.readAll(limit: 10) == Array("far".utf8))
            listener.close()
            #expect(!Files.exists(path))
        }
    }

    @Test func abandonedSocketFileIsReplacedAndALivingOneIsNot() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("s")
        try await onLoop { loop in
            let stale = try FileDescriptor.streamSocket(for: try #require(SocketAddress(unix: path)))
            try stale.bind(to: try #require(SocketAddress(unix: path)))
            try stale.close()
            let listener = try Listener.unix(path: path, on: loop)
            let error = #expect(throws: IOError.self) { try Listener.unix(path: path, on: loop) }
            #expect(error?.errno == .addressInUse && error?.message.contains(path) == true)
            _ = try await Connect.unix(path: path, on: loop)
            _ = try await listener.accept()
        }
    }

    @Test func ordinaryFileIsNeverReplaced() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("file")
        try Files.writeAtomically(path, [1])
        try await onLoop { loop in
            #expect(throws: IOError.self) { try Listener.unix(path: path, on: loop) }
        }
        #expect(try Files.read(path, limit: 10) == [1])
    }

    @Test func closeLeavesAFileThatIsNotItsOwn() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path("s")
        try await onLoop { loop in
            let first = try Listener.unix(path: path, on: loop)
            try Files.removeFile(path)
            let second = try Listener.unix(path: path, on: loop)
            first.close()
            #expect(Files.exists(path))
            second.close()
            #expect(!Files.exists(path))
        }
    }

    @Test func busyPortNamesItself() async throws {
        try await onLoop { loop in
            let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
            let port = try listener.localPort()
            let error = #expect(throws: IOError.self) {
                try Listener.tcp(address: "127.0.0.1", port: port, on: loop)
            }
            #expect(error?.errno == .addressInUse && error?.message.contains("\(port)") == true)
        }
    }

    @Test func hostNamesAreRefused() async throws {
        try await onLoop { loop in
            #expect(throws: IOError.self) { try Listener.tcp(address: "example.org", port: 0, on: loop) }
            let error = await kind { try await Connect.tcp(host: "example.org", port: 80, on: loop) }
            #expect(error == .system)
        }
    }

    @Test func ipv6Works() async throws {
        try await onLoop { loop in
            let listener = try Listener.tcp(address: "::1", port: 0, on: loop)
            // 127.0.0.1 refuses, so localhost goes on to ::1.
            let client = try await Connect.tcp(host: "localhost", port: listener.localPort(), on: loop)
            let server = try await listener.accept()
            try await client.write("6")
            client.close()
            #expect(try await server.readAll(limit: 10) == [UInt8(ascii: "6")])
        }
    }

    @Test func acceptEndsByCancellationAndByClosing() async throws {
        try await onLoop { loop in
            let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
            let accepting = Task(executorPreference: loop) { try await listener.accept() }
            await settle()
            accepting.cancel()
            #expect(await kind { try await accepting.value } == .cancelled)
            async let closing = kind { try await listener.accept() }
            await settle()
            listener.close()
            #expect(await closing == .closed)
            #expect(await kind { try await listener.accept() } == .closed)
        }
    }
}

@Suite struct ConnectTests {
    @Test func refusedConnectionSaysWhere() async throws {
        let directory = try TemporaryDirectory()
        try await onLoop { loop in
            let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
            let port = try listener.localPort()
            listener.close()
            let error = await #expect(throws: IOError.self) {
                try await Connect.tcp(host: "127.0.0.1", port: port, on: loop)
            }
            #expect(error?.errno == .connectionRefused && error?.message.contains("port \(port)") == true)
            let missing = await #expect(throws: IOError.self) {
                try await Connect.unix(path: directory.path("none"), on: loop)
            }
            #expect(missing?.errno == .noSuchFile)
        }
    }

    /// A listener whose backlog is full never answers: the connection attempt can only time out or be cancelled.
    private func withFullBacklog(_ body: @escaping @Sendable (EventLoop, UInt16) async throws -> Void) async throws {
        try await onLoop { loop in
            let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop, backlog: 0)
            let port = try listener.localPort()
            var waiting: [FileStream] = []
            // Linux takes backlog + 1 connections and lets further ones hang.
            while let stream = try? await Connect.tcp(
                host: "127.0.0.1", port: port, on: loop, deadline: .milliseconds(20))
            { waiting.append(stream) }
            try await body(loop, port)
        }
    }

    @Test func connectTimesOut() async throws {
        try await withFullBacklog { loop, port in
            #expect(
                await kind {
                    try await Connect.tcp(host: "127.0.0.1", port: port, on: loop, deadline: .milliseconds(5))
                } == .timeout)
        }
    }

    @Test func connectIsCancelled() async throws {
        try await withFullBacklog { loop, port in
            let connecting = Task(executorPreference: loop) {
                try await Connect.tcp(host: "127.0.0.1", port: port, on: loop)
            }
            await settle()
            connecting.cancel()
            #expect(await kind { try await connecting.value } == .cancelled)
        }
    }

    @Test func fullUnixBacklogTimesOutAndThenLetsIn() async throws {
        let directory = try TemporaryDirectory()
        try await onLoop { loop in
            let path = directory.path("s")
            let listener = try Listener.unix(path: path, on: loop, backlog: 0)
            let first = try await Connect.unix(path: path, on: loop)
            #expect(
                await kind { try await Connect.unix(path: path, on: loop, deadline: .milliseconds(3)) } == .timeout)
            async let second = Connect.unix(path: path, on: loop)
            _ = try await listener.accept()
            _ = try await (first, second)
        }
    }
}
