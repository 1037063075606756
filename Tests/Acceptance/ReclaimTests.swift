import AegisTestSupport
import Foundation
import Testing

/// What `--reclaim` gives back of a paused instance's memory.
@Suite struct ReclaimTests {
    private struct Answer: Decodable {
        struct Reclaimed: Decodable {
            var before: Int
            var after: Int
            private enum CodingKeys: String, CodingKey {
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
}
