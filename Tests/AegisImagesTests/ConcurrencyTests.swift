import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

@testable import AegisImages

struct ConcurrencyTests {
    /// A reference to an image behind the proxy.
    private static func reference(_ proxy: StallingProxy, _ name: String) throws -> ImageReference {
        try ImageReference(parsing: "127.0.0.1:\(try proxy.port)/\(name)")
    }

    @Test func oneSlowPullBlocksNobody() async throws {
        try await withBench { bench in
            let proxy = try StallingProxy(registry: nil, stallingAt: "", on: bench.loop)
            try bench.registry.push(try TestImage.small("quick"), "quick:1")
            try await withProxy(proxy) {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { _ = try await bench.store.ensure(try Self.reference(proxy, "slow:1")) }
                    await proxy.stalled(1)
                    #expect(text(try await bench.ensure("quick:1").layers[0], "file") == "quick")
                    let listed = try await bench.store.list()
                    #expect(listed.count == 1)
                    group.cancelAll()
                }
            }
        }
    }

    /// The pull's own hold ends when the last of its callers has the image, however long the pull's task lives on.
    @Test func anImageIsInUseByItsCallersAlone() async throws {
        let uses = LayerUses()
        let pulls = PullService(limit: 1, waiting: 10)
        let lease = ImageLease(uses)
        lease.hold([Digest(of: "layer".utf8)])
        let made = ResolvedImage(
            reference: "app:1", digest: "", manifestDigest: "", layers: [],
            config: ImageConfig(architecture: "amd64", operatingSystem: "linux"), size: 0, lease: lease)
        let (goesOn, signal) = AsyncStream.makeStream(of: Void.self)
        let work = Task {
            await pulls.run { _, _ in
                for await _ in goesOn { break }
                return made
            }
        }
        let job = PullJob(reference: try ImageReference(parsing: "app:1"))
        var got = try await withThrowingTaskGroup(of: ResolvedImage.self) { group in
            for _ in 0..<2 { group.addTask { try await pulls.request(job) { _ in } } }
            await pulls.waiters(2)
            signal.yield()
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(got.count == 2 && uses.withHeld { $0.count } == 1)
        got = []
        #expect(uses.withHeld { $0.isEmpty })
        work.cancel()
        await work.value
        withExtendedLifetime(made) {}
    }

    @Test func callersShareOnePullAndTheLastOneCancelsIt() async throws {
        try await withBench { bench in
            let proxy = try StallingProxy(registry: nil, stallingAt: "", on: bench.loop)
            try await withProxy(proxy) {
                let reference = try Self.reference(proxy, "slow:1")
                let (first, second) = (Canceller(), Canceller())
                let call: @Sendable (Canceller) async -> Void = { canceller in
                    await canceller.run { _ = try await bench.store.ensure(reference) }
                }
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { await call(first) }
                    await proxy.stalled(1)
                    group.addTask { await call(second) }
                    await bench.store.pulls.waiters(2)
                    #expect(proxy.connections == 1)
                    first.cancel()
                    await bench.store.pulls.waiters(1)
                    #expect((try? processes(of: proxy))?.isEmpty == false)
                    second.cancel()
                    await group.waitForAll()
                }
                await bench.store.pulls.jobs(0)
                #expect(try processes(of: proxy).isEmpty)
                #expect(try leftovers(bench.store) == [])
            }
        }
    }

    @Test func aNewPullAfterACancelledOneSucceeds() async throws {
        try await withBench { bench in
            let image = try TestImage.small(String(repeating: "data", count: 1000))
            try bench.registry.push(image, "app:1")
            let proxy = try StallingProxy(
                registry: bench.registry.port, stallingAt: image.blobs[0].digest.hex, on: bench.loop)
            try await withProxy(proxy) {
                let canceller = Canceller()
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        await canceller.run { _ = try await bench.store.ensure(try Self.reference(proxy, "app:1")) }
                    }
                    await proxy.stalled(1)
                    canceller.cancel()
                }
            }
            await bench.store.pulls.jobs(0)
            #expect(try leftovers(bench.store) == [] && bench.store.directory.layerDigests().isEmpty)
            #expect(try await bench.ensure("app:1").digest == image.id.description)
        }
    }

    @Test func aStalledDownloadEnds() async throws {
        var settings = testSettings()
        settings.limits.stallTime = .milliseconds(600)
        try await withBench(settings: settings) { bench in
            let image = try TestImage.small("x")
            try bench.registry.push(image, "app:1")
            let proxy = try StallingProxy(
                registry: bench.registry.port, stallingAt: image.blobs[0].digest.hex, on: bench.loop)
            try await withProxy(proxy) {
                let error = await failure { try await bench.store.ensure(try Self.reference(proxy, "app:1")) }
                #expect(error?.code == "registry-stalled")
            }
            #expect(try leftovers(bench.store) == [])
        }
    }

    @Test func aRegistryThatTakesConnectionsAndNeverAnswersEndsThePull() async throws {
        var settings = testSettings()
        settings.limits.stallTime = .milliseconds(600)
        try await withBench(settings: settings) { bench in
            let proxy = try StallingProxy(registry: nil, stallingAt: "", on: bench.loop)
            try await withProxy(proxy) {
                let error = await failure { try await bench.store.ensure(try Self.reference(proxy, "app:1")) }
                #expect(error?.code == "registry-stalled" && error?.kind == .timeout)
            }
            #expect(try processes(of: proxy).isEmpty && leftovers(bench.store) == [])
        }
    }

    @Test func aPullHasADeadline() async throws {
        var settings = testSettings()
        settings.limits.pullTime = .milliseconds(500)
        try await withBench(settings: settings) { bench in
            let proxy = try StallingProxy(registry: nil, stallingAt: "", on: bench.loop)
            try await withProxy(proxy) {
                let error = await failure { try await bench.store.ensure(try Self.reference(proxy, "app:1")) }
                #expect(error?.code == "pull-timeout")
            }
            #expect(try processes(of: proxy).isEmpty && leftovers(bench.store) == [])
        }
    }

    @Test func manyPullsAtOnceAllSucceed() async throws {
        try await withBench { bench in
            let shared = TestImage.Layer(tar: TarBuilder.make { $0.add("shared", .file, "s") })
            for i in 0..<8 {
                let own = TestImage.Layer(tar: TarBuilder.make { $0.add("own", .file, "\(i)") }, compression: .zstd)
                try bench.registry.push(try TestImage([shared, own]), "app\(i):1")
            }
            try await withThrowingTaskGroup(of: (Int, String?).self) { group in
                for i in 0..<8 {
                    for _ in 0..<3 {
                        group.addTask { (i, text(try await bench.ensure("app\(i):1").layers[1], "own")) }
                    }
                }
                for try await (i, content) in group { #expect(content == "\(i)") }
            }
            #expect(try bench.store.directory.layerDigests().count == 9)
        }
    }

    @Test func aKilledPullLeavesNothingAfterTheNextStart() async throws {
        try await onLoop { loop in
            let directory = try TemporaryDirectory()
            defer { withExtendedLifetime(directory) {} }
            let registry = try await Registry(on: loop)
            let first = TestImage.Layer(
                tar: TarBuilder.make { $0.add("first", .file, String(repeating: "1", count: 100_000)) })
            let second = TestImage.Layer(tar: TarBuilder.make { $0.add("second", .file, "2") })
            let image = try TestImage([first, second])
            try registry.push(image, "app:1")
            let proxy = try StallingProxy(registry: registry.port, stallingAt: image.blobs[1].digest.hex, on: loop)
            try await withProxy(proxy) {
                let program = try helperProgram().executable
                let spec = ProcessSpec(
                    executable: program,
                    arguments: [program, "test-pull", directory.path("images"), "127.0.0.1:\(try proxy.port)/app:1"])
                let child = try await ChildProcess.spawnInBackground(spec, on: loop)
                await proxy.stalled(1)
                #expect(try Files.list(directory.path("images/tmp")).count == 2)
                // While it lives, another start leaves its work alone.
                _ = try StoreDirectory(path: directory.path("images"))
                #expect(try Files.list(directory.path("images/tmp")).count == 2)
                #expect(try !processes(of: proxy).isEmpty)
                child.signal(9)
                _ = try await child.wait()
                // The fetching program goes with the process that started it.
                try await withDeadline(.seconds(180)) {
                    while try !processes(of: proxy).isEmpty {
                        try Task.checkCancellation()
                        await Task.yield()
                    }
                }
            }
            try await withStore(directory.path("images"), on: loop) { store in
                let (left, layers) = (try leftovers(store), try store.directory.layerDigests())
                #expect(left == [] && layers == [])
                let listed = try await store.list()
                let again = try await store.ensure(try registry.reference("app:1"))
                #expect(listed.isEmpty && again.layers.count == 2)
            }
            await registry.stop()
        }
    }
}

/// The processes of this machine that talk to this proxy.
private func processes(of proxy: StallingProxy) throws -> [Int32] {
    let name = Array("127.0.0.1:\(try proxy.port)/".utf8)
    return try Files.list("/proc").compactMap { Int32($0.name) }.filter { pid in
        ((try? Files.read("/proc/\(pid)/cmdline", limit: 1 << 16)) ?? []).firstRange(of: name) != nil
    }
}

/// Runs something that can be cancelled from outside.
final class Canceller: Sendable {
    private let gate = AsyncStream<Void>.makeStream()

    func cancel() { gate.continuation.finish() }

    func run(_ body: @escaping @Sendable () async throws -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { try? await body() }
            group.addTask { [stream = gate.stream] in for await _ in stream {} }
            await group.next()
            group.cancelAll()
        }
    }
}

extension PullService {
    /// Waits until so many callers wait.
    func waiters(_ count: Int) async {
        while counts.waiters != count { await Task.yield() }
    }
    /// Waits until so many pulls are known.
    func jobs(_ count: Int) async {
        while counts.jobs != count { await Task.yield() }
    }
}
