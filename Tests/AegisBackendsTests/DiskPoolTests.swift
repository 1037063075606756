import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisBackends

struct DiskPoolTests {
    @Test func aNearlyFullDiskRefusesNewAndKnownLayersAndKeepsTheseAsTheyAre() async throws {
        try await onLoop { loop in
            let directory = try TemporaryDirectory()
            func pool(_ share: Double) -> DiskPool {
                DiskPool(
                    file: directory.path("pool"), mountPoint: directory.path("mnt"),
                    reserve: DiskReserve(share: share, most: .max), loop: loop)
            }
            let path = try await pool(0).layer(for: "i-1", folder: directory.path("a"), limit: nil)
            #expect(path == directory.path("a"))
            #expect(try Files.status(path + "/upper").permissions == 0o755)
            let full = pool(1.0)
            for (id, name) in [("i-1", "a"), ("i-2", "b")] {
                let error = await #expect(throws: AegisError.self) {
                    _ = try await full.layer(for: id, folder: directory.path(name), limit: nil)
                }
                #expect(error?.code == "disk-reserve")
            }
            #expect(!Files.exists(directory.path("b")))
            // What has been written can be had.
            #expect(try await full.workspace(for: "i-1", folder: path, limit: nil) == path + "/workspace")
            let late = await #expect(throws: AegisError.self) {
                _ = try await pool(0).layer(for: "i-1", folder: directory.path("a"), limit: ByteSize(1 << 20))
            }
            #expect(late?.code == "disk-limit")
            await pool(0).close()
        }
    }

    @Test func theReserveIsAShareWithABound() {
        #expect(DiskReserve().bytes(of: 10 << 30) == UInt64(Double(10 << 30) * 0.05))
        #expect(DiskReserve().bytes(of: 1 << 40) == 2 << 30)
    }

    /// The file system is refused to a second device of its file.
    @Test func aPoolThatANamespaceStillHasIsMountedThroughItsDevice() async throws {
        try await onLoop { loop in
            let directory = try TemporaryDirectory()
            func pool() -> DiskPool {
                DiskPool(file: directory.path("pool"), mountPoint: directory.path("mnt"), loop: loop)
            }
            let first = pool()
            _ = try await first.layer(for: "i-1", folder: directory.path("a"), limit: ByteSize(8 << 20))
            let holder = try ChildProcess.spawn(
                ProcessSpec(
                    executable: "/usr/bin/unshare",
                    arguments: [
                        "unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", "echo ready; exec cat",
                    ],
                    stdin: .pipe, stdout: .pipe), on: loop)
            var said = ByteBuffer()
            _ = try await holder.stdout?.read(into: &said, atMost: 16)
            await first.close()
            #expect(!Files.exists(directory.path("mnt")))
            let second = pool()
            _ = try await second.layer(for: "i-2", folder: directory.path("b"), limit: ByteSize(8 << 20))
            #expect(second.layers() == ["i-1", "i-2"])
            holder.stdin?.close()
            #expect(try await holder.wait() == .exited(0))
            await second.close()
        }
    }

    /// As a daemon leaves it that is killed right after it has mounted one.
    @Test func aPoolThatIsMountedWithoutQuotasGetsThem() async throws {
        try await onLoop { loop in
            let directory = try TemporaryDirectory()
            func pool() -> DiskPool {
                DiskPool(file: directory.path("pool"), mountPoint: directory.path("mnt"), loop: loop)
            }
            _ = try await pool().layer(for: "i-1", folder: directory.path("a"), limit: ByteSize(8 << 20))
            let disabling = try ChildProcess.spawn(
                ProcessSpec(
                    executable: "/usr/bin/btrfs", arguments: ["btrfs", "quota", "disable", directory.path("mnt")]),
                on: loop)
            #expect(try await disabling.wait() == .exited(0))
            let next = pool()
            let path = try await next.layer(for: "i-2", folder: directory.path("b"), limit: ByteSize(8 << 20))
            // 122 is EDQUOT.
            #expect(throws: Errno(122)) {
                try Files.writeAtomically(path + "/x", [UInt8](repeating: 1, count: 16 << 20))
            }
            await next.close()
        }
    }

    @Test func aPoolIsFoundAgainAndLeavesNoLoopDevice() async throws {
        try await onLoop { loop in
            let directory = try TemporaryDirectory()
            func pool() -> DiskPool {
                DiskPool(file: directory.path("pool"), mountPoint: directory.path("mnt"), loop: loop)
            }
            let first = pool()
            // Two at once share one mount.
            async let a = first.layer(for: "i-1", folder: directory.path("a"), limit: ByteSize(8 << 20))
            async let b = first.layer(for: "i-2", folder: directory.path("b"), limit: ByteSize(8 << 20))
            #expect(try await [a, b] == [directory.path("mnt/i-1"), directory.path("mnt/i-2")])
            let second = pool()
            #expect(
                try await second.layer(for: "i-1", folder: directory.path("a"), limit: nil) == directory.path("mnt/i-1")
            )
            #expect(second.layers() == ["i-1", "i-2"])
            await second.remove("i-1", wasLimited: true)
            await second.remove("i-1", wasLimited: true)
            #expect(second.layers() == ["i-2"])
            await second.close()
            await second.close()
            #expect(!Files.exists(directory.path("mnt")))
            let mounts = String(decoding: try Files.read("/proc/self/mountinfo", limit: 1 << 24), as: UTF8.self)
            #expect(!mounts.contains(directory.path))
            // Namespaces that other tests made meanwhile have copies of the mount, and the device goes with the last of them: this
            // process must hold none, and must not be needed for that.
            for entry in try Files.list("/sys/block") {
                let sys = "/sys/block/\(entry.name)/loop"
                let backing = String(
                    decoding: (try? Files.read("\(sys)/backing_file", limit: 4096)) ?? [], as: UTF8.self)
                guard backing.contains(directory.path) else { continue }
                // Nothing is left to read once it has gone.
                if let own = try? Files.read("\(sys)/autoclear", limit: 16) { #expect(own == Array("1\n".utf8)) }
                let held = try Files.list("/proc/self/fd").compactMap {
                    try? Files.readLink("/proc/self/fd/\($0.name)")
                }
                #expect(!held.contains("/dev/\(entry.name)"))
            }
            let third = pool()
            _ = try await third.layer(for: "i-3", folder: directory.path("c"), limit: ByteSize(8 << 20))
            #expect(third.layers() == ["i-2", "i-3"])
            await third.close()
        }
    }
}
