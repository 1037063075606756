import AegisTestSupport
import Foundation
import Testing

/// What `--reclaim` gives back of a paused instance's memory.
@Suite struct ReclaimTests {
    private struct Answer: Decodable {
        struct Reclaimed: Decodable {
            var at: String
            var before: Int
            var after: Int
            private enum CodingKeys: String, CodingKey {
                case at
                case before = "before_bytes"
                case after = "after_bytes"
            }
        }
        var state: String
        var reclaimed: Reclaimed?
    }

    @Test(arguments: backends) func aPausedInstanceGivesItsPageCacheBack(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "cache-\(backend)"
            let script =
                "for place in /srv /workspace; do yes aegis | head -c 64M > $place/big; cat $place/big > /dev/null; done;"
                + " cd /srv; exec python3 -m http.server 80"
            // `any`: whether the host's swap is safe is not what this is about.
            try await f.succeed(words: [
                "instance", "start", "--name", name, "--isolation", backend, "--expose", "80", "--reclaim=any",
                "--idle-pause", "0s", "--idle-stop", "0s", "--", "sh", "-c", script,
            ])
            let get = "curl -sS --max-time 60 --fail '\(try await f.url(name))/big' | cksum"
            let wanted = try await f.shell("yes aegis | head -c 64M | cksum").out
            #expect(try await f.shell(get).out == wanted)
            try await f.succeed("instance", "idle", name, "--idle-pause", "100ms")
            try await f.eventually("its memory was reclaimed") {
                let json = try await f.succeed("instance", "info", name, "--output", "json")
                let answer = try JSONDecoder().decode(Answer.self, from: Data(json.stdout))
                guard answer.state == "paused", let found = answer.reclaimed else { return false }
                #expect(found.before > 64 << 20 && found.after < found.before / 2, "\(found)")
                return true
            }
            #expect(try await f.shell(get).out == wanted)
            try await f.succeed("instance", "delete", name)
        }
    }

    /// Holds memory of its own, and says what is in it.
    private static let holder = """
        import hashlib, http.server
        kept = bytearray(range(251)) * ((128 << 20) // 251)
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = hashlib.sha256(kept).hexdigest().encode()
                self.send_response(200); self.send_header("Content-Length", str(len(body)))
                self.end_headers(); self.wfile.write(body)
        http.server.HTTPServer(("", 80), Handler).serve_forever()
        """

    /// What the kernel says that an instance has in memory, page cache included, and in swap.
    private func memory(_ f: DaemonFixture, of name: String) async throws -> (here: Int, swapped: Int) {
        let group = "aegis-\(try f.node)/\(try await f.record(name).id)"
        func number(_ file: String, _ key: String = "") -> Int? {
            let lines = (try? kernelText("/sys/fs/cgroup/\(file)"))?.split(separator: "\n")
            return lines?.first { $0.hasPrefix(key) }.flatMap { Int($0.dropFirst(key.count)) }
        }
        let first = "memory/\(group)"
        if let here = number("\(first)/memory.usage_in_bytes") {
            return (here, try #require(number("\(first)/memory.stat", "swap ")))
        }
        let place = try #require(["unified/\(group)", group].first { number("\($0)/memory.current") != nil })
        return (try #require(number("\(place)/memory.current")), number("\(place)/memory.swap.current") ?? 0)
    }

    /// What the processes have allocated goes to swap of those who asked for that, and of nobody else.
    @Test(.enabled(if: CompressedSwap.isThere, "this kernel has no zram"), arguments: backends)
    func memoryOfThePausedGoesToSwap(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            try await CompressedSwap.with(on: f.loop) {
                let (pushed, kept) = ("pushed-\(backend)", "unpushed-\(backend)")
                var held: [String: String] = [:]
                for (name, more) in [(pushed, ["--reclaim=any"]), (kept, [])] {
                    try await f.succeed(
                        words: ["instance", "start", "--name", name, "--isolation", backend, "--expose", "80"] + more
                            + ["--idle-pause", "0s", "--idle-stop", "0s", "--", "python3", "-c", Self.holder])
                    held[name] = try await f.get(try await f.url(name))
                    #expect(try await memory(f, of: name).here > 120 << 20)
                }
                #expect(held[pushed]?.count == 64 && held[pushed] == held[kept], "\(held)")
                for name in [pushed, kept] {
                    try await f.succeed("instance", "idle", name, "--idle-pause", "100ms")
                    try await f.eventually("\(name) is paused") { try await f.record(name).state == "paused" }
                }
                var last: Answer.Reclaimed?
                try await f.eventually("its memory went to swap", within: .seconds(400)) {
                    let json = try await f.succeed("instance", "info", pushed, "--output", "json")
                    let found = try JSONDecoder().decode(Answer.self, from: Data(json.stdout))
                    guard found.state == "paused", let reclaimed = found.reclaimed, reclaimed.at != last?.at else {
                        return false
                    }
                    if last == nil { #expect(reclaimed.before > 120 << 20, "\(reclaimed)") }
                    last = reclaimed
                    let gone = try await memory(f, of: pushed)
                    if reclaimed.after < 32 << 20, gone.here < 32 << 20, gone.swapped > 100 << 20 { return true }
                    // A kernel that is late with its counters leaves some, as it may: the next pause has it asked again.
                    try await f.succeed("instance", "resume", pushed)
                    return false
                }
                let there = try await memory(f, of: kept)
                #expect(there.here > 120 << 20 && there.swapped < 32 << 20, "\(there)")
                for name in [pushed, kept] {
                    #expect(try await f.record(name).state == "paused")
                    #expect(try await f.get(try await f.url(name)) == held[name])
                    try await f.succeed("instance", "delete", name)
                }
            }
        }
    }
}
