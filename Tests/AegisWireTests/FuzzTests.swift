import AegisCore
import AegisTestSupport
import Testing

@testable import AegisWire

/// Damaged messages of HTTP and aegis-stream: refused or valid, the same however they are cut, and nothing traps.
@Suite struct WireFuzzTests {
    private static let requests: [[UInt8]] = [
        "GET / HTTP/1.1¬Host: a¬¬GET /b?x=1&y=%20 HTTP/1.1¬Host: a:80¬Connection: close¬¬",
        "POST /v1/instances/%C3%BC/start HTTP/1.1¬Host: [::1]:8¬Content-Length: 5¬Expect: 100-continue¬¬12345",
        "PUT /x HTTP/1.1¬Host: a¬Transfer-Encoding: chunked¬¬5;a=\"b\"¬12345¬0¬Trailer: x¬¬GET / HTTP/1.0¬¬",
        "GET http://a.example/x HTTP/1.1¬Host: b¬Connection: Upgrade, close¬Upgrade: aegis-stream/1¬Accept:  x ¬¬",
        "OPTIONS * HTTP/1.1¬Host: a¬Content-Length: 3, 3¬¬abcCONNECT a:443 HTTP/1.1¬Host: a¬¬",
    ].map(wire)
    private static let responses: [[UInt8]] = [
        "HTTP/1.1 200 OK¬Content-Length: 3¬¬abcHTTP/1.1 404 Not Found¬Content-Length: 0¬¬",
        "HTTP/1.1 100 Continue¬¬HTTP/1.1 200 OK¬Transfer-Encoding: chunked¬¬3¬abc¬0¬X: y¬¬HTTP/1.1 204 No Content¬¬",
        "HTTP/1.1 101 Switching Protocols¬Connection: upgrade¬Upgrade: aegis-stream/1¬¬",
        "HTTP/1.0 200 OK¬¬until the end",
    ].map(wire)

    @Test(arguments: 0..<4) func damagedRequestsAreReadInOneWayOnly(_ seed: UInt64) {
        var mutator = Mutator(seed: seed)
        var heads = 0
        for _ in 0..<1500 {
            let bytes = mutator.mutate(mutator.pick(Self.requests), others: Self.requests)
            let whole = AegisWireTests.requests([bytes])
            let cut = AegisWireTests.requests(mutator.pieces(of: bytes))
            guard whole == cut else {
                Issue.record("\(String(decoding: bytes, as: UTF8.self).debugDescription)\n\(whole)\n---\n\(cut)")
                return
            }
            if !whole.events.isEmpty { heads += 1 }
            guard comesBackTheSame(bytes) else {
                Issue.record("\(String(decoding: bytes, as: UTF8.self).debugDescription) does not re-encode")
                return
            }
        }
        #expect(heads > 300)
    }

    /// The first head, written again from what was understood of it, is understood in the same way.
    private func comesBackTheSame(_ bytes: [UInt8]) -> Bool {
        guard let start = Self.firstHead(bytes) else { return true }
        let version = start.head.version == .http11 ? "HTTP/1.1" : "HTTP/1.0"
        var text = Array("\(start.head.method) \(start.head.target.raw) \(version)\r\n".utf8)
        // By bytes: values may hold some that are no UTF-8.
        start.head.headers.encode(into: &text)
        return Self.firstHead(text + [13, 10]) == start
    }

    private static func firstHead(_ bytes: [UInt8]) -> HTTPRequestStart? {
        var parser = HTTPRequestParser()
        var cursor = 0
        guard case .head(let start)? = try? parser.next(bytes.span, &cursor) else { return nil }
        return start
    }

    @Test(arguments: 0..<4) func damagedResponsesAreReadInOneWayOnly(_ seed: UInt64) {
        var mutator = Mutator(seed: 100 + seed)
        let methods = [[HTTPMethod.get], [.get, .head], [.head, .get, .put]]
        var heads = 0
        for _ in 0..<1500 {
            let bytes = mutator.mutate(mutator.pick(Self.responses), others: Self.responses)
            let methods = mutator.pick(methods)
            let closes = mutator.below(2) == 0
            let whole = AegisWireTests.responses([bytes], to: methods, closes: closes)
            let cut = AegisWireTests.responses(mutator.pieces(of: bytes), to: methods, closes: closes)
            guard whole == cut else {
                Issue.record("\(String(decoding: bytes, as: UTF8.self).debugDescription)\n\(whole)\n---\n\(cut)")
                return
            }
            if whole.events.count > 1 { heads += 1 }
        }
        #expect(heads > 300)
    }

    @Test func endlessHeadsAreRefusedAtTheirLimit() {
        var mutator = Mutator(seed: 7)
        for start in ["GET / HTTP/1.1¬Host: a¬", "GET /", "PUT / HTTP/1.1¬Host: a¬Transfer-Encoding: chunked¬¬1;"] {
            let endless = wire(start) + (0..<300_000).map { _ in mutator.pick([97, 98, 58, 32] as [UInt8]) }
            #expect(AegisWireTests.requests([endless]).error != nil, "\(start)")
        }
    }

    private static let frames: [[UInt8]] = [
        StreamFrame(.stdout, stream: 7, flags: .end, payload: [1, 2, 3]), .resize(rows: 24, columns: 80), .signal(15),
        .exit(-1, detail: "{}"), .error(AegisError(.usage, "x", "y")), .window(1 << 16, of: .stdin),
        .ack(1 << 40, of: .stderr), .hello("{}"), .notice("{\"kind\":\"pull\"}"),
    ].compactMap { try? $0.encoded() }

    @Test func damagedFramesAreRefusedOrTheSameAgain() throws {
        #expect(Self.frames.count == 9)
        var mutator = Mutator(seed: 3)
        var accepted = 0
        for _ in 0..<30_000 {
            let bytes = mutator.mutate(mutator.pick(Self.frames), others: Self.frames)
            let whole = Self.decode([bytes])
            #expect(whole == Self.decode(mutator.pieces(of: bytes)))
            guard let frame = whole.frames.first else { continue }
            accepted += 1
            #expect(try frame.encoded() == Array(bytes.prefix(StreamFrame.headerSize + frame.payload.count)))
            _ = (frame.size, frame.signalNumber, frame.exitStatus, frame.credit, frame.offset, frame.text)
        }
        #expect(accepted > 3000)
    }

    private struct Decoded: Equatable {
        var frames: [StreamFrame] = []
        var error: StreamFrameError?
        var isBetween = true
    }

    private static func decode(_ pieces: [[UInt8]]) -> Decoded {
        var decoder = StreamFrameDecoder()
        var (decoded, pending) = (Decoded(), [UInt8]())
        for piece in pieces {
            pending += piece
            var cursor = 0
            do throws(StreamFrameError) {
                while let frame = try decoder.frame(pending.span, &cursor) { decoded.frames.append(frame) }
            } catch {
                decoded.error = error
                break
            }
            pending.removeFirst(cursor)
        }
        decoded.isBetween = decoder.isBetweenFrames
        return decoded
    }
}
