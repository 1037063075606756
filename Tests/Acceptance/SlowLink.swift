import AegisIO
import AegisTestSupport
import Synchronization

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
