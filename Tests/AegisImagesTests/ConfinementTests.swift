import AegisCore
import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisImages

/// What a helper can still do once it reads its first byte.
struct ConfinementTests {
    /// Starts a role whose input never comes, and looks at the process from outside.
    private func inspect(_ role: [String], fills: Bool, _ body: @escaping @Sendable (Int32) throws -> Void) async throws
    {
        try await onLoop { loop in
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            let directory = try FileDescriptor.open(folder.path, [.readOnly, .directory])
            var report = try DescriptorPair.pipe()
            let (readEnd, writeEnd) = (FileHolder(report.takeFirst()), FileHolder(report.takeSecond()))
            var spec = try helperProgram().spec(role)
            spec.stdin = .pipe
            spec.stdout = .pipe
            // More than it may keep, which it must close.
            spec.extraDescriptors = [(3, writeEnd.file.raw), (9, directory.raw)]
            if fills { spec.extraDescriptors.append((4, directory.raw)) }
            let child = try await ChildProcess.spawnInBackground(spec, on: loop)
            while try Self.status(child.pid)["Seccomp"] != "2" { await Task.yield() }
            try body(child.pid)
            _ = await child.teardown([.signal(9, allow: .seconds(5))])
            withExtendedLifetime(readEnd) {}
        }
    }

    private final class FileHolder: Sendable {
        let file: FileDescriptor
        init(_ file: consuming FileDescriptor) { self.file = file }
    }

    private static func status(_ pid: Int32) throws -> [String: String] {
        let text = String(decoding: try Files.read("/proc/\(pid)/status", limit: 1 << 16), as: UTF8.self)
        return text.split(separator: "\n").reduce(into: [:]) { fields, line in
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { return }
            fields[String(parts[0])] = parts[1].split(whereSeparator: \.isWhitespace).joined(separator: " ")
        }
    }

    @Test(
        arguments: [
            (["digest", "1000", "pass"], false), (["inflate", "1000"], false), (["untar", "100000", "100"], true),
        ] as [([String], Bool)])
    func helpersHaveNothingButTheirDescriptors(_ role: [String], _ fills: Bool) async throws {
        try await inspect(role, fills: fills) { pid in
            let status = try Self.status(pid)
            #expect(status["NoNewPrivs"] == "1")
            #expect(status["Uid"] == "1879048192 1879048192 1879048192 1879048192")
            #expect(status["Gid"] == "1879048192 1879048192 1879048192 1879048192")
            #expect((status["Groups"] ?? "") == "")
            // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETFCAP in its own namespace; or nothing.
            #expect(status["CapEff"] == (fills ? "000000008000001b" : "0000000000000000"))
            #expect(status["CapBnd"] == status["CapEff"])
            for name in ["user", "mnt", "net", "ipc", "uts"] {
                let (own, its) = (
                    try Files.readLink("/proc/self/ns/\(name)"), try Files.readLink("/proc/\(pid)/ns/\(name)")
                )
                #expect(own != its, "\(name)")
            }
            let root = try Files.list("/proc/\(pid)/root").map(\.name)
            #expect(root == [])
            let mounts = String(decoding: try Files.read("/proc/\(pid)/mountinfo", limit: 1 << 16), as: UTF8.self)
            #expect(mounts.split(separator: "\n").count == 1)
            let descriptors = try Files.list("/proc/\(pid)/fd").map(\.name)
            #expect(descriptors.count == (fills ? 5 : 4))
            let network = String(decoding: try Files.read("/proc/\(pid)/net/dev", limit: 1 << 16), as: UTF8.self)
            #expect(network.split(separator: "\n").dropFirst(2).allSatisfy { $0.contains("lo:") })
            let limits = String(decoding: try Files.read("/proc/\(pid)/limits", limit: 1 << 16), as: UTF8.self)
            #expect(limits.contains("Max processes             0 "))
        }
    }

    /// Runs a shell as the fetching program would run.
    private func shell(_ script: String) async throws -> [String] { try await execute(script).0 }

    private func execute(_ script: String) async throws -> ([String], LinuxSys.ExitStatus) {
        try await onLoop { loop in
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            let store = try StoreDirectory(path: folder.path("images"))
            let work = try store.beginWork()
            var spec = try helperProgram().spec(["fetch", "/bin/sh", "-c", script])
            (spec.stdout, spec.stderr) = (.pipe, .pipe)
            let process = try await HelperProcess(spec, directory: work.directory.raw, on: loop)
            async let output = readAll(process.output, limit: 1 << 16)
            async let errors = readAll(process.errors, limit: 1 << 16)
            async let result = process.finish()
            let (bytes, _, end) = try await (output, errors, result)
            #expect(end.failure == nil)
            return (String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init), end.status)
        }
    }

    @Test func theFetcherSeesTheSystemAndItsDirectoryOnly() async throws {
        // Only what the shell does itself: it can make no process.
        let lines = try await shell(
            """
            seen() { if read -r line < "$1"; then echo "read $1"; fi; }
            made() { if echo x > "$1"; then echo "made $1"; fi; }
            for file in /etc/shadow /etc/passwd /proc/1/environ /proc/1/status /root/.profile; do seen $file; done
            for place in /etc /usr /tmp /tmp/pull /var/tmp /dev/shm; do made $place/x; done
            for place in /root /var/lib /home /srv; do for file in $place/*; do [ "$file" = "$place/*" ] || echo "$file"; done; done
            pwd
            kill -0 1 && echo kill
            (echo fork)
            """)
        #expect(lines == ["read /etc/passwd", "made /tmp/pull/x", "/tmp/pull"])
    }

    @Test(arguments: [
        "unshare -U sh -c 'echo done'", "mount -t tmpfs none /mnt", "mknod /tmp/pull/x c 1 3", "chown 1 /tmp/pull",
        "setpriv --reuid 1 sh -c 'echo done'", "nsenter -t 1 -n sh -c 'echo done'",
    ])
    func theFetcherMayNot(_ command: String) async throws {
        let (lines, status) = try await execute("echo started; exec \(command)")
        #expect(lines == ["started"])
        #expect(!status.isSuccess)
    }

    @Test func whatTheFetcherWritesBelongsToRootOutside() async throws {
        try await onLoop { loop in
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            let store = try StoreDirectory(path: folder.path("images"))
            let work = try store.beginWork()
            let spec = try helperProgram().spec(["fetch", "/bin/sh", "-c", "echo x > /tmp/pull/file"])
            let process = try await HelperProcess(spec, directory: work.directory.raw, on: loop)
            _ = try await process.finish()
            let status = try work.directory.status(of: "file")
            #expect(status.user == 0 && status.group == 0 && status.size == 2)
        }
    }

    @Test func wrongRolesAreRefused() async throws {
        for role in [["nonsense"], ["digest"], ["untar", "1"], ["fetch", "relative"], ["fetch", "/nonexistent"]] {
            try await onLoop { loop in
                let folder = try TemporaryDirectory()
                defer { withExtendedLifetime(folder) {} }
                let directory = try FileDescriptor.open(folder.path, [.readOnly, .directory])
                let process = try await HelperProcess(
                    try helperProgram().spec(role), directory: directory.raw, on: loop)
                let result = try await process.finish()
                #expect(result.status == .exited(1) && result.failure != nil, "\(role)")
            }
        }
    }
}
