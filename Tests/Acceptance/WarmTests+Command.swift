import AegisTestSupport
import Foundation
import Testing

/// The command of a sandbox that was kept ready, which is looked for before it may begin.
extension WarmTests {
    @Test(arguments: backends) func commandsAreFoundAsInAnyOther(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@\(backend): 1 }")) { f in
            for (words, code) in [
                (["--", "no-such-program"], 127), (["--", "/bin/no-such-program"], 127), (["--", "/etc/passwd"], 126),
                (["--", "/etc"], 126), (["--env", "PATH=/nowhere:/etc:/usr/bin", "--", "sh", "-c", "echo $PATH"], 0),
                (["--env", "PATH=", "--", "sh", "-c", "echo \"$PATH\""], 0), (["--env", "PATH=/etc", "--", "sh"], 127),
                (["--workdir", "/usr/bin", "--", "./id"], 0),
                (["--workdir", "/usr/bin", "--env", "PATH=.", "--user", "nobody", "--", "id"], 0),
            ] as [([String], Int32)] {
                let seen = try await both(f, backend, words)
                #expect(seen.allSatisfy { $0.code == code }, "\(words): \(seen)")
                #expect(seen[0].out == seen[1].out && seen[0].err == seen[1].err, "\(words): \(seen)")
            }
        }
    }
}
