import AegisCore
import AegisIO
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

@testable import AegisImages

/// Builds from the host's package mirror, which takes a quarter of a minute: only when asked for by this variable.
@Suite(.serialized, .enabled(if: CurrentProcess.environment("AEGIS_TEST_BASE_IMAGE") != nil))
struct BaseImageSerialTests {
    @Test func callersShareOneBuildAndGetPython() async throws {
        try await onLoop { loop in
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            try await withStore(folder.path("images"), on: loop) { store in
                let never = await failure { try await store.ensure(.base, policy: .never) }
                #expect(never?.code == "image-not-here")
                let builds = Mutex(0)
                let count: @Sendable (ImageProgress) -> Void = { step in
                    if "\(step)".contains("running apt-get update") { builds.withLock { $0 += 1 } }
                }
                async let first = store.ensure(.base, progress: count)
                async let second = store.ensure(.base)
                let (image, other) = try await (first, second)
                #expect(builds.withLock { $0 } == 1)
                #expect(image.digest == other.digest && image.layers.count == 1)
                #expect(image.config.command.isEmpty && image.config.environment.count == 1)
                let layer = image.layers[0]
                #expect((try? Files.readLink("\(layer.path)/usr/bin/python")) == "python3")
                #expect(look(layer, "etc/ssl/certs/ca-certificates.crt")?.kind == .regular)
                #expect(look(layer, "usr/bin/cat")?.kind == .regular)
                #expect(look(layer, "tmp")?.mode == 0o1777)
                #expect(look(layer, "dev")?.kind == .directory && look(layer, "dev/null") == nil)
                #expect(look(layer, "etc/machine-id") == nil && look(layer, "etc/resolv.conf") == nil)
                // At once, and without asking anybody.
                let again = try await store.ensure(.base, policy: .always)
                #expect(again.digest == image.digest)
                let left = try leftovers(store)
                #expect(left == [])
            }
        }
    }

    @Test func aCancelledBuildLeavesNothing() async throws {
        try await onLoop { loop in
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            try await withStore(folder.path("images"), on: loop) { store in
                let (steps, feed) = AsyncStream<Void>.makeStream()
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        _ = try? await store.buildBase { step in
                            if "\(step)".contains("downloading packages") { feed.finish() }
                        }
                    }
                    for await _ in steps {}
                    group.cancelAll()
                }
                await store.pulls.jobs(0)
                let running = try Files.list("/proc").compactMap { Int32($0.name) }.filter { pid in
                    let line = (try? Files.read("/proc/\(pid)/cmdline", limit: 1 << 16)) ?? []
                    return line.firstRange(of: Array(folder.path.utf8)) != nil
                }
                #expect(running == [])
                let (left, layers) = (try leftovers(store), try store.directory.layerDigests())
                #expect(left == [] && layers == [])
            }
        }
    }
}
