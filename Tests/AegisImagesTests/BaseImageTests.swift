import AegisCore
import AegisIO
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

@testable import AegisImages

/// The build of `base` as far as its downloads; whole ones are the acceptance tests'.
struct BaseImageTests {
    @Test func callersShareOneBuildWhichTheLastOfThemCancels() async throws {
        try await onLoop { loop in
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            try await withStore(folder.path("images"), on: loop) { store in
                let never = await failure { try await store.ensure(.base, policy: .never) }
                #expect(never?.code == "image-not-here")
                let (first, second) = (Canceller(), Canceller())
                let (steps, feed) = AsyncStream<Void>.makeStream()
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        await first.run {
                            let progress: @Sendable (ImageProgress) -> Void = { step in
                                if "\(step)".contains("downloading packages") { feed.finish() }
                            }
                            _ = try await store.ensure(.base, progress: progress)
                        }
                    }
                    group.addTask { await second.run { _ = try await store.buildBase() } }
                    for await _ in steps {}
                    await store.pulls.waiters(2)
                    #expect(store.pulls.counts.jobs == 1)
                    #expect(builds(in: folder) == 1)
                    first.cancel()
                    await store.pulls.waiters(1)
                    #expect(builds(in: folder) == 1)
                    second.cancel()
                    await group.waitForAll()
                }
                await store.pulls.jobs(0)
                #expect(processes(in: folder) == [])
                let (left, layers) = (try leftovers(store), try store.directory.layerDigests())
                #expect(left == [] && layers == [])
            }
        }
    }

    /// How many builds run: each has one `unshare` of its own.
    private func builds(in folder: TemporaryDirectory) -> Int {
        processes(in: folder).count { $0.starts(with: Array("unshare".utf8)) }
    }

    /// The command lines of processes that work in a folder.
    private func processes(in folder: TemporaryDirectory) -> [[UInt8]] {
        ((try? Files.list("/proc")) ?? []).filter { Int32($0.name) != nil }.compactMap { entry in
            let line = (try? Files.read("/proc/\(entry.name)/cmdline", limit: 1 << 16)) ?? []
            return line.firstRange(of: Array(folder.path.utf8)) != nil ? line : nil
        }
    }
}
