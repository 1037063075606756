import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisBackends

/// What there is room for, on disks and in swap.
@Suite struct RoomTests {
    private static func shell(_ script: String, on loop: EventLoop) async throws {
        let (status, _, errors) = try await runProcess(
            ProcessSpec(
                executable: "/bin/sh", arguments: ["sh", "-ec", script],
                environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]), on: loop)
        try #require(status.shellCode == 0, "\(String(decoding: errors, as: UTF8.self))")
    }

    /// Mounts something at the folder `at` of a directory, and takes it away again.
    private static func mounted(
        _ script: String, _ body: @escaping @Sendable (_ place: String, EventLoop) async throws -> Void
    ) async throws {
        try await onLoop { loop in
            let directory = try TemporaryDirectory()
            defer { withExtendedLifetime(directory) {} }
            let place = directory.path("at")
            try await shell("cd '\(directory.path)'; mkdir at; \(script)", on: loop)
            let outcome: Result<Void, any Error>
            do { outcome = .success(try await body(place, loop)) } catch { outcome = .failure(error) }
            do throws(Errno) { try Mounts.unmount(place) } catch { try Mounts.unmount(place, detach: true) }
            try outcome.get()
        }
    }

    @Test func whatIsKeptForRootIsRoomForTheDaemon() async throws {
        try await Self.mounted("truncate -s 32M disk; mkfs.ext4 -q -m 50 disk; mount -o loop disk at") { place, loop in
            #expect(!RoomProbe.isFull(place))
            try await Self.shell(
                "n=$(df --output=avail -k '\(place)' | tail -n 1); head -c $((n + 1024))K /dev/zero >'\(place)/a'",
                on: loop)
            #expect(try FileDescriptor.open(place, [.readOnly, .directory]).freeSpace().freeBytes == 0)
            #expect(!RoomProbe.isFull(place))
            try await Self.shell("head -c 32M /dev/zero >'\(place)/b' 2>/dev/null || true", on: loop)
            #expect(RoomProbe.isFull(place))
            try Files.removeFile("\(place)/b")
            #expect(!RoomProbe.isFull(place))
            #expect(try Files.list(place).map(\.name).sorted() == ["a", "lost+found"])
        }
    }

    @Test(arguments: [(40, false), (20, true), (0, true)])
    func roomForFilesCounts(_ left: Int, _ isFull: Bool) async throws {
        try await Self.mounted("mount -t tmpfs -o size=8m,nr_inodes=\(left + 1) tmpfs at") { place, _ in
            #expect(RoomProbe.isFull(place) == isFull)
        }
    }

    @Test func whatCannotBeLookedAtIsNotFull() throws {
        #expect(!RoomProbe.isFull("/nowhere/at/all") && !RoomProbe.isFull("/proc/self"))
    }

    /// Pages without a file need swap to go to.
    @Test func whereNothingWentAndNothingCanGoTheKernelIsNotAskedAgain() {
        #expect(!OCISandbox.isWorthAnotherLook(moved: 1 << 20, swap: .none))
        #expect(OCISandbox.isWorthAnotherLook(moved: 64 << 20, swap: .none))
        #expect(OCISandbox.isWorthAnotherLook(moved: 0, swap: .safe))
        #expect(OCISandbox.isWorthAnotherLook(moved: 0, swap: .clear(["/dev/sda2"])))
    }
}
