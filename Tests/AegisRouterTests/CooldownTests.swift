import AegisCore
import AegisIO
import AegisProxy
import AegisSandboxTypes
import AegisTestSupport
import Testing

@testable import AegisRouter

/// Ports that cool down: what comes by them shares one hold to its end, and keeps nothing for longer.
///
/// A hold inside a cooldown does not count, so one that is given up and had anew is another one, and may come too late.
@Suite struct CooldownTests {
    private final class Waiter: ProxyWaiter {
        var isGone: Bool { false }
        var onGone: (@Sendable () -> Void)?
    }

    /// A port of an instance that runs, without a proxy: a test takes each step of a connection itself, in one turn of the loop where
    /// it does not wait.
    private static func withPort(
        _ test: @escaping @Sendable (RouteTarget, ScriptedSource) async throws -> Void
    ) async throws {
        try await onLoop { loop in
            let server = try tellingServer(on: loop)
            let source = ScriptedSource(on: loop) { [port = server.port] _ in port }
            source.change { $0.running = true }
            let services = RouterServices(source, HTTPProxy(on: loop), RouterLimits(), .none)
            let spec = try ExposeSpec(parsing: "80:http,cooldown=1h")
            let target = RouteTarget(
                Exposure(instance: "i-00000000000000aa", name: "web", owner: 0, spec: spec), services)
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await server.run(80) }
                do { try await withDeadline(.seconds(180)) { try await test(target, source) } } catch {
                    Issue.record(error)
                }
                group.cancelAll()
            }
            target.close()
            await services.scope.end()
            #expect(source.change { $0.holds } == 0)
        }
    }

    /// The hold that a silent connection has had, and that began the time in which the port cools down, is that of its request.
    @Test func aConnectionHandsItsHoldToItsRequest() async throws {
        try await Self.withPort { target, source in
            target.arrived()
            while !target.isOpen { await Task.yield() }
            target.settled()
            let connection = try #require(target.takeKept())
            // Whatever else is to be done meanwhile.
            for _ in 0..<100 { await Task.yield() }
            #expect(target.isOpen && source.change { $0.holds } == 1)
            target.finished(connection, reusable: true)
            await source.until { $0.holds == 0 }
            #expect(!target.isOpen && source.change { $0.heldEver } == 1)
        }
    }

    /// The server has closed a kept connection: the request is asked again over a new one, also where nobody else uses the port.
    @Test func aRequestIsRepeatedUnderItsHold() async throws {
        try await Self.withPort { target, source in
            let first = try await target.connect(fresh: false, for: Waiter())
            target.finished(first, reusable: false)
            let second = try await target.connect(fresh: true, for: Waiter())
            #expect(second !== first && source.change { $0.heldEver } == 1)
            target.finished(second, reusable: true)
            await source.until { $0.holds == 0 }
        }
    }

    /// One request after the other has a hold of its own, and all of them have one connection, as long as it leads to this sandbox.
    @Test func requestsThatFollowOneAnotherShareAConnection() async throws {
        try await Self.withPort { target, source in
            for life in 1...3 {
                source.change { $0.running = true }
                for _ in 1...5 {
                    let connection = try await target.connect(fresh: false, for: Waiter())
                    target.finished(connection, reusable: true)
                    await source.until { $0.holds == 0 }
                }
                #expect(source.change { [$0.heldEver, $0.dials] } == [life * 5, life])
                source.change { $0.running = false }
            }
        }
    }

    /// The same through a router and its sockets.
    @Test func whatSaysNothingForLongIsHeldForWhatItSaysThen() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http,cooldown=1h")
            stage.source.change { $0.running = true }
            for round in 1...5 {
                let client = try await stage.client(80)
                await stage.source.until { $0.heldEver >= round && $0.holds > 0 }
                // Its hold is here; whether the port has been found to answer by now makes no difference.
                for _ in 0..<(round * 20) { await Task.yield() }
                try await client.send("GET / HTTP/1.1¬Host: a¬Connection: close¬¬")
                #expect(try await client.rest().hasPrefix("HTTP/1.1 200 OK¬"))
                await stage.source.until { $0.holds == 0 }
                #expect(stage.source.change { $0.heldEver } == round)
            }
            #expect(stage.source.change { $0.dials } == 1)
        }
    }
}
