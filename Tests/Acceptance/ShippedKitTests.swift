import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The kits that come with Aegis.
@Suite(.serialized) struct ShippedKitTests {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../kits")
        .standardized.path

    @Test(arguments: backends) func staticWebServesAFolderAndSleeps(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("kit", "install", "\(Self.folder)/static-web")
            try await f.succeed("instance", "start", "--name", "own", "--kit", "static-web", "--isolation", backend)
            #expect(try await f.curl("\(try await f.kitURL("own"))/").out.contains("came with the kit"))
            let site = try f.folder("site")
            try f.file("\(site)/hello.txt", "hello\n")
            try f.file("\(site)/.env", "hidden\n")
            try FileManager.default.createSymbolicLink(atPath: "\(site)/out", withDestinationPath: "/etc/passwd")
            try await f.succeed(
                "instance", "start", "--name", "web", "--kit", "static-web", "--isolation", backend, "--workspace",
                site,
                "--idle-pause", "1s")
            let record = try await f.kitRecord("web")
            #expect(record.kit == "static-web@1.0.0" && record.expose.first?.spec.ui == true)
            #expect(record.idle?.stop == .seconds(600) && record.idle?.pause == .seconds(1))
            let url = try await f.kitURL("web")
            #expect(try await f.curl("\(url)/hello.txt").out == "hello\n")
            #expect(try await f.curl("\(url)/").out.contains("hello.txt"))
            for hidden in [".env", "out", "%2eenv", "..%2f..%2fetc/passwd"] {
                #expect(try await f.curl("--path-as-is", "\(url)/\(hidden)").code == 22, "\(hidden)")
            }
            try await f.eventually("it is paused") { try await f.record("web").state == "paused" }
            #expect(try await f.curl("\(url)/hello.txt").out == "hello\n")
            try await f.succeed("instance", "stop", "web")
            #expect(try await f.curl("\(url)/hello.txt").out == "hello\n")
        }
    }

    @Test(arguments: backends) func pythonRunnerKeepsItsState(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("kit", "install", "\(Self.folder)/python-runner")
            try await f.succeed("instance", "start", "--name", "py", "--kit", "python-runner", "--isolation", backend)
            let url = try await f.kitURL("py")
            func run(_ code: String, _ more: [String: any Sendable] = [:]) async throws -> [String: String] {
                try await f.post("\(url)/run", more.merging(["code": code]) { $1 })
            }
            #expect(try await run("x = 20\nprint('set')")["stdout"] == "set\n")
            #expect(try await run("x += 1; x * 2")["result"] == "42")
            #expect(try await run("x", ["session": "other"])["error"]?.contains("NameError") == true)
            #expect(try await run("1/0")["error"]?.contains("ZeroDivisionError") == true)
            #expect(try await run("raise SystemExit(3)")["error"]?.contains("SystemExit") == true)
            #expect(try await run("def f(:")["error"]?.contains("SyntaxError") == true)
            // Its names outlive a time that is over, a pause, and each other's.
            let late = try await run("import time\nx = 7\ntime.sleep(60)", ["timeout": 5])
            #expect(late["timed_out"] == "1" || late["timed_out"] == "true", "\(late)")
            #expect(try await run("x")["result"] == "7")
            try await f.succeed("instance", "pause", "py")
            #expect(try await run("x + 1")["result"] == "8")
            // What does not heed the end of its time loses its session, and no other.
            let deaf = """
                while True:
                  try:
                    while True:
                      try:
                        while True: sum(range(99))
                      except BaseException: pass
                  except BaseException: pass
                """
            _ = try await run("y = 1", ["session": "other"])
            let lost = try await run(deaf, ["timeout": 5])
            #expect(lost["error"]?.contains("reset") == true, "\(lost)")
            #expect(try await run("x")["error"]?.contains("NameError") == true)
            #expect(try await run("y", ["session": "other"])["result"] == "1")
            #expect(try await run("import os; os._exit(1)")["error"]?.contains("SessionLost") == true)
            #expect(try await run("print('a' * 3_000_000)")["truncated"] != "0")
            // Files stay in the workspace, and there is no network.
            #expect(try await run("open('f', 'w').write('kept')")["result"] == "4")
            let out = try await run("import socket; socket.create_connection(('192.0.2.1', 80), 2)")
            #expect(out["error"] != "null", "\(out)")
            _ = try await f.post("\(url)/reset", ["session": "other"])
            #expect(try await run("y", ["session": "other"])["error"]?.contains("NameError") == true)
            try await f.succeed("instance", "stop", "py")
            #expect(try await run("open('f').read()")["result"] == "'kept'")
            for (body, status) in [
                ("{}", "400"), ("[]", "400"), ("{\"code\": 1}", "400"),
                ("{\"code\": \"\", \"session\": \"../x\"}", "400"),
            ] {
                let result = try await f.run(
                    "/usr/bin/curl", ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-d", body, "\(url)/run"])
                #expect(result.out == status, "\(body): \(result)")
            }
        }
    }

    @Test(arguments: backends) func postgresKeepsItsDataWhileItSleeps(_ backend: String) async throws {
        let image = try await PostgresImage.shared.reference()
        try await DaemonFixture.with { f in
            try await f.succeed("kit", "install", "\(Self.folder)/postgres")
            try await f.refuse(
                "instance", "start", "--name", "db", "--kit", "postgres", "--image", image, code: 4,
                error: "kit-secret-missing")
            try await f.succeed("secret", "set", "POSTGRES_PASSWORD", "-", input: Array("open sesame".utf8))
            try await f.succeed(
                "instance", "start", "--name", "db", "--kit", "postgres", "--image", image, "--isolation", backend)
            let port = try await f.kitRecord("db").expose[0].publicPort
            func psql(_ sql: String, password: String = "open sesame") async throws -> CommandResult {
                try await f.run(
                    "/usr/bin/env",
                    [
                        "PGPASSWORD=\(password)", "PGCONNECT_TIMEOUT=60", "psql", "-h", "127.0.0.1", "-p", "\(port)",
                        "-U",
                        "postgres", "-d", "postgres", "-Atqc", sql,
                    ])
            }
            let made = try await psql(
                "create table t(n int); insert into t select generate_series(1, 1000); select count(*) from t")
            #expect(made.out == "1000\n", "\(made)")
            let refused = try await psql("select 1", password: "guess")
            #expect(refused.code != 0 && refused.err.contains("password authentication failed"), "\(refused)")
            // A connection wakes it, from a pause and from a stop, and the data is there.
            try await f.succeed("instance", "pause", "db")
            #expect(try await psql("select sum(n) from t").out == "500500\n")
            try await f.succeed("instance", "stop", "db")
            #expect(try await f.record("db").state == "stopped")
            let woken = try await psql("select sum(n) from t")
            #expect(woken.out == "500500\n", "\(woken)")
            let logs = try await f.succeed("logs", "db")
            let log = logs.out + logs.err
            #expect(
                log.contains("database system is shut down") && !log.contains("was not properly shut down"), "\(log)")
            try await f.succeed("instance", "delete", "db")
        }
    }
}

