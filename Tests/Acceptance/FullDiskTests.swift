import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The disk of a daemon fills up: what needs room is refused with a clear error, what runs goes on, and when there is room
/// again everything is as before.
@Suite struct FullDiskTests {
    /// A daemon whose whole home is a file system of 160 MiB, with an image that is in it already.
    private static func withSmallHome(
        _ body: @escaping @Sendable (DaemonFixture, Registry, _ image: String) async throws -> Void
    ) async throws {
        try await Crowd.enter {
            try await onLoop { loop in
                let place = try TemporaryDirectory()
                try Mounts.mount("none", on: place.path, type: "tmpfs", data: "size=160m,mode=711")
                defer { try? Mounts.unmount(place.path, detach: true) }
                let home = place.path("home")
                try Files.makeDirectories(home)
                let f = DaemonFixture(loop: loop, home: home)
                let registry = try await Registry(on: loop)
                let result: Result<Void, any Error>
                do {
                    try await registry.push("small:1", config: #""Cmd":["/bin/true"]"#, Registry.busybox)
                    try await f.up()
                    try await f.succeed("image", "pull", registry.name("small:1"))
                    result = .success(try await body(f, registry, registry.name("small:1")))
                } catch { result = .failure(error) }
                try? Files.removeFile(f.path("filler"))
                let down = try await f.aegis("down")
                #expect(down.code == 0, "\(down)")
                await registry.stop()
                try result.get()
            }
        }
    }

    /// Takes all room but so much.
    private static func fill(_ f: DaemonFixture, leaving megabytes: Int = 0) async throws {
        let filled = try await f.shell(
            megabytes == 0
                ? "dd if=/dev/zero of=filler bs=4k status=none 2>/dev/null; df --output=avail . | tail -1"
                : "fallocate -l $(( $(df -B1 --output=avail . | tail -1) - \(megabytes << 20) )) filler; echo 0")
        try #require(filled.out.trimmingCharacters(in: .whitespaces) == "0\n", "\(filled)")
    }

    @Test func aPullWithoutRoomLeavesNothingAndHoldsUpNobody() async throws {
        try await Self.withSmallHome { f, registry, small in
            // One needs its room only when it is unpacked, the other is seen to be too large before.
            try await registry.push(
                "zeros:1", config: #""Cmd":["/bin/true"]"#, "\(Registry.busybox) head -c 60000000 /dev/zero > z")
            try await registry.push("noise:1", "\(Registry.busybox) head -c 30000000 /dev/urandom > n")
            let zeros = registry.name("zeros:1")
            try await f.succeed(
                "run", "-d", "--name", "other", "--isolation", "runc", "--image", small, "--", "/bin/sleep", "1000")
            try await Self.fill(f, leaving: 40)
            let store = "cd '\(f.home)/images'; find . -mindepth 1 | sort"
            let before = try await f.shell(store).out
            for image in [zeros, registry.name("noise:1")] {
                for (words, code) in [(["run", "--isolation", "runc", "--image"], 125), (["image", "pull"], 1)] {
                    let full = try await f.run(DaemonFixture.cli, words + [image])
                    #expect(
                        full.code == Int32(code) && full.err.contains("(disk-full)") && full.err.contains(image)
                            && full.err.contains("hint: free space"), "\(full)")
                }
            }
            try await f.eventually("nothing half done is left") { try await f.shell(store).out == before }
            #expect(try await f.list().map(\.name) == ["other"])
            #expect(try await f.succeed("exec", "other", "--", "/bin/echo", "here").out == "here\n")
            try await f.succeed("run", "--isolation", "runc", "--image", small)
            try Files.removeFile(f.path("filler"))
            try await f.succeed("run", "--isolation", "runc", "--image", zeros)
        }
    }

    /// Prints so many lines of 64 KiB as it is told, and how many that were.
    private static let writer = """
        mkfifo() { /bin/busybox mkfifo "$@"; }
        mkfifo /tmp/orders
        while read n < /tmp/orders; do
          i=0
          while [ $i -lt $n ]; do /bin/busybox head -c 65535 /dev/zero | /bin/busybox tr '\\000' x; echo; i=$((i + 1)); done
          echo said $n > /tmp/done
          /bin/busybox sync /tmp/done 2>/dev/null; echo said $n
        done
        """

    @Test func whatALogHasNoRoomForIsCountedAndTheRestGoesOn() async throws {
        try await Self.withSmallHome { f, _, small in
            try await f.succeed(
                "run", "-d", "--name", "writer", "--isolation", "runc", "--image", small, "--", "/bin/sh", "-c",
                Self.writer)
            func order(_ lines: Int) async throws {
                try await f.succeed("exec", "writer", "--", "/bin/sh", "-c", "echo \(lines) > /tmp/orders")
            }
            try await order(1)
            try await f.eventually("the line") { try await f.aegis("logs", "writer").out.hasSuffix("said 1\n") }
            try await Self.fill(f)
            try await order(20)
            // It is said while the disk is full, also when the daemon's own log is on it: in the record as long as nothing
            // is stored, in the log as soon as a little is, for which the last block had room.
            try await f.eventually("it says so") {
                let info = try await f.aegis("instance", "info", "writer")
                let logs = try await f.aegis("logs", "writer")
                return info.out.contains("(log-disk-full)") || logs.err.contains("bytes are missing")
            }
            // The instance has not been held up by it.
            try await f.eventually("it has written all") {
                try await f.aegis("exec", "writer", "--", "/bin/cat", "/tmp/done").out == "said 20\n"
            }
            // What needs no room works, what does says why it does not.
            try await f.refuse("run", "--isolation", "runc", "--image", small, code: 125, error: "disk-full")
            let doctor = try await f.aegis("doctor")
            #expect(doctor.out.contains("warning  disk"), "\(doctor)")
            try Files.removeFile(f.path("filler"))
            try await order(2)
            try await f.eventually("it goes on") { try await f.aegis("logs", "writer").out.hasSuffix("said 2\n") }
            let json = try await f.succeed("logs", "--output", "json", "writer").out
            struct Line: Decodable {
                var source: String
                var line: String?
                var partial: Bool?
                var gap: Int?
                var gapReason: String?
                enum CodingKeys: String, CodingKey {
                    case source, line, partial, gap
                    case gapReason = "gap_reason"
                }
            }
            let lines = try json.split(separator: "\n").map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
                .filter { $0.source == "server" }
            let lost = lines.compactMap(\.gap).reduce(0, +)
            let kept = lines.reduce(0) {
                $0 + ($1.line.map { $0.utf8.count } ?? 0) + ($1.line == nil || $1.partial == true ? 0 : 1)
            }
            // Every byte that was written is in the log, or in the count of what is not.
            #expect(kept + lost == 23 * 65_536 + 7 + 8 + 7, "\(kept) and \(lost)")
            #expect(lost > 65_536 && lines.allSatisfy { $0.gap == nil || $0.gapReason == "not-written" })
            #expect(try await f.aegis("instance", "info", "writer").out.contains("log-disk-full") == false)
        }
    }

    @Test func whatEndsOnAFullDiskIsRecordedWhenThereIsRoom() async throws {
        try await Self.withSmallHome { f, _, small in
            for name in ["stopped", "frozen", "deleted"] {
                try await f.succeed(
                    "run", "-d", "--name", name, "--isolation", "runc", "--image", small, "--", "/bin/sleep", "1000")
            }
            try await Self.fill(f)
            let stop = try f.begin("instance", "stop", "stopped")
            try await f.eventually("the record says why it is not over") {
                let info = try await f.aegis("instance", "info", "stopped")
                return info.out.contains("stopping") && info.out.contains("disk-full")
            }
            try await f.succeed("instance", "pause", "frozen")
            try await f.succeed("instance", "delete", "deleted")
            try Files.removeFile(f.path("filler"))
            #expect(try await stop.result().code == 0)
            let stopped = try await f.record("stopped")
            #expect(stopped.state == "stopped" && stopped.exitCode == 143 && stopped.stopReason == "stopped")
            // What was told to the clients is what the next daemon finds.
            try await f.eventually("all is saved") {
                // One of two is paused; the third is gone.
                try await f.sql(
                    "SELECT count(*), sum(CAST(record AS TEXT) LIKE '%\"paused\"%') FROM instances") == "2|1\n"
            }
            try await f.crash()
            try await f.up()
            let found = try await f.list().map { "\($0.name ?? "") \($0.state)" }.sorted()
            #expect(found == ["frozen paused", "stopped stopped"])
            try await f.succeed("instance", "resume", "frozen")
            #expect(try await f.succeed("exec", "frozen", "--", "/bin/echo", "here").out == "here\n")
        }
    }
}
