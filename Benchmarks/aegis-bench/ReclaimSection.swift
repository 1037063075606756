import AegisIO
import LinuxSys

/// What `--reclaim` does with the memory of paused instances.
extension Sections {
    /// Holds 256 MiB, of each page of which one half is noise; tells a little of it, or has a look at all of it.
    private static let holder = """
        import http.server, os
        kept = bytearray().join(os.urandom(2048) + bytes(2048) for page in range(256 << 8))
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = str(sum(kept[::4096]) if self.path == '/all' else kept[0]).encode()
                self.send_response(200); self.send_header('Content-Length', str(len(body)))
                self.end_headers(); self.wfile.write(body)
            def log_message(self, *a): pass
        http.server.HTTPServer(('', 8000), Handler).serve_forever()
        """

    func reclaim() async throws -> [ResultTable] {
        guard Files.exists("/sys/class/zram-control/hot_add") else {
            note("the memory of paused instances is left out: this kernel has no zram")
            return []
        }
        let swap = try await CompressedSwap(on: aegis.loop)
        var table = ResultTable(
            title: "Memory of a paused instance that holds 256 MiB",
            note:
                "With `--reclaim`, to zram of this bench's own (\(swap.algorithm)); half of the 256 MiB compresses to nothing. "
                + "Pushed: from the pause until the last of it has gone. All of it: a request that looks at each page.",
            head: [
                "isolation", "rounds", "before, MiB", "after, MiB", "zram needs, MiB", "pushed after, ms",
                "first byte, p50 ms", "p99 ms", "all of it, p50 ms", "all of it, never pushed, p50 ms",
            ])
        do {
            for runtime in Self.runtimes { table.rows.append(try await pushed(runtime, swap)) }
        } catch {
            try? await aegis.delete("held")
            await swap.end()
            throw error
        }
        await swap.end()
        return [table]
    }

    private func pushed(_ runtime: String, _ swap: CompressedSwap) async throws -> [String] {
        let port = try await start("held", runtime, Self.holder, "--reclaim=any")
        let group = try await memoryFile("held")
        var (before, after, needed, times) = (Samples(), Samples(), Samples(), Samples())
        var (first, all, unpushed) = (Samples(), Samples(), Samples())
        _ = try await firstByte(port)
        let rounds = count(10, quick: 3)
        for round in 0...rounds {
            let here = try await firstByte(port, "/all")
            let (most, empty) = (try group.bytes, try swap.needs)
            _ = try await aegis.runner.time(aegis.command("instance", "pause", "held"))
            let time = try await group.settled(on: aegis.loop)
            let (least, full) = (try group.bytes, try swap.needs)
            let waking = try await firstByte(port)
            let reading = try await firstByte(port, "/all")
            // The first round is for warming up.
            guard round > 0 else { continue }
            unpushed.add(here)
            before.add(Double(most) / 1048576)
            after.add(Double(least) / 1048576)
            needed.add(Double(max(0, full - empty)) / 1048576)
            times.add(time)
            first.add(waking)
            all.add(reading)
        }
        try await aegis.delete("held")
        return [runtime, "\(rounds)"]
            + [before.p50, after.p50, needed.p50, times.p50, first.p50, first.p99, all.p50, unpushed.p50].map(short)
    }

    private func memoryFile(_ name: String) async throws -> MemoryFile {
        let record = try await aegis.runner.output(aegis.command("instance", "info", name, "--output", "json"))
        let text = record.replacing(" ", with: "")
        let node = String(decoding: try Files.read("\(aegis.home)/node", limit: 64), as: UTF8.self)
        guard let range = text.firstRange(of: "\"id\":\"i-") else {
            throw Runner.Failure(description: "\(name) has no id")
        }
        let id = "i-" + text[range.upperBound...].prefix { $0 != "\"" }
        let group = "aegis-\(node.prefix { $0 != "\n" })/\(id)"
        let files = [
            "memory/\(group)/memory.usage_in_bytes", "unified/\(group)/memory.current", "\(group)/memory.current",
        ]
        guard let file = files.first(where: { Files.exists("/sys/fs/cgroup/\($0)") }) else {
            throw Runner.Failure(description: "no control group of \(name) counts memory")
        }
        return MemoryFile(path: "/sys/fs/cgroup/\(file)")
    }
}

/// Where the kernel says how much memory an instance has.
private struct MemoryFile {
    let path: String

    var bytes: Int {
        get throws {
            let text = String(decoding: try Files.read(path, limit: 64), as: UTF8.self)
            guard let value = Int(text.prefix { $0.isNumber }) else {
                throw Runner.Failure(description: "\(path) is no number")
            }
            return value
        }
    }

    /// Looks at it until nothing more has gone for a while.
    ///
    /// - Returns: milliseconds until the last MiB went.
    func settled(on loop: EventLoop) async throws -> Double {
        let start = SystemTime.monotonic
        var least = try bytes
        var last = start
        // More than there is between two times that the kernel is asked.
        while SystemTime.monotonic - last < 8_000_000_000 {
            try await loop.clock.sleep(for: .milliseconds(2))
            let now = try bytes
            guard now < least - 1 << 20 else { continue }
            (least, last) = (now, SystemTime.monotonic)
        }
        return Double(last - start) / 1e6
    }
}

/// Swap in compressed memory, before any other; it goes when this process ends, however it ends. While there is some, no test has swap
/// of its own or fills the machine's memory, and the other way round.
private final class CompressedSwap: Sendable {
    private let shell: ChildProcess
    private let name: String
    let algorithm: String

    private static let script = """
        set -e
        exec 9>/var/tmp/aegis-test-memory.lock
        flock -w 600 9
        n=$(cat /sys/class/zram-control/hot_add)
        end() {
            swapoff /dev/zram$n || true
            echo 1 >/sys/block/zram$n/reset
            echo $n >/sys/class/zram-control/hot_remove
        }
        trap end EXIT
        trap 'exit 1' TERM HUP INT
        echo 2G >/sys/block/zram$n/disksize
        mkswap -q /dev/zram$n
        swapon --priority 32767 /dev/zram$n
        echo zram$n
        cat >/dev/null
        """

    init(on loop: EventLoop) async throws {
        shell = try ChildProcess.spawn(
            ProcessSpec(
                executable: "/bin/sh", arguments: ["sh", "-c", Self.script],
                environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], stdin: .pipe, stdout: .pipe, stderr: .inherit,
                newSession: true), on: loop)
        name = try await readLine(shell)
        guard name.hasPrefix("zram") else { throw Runner.Failure(description: "there is no swap in zram") }
        // As in: [lzo-rle] lzo lz4
        let algorithms = String(
            decoding: try Files.read("/sys/block/\(name)/comp_algorithm", limit: 1024), as: UTF8.self)
        algorithm = String(algorithms.drop { $0 != "[" }.dropFirst().prefix { $0 != "]" })
    }

    /// Bytes of memory that it takes for what is in it.
    var needs: Int {
        get throws {
            let text = String(decoding: try Files.read("/sys/block/\(name)/mm_stat", limit: 1024), as: UTF8.self)
            let fields = text.split(whereSeparator: \.isWhitespace)
            guard fields.count > 2, let value = Int(fields[2]) else {
                throw Runner.Failure(description: "\(name) does not say what it needs")
            }
            return value
        }
    }

    func end() async {
        shell.stdin?.close()
        _ = try? await shell.wait()
    }
}
