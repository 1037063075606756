import AegisHTTPClient
import AegisIO
import AegisTestSupport
import AegisWire
import Testing

@Suite struct HTTPClientTests {
    /// Says what it got.
    private static let echo: HTTPServer.Handler = { request, response in
        let body = try await request.body.collect(upTo: 64 << 20)
        let fields = request.headers.map { "\($0.name.lowercased()): \($0.value)" }.sorted()
        let said = "\(request.method) \(request.head.target.raw) \(body.count)\n" + fields.joined(separator: "\n")
        try await response.respond(200, headers: ["X-Answer": "yes"], body: Array(said.utf8))
    }

    @Test(arguments: [
        (HTTPMethod.get, nil as [UInt8]?, "GET /a?b 0"), (.delete, nil, "DELETE /a?b 0"), (.post, [], "POST /a?b 0"),
        (.post, pattern(300_000), "POST /a?b 300000"), (.put, [1, 2, 3], "PUT /a?b 3"),
        (.patch, [0], "PATCH /a?b 1"),
        (.options, nil, "OPTIONS /a?b 0"),
    ])
    func aRequestArrivesAsItIs(_ method: HTTPMethod, _ body: [UInt8]?, _ first: String) async throws {
        try await withStage(Self.echo) { stage in
            var request = try stage.request(method, "/a?b")
            request.headers = ["X-Ä": "no"]
            request.headers = ["X-One": "ü", "X-Empty": "", "X-Twice": "1", "x-twice": "2"]
            request.body = body
            let (head, said) = try await stage.client.fetch(request)
            var lines = String(decoding: said, as: UTF8.self).split(separator: "\n").map(String.init)
            #expect(head.status == 200 && head.headers.first("x-answer") == "yes" && !head.isHTTP2)
            #expect(lines.removeFirst() == first)
            var expected = [
                "accept: */*", "host: 127.0.0.1:\(stage.port)", "x-empty: ", "x-one: ü", "x-twice: 1", "x-twice: 2",
            ]
            if let body { expected.append("content-length: \(body.count)") }
            #expect(lines == expected.sorted())
        }
    }

    @Test func aHeadRequestHasNoBody() async throws {
        try await withStage(Self.echo) { stage in
            let (head, body) = try await stage.client.fetch(try stage.request(.head))
            #expect(head.status == 200 && body.isEmpty && head.headers.first("content-length") != nil)
        }
    }

    @Test(arguments: [301, 302, 307, 308])
    func aRedirectIsAnAnswer(_ status: Int) async throws {
        try await withStage { _, response in
            try await response.respond(status, headers: ["Location": "http://127.0.0.1:1/"], body: [])
        } _: { stage in
            let (head, _) = try await stage.get()
            #expect(head.status == status && head.headers.first("location") == "http://127.0.0.1:1/")
        }
    }

    @Test func connectionsAreKeptUnlessToldOtherwise() async throws {
        let peers = Notes<String>()
        try await withStage { request, response in
            peers.add("\(request.peer)")
            try await response.respond(200, body: [1])
        } _: { stage in
            for _ in 0..<3 { _ = try await stage.get() }
            #expect(Set(peers.all).count == 1)
            var request = try stage.request()
            request.reusesConnection = false
            for _ in 0..<2 { _ = try await stage.client.fetch(request) }
            #expect(Set(peers.all).count == 3)
        }
    }

    @Test func whoDoesNotReadStopsTheServer() async throws {
        let total = 24 << 20
        let written = Notes<Int>()
        try await withStage { request, response in
            guard request.path == ["slow"] else { return try await response.respond(200) }
            var body = try await response.stream(200)
            let piece = [UInt8](repeating: 7, count: 64 << 10)
            for count in 1...(total / piece.count) {
                try await body.write(piece)
                written.add(count)
            }
            try await body.finish()
        } _: { stage in
            try await stage.client.send(try stage.request(.get, "/slow")) { response in
                // Others go on meanwhile; of this one no more has moved than the sockets hold.
                _ = await written.wait(for: 1)
                for _ in 0..<100 { _ = try await stage.get() }
                #expect(written.all.count < total / (64 << 10))
                var count = 0
                while let bytes = try await response.read() {
                    #expect(bytes.count <= TransferMachineRoom.most)
                    count += bytes.count
                }
                #expect(count == total)
            }
        }
    }

    @Test func manyAtOnceAreAnswered() async throws {
        try await withStage(Self.echo) { stage in
            try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<200 {
                    group.addTask { try await stage.get("/\(number)").head.status }
                }
                for try await status in group { #expect(status == 200) }
            }
            #expect(await stage.client.activeCount == 0)
        }
    }

    @Test func whoComesAndGoesLeavesNothing() async throws {
        try await withStage { _, response in
            var body = try await response.stream(200)
            for _ in 0..<20 { try await body.write([UInt8](repeating: 7, count: 20_000)) }
            try await body.finish()
        } _: { stage in
            var random = Mutator(seed: 5)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<150 {
                    let (yields, reads, abandons) = (random.below(60), random.below(12), random.below(3) == 0)
                    let request = try stage.request()
                    let task = Task {
                        let response = try await stage.client.open(request)
                        for _ in 0..<reads { _ = try await response.read() }
                        if abandons { response.finishSoon() } else { _ = try await response.readAll() }
                    }
                    group.addTask {
                        for _ in 0..<yields { await Task.yield() }
                        if !abandons { task.cancel() }
                        _ = await task.result
                    }
                }
                try await group.waitForAll()
            }
            while await stage.client.activeCount > 0 { await Task.yield() }
            #expect(try await stage.get().body.count == 400_000)
        }
    }

    @Test func oneTooManyIsRefused() async throws {
        var limits = HTTPClientLimits()
        limits.transfers = 1
        try await withStage(limits: limits) { _, response in
            var body = try await response.stream(200)
            try await body.write([1])
            await untilCancelled()
        } _: { stage in
            try await stage.client.send(try stage.request()) { _ in
                let error = await failure { _ = try await stage.get() }
                #expect(error?.kind == .busy && error?.mayHaveArrived == false)
            }
        }
    }

    @Test func theAddressAnsweredFromIsTold() async throws {
        try await withStage(Self.echo) { stage in
            try await stage.client.send(try stage.request()) { #expect($0.peer == "127.0.0.1") }
        }
    }

    @Test func compressedAnswersAreReadAsPlainOnes() async throws {
        // "hello hello hello hello", by gzip.
        let packed: [UInt8] = [
            31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 203, 72, 205, 201, 201, 87, 200, 64, 39, 1, 227, 81, 61, 141, 23, 0, 0, 0,
        ]
        try await withStage { request, response in
            #expect(request.headers.contains("accept-encoding", token: "gzip"))
            try await response.respond(200, headers: ["Content-Encoding": "gzip"], body: packed)
        } _: { stage in
            var request = try stage.request()
            request.acceptsCompression = true
            #expect(try await stage.client.fetch(request).body == Array("hello hello hello hello".utf8))
            // What is small packed may be large: the limit is that of plain bytes.
            request.maximumBody = 10
            #expect(await failure { _ = try await stage.client.fetch(request) }?.kind == .tooLarge)
        }
    }
}

/// The most that is read at once: what may wait, and one more portion of curl's.
enum TransferMachineRoom { static let most = 96 << 10 }
