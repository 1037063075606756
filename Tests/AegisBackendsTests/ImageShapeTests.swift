import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisBackends

/// Root file systems at and beyond what a backend takes.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct ImageShapeTests {
    @Test(arguments: Runtime.allCases)
    func asManyLayersAsAnImageMayHaveAreMounted(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            var spec = try world.spec()
            for index in 1..<SandboxBounds.layers {
                try Files.makeDirectories(world.home.path("layer-\(index)"), mode: 0o755)
                try Files.writeAtomically(world.home.path("layer-\(index)/f\(index)"), [], mode: 0o644)
                spec.layers.insert(world.home.path("layer-\(index)"), at: 0)
            }
            let sandbox = try await world.boot(spec)
            let seen = try await Conversation(sandbox).run("set -- /f*; echo $#")
            #expect(seen.stdout == "\(SandboxBounds.layers - 1)\n", "\(seen)")
            var more = try world.spec()
            more.layers = spec.layers + [world.home.path("image")]
            let (one, refused) = (SandboxBounds.layers + 1, more)
            let error = await #expect(throws: AegisError.self) { _ = try await world.boot(refused) }
            #expect(error?.message.contains("\(one) layers") == true && error?.hint != nil)
        }
    }

    /// runc opens both files before anything runs, whatever the user is, and would wait on a pipe until the deadline.
    @Test(arguments: ["passwd", "group"])
    func aNamedPipeInPlaceOfTheAccountsIsRefusedAtOnce(_ name: String) async throws {
        try await inWorld(.runc) { world in
            try Files.makeDirectories(world.home.path("top/etc"), mode: 0o755)
            try Files.makeDirectories(world.home.path("top/pipes"), mode: 0o755)
            var pipe = ProcessSpec(
                executable: "/usr/bin/mkfifo", arguments: ["mkfifo", world.home.path("top/pipes/p")])
            pipe.stderr = .inherit
            let made = try await ChildProcess.spawn(pipe, on: world.loop).wait()
            #expect(made.isSuccess)
            // The link leads there from the sandbox's root, not from the host's.
            try Files.makeLink(world.home.path("top/etc/\(name)"), to: "/pipes/p")
            var spec = try world.spec()
            spec.layers.insert(world.home.path("top"), at: 0)
            let piped = spec
            let began = world.loop.clock.now
            let error = await #expect(throws: AegisError.self) { _ = try await world.boot(piped) }
            #expect(error?.code == "image-unusable" && error?.message.contains("/etc/\(name)") == true, "\(error)")
            #expect(began.duration(to: world.loop.clock.now) < .seconds(60))
        }
    }
}
