import AegisCore
import AegisIO
import AegisRouter
import AegisSandboxTypes
import AegisTestSupport
import Testing

/// HTTP/2 frame by frame: what a client gets whatever it sends, and what never reaches a server.
@Suite struct FrameTests {
    @Test func settingsAndPingsAreAnsweredWhileTheInstanceSleeps() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:grpc,wake=http")
            stage.source.change { $0.wakeResult = nil }
            let client = try await FramePeer(stage)
            try await client.begin()
            try await client.send(.ping, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8])
            let answer = try await client.until { $0.type == .ping }
            #expect(answer.flags == 1 && answer.body == [1, 2, 3, 4, 5, 6, 7, 8])
            // None of that wakes anybody.
            #expect(stage.source.change { $0.heldEver } == 0)
            client.close()
        }
    }

    @Test func aCallWaitsNoLongerThanItsOwnTime() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:grpc,wake=http")
            stage.source.change { $0.wakeResult = nil }
            let client = try await FramePeer(stage)
            try await client.begin()
            // More nanoseconds than a number holds: as good as none.
            try await client.call(5, extra: [("grpc-timeout", "99999999H")])
            try await client.call(7, extra: [("grpc-timeout", "50m")])
            // Trailers only: the one section ends the stream.
            let answer = try await client.until { $0.type == .headers }
            #expect(answer.stream == 7 && answer.flags & 1 == 1)
            // The client's half is closed for it, and the connection goes on.
            let reset = try await client.until { $0.type == .reset }
            #expect(reset.stream == 7 && reset.code == 0)
            try await client.call(9, extra: [("grpc-timeout", "10m")])
            #expect(try await client.until { $0.type == .headers }.stream == 9)
            stage.source.finishWaking(.success(()))
            client.close()
        }
    }

    /// One with a time of its own waits that long, though the port's own limit is over long before.
    @Test func aCallWaitsAsLongAsItSays() async throws {
        var limits = RouterLimits()
        limits.runningTime = .milliseconds(20)
        try await withStage(limits: limits) { stage in
            try await stage.expose("0:80:grpc")
            stage.source.change {
                $0.running = true
                $0.closed = true
            }
            let client = try await FramePeer(stage)
            try await client.begin()
            try await client.call(1, extra: [("grpc-timeout", "1H")])
            for stream: Int32 in [3, 5] {
                try await client.call(stream)
                // Without one, the port's limit holds.
                let refused = try await client.until { $0.type == .headers }
                #expect(refused.stream == stream && refused.flags & 1 == 1)
            }
            // The one that is left goes to the server as soon as there is one; this one speaks no HTTP/2.
            stage.source.change { $0.closed = false }
            let last = try await client.until { $0.stream == 1 }
            #expect(last.type == .headers || last.type == .reset)
            client.close()
        }
    }

    @Test func aBodyThatWaitsIsBoundedByItsWindow() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:grpc,wake=http")
            stage.source.change { $0.wakeResult = nil }
            let client = try await FramePeer(stage)
            try await client.begin()
            try await client.call(1)
            for _ in 0..<8 { try await client.send(.data, 0, 1, [UInt8](repeating: 0, count: 16 << 10)) }
            // 128 KiB are the window; one byte more breaks the protocol.
            try await client.send(.data, 0, 1, [0])
            let answer = try await client.until { $0.type == .goaway || $0.type == .reset }
            #expect(answer.code == 3)
            client.close()
            stage.source.finishWaking(.success(()))
        }
    }

    @Test func onlyOpenStreamsKeepAnInstanceAwake() async throws {
        var limits = RouterLimits()
        limits.holdTime = .milliseconds(20)
        try await withStage(limits: limits) { stage in
            try await stage.expose("0:80:grpc")
            stage.source.change { $0.wakeResult = nil }
            let client = try await FramePeer(stage)
            try await client.begin()
            try await client.call(1)
            await stage.source.until { $0.holds == 1 && $0.wakers.count == 1 }
            try await client.send(.reset, 0, 1, [0, 0, 0, 8])
            stage.source.finishWaking(.success(()))
            // The connection stays, the hold does not.
            await stage.source.until { $0.holds == 0 }
            try await client.send(.ping, 0, 0, [UInt8](repeating: 7, count: 8))
            _ = try await client.until { $0.type == .ping }
            client.close()
        }
    }

    @Test func tooManyStreamsAreRefusedOneByOne() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:grpc")
            stage.source.change { $0.wakeResult = nil }
            let client = try await FramePeer(stage)
            try await client.begin()
            for index in 0..<130 { try await client.call(Int32(2 * index + 1)) }
            let refused = try await client.until { $0.type == .reset }
            #expect(refused.stream == 257 && refused.code == 7)
            client.close()
            stage.source.finishWaking(.success(()))
        }
    }

    @Test(arguments: [
        [("connection", "close")], [("transfer-encoding", "chunked")], [("upgrade", "h2c")], [("te", "gzip")],
        [("keep-alive", "1")], [("X-Upper", "1")], [(":late", "1")], [("a", "b\r\nc: d")], [("content-length", "1, 2")],
        [("bad name", "1")], [("", "1")],
    ])
    func malformedRequestsReachNobody(_ extra: [(String, String)]) async throws {
        try await withStage { stage in
            try await stage.expose("0:80:grpc,wake=http")
            let client = try await FramePeer(stage)
            try await client.begin()
            try await client.call(1, extra: extra)
            let answer = try await client.until { $0.type == .reset || $0.type == .goaway }
            #expect(answer.code == 1, "\(answer)")
            #expect(stage.source.change { $0.heldEver } == 0)
            client.close()
        }
    }

    @Test func oversizedSectionsAreAnswered() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:grpc,wake=http")
            let client = try await FramePeer(stage)
            try await client.begin()
            let large = String(repeating: "x", count: 15_000)
            try await client.call(1, extra: (0..<5).map { ("x-\($0)", large) })
            #expect(try await client.until { $0.type == .headers || $0.type == .goaway }.type == .headers)
            #expect(stage.source.change { $0.heldEver } == 0)
            client.close()
        }
    }

    @Test func aSectionThatNeverEndsIsCutOff() async throws {
        try await withStage(headTime: .milliseconds(200)) { stage in
            try await stage.expose("0:80:grpc,wake=http")
            let client = try await FramePeer(stage)
            try await client.begin()
            // No END_HEADERS, and nothing after it.
            try await client.send(.headers, 0, 1, FramePeer.section([(":method", "POST")]))
            #expect(try await client.isOver())
            let silent = try await FramePeer(stage)
            #expect(try await silent.isOver())
            let endless = try await FramePeer(stage)
            try await endless.begin()
            try await endless.send(.headers, 0, 1, FramePeer.section([(":method", "POST")]))
            for _ in 0..<100 { try? await endless.send(.continuation, 0, 1, FramePeer.section([("a", "b")])) }
            #expect(try await endless.isOver())
        }
    }

    @Test func otherProtocolsAreToldSo() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:grpc,wake=http")
            let answer = try await stage.ask("GET / HTTP/1.1¬Host: a¬¬", 80)
            #expect(answer.hasPrefix("HTTP/1.1 400 Bad Request¬") && answer.contains("http2-only"), "\(answer)")
            #expect(stage.source.change { $0.heldEver } == 0)
        }
    }

    @Test func noiseHarmsNobody() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:grpc,wake=http")
            var noise = Mutator(seed: 7)
            for _ in 0..<200 {
                let client = try await FramePeer(stage)
                var bytes = FramePeer.preface + FramePeer.frame(.settings, 0, 0, [])
                for _ in 0..<4 {
                    let valid = FramePeer.frame(
                        .headers, 5, Int32(noise.below(9)), FramePeer.section(FramePeer.request))
                    bytes += noise.below(2) == 0 ? noise.mutate(valid) : noise.bytes(noise.below(60))
                }
                try? await client.stream.write(bytes)
                client.close()
            }
            let last = try await FramePeer(stage)
            try await last.begin()
            last.close()
        }
    }
}

