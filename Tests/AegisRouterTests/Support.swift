import AegisCore
import AegisIO
import AegisProxy
import AegisRouter
import AegisSandboxTypes
import AegisTestSupport
import Synchronization
import Testing

/// A router before scripted instances, whose guests are servers in this process.
struct Stage: Sendable {
    let loop: EventLoop
    let source: ScriptedSource
    let router: Router
    /// The main router's port.
    let main: UInt16

    /// Exposes ports of an instance, and waits until they are listened on.
    func expose(
        _ specs: String..., as name: String = "web", id: String = "i-00000000000000aa", wakeLimit: Duration? = nil,
        routing: KitRouting? = nil
    )
        async throws
    {
        var new: [Exposure] = []
        for spec in specs {
            var exposure = Exposure(instance: id, name: name, owner: 0, spec: try ExposeSpec(parsing: spec))
            if let wakeLimit { exposure.wakeLimit = wakeLimit }
            exposure.routing = routing
            new.append(exposure)
        }
        source.change { [new] in $0.exposures += new }
        let ports = new.map(\.guestPort)
        await source.until { state in ports.allSatisfy { state.bound[$0] != nil } }
    }

    func publicPort(_ guest: UInt16) -> UInt16 { source.change { $0.bound[guest] ?? 0 } }

    /// Connects to the public port of a guest's port.
    func client(_ guest: UInt16) async throws -> Peer {
        Peer(try await Connect.tcp(host: "127.0.0.1", port: publicPort(guest), on: loop))
    }

    /// One request, on a connection of its own, to a guest's port or (0) to the main router.
    func ask(_ request: String, _ guest: UInt16 = 0) async throws -> String {
        let port = guest == 0 ? main : publicPort(guest)
        let peer = Peer(try await Connect.tcp(host: "127.0.0.1", port: port, on: loop))
        try await peer.send(request)
        return try await peer.rest()
    }
}

/// One end of a connection that speaks in raw bytes; `¬` stands for CR LF.
final class Peer: Sendable {
    let stream: FileStream
    init(_ stream: FileStream) { self.stream = stream }
    func send(_ text: String) async throws { try await stream.write(Array(text.replacing("¬", with: "\r\n").utf8)) }
    func bytes(_ count: Int) async throws -> String {
        var buffer = ByteBuffer()
        _ = try await stream.fill(&buffer, to: count)
        return String(decoding: buffer.takeAll(), as: UTF8.self).replacing("\r\n", with: "¬")
    }
    /// Reads to the empty line behind a head.
    func head() async throws -> String {
        var text = ""
        while !text.hasSuffix("\r\n\r\n") {
            var buffer = ByteBuffer()
            guard try await stream.read(into: &buffer, atMost: 1) > 0 else { break }
            text += String(decoding: buffer.takeAll(), as: UTF8.self)
        }
        return text.replacing("\r\n", with: "¬")
    }
    func rest() async throws -> String {
        String(decoding: try await stream.readAll(limit: 1 << 20), as: UTF8.self).replacing("\r\n", with: "¬")
    }
}

/// A guest's server that tells what it was asked: `PORT METHOD TARGET` and all fields it got.
func tellingServer(on loop: EventLoop) throws -> (port: UInt16, run: @Sendable (_ guest: UInt16) async -> Void) {
    let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
    return (
        try listener.localPort(),
        { guest in
            await withDiscardingTaskGroup { group in
                while let stream = try? await listener.accept() {
                    group.addTask {
                        try? await tell(stream, guest)
                        stream.close()
                    }
                }
                listener.close()
            }
        }
    )
}

private func tell(_ stream: FileStream, _ guest: UInt16) async throws {
    var buffer = ByteBuffer()
    while try await stream.read(into: &buffer) > 0 {
        let text = String(decoding: buffer.readable, as: UTF8.self)
        guard text.hasSuffix("\r\n\r\n") else { continue }
        buffer.removeAll()
        // It takes a request and goes.
        if text.contains(" /gone ") { return stream.close() }
        let body = "\(guest) \(text)"
        // A connection that ends with its answer, so that the next one has to be dialled.
        let isLast = text.contains(" /die ")
        defer { if isLast { stream.close() } }
        if text.contains("Upgrade: websocket") {
            try await stream.write(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            var bytes = ByteBuffer()
            while try await stream.read(into: &bytes) > 0 {
                try await stream.write(bytes.readable)
                bytes.removeAll()
            }
            return
        }
        try await stream.write(
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Domain=aegis.localhost\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
        )
        if isLast { return }
    }
}

/// A free port that the kernel gives to nobody who takes any, so that a test can give it up and have it back.
func ownPort(on loop: EventLoop) throws -> UInt16 {
    while true {
        let port = UInt16.random(in: 20_000..<32_000)
        guard let listener = try? Listener.tcp(address: "127.0.0.1", port: port, on: loop) else { continue }
        listener.close()
        return port
    }
}

/// Runs a router around a test. Guest port 80 tells, 81 too, 7 echoes bytes.
func withStage(
    limits: RouterLimits = RouterLimits(), headTime: Duration? = nil, time: (@Sendable () -> UInt64)? = nil,
    test: @escaping @Sendable (Stage) async throws -> Void
) async throws {
    try await onLoop { loop in
        try await runStage(on: loop, limits: limits, headTime: headTime, time: time, test: test)
    }
}

/// The same on a loop that runs already, with servers of the test's own behind further ports.
func runStage(
    on loop: EventLoop, limits: RouterLimits = RouterLimits(), headTime: Duration? = nil,
    time: (@Sendable () -> UInt64)? = nil, deadline: Duration = .seconds(180), extra: [UInt16: UInt16] = [:],
    test: @escaping @Sendable (Stage) async throws -> Void
) async throws {
    let servers = try [UInt16(80), 81].map { ($0, try tellingServer(on: loop)) }
    let echo = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
    var map = extra
    map[7] = try echo.localPort()
    for (guest, server) in servers { map[guest] = server.port }
    let source = ScriptedSource(on: loop) { [map] in map[$0] ?? 1 }
    var proxyLimits = ProxyLimits()
    proxyLimits.tick = .milliseconds(10)
    if let headTime { proxyLimits.headTime = headTime }
    let router = Router(source, on: loop, limits: limits, proxyLimits: proxyLimits, time: time)
    let stage = Stage(loop: loop, source: source, router: router, main: try router.listen(port: 0))
    await withTaskGroup(of: Void.self) { group in
        for (guest, server) in servers { group.addTask { await server.run(guest) } }
        group.addTask { await serveEcho(echo) }
        group.addTask { await router.run() }
        do { try await withDeadline(deadline) { try await test(stage) } } catch { Issue.record(error) }
        group.cancelAll()
    }
    #expect(source.change { $0.holds } == 0)
}

/// Sends back what comes, ends when the client has, and says goodbye.
private func serveEcho(_ listener: Listener) async {
    await withDiscardingTaskGroup { group in
        while let stream = try? await listener.accept() {
            group.addTask {
                var bytes = ByteBuffer()
                while let count = try? await stream.read(into: &bytes), count > 0 {
                    try? await stream.write(bytes.readable)
                    bytes.removeAll()
                }
                try? await stream.write("bye")
                stream.close()
            }
        }
        listener.close()
    }
}
