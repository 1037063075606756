import AegisHTTPClient
import AegisIO
import AegisTestSupport
import AegisWire
import Testing

/// Which addresses are talked to.
@Suite struct HTTPClientAddressTests {
    private static let ok: HTTPServer.Handler = { request, response in
        try await response.respond(200, body: Array((request.headers.first("host") ?? "").utf8))
    }

    @Test func anAddressThatIsNotAdmittedIsNeverConnectedTo() async throws {
        let connections = Notes<Bool>()
        try await onLoop { loop in
            let client = try HTTPClient(on: loop)
            defer { client.close() }
            try await serving(on: loop) { _ in
                connections.add(true)
            } _: { port in
                for host in ["127.0.0.1", "localhost"] {
                    var request = ClientRequest(.get, try WebURL("http://\(host):\(port)/"))
                    let asked = Notes<String>()
                    request.admits = { address, asking in
                        asked.add("\(address) \(asking)")
                        return false
                    }
                    let error = await failure { _ = try await client.fetch(request) }
                    #expect(error?.kind == .refusedAddress && error?.mayHaveArrived == false)
                    #expect(asked.all.contains("127.0.0.1 \(port)"))
                }
            }
        }
        #expect(connections.all.isEmpty)
    }

    @Test func aKeptConnectionIsCheckedAgain() async throws {
        try await withStage(Self.ok) { stage in
            _ = try await stage.get()
            var request = try stage.request()
            request.admits = { _, _ in false }
            #expect(await failure { _ = try await stage.client.fetch(request) }?.kind == .refusedAddress)
            // The other one may go on as before.
            #expect(try await stage.get().head.status == 200)
        }
    }

    @Test func aPinnedAddressCountsAndTheNameIsStillTheServers() async throws {
        try await withStage(Self.ok) { stage in
            var request = ClientRequest(.get, try WebURL("http://pinned.invalid:\(stage.port)/"))
            request.addresses = ["127.0.0.1"]
            let (_, body) = try await stage.client.fetch(request)
            #expect(body == Array("pinned.invalid:\(stage.port)".utf8))
            // It counts for that request only.
            request.addresses = nil
            #expect(await failure { _ = try await stage.client.fetch(request) }?.kind == .resolve)
            request.addresses = ["127.0.0.3"]
            #expect(await failure { _ = try await stage.client.fetch(request) }?.kind == .connect)
        }
    }

    @Test func pinnedAddressesAreTriedInTurn() async throws {
        try await withStage(Self.ok) { stage in
            var request = ClientRequest(.get, try WebURL("http://pinned.invalid:\(stage.port)/"))
            request.addresses = ["127.0.0.3", "::1", "127.0.0.1"]
            try await stage.client.send(request) { #expect($0.peer == "127.0.0.1") }
        }
    }

    @Test func whatIsNoAddressCannotBePinned() async throws {
        try await withStage { stage in
            var request = ClientRequest(.get, try WebURL("http://a.invalid/"))
            for addresses in [["a.invalid"], [], ["127.0.0.1:80"], ["::1]:80:[::2"]] {
                request.addresses = addresses
                #expect(await failure { _ = try await stage.client.fetch(request) }?.kind == .invalidRequest)
            }
            request.addresses = ["127.0.0.1"]
            request.usesEnvironmentProxy = true
            #expect(await failure { _ = try await stage.client.fetch(request) }?.kind == .invalidRequest)
        }
    }
}
