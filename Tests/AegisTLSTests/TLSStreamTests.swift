import AegisIO
import AegisTLS
import AegisTestSupport
import Testing

@Suite struct TLSStreamTests {
    /// Both ends of a session over pipes of a size.
    private static func pair(
        capacity: Int = 64 << 10
    ) async throws -> (client: TLSStream, server: TLSStream, below: any ByteStream) {
        let authority = try CertificateAuthority(name: "x")
        let client = try TLSClient(authorities: Array(authority.certificate.utf8))
        let server = try TLSServer()
        let (near, far) = BytePipe.pair(capacity: capacity)
        async let accepted = server.accept(far) { name throws(TLSError) in try authority.leaf(for: name ?? "") }
        let connected = try await client.connect(near, host: "a.example")
        return (connected, try await accepted, far)
    }

    @Test(arguments: [1, 7, 333, 64 << 10])
    func bytesArriveWhateverThePiecesAre(_ capacity: Int) async throws {
        let (client, server, _) = try await Self.pair(capacity: capacity)
        let data = scrambled(capacity < 100 ? 20_000 : 1_000_000)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                var random = SystemRandomNumberGenerator()
                var rest = data[...]
                while !rest.isEmpty {
                    let piece = rest.prefix(Int.random(in: 1...100_000, using: &random))
                    try await client.write(piece)
                    rest = rest.dropFirst(piece.count)
                }
                try await client.end()
            }
            group.addTask { try await echo(server) }
            #expect(try await client.readAll(limit: 4 << 20) == data)
            try await group.waitForAll()
        }
    }

    @Test func oneSideMayEndFirst() async throws {
        let (client, server, _) = try await Self.pair()
        try await client.write("question")
        try await client.end()
        #expect(try await server.readAll(limit: 100) == Array("question".utf8))
        try await server.write("answer")
        try await server.end()
        #expect(try await client.readAll(limit: 100) == Array("answer".utf8))
        await #expect(throws: IOError.self) { try await client.write("more") }
    }

    @Test func closingTheWritingSideIsSentWithTheNextRead() async throws {
        let (client, server, _) = try await Self.pair()
        try await client.write("question")
        try client.closeWrite()
        async let answer = client.readAll(limit: 100)
        #expect(try await server.readAll(limit: 100) == Array("question".utf8))
        try await server.write("answer")
        try await server.end()
        #expect(try await answer == Array("answer".utf8))
    }

    @Test func aCutIsNoEnd() async throws {
        let (client, server, below) = try await Self.pair()
        try await server.write("half")
        try below.closeWrite()
        var buffer = ByteBuffer()
        #expect(try await client.read(into: &buffer) == 4)
        do throws(IOError) {
            _ = try await client.read(into: &buffer)
            Issue.record("the cut was taken for an end")
        } catch { #expect(error.kind == .closed && error.message.contains("in the middle of TLS")) }
    }

    @Test func closingWakesAReader() async throws {
        let (client, server, _) = try await Self.pair()
        let reader = Task { () -> IOError? in
            var buffer = ByteBuffer()
            do throws(IOError) { _ = try await client.read(into: &buffer) } catch { return error }
            return nil
        }
        client.close()
        #expect(await reader.value?.kind == .closed)
        _ = server
    }

    @Test func aReadCanBeCancelledAndTriedAgain() async throws {
        let (client, server, _) = try await Self.pair()
        let reader = Task { () -> IOError? in
            var buffer = ByteBuffer()
            do throws(IOError) { _ = try await client.read(into: &buffer) } catch { return error }
            return nil
        }
        reader.cancel()
        #expect(await reader.value?.kind == .cancelled)
        try await server.write("late")
        var buffer = ByteBuffer()
        #expect(try await client.read(into: &buffer) == 4)
    }

    @Test func twoReadersAreAnError() async throws {
        let (client, server, _) = try await Self.pair()
        let first = Task { () -> Int in
            var buffer = ByteBuffer()
            return (try? await client.read(into: &buffer)) ?? -1
        }
        // Whichever comes second is refused at once; the other gets what comes.
        let second = Task { () -> Int in
            var buffer = ByteBuffer()
            return (try? await client.read(into: &buffer)) ?? -1
        }
        let refused = await withTaskGroup(of: Int.self) { group in
            group.addTask { await first.value }
            group.addTask { await second.value }
            let early = await group.next()
            try? await server.write("x")
            return [early, await group.next()]
        }
        #expect(refused == [-1, 1])
    }
}
