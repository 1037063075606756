import AegisCore
import AegisIO
import AegisRouter
import AegisSandboxTypes
import Testing

/// Listeners belong to exposures.
@Suite struct PortTests {
    private static let get = "GET / HTTP/1.1¬Host: a¬Connection: close¬¬"

    @Test func bytesGoBothWaysWithHalfClose() async throws {
        try await withStage { stage in
            try await stage.expose("0:7:tcp")
            let client = try await stage.client(7)
            try await client.send("hello")
            #expect(try await client.bytes(5) == "hello")
            try client.stream.closeWrite()
            #expect(try await client.rest() == "bye")
        }
    }

    @Test func webSocketsAreHeldAndTunnelled() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:ws", "0:81:http")
            stage.source.change { $0.wakeResult = nil }
            let refused = try await stage.ask(Self.get, 80)
            #expect(refused.hasPrefix("HTTP/1.1 426 Upgrade Required¬") && refused.contains("¬Upgrade: websocket¬"))
            for guest in [UInt16(80), 81] {
                let client = try await stage.client(guest)
                try await client.send(
                    "GET /chat HTTP/1.1¬Host: a¬Connection: Upgrade¬Upgrade: websocket¬Sec-WebSocket-Key: x¬¬")
                await stage.source.until { !$0.wakers.isEmpty || $0.running }
                stage.source.finishWaking(.success(()))
                #expect(try await client.head().hasPrefix("HTTP/1.1 101 Switching Protocols¬"))
                try await client.send("frame")
                #expect(try await client.bytes(5) == "frame")
                // It counts for its life.
                #expect(stage.source.change { $0.holds } >= 1)
                client.stream.close()
            }
        }
    }

    @Test func aPortThatIsTakenHarmsNoOther() async throws {
        var limits = RouterLimits()
        limits.bindRetry = .milliseconds(20)
        try await withStage(limits: limits) { stage in
            let other = try Listener.tcp(address: "127.0.0.1", port: 0, on: stage.loop)
            let taken = try other.localPort()
            let spec = try ExposeSpec(parsing: "\(taken):80:http")
            stage.source.change {
                $0.exposures = [Exposure(instance: "i-00000000000000bb", name: "busy", owner: 0, spec: spec)]
            }
            try await stage.expose("0:81:http")
            #expect(try await stage.ask(Self.get, 81).hasPrefix("HTTP/1.1 200"))
            await stage.source.until { $0.failures[80] != nil }
            let failure = try #require(stage.source.change { $0.failures[80] })
            #expect(failure.code == "port-in-use" && failure.message.contains("\(taken)"))
            // It is tried again, and had as soon as it is free.
            other.close()
            await stage.source.until { $0.bound[80] == taken }
            #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 200"))
        }
    }

    @Test func thePortOfTheDaemonItselfIsCalledSo() async throws {
        try await withStage { stage in
            let spec = try ExposeSpec(parsing: "\(stage.main):80:http")
            stage.source.change {
                $0.exposures = [Exposure(instance: "i-00000000000000bb", name: "busy", owner: 0, spec: spec)]
            }
            await stage.source.until { $0.failures[80] != nil }
            let failure = try #require(stage.source.change { $0.failures[80] })
            #expect(failure.code == "port-in-use" && failure.message.hasSuffix("is the daemon's own (its router)"))
            #expect(failure.hint?.contains("network.router_port") == true && failure.hint?.contains("again") == false)
        }
    }

    @Test func anyFreePortIsKept() async throws {
        try await withStage { stage in
            try await stage.expose("0:80:http")
            let port = stage.publicPort(80)
            #expect(port != 0)
            // Crash, stop, changes of other settings: the listener stays.
            stage.source.change { $0.exposures[0].spec.ui = true }
            stage.source.change { $0.running = false }
            #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 200"))
            #expect(stage.publicPort(80) == port)
        }
    }

    @Test func unexposingEndsListenerAndConnections() async throws {
        try await withStage { stage in
            let port = try ownPort(on: stage.loop)
            try await stage.expose("0:80:http", "\(port):7:tcp")
            let client = try await stage.client(7)
            try await client.send("x")
            #expect(try await client.bytes(1) == "x")
            stage.source.change { state in state.exposures.removeAll { $0.guestPort == 7 } }
            await #expect(throws: IOError.self) { try await client.rest() }
            await #expect(throws: IOError.self) {
                _ = try await Connect.tcp(host: "127.0.0.1", port: port, on: stage.loop)
            }
            #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 200"))
            // The number is free for another.
            try await stage.expose("\(port):81:http", as: "other", id: "i-00000000000000bb")
            #expect(stage.publicPort(81) == port)
        }
    }

    @Test func twoRoutersInTurnHaveTheSamePort() async throws {
        let port = Mutexed<UInt16>(0)
        for _ in 0..<3 {
            try await withStage { stage in
                if port.value == 0 { port.value = try ownPort(on: stage.loop) }
                try await stage.expose("\(port.value):80:http")
                let now = stage.publicPort(80)
                #expect(port.value == now)
                #expect(try await stage.ask(Self.get, 80).hasPrefix("HTTP/1.1 200"))
            }
        }
    }
}