/// A client that speaks in frames.
final class FramePeer: Sendable {
    enum Kind: UInt8 {
        case data, headers, priority, reset, settings, push, ping, goaway, window, continuation
    }
    struct Frame {
        let type: Kind
        let flags: UInt8
        let stream: Int32
        let body: [UInt8]
        /// The error code of RST_STREAM or GOAWAY.
        var code: Int {
            let bytes = type == .goaway ? body.dropFirst(4).prefix(4) : body.prefix(4)
            return bytes.reduce(0) { $0 << 8 | Int($1) }
        }
    }
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    static let request = [
        (":method", "POST"), (":scheme", "http"), (":path", "/t.T/M"), (":authority", "a"), ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    let stream: FileStream

    init(_ stage: Stage, guest: UInt16 = 80) async throws {
        stream = try await Connect.tcp(host: "127.0.0.1", port: stage.publicPort(guest), on: stage.loop)
    }

    func close() { stream.close() }

    /// Sends the preface, and reads to the other side's answer to the settings.
    func begin() async throws {
        try await stream.write(Self.preface + Self.frame(.settings, 0, 0, []))
        #expect(try await next()?.type == .settings)
        let answer = try await until { $0.type == .settings }
        #expect(answer.flags == 1)
    }

    /// A request whose body goes on.
    func call(_ id: Int32, extra: [(String, String)] = []) async throws {
        var sections = [Self.request]
        for field in extra { sections.append([field]) }
        for (index, section) in sections.enumerated() {
            let isLast: UInt8 = index == sections.count - 1 ? 4 : 0
            try await send(index == 0 ? .headers : .continuation, isLast, id, Self.section(section))
        }
    }

    func send(_ type: Kind, _ flags: UInt8, _ id: Int32, _ body: [UInt8]) async throws {
        try await stream.write(Self.frame(type, flags, id, body))
    }

    static func frame(_ type: Kind, _ flags: UInt8, _ id: Int32, _ body: [UInt8]) -> [UInt8] {
        let count = body.count
        let number = UInt32(bitPattern: id)
        return [UInt8(count >> 16), UInt8(count >> 8 & 255), UInt8(count & 255), type.rawValue, flags]
            + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) } + body
    }

    /// Literal fields that are not remembered; no name or value is compressed.
    static func section(_ fields: [(String, String)]) -> [UInt8] {
        fields.flatMap { name, value in [0] + text(name) + text(value) }
    }

    private static func text(_ text: String) -> [UInt8] {
        var count = text.utf8.count
        var out: [UInt8] = []
        if count < 127 {
            out.append(UInt8(count))
        } else {
            out.append(127)
            count -= 127
            while count >= 128 {
                out.append(UInt8(count & 127) | 128)
                count >>= 7
            }
            out.append(UInt8(count))
        }
        return out + Array(text.utf8)
    }

    /// The next frame; nil at the end.
    func next() async throws -> Frame? {
        var head = ByteBuffer()
        guard try await stream.fill(&head, to: 9) else { return nil }
        let bytes = head.takeAll()
        let count = Int(bytes[0]) << 16 | Int(bytes[1]) << 8 | Int(bytes[2])
        var body = ByteBuffer()
        if count > 0 { guard try await stream.fill(&body, to: count) else { return nil } }
        let id = bytes[5...8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        return Frame(
            type: try #require(Kind(rawValue: bytes[3])), flags: bytes[4], stream: Int32(id), body: body.takeAll())
    }

    func until(_ wanted: (Frame) -> Bool) async throws -> Frame {
        while let frame = try await next() { if wanted(frame) { return frame } }
        throw AegisError(.failed, "ended", "the connection ended")
    }

    /// Reads to the end.
    func isOver() async throws -> Bool {
        while (try? await next()) != nil {}
        return true
    }
}
