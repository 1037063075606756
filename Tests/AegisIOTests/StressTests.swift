import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct StressTests {
    /// Many connections on one loop, each with traffic, deadlines and some with a sudden end.
    @Test func manyConnectionsWithCancellationsAndDeadlines() async throws {
        let total = try await onLoop { loop in
            let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
            let port = try listener.localPort()
            let echoed = Shared(0)
            async let server: Void = withDiscardingTaskGroup { group in
                while let stream = try? await listener.accept() { group.addTask { try? await echo(stream) } }
            }
            try await withThrowingDiscardingTaskGroup { group in
                for index in 0..<300 {
                    group.addTask {
                        let stream = try await Connect.tcp(host: "127.0.0.1", port: port, on: loop)
                        let message = pattern(100 + index * 13)
                        var buffer = ByteBuffer()
                        for round in 0..<20 {
                            try await stream.write(message)
                            if index % 10 == 3, round == 7 { return stream.close() }
                            _ = try await withDeadline(.seconds(60)) { [buffer] in
                                var buffer = buffer
                                _ = try await stream.fill(&buffer, to: message.count)
                                return buffer
                            }
                            _ = buffer.takeAll()
                            echoed.change { $0 += 1 }
                        }
                        stream.close()
                    }
                }
            }
            listener.close()
            await server
            return echoed.value
        }
        #expect(total == 270 * 20 + 30 * 7)
    }

    /// Streams used, cancelled and closed from every thread at once.
    @Test func threadsMayDoAnythingToAStream() async throws {
        let loop = try EventLoop.startThread(name: "chaos")
        defer { loop.stop() }
        await withTaskGroup(of: Void.self) { group in
            for index in 0..<200 {
                guard let (a, b) = try? socketStreams(on: loop) else { continue }
                let writer = Task { try? await a.write(pattern(200_000)) }
                let reader = Task {
                    var buffer = ByteBuffer()
                    while let count = try? await b.read(into: &buffer), count > 0 { buffer.removeAll() }
                }
                group.addTask {
                    for _ in 0..<(index % 17) { await Task.yield() }
                    switch index % 4 {
                    case 0: reader.cancel()
                    case 1: a.close()
                    case 2: b.close()
                    default: writer.cancel()
                    }
                    b.close()
                    _ = await (writer.value, reader.value)
                    a.close()
                }
            }
        }
        // The loop is well after all of it.
        let alive = await loop.run { loop.isCurrent }
        #expect(alive)
    }
}
