import AegisIO
import Synchronization

/// A server between a pull and its registry that lets everything through, until a request mentions a given text: then
/// that connection stands still. Without a registry behind it, every connection stands still.
final class StallingProxy: Sendable {
    private let listener: Listener
    private let registry: Int?
    private let text: [UInt8]
    private let loop: EventLoop
    private let state = Mutex<(connections: Int, stalled: Int, waiters: [(Int, CheckedContinuation<Void, Never>)])>(
        (0, 0, []))

    init(registry: Int?, stallingAt text: String, on loop: EventLoop) throws {
        listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
        self.registry = registry
        self.text = Array(text.utf8)
        self.loop = loop
    }

    var port: Int { get throws { Int(try listener.localPort()) } }
    /// Connections taken so far.
    var connections: Int { state.withLock { $0.connections } }

    /// Serves until cancelled.
    func run() async {
        await withDiscardingTaskGroup { group in
            while let client = try? await listener.accept() {
                state.withLock { $0.connections += 1 }
                group.addTask { [self] in
                    await serve(client)
                    client.close()
                }
            }
            group.cancelAll()
        }
    }

    /// Waits until so many connections stand still.
    func stalled(_ count: Int) async {
        await withCheckedContinuation { waiter in
            let ready = state.withLock { state in
                if state.stalled < count { state.waiters.append((count, waiter)) }
                return state.stalled >= count
            }
            if ready { waiter.resume() }
        }
    }

    private func stall(_ client: FileStream) async {
        let ready = state.withLock { state in
            state.stalled += 1
            let now = state.waiters.filter { $0.0 <= state.stalled }
            state.waiters.removeAll { $0.0 <= state.stalled }
            return now.map(\.1)
        }
        for waiter in ready { waiter.resume() }
        var buffer = ByteBuffer()
        while let count = try? await client.read(into: &buffer, atMost: 4096), count > 0 { buffer.removeAll() }
    }

    private func serve(_ client: FileStream) async {
        guard let registry, let server = try? await Connect.tcp(host: "127.0.0.1", port: UInt16(registry), on: loop)
        else {
            return await stall(client)
        }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await Self.copy(server, client) }
            var buffer = ByteBuffer()
            while let count = try? await client.read(into: &buffer, atMost: 64 << 10), count > 0 {
                let bytes = buffer.takeAll()
                if bytes.firstRange(of: text) != nil {
                    await stall(client)
                    break
                }
                guard (try? await server.write(bytes[...])) != nil else { break }
            }
            server.close()
            group.cancelAll()
        }
    }

    private static func copy(_ from: FileStream, _ to: FileStream) async {
        var buffer = ByteBuffer()
        while let count = try? await from.read(into: &buffer, atMost: 64 << 10), count > 0 {
            guard (try? await to.write(buffer.takeAll()[...])) != nil else { return }
        }
        to.close()
    }
}

/// Runs `body` beside a proxy.
func withProxy<R: Sendable>(_ proxy: StallingProxy, _ body: @escaping @Sendable () async throws -> R) async throws -> R
{
    try await withThrowingTaskGroup(of: R?.self) { group in
        group.addTask {
            await proxy.run()
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
