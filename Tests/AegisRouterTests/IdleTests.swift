import AegisIO
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

/// Connections on which nothing is said.
@Suite struct IdleTests {
    /// A time that a test moves on.
    private final class Hours: Sendable {
        private let ahead = Atomic<UInt64>(0)
        private let looks = Atomic<Int>(0)
        /// What the proxy measures by. It looks once a tick, and remembers what it saw.
        var now: UInt64 {
            looks.add(1, ordering: .sequentiallyConsistent)
            return SystemTime.monotonic &+ ahead.load(ordering: .sequentiallyConsistent)
        }
        func pass(_ hours: UInt64) { ahead.add(hours * 3_600_000_000_000, ordering: .sequentiallyConsistent) }
        /// Waits until the proxy has looked: the limits of what begins then do not count from hours that are over.
        func areSeen(on loop: EventLoop) async throws {
            let before = looks.load(ordering: .sequentiallyConsistent)
            while looks.load(ordering: .sequentiallyConsistent) == before {
                try await loop.clock.sleep(for: .milliseconds(1))
            }
        }
    }

    /// Days of silence end no connection that is in use, be it bytes or a WebSocket, nor what holds its instance. One that waits for
    /// its next request is ended by its limit: that shows that time has gone by.
    @Test func daysOfSilenceEndNothingThatIsInUse() async throws {
        let hours = Hours()
        try await withStage(time: { hours.now }) { stage in
            try await stage.expose("0:7:tcp", "0:80:ws", "0:81:http")
            let bytes = try await stage.client(7)
            try await bytes.send("first")
            #expect(try await bytes.bytes(5) == "first")
            let socket = try await stage.client(80)
            try await socket.send(
                "GET /chat HTTP/1.1¬Host: a¬Connection: Upgrade¬Upgrade: websocket¬Sec-WebSocket-Key: x¬¬")
            #expect(try await socket.head().hasPrefix("HTTP/1.1 101 "))
            for day in 1...3 {
                try await hours.areSeen(on: stage.loop)
                let control = try await stage.client(81)
                try await control.send("GET /\(day) HTTP/1.1¬Host: a¬¬")
                #expect(try await control.head().hasPrefix("HTTP/1.1 200 "))
                try await withThrowingTaskGroup(of: Bool.self) { group in
                    group.addTask { try await control.rest().hasPrefix("81 GET /\(day) ") }
                    group.addTask {
                        // Not once: the limit counts from when the answer is over.
                        while !Task.isCancelled {
                            hours.pass(24)
                            try? await stage.loop.clock.sleep(for: .milliseconds(10))
                        }
                        return true
                    }
                    let ended = try await group.next()
                    #expect(ended == true)
                    group.cancelAll()
                }
                for client in [bytes, socket] {
                    try await client.send("day \(day)")
                    #expect(try await client.bytes(5) == "day \(day)")
                }
                #expect(stage.source.change { $0.holds } >= 2)
            }
            for client in [bytes, socket] { client.stream.close() }
        }
    }
}
