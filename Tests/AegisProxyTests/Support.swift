import AegisCore
import AegisIO
import AegisProxy
import AegisTestSupport
import AegisWire
import LinuxSys
import Synchronization
import Testing

/// A server that a test writes: `body` speaks on each connection that comes, with its number from 1.
final class Backend: Sendable {
    let port: UInt16
    let listener: Listener
    let count = Counter()
    /// Connections at present.
    let open = Counter()

    init(on loop: EventLoop) throws {
        listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
        port = try listener.localPort()
    }

    func run(_ body: @escaping @Sendable (RawPeer, Int) async throws -> Void) async {
        await withDiscardingTaskGroup { group in
            while let stream = try? await listener.accept() {
                let number = count.next()
                _ = open.next()
                group.addTask {
                    try? await body(RawPeer(stream), number)
                    stream.close()
                    self.open.back()
                }
            }
        }
    }
}

final class Counter: Sendable {
    private let value = Box(0)
    func next() -> Int {
        value.change {
            $0 += 1; return $0
        }
    }
    func back() { value.change { $0 -= 1 } }
    var current: Int { value.change { $0 } }
}

/// One end of a connection that speaks in raw bytes; `¬` stands for CR LF.
final class RawPeer: Sendable {
    let stream: FileStream
    private let buffer = Box(ByteBuffer())
    init(_ stream: FileStream) { self.stream = stream }

    func send(_ text: String) async throws { try await stream.write(wire(text)) }

    private func more() async throws -> Bool {
        var piece = ByteBuffer()
        guard try await stream.read(into: &piece, atMost: 256 << 10) > 0 else { return false }
        buffer.change { $0.append(piece.readable) }
        return true
    }

    /// Reads to the empty line behind a head, or to the end.
    func head() async throws -> String {
        while true {
            let found = buffer.change { buffer -> String? in
                let bytes = Array(buffer.readable)
                let end = bytes.indices.dropFirst(3).first { Array(bytes[($0 - 3)...$0]) == [13, 10, 13, 10] }
                return end.map { String(decoding: buffer.take($0 + 1), as: UTF8.self) }
            }
            if let found { return found.replacing("\r\n", with: "¬") }
            guard try await more() else { return "END" + (try await rest()) }
        }
    }

    /// What has come and was not asked for yet.
    func unread() -> [UInt8] { buffer.change { $0.takeAll() } }

    /// Reads exactly so many bytes; fewer at the end.
    func bytes(_ count: Int) async throws -> String {
        while buffer.change({ $0.readableBytes }) < count { guard try await more() else { break } }
        let bytes = buffer.change { $0.take(min(count, $0.readableBytes)) }
        return String(decoding: bytes, as: UTF8.self).replacing("\r\n", with: "¬")
    }

    /// Reads what is expected and compares.
    func expect(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let found = try await bytes(wire(text).count)
        #expect(found == text, sourceLocation: sourceLocation)
    }

    /// Reads to the end of the stream.
    func rest() async throws -> String {
        while try await more() {}
        return String(decoding: buffer.change { $0.takeAll() }, as: UTF8.self).replacing("\r\n", with: "¬")
    }

    /// Reads and throws away to the end, and tells how much that was.
    func drain() async throws -> Int {
        var total = buffer.change { buffer in
            defer { buffer.removeAll() }
            return buffer.readableBytes
        }
        var piece = ByteBuffer()
        while true {
            let count = try await stream.read(into: &piece, atMost: 256 << 10)
            if count == 0 { return total }
            total += count
            piece.removeAll()
        }
    }
}

/// The bytes of a text in which `¬` stands for CR LF.
func wire(_ text: String) -> [UInt8] { Array(text.replacing("¬", with: "\r\n").utf8) }

/// One server that is there, or is not.
final class TestUpstream: ProxyUpstream, @unchecked Sendable {
    let port: UInt16
    let loop: EventLoop
    let pool: UpstreamPool
    let dials = Counter()
    var refusal: AegisError?

    init(_ port: UInt16, _ loop: EventLoop, _ limits: ProxyLimits) {
        self.port = port
        self.loop = loop
        pool = UpstreamPool(limits: limits)
    }

    func connect(fresh: Bool, for client: any ProxyWaiter) async throws -> UpstreamConnection {
        if let refusal { throw refusal }
        if !fresh, let kept = pool.take() { return kept }
        _ = dials.next()
        return UpstreamConnection(try await Connect.tcp(host: "127.0.0.1", port: port, on: loop))
    }

    func finished(_ connection: UpstreamConnection, reusable: Bool) {
        if reusable { pool.put(connection, now: 0) } else { connection.stream.close() }
    }
}

struct OneWay: ProxyDirector {
    let upstream: TestUpstream
    var edits = ProxyEdits()
    func direct(_ request: ProxyRequest) async -> ProxyDecision { .relay(upstream, edits) }
}

/// A relay between clients of a test and its server.
struct TestProxy: Sendable {
    let loop: EventLoop
    let proxy: HTTPProxy
    let port: UInt16
    let upstream: TestUpstream
    let backend: Backend

    func client() async throws -> RawPeer {
        RawPeer(try await Connect.tcp(host: "127.0.0.1", port: port, on: loop))
    }
}

/// Runs a relay before a scripted server.
func withProxy(
    limits: ProxyLimits = ProxyLimits(), edits: ProxyEdits = ProxyEdits(),
    backend body: @escaping @Sendable (RawPeer, Int) async throws -> Void,
    test: @escaping @Sendable (TestProxy) async throws -> Void
) async throws {
    try await onLoop { loop in
        let backend = try Backend(on: loop)
        let proxy = HTTPProxy(on: loop, limits: limits)
        let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
        let upstream = TestUpstream(backend.port, loop, limits)
        let running = TestProxy(
            loop: loop, proxy: proxy, port: try listener.localPort(), upstream: upstream, backend: backend)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await backend.run(body) }
            group.addTask { await proxy.run { _ in true } }
            group.addTask {
                await withDiscardingTaskGroup { serving in
                    while let stream = try? await listener.accept() {
                        serving.addTask {
                            await proxy.serve(
                                stream, client: ProxyClient(address: "192.0.2.7"),
                                director: OneWay(upstream: upstream, edits: edits))
                        }
                    }
                }
            }
            do { try await withDeadline(.seconds(180)) { try await test(running) } } catch {
                Issue.record(error)
            }
            listener.close()
            backend.listener.close()
            await proxy.end()
            group.cancelAll()
        }
        #expect(proxy.connectionCount == 0)
    }
}

/// A value that several tasks change.
final class Box<Value: Sendable>: Sendable {
    private let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
    func change<R: Sendable>(_ body: (inout Value) -> R) -> R { value.withLock { body(&$0) } }
}
