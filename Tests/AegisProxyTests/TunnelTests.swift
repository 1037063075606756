import AegisIO
import AegisProxy
import AegisTestSupport
import Testing

/// Two streams joined.
@Suite struct TunnelTests {
    /// A client and a server with a tunnel between them.
    private func withTunnel(
        _ body: @escaping @Sendable (_ client: RawPeer, _ server: RawPeer, EventLoop) async throws -> Void
    ) async throws {
        try await onLoop { loop in
            func pair() async throws -> (FileStream, FileStream) {
                let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
                defer { listener.close() }
                let port = try listener.localPort()
                async let here = Connect.tcp(host: "127.0.0.1", port: port, on: loop)
                let there = try await listener.accept()
                return (try await here, there)
            }
            let (client, near) = try await pair()
            let (far, server) = try await pair()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await Tunnel.relay(near, far, pools: ProxyPools()) }
                try await withDeadline(.seconds(180)) { try await body(RawPeer(client), RawPeer(server), loop) }
                client.close()
                server.close()
                try await group.waitForAll()
            }
        }
    }

    @Test func bytesGoBothWays() async throws {
        try await withTunnel { client, server, _ in
            for _ in 0..<100 {
                try await client.send("ping")
                try await server.expect("ping")
                try await server.send("pong")
                try await client.expect("pong")
            }
        }
    }

    @Test func eachSideEndsByItself() async throws {
        try await withTunnel { client, server, _ in
            try await client.send("question")
            try client.stream.closeWrite()
            #expect(try await server.rest() == "question")
            try await server.send("answer")
            try await client.expect("answer")
            try server.stream.closeWrite()
            #expect(try await client.rest() == "")
        }
        try await withTunnel { client, server, _ in
            try server.stream.closeWrite()
            #expect(try await client.rest() == "")
            try await client.send("still here")
            try await server.expect("still here")
        }
    }

    @Test func aResetGoesThrough() async throws {
        try await withTunnel { client, server, _ in
            try await client.send("x")
            try await server.expect("x")
            client.stream.reset()
            await #expect(throws: IOError.self) { try await server.rest() }
        }
        try await withTunnel { client, server, _ in
            server.stream.reset()
            await #expect(throws: IOError.self) { try await client.rest() }
        }
    }

    @Test func muchGoesBothWaysAtOnce() async throws {
        let size = 64 << 20
        let block = [UInt8](repeating: 7, count: 1 << 20)
        try await withTunnel { client, server, _ in
            try await withThrowingTaskGroup(of: Int.self) { group in
                for peer in [client, server] {
                    group.addTask {
                        for _ in 0..<(size / block.count) { try await peer.stream.write(block) }
                        try peer.stream.closeWrite()
                        return 0
                    }
                    group.addTask { try await peer.drain() }
                }
                var total = 0
                for try await count in group { total += count }
                #expect(total == 2 * size)
            }
        }
    }

    @Test func aSlowReaderHoldsTheWriterBack() async throws {
        let sent = Box(0)
        try await withTunnel { client, server, loop in
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    let block = [UInt8](repeating: 7, count: 1 << 20)
                    while true {
                        try await server.stream.write(block)
                        sent.change { $0 += 1 }
                    }
                }
                var last = -1
                while sent.change({ $0 }) != last {
                    last = sent.change { $0 }
                    try await loop.clock.sleep(for: .milliseconds(200))
                }
                #expect(last < 64)
                client.stream.close()
                await #expect(throws: IOError.self) { try await group.next() }
            }
        }
    }
}
