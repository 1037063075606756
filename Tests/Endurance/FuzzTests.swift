import AegisCore
import AegisTar
import AegisTestSupport
import Testing

@testable import AegisCapabilities
@testable import AegisConfig
@testable import AegisImages
@testable import AegisKits
@testable import AegisNetwork
@testable import AegisSandboxTypes
@testable import AegisWire

/// Damaged input for every parser that meets bytes from outside: nothing traps, and what is said of the bytes holds.
@Suite(.serialized) struct FuzzTests {
    @Test func everyTargetIsAPart() { #expect(Self.targets.count == Endurance.parts - 3) }

    @Test(arguments: targets.indices.filter(Endurance.includes).map { targets[$0] }) func damagedInputIsHandled(
        _ target: FuzzTarget
    ) {
        Endurance.fuzz(target)
    }

    static let targets: [FuzzTarget] =
        [
            .stream("HTTP requests", requests.map { Array($0.utf8) }, Transcript.requests),
            .stream("HTTP responses", responses.map { Array($0.utf8) }, Transcript.responses),
            .stream("stream frames", frames, Transcript.streamFrames),
            .stream("tar archives", archives, Transcript.archive),
            yaml, clientHello, dns, kit, manifest,
            .text("capabilities", capabilities, Capability.init(parsing:)) { "\($0)" },
            .text(
                "grants",
                capabilities + [
                    "{grant: \"tool: x\", max_calls: 2, per_minute: 1, expires: 10s}",
                    "{grant: \"model: m\", max_tokens: 500}", "{grant: \"network: a.example\", max_bytes: 10Mi}",
                ], GrantSpec.init(parsing:), { "\($0)" }),
            .text(
                "image references",
                [
                    "python:3.12-alpine", "127.0.0.1:5000/a/b:1",
                    "r.example/a@sha256:" + String(repeating: "ab", count: 32), "base",
                ],
                { try ImageReference(parsing: $0) }, { "\($0)" }),
            .text(
                "exposed ports",
                ["8080", "9000:8080", "0:5432:tcp", "8080:http,ui,ready=/health", "50051:grpc,wake=never"],
                ExposeSpec.init(parsing:), { "\($0)" }),
            .text("sizes", ["512Mi", "1.5Gi", "10", "3k"], ByteSize.init(parsing:), { "\($0)" }),
            .text("times", ["300s", "1h30m", "250ms", "2d"], TimeSpan.init(parsing:), { "\($0)" }),
        ] + agentTargets

    private static let requests = [
        "GET /a?b=c HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nx: y\r\n\r\n",
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    ]
    private static let responses = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw",
    ]
    private static let frames: [[UInt8]] = [
        [0, 0, 0, 1, 0, 0, 0, 3, 97, 98, 99, 1, 0, 0, 1, 0, 0, 0, 0], [2, 1, 0, 2, 0, 0, 0, 1, 15],
        [3, 0, 0, 1, 0, 0, 0, 4, 0, 80, 0, 24], [4, 0, 0, 1, 0, 0, 0, 4, 0, 0, 1, 0], [5, 0, 0, 0, 0, 0, 0, 0],
    ]
    private static let capabilities = [
        "network: api.example:443", "network: *.example", "network: 10.0.0.0/8:5432", "file_read: /workspace/**",
        "file_write: /workspace/out/*.txt", "spawn: *", "secret: KEY@api.example/v1,header=authorization",
        "tool: search", "exec: python3",
    ]
}
