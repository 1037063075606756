import AegisIO
import AegisProxy
import AegisWire
import LinuxSys
import Testing

/// Bodies that are larger than any buffer, slow, or never end.
@Suite struct BodyTests {
    fileprivate static let block = [UInt8](repeating: 97, count: 1 << 20)

    /// In a process of its own: other tests take memory, too.
    @Test func aLongBodyComesThroughAndNothingIsKept() async {
        await #expect(processExitsWith: .success) {
            let size = 1 << 30
            let peak = Box(0)
            try await withProxy { peer, _ in
                _ = try await peer.head()
                try await peer.send("HTTP/1.1 200 OK¬Content-Length: \(size)¬¬")
                for _ in 0..<(size / BodyTests.block.count) { try await peer.stream.write(BodyTests.block) }
                _ = try await peer.rest()
            } test: { proxy in
                let client = try await proxy.client()
                try await client.send("GET / HTTP/1.1¬Host: a¬¬")
                _ = try await client.head()
                let before = try BodyTests.residentKilobytes()
                var left = size - client.unread().count
                var piece = ByteBuffer()
                while left > 0 {
                    left -= try await client.stream.read(into: &piece, atMost: 256 << 10)
                    piece.removeAll()
                    guard left % (8 << 20) < (256 << 10) else { continue }
                    let more = try BodyTests.residentKilobytes() - before
                    peak.change { $0 = max($0, more) }
                }
            }
            let most = peak.change { $0 }
            #expect(most < 16 << 10, "\(most) KiB more")
        }
    }

    @Test func aLongChunkedBodyComesThroughBothWays() async throws {
        let size = 64 << 20
        try await withProxy { peer, _ in
            _ = try await peer.head()
            try await peer.send("HTTP/1.1 200 OK¬Transfer-Encoding: chunked¬¬")
            var piece = ByteBuffer()
            try await peer.stream.write(peer.unread())
            // What comes is sent back as it is: the request's own framing is the response's.
            while try await peer.stream.read(into: &piece, atMost: 256 << 10) > 0 {
                try await peer.stream.write(piece.readable)
                piece.removeAll()
            }
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("POST / HTTP/1.1¬Host: a¬Transfer-Encoding: chunked¬¬")
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for _ in 0..<(size / Self.block.count) {
                        try await client.send("100000¬")
                        try await client.stream.write(Self.block)
                        try await client.send("¬")
                    }
                    try await client.send("0¬X-End: yes¬¬")
                }
                _ = try await client.head()
                var decoder = HTTPBodyDecoder(.chunked, limits: HTTPLimits())
                var buffer = ByteBuffer()
                buffer.append(client.unread())
                var total = 0
                reading: while true {
                    var cursor = 0
                    while true {
                        let piece = try decoder.next(buffer.readable.span, &cursor)
                        if case .data(let range) = piece { total += range.count }
                        if case .end(let trailers) = piece {
                            #expect(trailers.first("x-end") == "yes")
                            break reading
                        }
                        if case .needMore = piece { break }
                    }
                    buffer.consume(cursor)
                    guard try await client.stream.read(into: &buffer, atMost: 256 << 10) > 0 else { break }
                }
                #expect(total == size)
                try await group.waitForAll()
            }
        }
    }

    @Test func aLongUploadComesThrough() async throws {
        let size = 100 << 20
        try await withProxy { peer, _ in
            let head = try await peer.head()
            #expect(head.contains("Content-Length: \(size)¬"))
            try await take(size, from: peer)
            try await peer.send("HTTP/1.1 200 OK¬Content-Length: 2¬¬ok")
            _ = try await peer.head()
            try await take(size, from: peer)
            try await peer.send("HTTP/1.1 200 OK¬Content-Length: 2¬¬ok")
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("PUT / HTTP/1.1¬Host: a¬Content-Length: \(size)¬¬")
            for _ in 0..<(size / Self.block.count) { try await client.stream.write(Self.block) }
            try await client.expect("HTTP/1.1 200 OK¬Content-Length: 2¬¬ok")
            // The connection goes on.
            try await client.send("PUT / HTTP/1.1¬Host: a¬Content-Length: \(size)¬¬")
            for _ in 0..<(size / Self.block.count) { try await client.stream.write(Self.block) }
            try await client.expect("HTTP/1.1 200 OK¬Content-Length: 2¬¬ok")
        }
    }

    @Test func aSlowReaderHoldsTheServerBack() async throws {
        let sent = Box(0)
        try await withProxy { peer, _ in
            _ = try await peer.head()
            try await peer.send("HTTP/1.1 200 OK¬¬")
            while true {
                try await peer.stream.write(Self.block)
                sent.change { $0 += 1 }
            }
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("GET / HTTP/1.1¬Host: a¬¬")
            _ = try await client.head()
            // Until the server makes no progress any more: its blocks fill buffers of the kernel only.
            var last = -1
            while sent.change({ $0 }) != last {
                last = sent.change { $0 }
                try await proxy.loop.clock.sleep(for: .milliseconds(200))
            }
            #expect(last < 64, "\(last) MiB were taken for a client that reads nothing")
            client.stream.close()
        }
    }

    @Test func interimResponsesLetABodyGo() async throws {
        try await withProxy { peer, _ in
            let head = try await peer.head()
            #expect(head.contains("¬Expect: 100-continue¬"))
            try await peer.send("HTTP/1.1 100 Continue¬¬")
            let body = try await peer.bytes(4)
            try await peer.send("HTTP/1.1 200 OK¬Content-Length: 4¬¬\(body)")
            _ = try await peer.rest()
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("POST / HTTP/1.1¬Host: a¬Expect: 100-continue¬Content-Length: 4¬¬")
            try await client.expect("HTTP/1.1 100 Continue¬¬")
            try await client.send("body")
            try await client.expect("HTTP/1.1 200 OK¬Content-Length: 4¬¬body")
        }
    }

    @Test func anEarlyAnswerEndsAnUpload() async throws {
        try await withProxy { peer, _ in
            _ = try await peer.head()
            try await peer.send("HTTP/1.1 413 Content Too Large¬Content-Length: 2¬¬no")
            _ = try await peer.rest()
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("POST / HTTP/1.1¬Host: a¬Content-Length: 1000000¬¬")
            try await client.expect("HTTP/1.1 413 Content Too Large¬Content-Length: 2¬¬no")
            #expect(try await client.rest() == "")
        }
    }

    @Test func aBodyThatBreaksItsFramingIsRefused() async throws {
        let seen = Box("")
        try await withProxy { peer, _ in
            _ = try await peer.head()
            let rest = (try? await peer.rest()) ?? ""
            seen.change { $0 = rest }
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("POST / HTTP/1.1¬Host: a¬Transfer-Encoding: chunked¬¬3¬abc¬")
            while proxy.backend.count.current == 0 { await Task.yield() }
            try await client.send("zz¬GET / HTTP/1.1¬¬")
            #expect(try await client.rest().hasPrefix("HTTP/1.1 400 Bad Request¬"))
        }
        #expect(!seen.change { $0 }.contains("GET"))
    }

    @Test func anUpgradeBecomesATunnel() async throws {
        try await withProxy { peer, _ in
            #expect(try await peer.head().contains("¬Upgrade: websocket¬"))
            try await peer.send("HTTP/1.1 101 Switching Protocols¬Connection: Upgrade¬Upgrade: websocket¬X: y¬¬hello")
            let text = try await peer.rest()
            try await peer.send("got \(text)")
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("GET / HTTP/1.1¬Host: a¬Connection: keep-alive, Upgrade¬Upgrade: websocket¬¬early ")
            #expect(
                try await client.head()
                    == "HTTP/1.1 101 Switching Protocols¬X: y¬Connection: upgrade¬Upgrade: websocket¬¬")
            try await client.expect("hello")
            try await client.send("late")
            try client.stream.closeWrite()
            #expect(try await client.rest() == "got early late")
        }
    }

    private func take(_ count: Int, from peer: RawPeer) async throws {
        var left = count - peer.unread().count
        var piece = ByteBuffer()
        while left > 0 {
            left -= try await peer.stream.read(into: &piece, atMost: min(left, 256 << 10))
            piece.removeAll()
        }
    }

    fileprivate static func residentKilobytes() throws -> Int {
        let status = String(decoding: try Files.read("/proc/self/statm", limit: 4096), as: UTF8.self)
        return (Int(status.split(separator: " ")[1]) ?? 0) * 4
    }
}
