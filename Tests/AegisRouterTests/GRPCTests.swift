import AegisCore
import AegisIO
import AegisRouter
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

/// gRPC through the router, with a client and a server that others wrote.
@Suite struct GRPCTests {
    @Test(arguments: ["calls metadata", "big", "many", "cancel", "slow"])
    func callsGoThrough(_ what: String) async throws {
        try await withPeer { stage, _ in
            try await stage.expose("0:50:grpc")
            let said = try await check(stage, what)
            #expect(said == "ok\n")
            await stage.source.until { $0.holds == 0 }
        }
    }

    @Test func callsWaitForTheServer() async throws {
        try await withPeer { stage, _ in
            try await stage.expose("0:50:grpc,wake=http")
            stage.source.change { $0.wakeResult = nil }
            async let said = check(stage, "many metadata")
            await stage.source.until { !$0.wakers.isEmpty }
            stage.source.finishWaking(.success(()))
            #expect(try await said == "ok\n")
            // One for all calls of a client.
            #expect(stage.source.change { $0.heldEver } <= 2)
        }
    }

    @Test func aFailedWakeIsTheStatusOfTheCall() async throws {
        try await withPeer { stage, _ in
            try await stage.expose("0:50:grpc")
            stage.source.change { $0.wakeResult = .failure(AegisError(.failed, "boot-failed", "the image is göne")) }
            let said = try await check(stage, "status")
            #expect(said == "UNAVAILABLE the image is göne (boot-failed)\nok\n")
        }
    }

    @Test func aCallWithoutATimeOfItsOwnWaitsAsLongAsThePort() async throws {
        try await withPeer { stage, _ in
            stage.source.change { ($0.running, $0.closed) = (true, true) }
            try await stage.expose("0:50:grpc", wakeLimit: .milliseconds(300))
            let said = try await check(stage, "status")
            #expect(said.hasPrefix("UNAVAILABLE ") && said.contains("(port-not-ready"), "\(said)")
            // One that has a time of its own outlasts the port's: the instance is asked for anew.
            let before = stage.source.change { $0.heldEver }
            async let late = check(stage, "patient")
            await stage.source.until { $0.heldEver >= before + 2 }
            stage.source.change { $0.closed = false }
            #expect(try await late == "ok\n")
        }
    }

    @Test func aCallWithATimeOfItsOwnOutlastsAWakeThatTakesTooLong() async throws {
        try await withPeer { stage, _ in
            stage.source.change { $0.wakeResult = nil }
            try await stage.expose("0:50:grpc,wake=http")
            let slow = AegisError(.timeout, "wake-timeout", "it was not awake within 30 seconds")
            async let late = check(stage, "patient")
            await stage.source.until { !$0.wakers.isEmpty }
            // Its next waker is kept waiting, too.
            stage.source.change { state in
                let wakers = state.wakers
                state.wakers = []
                for waker in wakers { waker.resume(returning: .failure(slow)) }
            }
            await stage.source.until { !$0.wakers.isEmpty }
            stage.source.finishWaking(.success(()))
            #expect(try await late == "ok\n")
            // One without is told at once.
            stage.source.change { ($0.running, $0.asleep, $0.wakeResult) = (false, true, .failure(slow)) }
            let said = try await check(stage, "status")
            #expect(said.hasPrefix("UNAVAILABLE ") && said.contains("(wake-timeout"), "\(said)")
        }
    }

    @Test func aServerThatDiesEndsItsCallsWithTheCause() async throws {
        try await withPeer { stage, _ in
            try await stage.expose("0:50:grpc")
            let said = try await check(stage, "death")
            #expect(said.hasPrefix("UNAVAILABLE ") && said.contains("(backend-lost)"), "\(said)")
        }
    }

    @Test func aServerOfAnotherProtocolIsSaidToBeOne() async throws {
        try await withStage(headTime: .seconds(2)) { stage in
            try await stage.expose("0:80:grpc", "0:7:grpc")
            // One waits for more, the other sends back what it gets.
            for guest in [UInt16(80), 7] {
                let said = try await check(stage, "status", guest: guest)
                #expect(said.hasPrefix("UNAVAILABLE ") && said.contains("(backend-malformed)"), "\(said)")
            }
        }
    }

    // MARK: Peers

    private static let python: String = {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
        return (CurrentProcess.environment("AEGIS_TEST_PEERS") ?? "\(root)/.build/peers") + "/bin/python"
    }()
    private static let script: String = {
        #filePath.split(separator: "/").dropLast().map { "/\($0)" }.joined() + "/Peers/grpc_peer.py"
    }()

    private func spec(_ arguments: [String]) throws -> ProcessSpec {
        guard (try? Files.status(Self.python, followLinks: true)) != nil else {
            throw AegisError(.notFound, "no-peers", "there is no \(Self.python)", hint: "run scripts/setup")
        }
        return ProcessSpec(
            executable: Self.python, arguments: [Self.python, Self.script] + arguments,
            environment: ["GRPC_VERBOSITY=NONE", "PATH=/usr/bin:/bin"])
    }

    /// Runs checks of the client; fails with what it says when one fails.
    private func check(_ stage: Stage, _ what: String, guest: UInt16 = 50) async throws -> String {
        let words = ["check", "\(stage.publicPort(guest))"] + what.split(separator: " ").map(String.init)
        let result = try await runProcess(
            try spec(words), input: [], outputLimit: 1 << 16, deadline: .seconds(60), on: stage.loop)
        #expect(result.status == .exited(0), "\(String(decoding: result.stderr, as: UTF8.self))")
        return String(decoding: result.stdout, as: UTF8.self)
    }

    /// Runs a router before a server whose guest port is 50.
    private func withPeer(_ test: @escaping @Sendable (Stage, ChildProcess) async throws -> Void) async throws {
        var server = try spec(["serve"])
        server.stdin = .pipe
        server.stdout = .pipe
        let made = server
        try await onLoop { loop in
            let process = try ChildProcess.spawn(made, on: loop)
            var line = ByteBuffer()
            while line.firstOffset(of: 10) == nil {
                guard let output = process.stdout, try await output.read(into: &line) > 0 else { break }
            }
            let text = String(decoding: line.readable.dropLast(), as: UTF8.self)
            let port = try #require(UInt16(text))
            try await runStage(on: loop, deadline: .seconds(100), extra: [50: port]) { try await test($0, process) }
            process.stdin?.close()
            _ = try await process.wait()
        }
    }
}
