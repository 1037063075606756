import AegisCore
import AegisIO
import AegisRouter
import AegisSandboxTypes
import AegisTestSupport
import Testing

/// What clients do that have no patience and no manners.
@Suite struct FaultTests {
    private static let get = "GET / HTTP/1.1¬Host: a¬Connection: close¬¬"

    /// Clients come and go at every point of waking, serving and pausing; nothing of them may stay.
    @Test func twentyThousandDropsLeaveNothingBehind() async throws {
        var limits = RouterLimits()
        limits.holdTime = .milliseconds(5)
        limits.runningTime = .milliseconds(200)
        try await onLoop { [limits] loop in
            try await runStage(on: loop, limits: limits, deadline: .seconds(120)) { stage in
                try await stage.expose("0:80:http", "0:81:grpc", "0:7:tcp", wakeLimit: .seconds(1))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await Self.wakeAndPause(stage) }
                    for wave in 0..<200 { try await Self.drop(100, seed: UInt64(wave), stage) }
                    group.cancelAll()
                }
                stage.source.finishWaking(.success(()))
                await stage.source.until { $0.holds == 0 }
                while await stage.router.connectionCount() + stage.router.waitingCount() > 0 {
                    try await stage.loop.clock.sleep(for: .milliseconds(5))
                }
                #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 200"))
            }
        }
    }

    /// The instance falls asleep again and again; waking takes a moment, and fails now and then.
    private static func wakeAndPause(_ stage: Stage) async throws {
        var random = Mutator(seed: 5)
        while !Task.isCancelled {
            stage.source.change {
                $0.running = false
                $0.wakeResult = nil
            }
            try? await stage.loop.clock.sleep(for: .milliseconds(random.below(4)))
            let fails = random.below(5) == 0
            stage.source.finishWaking(fails ? .failure(AegisError(.failed, "boot-failed", "no")) : .success(()))
            try? await stage.loop.clock.sleep(for: .milliseconds(random.below(8)))
        }
    }

    private static func drop(_ count: Int, seed: UInt64, _ stage: Stage) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<count {
                group.addTask {
                    var random = Mutator(seed: seed * 1000 + UInt64(number))
                    let guest = random.pick([UInt16(80), 80, 81, 7])
                    let client = try await stage.client(guest)
                    let words = ["", "GET / HT", Self.get, "GET / HTTP/1.1¬Host: a¬¬", "POST / HTTP/1.1¬Content-Le"]
                    let said = random.pick(words)
                    try? await client.send(said)
                    for _ in 0..<random.below(4) { await Task.yield() }
                    if said.hasSuffix("¬¬"), guest == 80, random.below(3) == 0 { _ = try? await client.bytes(1) }
                    if random.below(2) == 0 { client.stream.reset() } else { client.stream.close() }
                }
            }
            try await group.waitForAll()
        }
    }

    @Test func aHeadThatTricklesIsCutOff() async throws {
        try await withStage(headTime: .milliseconds(150)) { stage in
            try await stage.expose("0:80:http,wake=http")
            let client = try await stage.client(80)
            async let answer = client.rest()
            // Each byte comes in time; the head does not.
            for byte in Self.get + String(repeating: "x", count: 200) {
                guard (try? await client.send(String(byte))) != nil else { break }
                try await stage.loop.clock.sleep(for: .milliseconds(5))
            }
            #expect(try await answer.hasPrefix("HTTP/1.1 408 "))
            #expect(stage.source.change { $0.heldEver } == 0)
        }
    }

    @Test func whatWaitsForASleepingInstanceIsLetGoWithThePort() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http", "0:81:grpc", "0:7:tcp")
            stage.source.change { $0.wakeResult = nil }
            let clients = try await [stage.client(80), stage.client(81), stage.client(7)]
            try await clients[0].send(Self.get)
            await stage.source.until { $0.wakers.count == 3 }
            stage.source.change { $0.exposures = [] }
            stage.source.finishWaking(.success(()))
            for client in clients { _ = try? await client.rest() }
            await stage.source.until { $0.holds == 0 }
        }
    }

    @Test func idleConnectionsEndWithTheirPort() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http", "0:81:http")
            let clients = try await [stage.client(80), stage.client(80)]
            for client in clients {
                try await client.send("GET / HTTP/1.1¬Host: a¬¬")
                #expect(try await client.head().hasPrefix("HTTP/1.1 200"))
            }
            // By now they have no task.
            try await stage.loop.clock.sleep(for: .milliseconds(600))
            #expect(await stage.router.connectionCount() == 2)
            try await clients[0].send(Self.get)
            #expect(try await clients[0].rest().contains("HTTP/1.1 200"))
            stage.source.change { _ = $0.exposures.removeFirst() }
            _ = try? await clients[1].rest()
            while await stage.router.connectionCount() > 0 { await Task.yield() }
        }
    }
}
