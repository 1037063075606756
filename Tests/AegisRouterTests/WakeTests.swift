import AegisCore
import AegisIO
import AegisRouter
import AegisSandboxTypes
import AegisTestSupport
import Testing

/// What wakes an instance, what waits for it, and what is answered when it does not come.
@Suite struct WakeTests {
    private static let get = "GET / HTTP/1.1¬Host: a¬Connection: close¬¬"
    private static let page = "GET / HTTP/1.1¬Host: a¬Accept: text/html,*/*¬Connection: close¬¬"

    @Test func aHundredClientsShareOneWake() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http")
            stage.source.change { $0.wakeResult = nil }
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<100 { group.addTask { try await stage.ask(Self.get, 80) } }
                await stage.source.until { $0.wakers.count == 1 }
                stage.source.finishWaking(.success(()))
                for try await answer in group { #expect(answer.hasPrefix("HTTP/1.1 200 OK¬")) }
            }
            #expect(stage.source.change { $0.heldEver } == 1)
        }
    }

    @Test func aPortThatStillStartsIsAskedUntilItListens() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http")
            stage.source.change { $0.closed = true }
            async let answer = stage.ask(Self.get, 80)
            await stage.source.until { $0.dials >= 3 }
            stage.source.change { $0.closed = false }
            #expect(try await answer.hasPrefix("HTTP/1.1 200 OK¬"))
        }
    }

    /// It may be the request that the server dies of.
    @Test func aRequestWhoseServerWentAwayIsNotSentToANewOne() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http")
            stage.source.change { $0.running = true }
            #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 200 OK¬"))
            stage.source.change { $0.closed = true }
            let answer = try await stage.ask("GET /gone HTTP/1.1¬Host: a¬Connection: close¬¬", 80)
            #expect(answer.hasPrefix("HTTP/1.1 502 ") && answer.contains("backend-lost"), "\(answer)")
            #expect(stage.source.change { $0.heldEver } == 1)
        }
    }

    @Test func thoseWhoWaitedAreLetInAFewAtATime() async throws {
        var limits = RouterLimits()
        limits.admissionTime = .seconds(100)
        try await onLoop { [limits] loop in
            // Takes connections and says nothing.
            let silent = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
            try await runStage(on: loop, limits: limits, extra: [90: try silent.localPort()]) { stage in
                try await stage.expose("0:90:http")
                stage.source.change { $0.wakeResult = nil }
                let clients = try await withThrowingTaskGroup(of: Peer.self) { group in
                    for _ in 0..<20 { group.addTask { try await stage.client(90) } }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
                for client in clients { try await client.send(Self.get) }
                while await stage.router.waitingCount() < 20 { await Task.yield() }
                stage.source.finishWaking(.success(()))
                // Four in all: one over the connection that found out that the port answers.
                await stage.source.until { $0.dials == 4 }
                while await stage.router.waitingCount() != 16 { await Task.yield() }
                stage.source.change { $0.exposures = [] }
                for client in clients { _ = try? await client.rest() }
                #expect(stage.source.change { $0.dials } == 4)
            }
            silent.close()
        }
    }

    @Test func aPortThatAnswersIsDialledDirectly() async throws {
        // However slow the machine is, the requests follow one another.
        var limits = RouterLimits()
        limits.holdTime = .seconds(1000)
        try await withStage(limits: limits) { stage in
            try await stage.expose("0:80:http")
            stage.source.change { $0.running = true }
            for _ in 0..<10 { #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 200 OK¬")) }
            #expect(stage.source.change { $0.dials } == 1)
        }
    }

    @Test(arguments: [
        (AegisError(.failed, "boot-failed", "the image is gone"), "502 Bad Gateway"),
        (AegisError(.conflict, "instance-asleep", "this port wakes nobody"), "503 Service Unavailable"),
        (AegisError(.timeout, "wake-timeout", "not awake in time"), "504 Gateway Timeout"),
    ])
    func eachWaiterGetsTheCause(_ error: AegisError, _ status: String) async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http", "0:7:tcp")
            stage.source.change { $0.wakeResult = nil }
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<5 { group.addTask { try await stage.ask(Self.get, 80) } }
                await stage.source.until { $0.wakers.count == 1 }
                // All five have been counted in: what comes later would wake anew.
                while await stage.router.waitingCount() < 5 { await Task.yield() }
                stage.source.finishWaking(.failure(error))
                for try await answer in group {
                    #expect(answer.hasPrefix("HTTP/1.1 \(status)¬") && answer.contains(error.message), "\(answer)")
                }
            }
            // Bytes cannot be answered: the client sees a reset.
            let client = try await stage.client(7)
            await #expect(throws: IOError.self) { try await client.rest() }
        }
    }

    @Test func aPortThatNeverListensIs504() async throws {
        var limits = RouterLimits()
        limits.runningTime = .milliseconds(40)
        try await withStage(limits: limits) { stage in
            try await stage.expose("0:80:http", "0:7:tcp")
            stage.source.change {
                $0.running = true
                $0.closed = true
            }
            let answer = try await stage.ask(Self.get, 80)
            #expect(answer.hasPrefix("HTTP/1.1 504 ") && answer.contains("port-not-ready"), "\(answer)")
            let client = try await stage.client(7)
            await #expect(throws: IOError.self) { try await client.rest() }
        }
    }

    @Test func aCrashUnderTheHoldIsFollowedByAnotherStart() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http")
            stage.source.change { $0.running = true }
            let last = "GET /die HTTP/1.1¬Host: a¬Connection: close¬¬"
            #expect(try await stage.ask(last, 80).hasPrefix("HTTP/1.1 200"))
            // It ends while the router still holds it.
            let before = stage.source.change { state in
                state.running = false
                return state.heldEver
            }
            #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 200"))
            #expect(stage.source.change { $0.heldEver } > before && stage.source.change { $0.running })
        }
    }

    @Test func aBrowserGetsAPageAtOnce() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http,ui", "0:81:http")
            stage.source.change { $0.wakeResult = nil }
            let page = try await stage.ask(Self.page, 80)
            #expect(page.hasPrefix("HTTP/1.1 503 Service Unavailable¬") && page.contains("¬Retry-After: 1¬"))
            #expect(page.contains(#"<meta http-equiv="refresh" content="1">"#) && page.contains("Waking web."))
            // Everybody else waits, also a browser on a port without a page.
            async let api = stage.ask(Self.get, 80)
            async let other = stage.ask(Self.page, 81)
            await stage.source.until { $0.wakers.count == 2 }
            stage.source.finishWaking(.success(()))
            #expect(try await api.hasPrefix("HTTP/1.1 200"))
            #expect(try await other.hasPrefix("HTTP/1.1 200"))
            #expect(try await stage.ask(Self.page, 80).hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test func theLoadingPageTellsWhyItFailed() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http,ui")
            stage.source.change { $0.wakeResult = nil }
            #expect(try await stage.ask(Self.page, 80).contains("Waking web."))
            await stage.source.until { !$0.wakers.isEmpty }
            stage.source.finishWaking(.failure(AegisError(.failed, "boot-failed", "the <image> is gone")))
            await stage.source.until { $0.holds == 0 }
            let page = try await stage.ask(Self.page, 80)
            #expect(page.hasPrefix("HTTP/1.1 502 ") && page.contains("the &lt;image&gt; is gone"), "\(page)")
            #expect(!page.contains("refresh"))
        }
    }

    @Test func aConnectionThatSaysNothingWakesOnlyWhereAnyConnectionDoes() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http,wake=http", "0:81:http")
            let silent = try await stage.client(80)
            let other = try await stage.client(81)
            await stage.source.until { !$0.reasons.isEmpty }
            #expect(stage.source.change { $0.reasons } == [.connection])
            try await silent.send(Self.get)
            #expect(try await silent.rest().hasPrefix("HTTP/1.1 200"))
            #expect(stage.source.change { $0.reasons } == [.connection, .request])
            other.stream.close()
        }
    }

    @Test func nothingIsHeldOnceNobodyAsks() async throws {
        var limits = RouterLimits()
        limits.holdTime = .milliseconds(20)
        try await withStage(limits: limits) { stage in
            try await stage.expose("0:80:http", "0:7:tcp")
            // The client's connection stays open: it alone does not keep the instance awake.
            let client = try await stage.client(80)
            try await client.send("GET / HTTP/1.1¬Host: a¬¬")
            _ = try await client.bytes(20)
            await stage.source.until { $0.holds == 0 }
            // A stream of bytes does, to its end.
            let bytes = try await stage.client(7)
            try await bytes.send("x")
            #expect(try await bytes.bytes(1) == "x")
            try await stage.loop.clock.sleep(for: .milliseconds(60))
            #expect(stage.source.change { $0.holds } == 1)
            try bytes.stream.closeWrite()
            #expect(try await bytes.rest() == "bye")
            bytes.stream.close()
            await stage.source.until { $0.holds == 0 }
        }
    }

    @Test func aPortThatNobodyServesIsHeldForNobodyWhoHasGone() async throws {
        var limits = RouterLimits()
        limits.holdTime = .milliseconds(20)
        limits.runningTime = .seconds(1000)
        try await withStage(limits: limits) { stage in
            try await stage.expose("0:80:ws", "0:50:grpc")
            stage.source.change {
                $0.running = true
                $0.closed = true
            }
            #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 426 "))
            #expect(try await stage.ask(Self.get, 50).hasPrefix("HTTP/1.1 400 "))
            await stage.source.until { $0.heldEver == 2 && $0.holds == 0 }
            // Whoever comes later is held again, and gets through.
            let client = try await stage.client(80)
            await stage.source.until { $0.holds == 1 }
            stage.source.change { $0.closed = false }
            try await client.send(
                "GET / HTTP/1.1¬Host: a¬Connection: upgrade¬Upgrade: websocket¬Sec-WebSocket-Key: a¬"
                    + "Sec-WebSocket-Version: 13¬¬")
            #expect(try await client.head().hasPrefix("HTTP/1.1 101 "))
            client.stream.close()
        }
    }

    @Test(arguments: ["0:80:http", "0:80:http,wake=http", "0:7:tcp"])
    func whoWaitsAndGoesIsHeldForNoMore(_ spec: String) async throws {
        var limits = RouterLimits()
        limits.holdTime = .milliseconds(20)
        limits.runningTime = .seconds(1000)
        try await withStage(limits: limits) { stage in
            try await stage.expose(spec)
            stage.source.change {
                $0.running = true
                $0.closed = true
            }
            let guest: UInt16 = spec.contains("tcp") ? 7 : 80
            let clients = try await [stage.client(guest), stage.client(guest)]
            for client in clients { try await client.send(Self.get) }
            while await stage.router.waitingCount() < 2 { await Task.yield() }
            clients[0].stream.close()
            while await stage.router.waitingCount() > 1 { try await stage.loop.clock.sleep(for: .milliseconds(1)) }
            // The other has ended its side and waits for its answer.
            try clients[1].stream.closeWrite()
            let dials = stage.source.change { $0.dials }
            await stage.source.until { $0.dials > dials + 3 }
            let held = stage.source.change { $0.holds }
            #expect(held == 1)
            clients[1].stream.close()
            await stage.source.until { $0.holds == 0 }
            let after = stage.source.change { $0.dials }
            // Whoever comes later gets through, also with its side ended.
            let late = try await stage.client(guest)
            try await late.send(Self.get)
            try late.stream.closeWrite()
            await stage.source.until { $0.dials > after + 3 }
            stage.source.change { $0.closed = false }
            let answer = try await late.rest()
            #expect(guest == 7 ? answer == Self.get + "bye" : answer.hasPrefix("HTTP/1.1 200"), "\(answer)")
        }
    }

    @Test func tooManyWaitersAreRefused() async throws {
        var limits = RouterLimits()
        limits.waiting = 2
        try await withStage(limits: limits) { stage in
            try await stage.expose("0:80:http,wake=http", "0:7:tcp")
            stage.source.change { $0.wakeResult = nil }
            async let first = stage.ask(Self.get, 80)
            async let second = stage.ask(Self.get, 80)
            while await stage.router.waitingCount() < 2 { await Task.yield() }
            let third = try await stage.ask(Self.get, 80)
            #expect(third.hasPrefix("HTTP/1.1 503 ") && third.contains("too-many-waiting"), "\(third)")
            let clients = try await [stage.client(7), stage.client(7), stage.client(7)]
            await stage.source.until { $0.wakers.count == 3 }
            await #expect(throws: IOError.self) { try await clients[2].rest() }
            stage.source.finishWaking(.success(()))
            #expect(try await first.hasPrefix("HTTP/1.1 200"))
            #expect(try await second.hasPrefix("HTTP/1.1 200"))
            for client in clients { client.stream.close() }
        }
    }

    @Test func aReadinessPathIsAskedAfterAWake() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http,ready=/health")
            #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 200"))
            // Once for the path, once for the request.
            #expect(stage.source.change { $0.dials } == 2)
        }
    }

    /// Who has started it, and how many ask, does not matter: once in the life of a sandbox.
    @Test func aReadinessPathIsAskedOnceInALife() async throws {
        var limits = RouterLimits()
        limits.holdTime = .milliseconds(1)
        try await withStage(limits: limits) { stage in
            try await stage.expose("0:80:http,ready=/health")
            for life in 1...3 {
                stage.source.change { $0.running = true }
                for request in 1...3 {
                    let before = stage.source.change { $0.dials }
                    #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 200"))
                    let dials = stage.source.change { $0.dials } - before
                    #expect(dials == (request == 1 ? 2 : 1), "life \(life), request \(request): \(dials)")
                    await stage.source.until { $0.holds == 0 }
                }
                stage.source.change { $0.running = false }
            }
            // Another path is another question.
            stage.source.change { state in
                state.running = true
                state.exposures[0].spec.ready = .http(path: "/other")
            }
            let before = stage.source.change { $0.dials }
            #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 200"))
            #expect(stage.source.change { $0.dials } == before + 2)
        }
    }

    /// Who waits for it is told, and it holds nothing any more, however long it might have waited.
    @Test func aPortThatIsNotServedAnyMoreIsNotWaitedFor() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http,wait=1h")
            stage.source.change {
                $0.running = true
                $0.closed = true
            }
            async let answer = stage.ask(Self.get, 80)
            await stage.source.until { $0.dials >= 3 }
            stage.source.change { $0.exposures = [] }
            _ = try? await answer
            await stage.source.until { $0.holds == 0 }
            #expect(await stage.router.waitingCount() == 0)
        }
    }

    /// A server that has not begun to listen never does while it stands still: who waits for it wakes it again.
    @Test func aPauseByForceIsUndoneByWhoeverWaits() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http,wake=http,wait=1h")
            stage.source.change { ($0.running, $0.closed) = (true, true) }
            async let answer = stage.ask(Self.get, 80)
            await stage.source.until { $0.dials >= 3 }
            #expect(stage.source.change { $0.heldEver } == 1)
            stage.source.change { $0.asleep = true }
            await stage.source.until { $0.heldEver >= 2 && !$0.asleep }
            stage.source.change { $0.closed = false }
            #expect(try await answer.hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test func aPortMayHaveATimeOfItsOwn() async throws {
        var limits = RouterLimits()
        limits.runningTime = .milliseconds(1)
        try await withStage(limits: limits) { stage in
            try await stage.expose("0:80:http,wait=1h")
            stage.source.change {
                $0.running = true
                $0.closed = true
            }
            async let answer = stage.ask(Self.get, 80)
            // Long after the time that every port has.
            await stage.source.until { $0.dials >= 8 }
            stage.source.change { $0.closed = false }
            #expect(try await answer.hasPrefix("HTTP/1.1 200"))
        }
    }
}
