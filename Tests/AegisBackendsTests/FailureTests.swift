import AegisChannel
import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisBackends

/// Boots that fail: a clear error, and nothing left.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct BootFailureTests {
    private static func expectFailure(
        _ world: World, _ code: String, _ change: (inout BootSpec) throws -> Void
    ) async throws -> AegisError? {
        var spec = try world.spec()
        try change(&spec)
        let failing = spec
        let error = await #expect(throws: AegisError.self) { _ = try await world.boot(failing) }
        #expect(error?.code == code, "\(String(describing: error))")
        #expect(world.cgroups.existing().isEmpty)
        #expect(world.leftovers.allSatisfy { $0.contains("/cgroup/") }, "\(world.leftovers)")
        return error
    }

    @Test(arguments: Runtime.allCases)
    func missingPiecesAreNamed(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let layer = try await Self.expectFailure(world, "boot-failed") { $0.layers = ["/nonexistent/layer"] }
            #expect(layer?.message.contains("/nonexistent/layer") == true)
            _ = try await Self.expectFailure(world, "boot-failed") { $0.layers = [] }
            _ = try await Self.expectFailure(world, "invalid-argument") { $0.id = "../escape" }
            _ = try await Self.expectFailure(world, "invalid-argument") { $0.limits.memory = ByteSize(1) }
            _ = try await Self.expectFailure(world, "invalid-argument") {
                $0.mounts[0].ownership = .host(uid: 0, gid: 0, insideUID: 70_000, insideGID: 0, others: true)
            }
        }
    }

    @Test(arguments: Runtime.allCases)
    func aRecordThatCannotBeSavedStopsTheBoot(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let spec = try world.spec()
            let failure = AegisError.failed("database", "no room")
            let error = await #expect(throws: AegisError.self) {
                _ = try await world.backend.boot(spec) { _ in throw failure }
            }
            #expect(error?.code == "database")
            #expect(world.leftovers.allSatisfy { $0.contains("/cgroup/") }, "\(world.leftovers)")
        }
    }

    @Test(arguments: Runtime.allCases)
    func aSandboxThatTakesTooLongIsEnded(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            _ = try await Self.expectFailure(world, "boot-timeout") { $0.deadline = .milliseconds(5) }
        }
    }

    @Test(arguments: Runtime.allCases)
    func aCancelledBootLeavesNothing(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            for _ in 0..<5 {
                let spec = try world.spec()
                let boot = Task {
                    try await world.backend.boot(spec) { _ in unsafe withUnsafeCurrentTask { unsafe $0?.cancel() } }
                }
                await #expect(throws: CancellationError.self) { _ = try await boot.value }
                #expect(world.leftovers.allSatisfy { $0.contains("/cgroup/") }, "\(world.leftovers)")
                #expect(world.cgroups.existing().isEmpty)
            }
        }
    }

    @Test func aMissingRuntimeNamesItsPackage() async throws {
        try await onLoop { loop in
            let nothing = OCIRuntime(name: "youki", kind: .namespaces, program: "youki-is-not-here", package: "youki")
            let world = try World(nothing, loop: loop)
            let error = await #expect(throws: AegisError.self) { _ = try await world.boot() }
            #expect(error?.code == "runtime-missing")
            #expect(error?.hint == "apt install youki")
            let report = await world.backend.probe(deadline: .seconds(120))
            #expect(!report.available)
            #expect(report.reason == "youki is not installed")
            #expect(report.hint == "apt install youki")
            await world.close()
        }
    }

    @Test func theSameSandboxCannotRunTwice() async throws {
        try await inWorld(.runc) { world in
            let sandbox = try await world.boot()
            let spec = try world.spec(sandbox.record.id)
            let error = await #expect(throws: AegisError.self) { _ = try await world.boot(spec) }
            #expect(error?.code == "sandbox-exists")
            #expect(try await Conversation(sandbox).run("echo here").stdout == "here\n")
        }
    }
}

/// What backends prove about themselves.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct ProbeTests {
    @Test(arguments: Runtime.allCases)
    func aProbeRunsACanaryAndSaysWhatItStandsOn(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let report = await world.backend.probe(deadline: .seconds(120))
            #expect(report.available, "\(report)")
            #expect(report.grade == (runtime == .runc ? .namespaces : .userKernel))
            #expect(report.latencyMs ?? 0 > 1)
            #expect(report.detail?.runtime == runtime.rawValue)
            #expect(report.detail?.userNamespace == true)
            #expect(report.detail?.version.isEmpty == false)
            #expect(report.detail?.cgroup == world.cgroups.layout.description)
            #expect((report.detail?.platform != nil) == (runtime == .runsc))
            #expect(world.leftovers.allSatisfy { $0.contains("/cgroup/") }, "\(world.leftovers)")
        }
    }

    @Test func aCanaryThatHangsIsKilledAtTheDeadline() async throws {
        try await onLoop { loop in
            let directory = try TemporaryDirectory()
            let program = directory.path("sleepy")
            let script = "#!/bin/sh\n[ \"$1\" = --version ] && echo 'sleepy version 1.0' && exit\nexec sleep 600\n"
            try await writeProgram(program, script, on: loop)
            let world = try World(
                OCIRuntime(name: "sleepy", kind: .namespaces, program: program, package: "none"), loop: loop)
            let began = loop.clock.now
            let report = await world.backend.probe(deadline: .milliseconds(300))
            #expect(!report.available)
            // The program itself would take ten minutes; a busy machine takes seconds for anything.
            #expect(began.duration(to: loop.clock.now) < .seconds(60))
            #expect(report.reason?.contains("in time") == true, "\(report)")
            await world.close()
            _ = consume directory
        }
    }

    /// As crun does that is killed between a mount and its end.
    @Test func whatARuntimeMountsToSayItsVersionGoesWithIt() async throws {
        try await onLoop { loop in
            let directory = try TemporaryDirectory()
            let program = directory.path("messy")
            try Files.writeAtomically(directory.path("over"), [])
            let script = "#!/bin/sh\nmount --bind \"$0\" '\(directory.path("over"))' && echo 'messy version 1.0'\n"
            try await writeProgram(program, script, on: loop)
            let world = try World(
                OCIRuntime(name: "messy", kind: .namespaces, program: program, package: "none"), loop: loop)
            #expect(try await world.backend.facts().version == "1.0")
            let mounts = String(decoding: try Files.read("/proc/self/mountinfo", limit: 4 << 20), as: UTF8.self)
            #expect(!mounts.contains(directory.path("over")), "\(mounts)")
            await world.close()
            _ = consume directory
        }
    }

    @Test func reportsAreKeptUntilSomethingChanges() throws {
        let directory = try TemporaryDirectory()
        var report = BackendReport(backend: "runc", available: true, checkedAt: .now())
        report.grade = .namespaces
        ProbeCache(path: directory.path("probes")).keep(report, quirks: 3, key: "a")
        let later = ProbeCache(path: directory.path("probes"))
        #expect(later.report("runc", key: "a")?.report.grade == .namespaces)
        #expect(later.report("runc", key: "a")?.quirks == 3)
        #expect(later.report("runc", key: "b") == nil)
        #expect(later.report("runsc", key: "a") == nil)
        try Files.writeAtomically(directory.path("probes"), Array("{broken".utf8))
        #expect(ProbeCache(path: directory.path("probes")).report("runc", key: "a") == nil)
    }
}
