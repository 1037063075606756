import AegisChannel
import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisBackends

/// How sandboxes end, are found again, stand still and go on.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct SandboxLifeTests {
    private static func busy(_ talk: Conversation) async throws {
        let number = try await talk.start("echo go; while :; do :; done")
        try await talk.await("go", from: number)
    }

    @Test(arguments: Runtime.allCases)
    func aPausedSandboxUsesNoProcessorAndGoesOn(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            let talk = try await Conversation(sandbox)
            try await Self.busy(talk)
            try await sandbox.pause()
            try await sandbox.pause()
            let before = try await sandbox.usage().cpuMicroseconds
            // Nothing tells that nothing happens: this is the one place where time must pass.
            try await world.loop.clock.sleep(for: .milliseconds(200))
            #expect(try await sandbox.usage().cpuMicroseconds == before)
            try await sandbox.resume()
            try await sandbox.resume()
            #expect(try await talk.run("echo on").stdout == "on\n")
            #expect(try await sandbox.usage().cpuMicroseconds > before)
        }
    }

    @Test(arguments: Runtime.allCases)
    func aFrozenSandboxDiesWhenKilled(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            let talk = try await Conversation(sandbox)
            try await Self.busy(talk)
            try await sandbox.pause()
            await sandbox.kill()
            await sandbox.kill()
            talk.stream.close()
            let end = await sandbox.termination()
            #expect(end.requested)
            #expect(end.code == 137)
            #expect(!end.oomKilled)
        }
    }

    @Test(arguments: Runtime.allCases)
    func aSandboxIsFoundAgainByAnotherDaemon(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            let record = sandbox.record
            let talk = try await Conversation(sandbox)
            let number = try await talk.start(
                "echo one; python3 -c 'import socket; s = socket.create_server((\"127.0.0.1\", 7070)); print(\"two\", flush=True); s.accept()[0].sendall(b\"hello\")'"
            )
            try await talk.await("two", from: number)
            talk.stream.close()

            // A second daemon with the same home; the first one's lock on the id range goes with it, as at its death.
            let later = try World(runtime.value, loop: world.loop, node: world.node, home: world.home)
            sandbox.lease.release()
            let found = try #require(try await later.backend.adopt(record))
            #expect(found.bootSteps.isEmpty)
            let resumed = try await Conversation(found)
            #expect(resumed.state.phase == .running)
            #expect(resumed.state.processes.map(\.number) == [number])
            let stream = try await found.dial(7070, deadline: .seconds(60))
            #expect(try await stream.readAll(limit: 100) == Array("hello".utf8))
            // Nothing was acknowledged: all of the output comes again, and then the end.
            let result = try await resumed.finish(number)
            #expect(result == CommandResult(stdout: "one\ntwo\n", stderr: "", code: 0))
            await found.kill()
            resumed.stream.close()
            #expect(await found.termination().requested)
            await found.release()
            #expect(later.leftovers.allSatisfy { $0.contains("cgroup") || $0.hasPrefix("/sys") }, "\(later.leftovers)")
        }
    }

    @Test(arguments: Runtime.allCases)
    func aSandboxKilledFromOutsideSaysSo(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            let talk = try await Conversation(sandbox)
            let process = try ProcessHandle(pid: Int32(talk.state.sandboxPid))
            talk.stream.close()
            async let end = sandbox.termination()
            try process.signal(9)
            let termination = await end
            #expect(termination == Termination(code: 137, oomKilled: false, requested: false))
            await sandbox.release()
            #expect(!sandbox.group.exists)
        }
    }

    @Test(arguments: Runtime.allCases)
    func aKeeperKilledFromOutsideMeansLost(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            let talk = try await Conversation(sandbox)
            let first = try ProcessHandle(pid: Int32(talk.state.sandboxPid))
            async let end = sandbox.termination()
            try ProcessHandle(pid: sandbox.record.keeperPid).signal(9)
            var buffer = ByteBuffer()
            // The reader of the channel sees the end, and the end is said.
            while (try? await talk.stream.read(into: &buffer)) ?? 0 > 0 {}
            let termination = await end
            #expect(termination.code == nil)
            #expect(termination.reason == "lost")
            let isDead = first.descriptor.isReady(forWriting: false)
            #expect(isDead, "the sandbox lives on without its keeper")
            await sandbox.release()
            #expect(!Files.exists(sandbox.record.runDirectory))
            #expect(try await world.backend.adopt(sandbox.record) == nil)
        }
    }

    @Test(arguments: Runtime.allCases)
    func whatCannotBeAdoptedIsRemoved(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            sandbox.lease.release()
            var foreign = sandbox.record
            foreign.runDirectory = "/run/aegis/00000000/\(foreign.id)"
            await world.backend.discard(foreign)
            #expect(sandbox.keeper.isAlive, "a record of another node must not reach this one's sandbox")
            await world.backend.discard(sandbox.record)
            await world.backend.discard(sandbox.record)
            #expect(!Files.exists(sandbox.record.runDirectory))
            let other = try await world.boot()
            await world.backend.sweep(keeping: [other.record.id])
            #expect(try await Conversation(other).run("echo here").stdout == "here\n")
        }
    }

    @Test(arguments: Runtime.allCases)
    func portsAreReachedOnLoopbackOfBothFamilies(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            let talk = try await Conversation(sandbox)
            for (host, family, port) in [("127.0.0.1", "AF_INET", 8101), ("::1", "AF_INET6", 8102)]
                as [(String, String, UInt16)]
            {
                let number = try await talk.start(
                    "python3 -c 'import socket; s = socket.create_server((\"\(host)\", \(port)), family=socket.\(family)); print(\"up\", flush=True); c = s.accept()[0]; c.sendall(c.recv(9).upper())'"
                )
                try await talk.await("up", from: number)
                let stream = try await sandbox.dial(port, deadline: .seconds(60))
                try await stream.write("ping")
                #expect(try await stream.readAll(limit: 100) == Array("PING".utf8))
            }
            let failure = await #expect(throws: AegisError.self) {
                _ = try await sandbox.dial(9, deadline: .seconds(1))
            }
            #expect(failure?.code == "port-closed")
        }
    }
}