/// An image with PostgreSQL, made of the host's package sources once and kept.
actor PostgresImage {
    static let shared = PostgresImage()
    private var made: Task<String, any Error>?

    /// Its name, for `--image`.
    func reference() async throws -> String {
        let task = made ?? Task { try await Self.make() }
        made = task
        return try await task.value
    }

    private static func make() async throws -> String {
        let cache = ProcessInfo.processInfo.environment["AEGIS_TEST_CACHE"] ?? "/var/tmp/aegis-test-cache"
        let folder = "\(cache)/postgres-oci"
        guard !Files.exists("\(folder)/index.json") else { return "oci:\(folder)" }
        try Files.makeDirectories(cache)
        let script = """
            set -e; w=$(mktemp -d '\(cache)/postgres-XXXXXX'); cd "$w"; mkdir -p oci/blobs/sha256
            suite=$(. /etc/os-release; echo "$VERSION_CODENAME")
            mmdebstrap --variant=minbase --include=postgresql "$suite" layer.tar >&2
            diff=$(sha256sum layer.tar | cut -c1-64); gzip -1n layer.tar
            put() { s=$(sha256sum "$1" | cut -c1-64); n=$(stat -c %s "$1"); mv "$1" oci/blobs/sha256/$s; }
            put layer.tar.gz; layer=$s; lsize=$n
            printf '{"architecture":"%s","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
              "$(dpkg --print-architecture)" $diff > c; put c; conf=$s; csize=$n
            printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%s","size":%d}]}' \
              $conf $csize $layer $lsize > m; put m
            printf '{"imageLayoutVersion":"1.0.0"}' > oci/oci-layout
            printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d}]}' $s $n > oci/index.json
            mv -T oci '\(folder)'; cd /; rm -rf "$w"
            """
        try await onLoop { loop in
            let spec = ProcessSpec(
                executable: "/bin/sh", arguments: ["sh", "-c", script], environment: CurrentProcess.environment)
            let (status, _, errors) = try await runProcess(spec, deadline: .seconds(900), on: loop)
            try #require(status.isSuccess, "\(String(decoding: errors.suffix(2000), as: UTF8.self))")
        }
        return "oci:\(folder)"
    }
}
