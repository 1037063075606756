import AegisIO
import Foundation
import Synchronization
import Testing

/// Clients that connect and go.
extension DaemonFixture {
    /// Clients come and go while an instance is paused, by force and for idleness, and is woken; nothing of them may stay.
    ///
    /// - Returns: how often it was paused by force meanwhile.
    @discardableResult
    func drop(_ count: Int, _ backend: String) async throws -> Int {
        func descriptors() throws -> Int {
            try FileManager.default.contentsOfDirectory(atPath: "/proc/\(try #require(daemonPid))/fd").count
        }
        let guest = try await guest(
            "drops", backend, ["80:http", "7:tcp", "50:grpc"], "--idle-pause", "100ms", "--idle-stop", "0s")
        try guest.go()
        #expect(try await get(try await url("drops")) == "hello\n")
        let before = try descriptors()
        let ports = try await served("drops").expose.map { UInt16($0.number) }
        let isOver = Mutex(false)
        let (workers, loop) = (20, loop)
        async let pauses = pause("drops") { isOver.withLock { $0 } }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<workers {
                group.addTask {
                    for turn in 0..<(count / workers) {
                        try await Self.drop(ports[turn % 3], worker * count / workers + turn, loop)
                    }
                }
            }
            try await group.waitForAll()
        }
        isOver.withLock { $0 = true }
        let paused = try await pauses
        #expect(try await get(try await url("drops")) == "hello\n")
        try await eventually("nothing is open") { try await served("drops").connections == 0 }
        try await eventually("it sleeps") { try await record("drops").state == "paused" }
        // Some files are opened once and kept.
        try await eventually("descriptors are closed") { try descriptors() <= before + 16 }
        #expect(try await get(try await url("drops")) == "hello\n")
        #expect(try await hasRun("drops", 1))
        try await guest.delete()
        return paused
    }

    /// Pauses an instance by force again and again, at least once.
    private func pause(_ name: String, until isOver: @Sendable () -> Bool) async throws -> Int {
        let words = [
            "-sS", "--max-time", "60", "--unix-socket", "\(home)/aegisd.sock", "-X", "POST", "-o", "/dev/null", "-w",
            "%{http_code}", "http://aegis/v1/instances/\(name)/pause?force=true",
        ]
        var count = 0
        repeat { count += try await run("/usr/bin/curl", words).out == "200" ? 1 : 0 } while !isOver()
        return count
    }

    private static func drop(_ port: UInt16, _ number: Int, _ loop: EventLoop) async throws {
        let client = try await Connect.tcp(host: "127.0.0.1", port: port, on: loop)
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        let words = ["", "GET / HT", get, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST / HTTP/1.1\r\nContent-Le"]
        try? await client.write(words[number / 3 % words.count])
        if number % 7 == 0 { await Task.yield() }
        if number % 2 == 0 { client.reset() } else { client.close() }
    }
}
