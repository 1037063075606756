import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Records outside of the home: `DATABASE_URL`, and what else names them.
@Suite struct DatabasePlaceTests {
    private struct Value: Decodable {
        var key: String
        var value: String
        var origin: String
    }
    private struct Status: Decodable { var database: String }

    private func shown(_ f: DaemonFixture, _ key: String) async throws -> Value? {
        let json = try await f.succeed("config", "show", "--output", "json")
        return try JSONDecoder().decode([Value].self, from: Data(json.stdout)).first { $0.key == key }
    }

    private func place(_ f: DaemonFixture) async throws -> String {
        let json = try await f.succeed("status", "--output", "json")
        return try JSONDecoder().decode(Status.self, from: Data(json.stdout)).database
    }

    private func up(_ f: DaemonFixture, _ variables: String, home: String? = nil) async throws -> CommandResult {
        let home = home.map { "AEGIS_HOME='\($0)' " } ?? ""
        let folder = f.path("")
        return try await f.shell("cd '\(folder)' && \(variables) \(home)$AEGIS up --ports auto")
    }

    @Test func aDatabaseElsewhereIsUsedAndRemembered() async throws {
        try await DaemonFixture.with { f in
            #expect(try await place(f) == "\(f.home)/aegis.db")
            #expect(try await shown(f, "database.url")?.origin == "default")
            try await f.succeed("secret", "set", "KEPT", "-", input: Array("x\n".utf8))
            try await f.succeed("down")
            // The home's records are there still: others are not begun.
            let elsewhere = try await up(f, "DATABASE_URL=sqlite:records/node.db")
            #expect(elsewhere.code == 5 && elsewhere.err.contains("(database-elsewhere)"), "\(elsewhere)")
            #expect(!Files.exists(f.path("records/node.db")))
            let moved = try await f.shell("mv '\(f.home)'/aegis.db '\(f.path("records/node.db"))'")
            try #require(moved.code == 0, "\(moved)")
            // Moved away, and not to where the daemon looks: it begins with none neither here nor there.
            for variables in ["", "DATABASE_URL=sqlite:other/node.db"] {
                let lost = try await up(f, variables)
                #expect(lost.code == 1 && lost.err.contains("(database-missing)"), "\(lost)")
            }
            let first = try await up(f, "DATABASE_URL=sqlite:records/node.db")
            try #require(first.code == 0, "\(first)")
            let file = try await place(f)
            #expect(file == f.path("records/node.db"))
            let value = try await shown(f, "database.url")
            #expect(
                value?.value == "sqlite:records/node.db" && value?.origin == "DATABASE_URL",
                "\(String(describing: value))")
            #expect(try await f.succeed("secret", "list").out.contains("KEPT"))
            #expect(!Files.exists("\(f.home)/aegis.db"))
            #expect(try Files.status(file).permissions == 0o600)
            try await checkUse(f, file)
            try await f.succeed("down")

            let without = try await f.aegis("up", "--ports", "auto")
            #expect(without.code == 5 && without.err.contains("are in \(file)"), "\(without)")
            try await checkPrograms(f)
            // aaOS's variable means the same, and ours goes before both.
            let alias = try await up(f, "AAOS_MEMORY_DB='\(file)' DATABASE_URL= ")
            try #require(alias.code == 0, "\(alias)")
            #expect(try await shown(f, "database.url")?.origin == "AAOS_MEMORY_DB")
            try await f.succeed("down")
            let hidden = f.path("hidden")
            try Files.rename(f.path("records"), to: hidden)
            let missing = try await up(f, "DATABASE_URL=postgres://u:secret-word@h/d AEGIS_DATABASE_URL='\(file)'")
            #expect(missing.code == 1 && missing.err.contains("(database-missing)"), "\(missing)")
            // Nor does the home begin with none.
            let empty = try await f.aegis("up", "--ports", "auto")
            #expect(empty.code == 1 && empty.err.contains("(database-missing)"), "\(empty)")
            #expect(!Files.exists("\(f.home)/aegis.db"))
            try Files.removeTree(f.path("records"))
            try Files.rename(hidden, to: f.path("records"))
            try #require(try await up(f, "AEGIS_DATABASE_URL='\(file)'").code == 0)
        }
    }

    /// While a daemon has it.
    private func checkUse(_ f: DaemonFixture, _ file: String) async throws {
        let folder = Files.split(file).directory
        try await f.refuse("run", "--mount", "\(folder):/x", "--", "true", code: 125, error: "path-refused")
        try await f.succeed("backup", "--passphrase-file", try passphrase(f), f.path("aegis.backup"))
        let other = try await up(f, "DATABASE_URL='\(file)'", home: f.path("other"))
        #expect(other.code == 5 && other.err.contains("(database-busy)"), "\(other)")
    }

    /// Programs that ask no daemon and no configuration.
    private func checkPrograms(_ f: DaemonFixture) async throws {
        let check = try await f.succeed("audit", "verify")
        #expect(check.out.hasPrefix("intact"), "\(check)")
        let cut = try await f.shell(
            "cd '\(f.home)/audit' && cp 000000000001.jsonl ../kept && sed -i '$d' 000000000001.jsonl")
        try #require(cut.code == 0, "\(cut)")
        // Only the head in the database tells that.
        let found = try await f.aegis("audit", "verify")
        #expect(found.code == 1 && found.out.contains("truncated"), "\(found)")
        let back = try await f.shell("cd '\(f.home)' && mv kept audit/000000000001.jsonl")
        try #require(back.code == 0, "\(back)")
        let restore = ["restore", "--passphrase-file", try passphrase(f), f.path("aegis.backup")]
        let refused = try await f.run(DaemonFixture.cli, restore)
        #expect(refused.code == 5 && refused.err.contains("records in \(f.path("records/node.db"))"), "\(refused)")
    }

    private func passphrase(_ f: DaemonFixture) throws -> String {
        let file = f.path("passphrase")
        try "correct horse battery staple\n".write(toFile: file, atomically: true, encoding: .utf8)
        return file
    }

    @Test func aPlaceThatIsNoneIsRefused() async throws {
        try await onLoop { loop in
            let f = try DaemonFixture(loop: loop)
            let server = try await up(f, "DATABASE_URL=postgresql://aegis:secret-word@localhost:5432/aegis")
            #expect(server.code == 2 && server.err.contains("(invalid-config)"), "\(server)")
            #expect(server.err.contains("DATABASE_URL: spec.database.url is 'postgresql'"), "\(server)")
            #expect(server.err.contains("sqlite:///ABSOLUTE/FILE") && !server.err.contains("secret-word"), "\(server)")
            let open = f.path("open")
            try Files.makeDirectories(open, mode: 0o755)
            let shared = try await up(f, "DATABASE_URL='\(open)/aegis.db'")
            #expect(shared.code == 1 && shared.err.contains("(database-place)"), "\(shared)")
            #expect(shared.err.contains("chmod 700 \(open)"), "\(shared)")
            try Files.setPermissions(open, 0o700)
            try "mine".write(toFile: "\(open)/notes.txt", atomically: true, encoding: .utf8)
            let full = try await up(f, "DATABASE_URL='\(open)/aegis.db'")
            #expect(full.code == 1 && full.err.contains("holds other things than the database (notes.txt)"), "\(full)")
            let home = try await up(f, "DATABASE_URL='\(f.home)/token'")
            #expect(home.code == 1 && home.err.contains("is in AEGIS_HOME"), "\(home)")
        }
    }

    /// Through the variables of aaOS that set keys; who takes goals and its memory are tested with their keys.
    @Test func variablesOfAaOSSetTheirKeys() async throws {
        try await onLoop { loop in
            let f = try DaemonFixture(loop: loop)
            let id = "0b6e7c1a-52f3-4d0e-9a57-3f1c2d4e5f60"
            let variables =
                "AAOS_SPAWN_AGENTS_BATCH_CAP=2 AAOS_PERSISTENT_MEMORY=1 AAOS_RESET_MEMORY=1 AAOS_BOOTSTRAP_ID=\(id)"
            let json = try await f.shell("\(variables) $AEGIS config show -o json --quiet")
            let values = try JSONDecoder().decode([Value].self, from: Data(json.stdout))
            for (key, value, variable) in [
                ("batch_cap", "2", "SPAWN_AGENTS_BATCH_CAP"), ("persistent_memory", "true", "PERSISTENT_MEMORY"),
                ("reset_memory", "true", "RESET_MEMORY"), ("bootstrap_id", id, "BOOTSTRAP_ID"),
            ] {
                let found = values.first { $0.key == "agents.\(key)" }
                #expect(found?.value == value && found?.origin == "AAOS_\(variable)", "\(key): \(json)")
            }
            let own = try await f.shell("AAOS_SPAWN_AGENTS_BATCH_CAP=2 AEGIS_AGENTS_BATCH_CAP=4 $AEGIS config show")
            #expect(own.out.contains("agents.batch_cap: 4  # AEGIS_AGENTS_BATCH_CAP"), "\(own)")
            let wrong = try await f.shell("AAOS_SPAWN_AGENTS_BATCH_CAP=0 $AEGIS config show")
            #expect(wrong.code == 2 && wrong.err.contains("AAOS_SPAWN_AGENTS_BATCH_CAP"), "\(wrong)")
        }
    }
}
