import AegisCore
import AegisJSON
import AegisSandboxTypes
import AegisTar
import Testing

@testable import AegisClient
@testable import aegis

@Suite struct RenderTests {
    private let now = Timestamp(milliseconds: 1_795_000_000_000)

    private func instance(_ name: String?, _ state: InstanceState, ago seconds: Int64) -> InstanceInfo {
        InstanceInfo(
            id: "i-0123456789abcdef", name: name, state: state, image: "base",
            command: ["python", "-m", "http.server"],
            owner: 1000, node: "12345678", createdAt: Timestamp(milliseconds: now.milliseconds - seconds * 1000))
    }

    @Test func aListOfInstances() throws {
        var running = instance("web", .running, ago: 90)
        running.grade = .userKernel
        var failed = instance(nil, .stopped, ago: 3 * 86_400)
        failed.command = ["sh", "-c", "echo 'it is'; exit 3", String(repeating: "x", count: 50)]
        failed.exitCode = 3
        failed.enabled = false
        var lost = instance("evil", .stopped, ago: 7200)
        lost.stopReason = "lost"
        lost.image = "registry.example.com/a/very/long/name/of/an/image:latest"
        lost.command = ["\u{1b}[31mred\u{7}\nline"]
        try expectSnapshot(InstanceText.list([running, failed, lost], now: now), "instance-list")
        #expect(InstanceText.list([], now: now) == "No instances\n")
    }

    @Test func everythingAboutAnInstance() throws {
        var one = instance("web", .stopped, ago: 60)
        one.backend = "runsc"
        one.grade = .userKernel
        one.gradeDetail = GradeDetail(
            runtime: "runsc", version: "20221219", platform: "ptrace", networkStack: "host", kernel: "6.18",
            userNamespace: true, cgroup: "v1", seccomp: "default", warnings: ["older than 18 months"],
            notChosen: ["qemu": "not built", "firecracker": "no /dev/kvm"])
        one.workspace = "/home/u/project"
        one.mounts = [MountSpec(source: "/a", target: "/b"), MountSpec(source: "/c", target: "/d", readOnly: false)]
        one.secrets = ["A", "B"]
        one.limits = Limits(cpus: 1.5, memory: ByteSize(512 << 20), pids: 64, timeout: .seconds(300))
        one.labels = ["b": "2", "a": "1"]
        one.startedAt = now
        one.stoppedAt = now
        one.exitCode = 137
        one.stopReason = "killed"
        one.oomKilled = true
        one.error = RecordedError(AegisError.failed("boot-failed", "the runtime failed", hint: "see the log"))
        try expectSnapshot(InstanceText.info(one), "instance-info")
    }

    private func backend(_ name: String, _ grade: Grade?, _ latency: Double?, _ reason: String? = nil) -> BackendReport
    {
        var report = BackendReport(backend: name, available: reason == nil, checkedAt: now)
        report.grade = grade
        report.latencyMs = latency
        report.reason = reason
        if reason != nil { report.hint = "install it" }
        return report
    }

    @Test func statusAndDoctor() throws {
        let backends = [
            backend("runsc", .userKernel, 61.27), backend("runc", .namespaces, 14),
            backend("qemu", nil, nil, "not found"),
        ]
        var status = StatusReport(
            version: "0.1.0", pid: 42, node: "12345678", home: "/var/lib/aegis", runDirectory: "/run/aegis/12345678",
            socket: "/run/aegis/aegisd.sock", ports: ["api": "127.0.0.1:8080"],
            startedAt: Timestamp(milliseconds: now.milliseconds - 7_200_000),
            instances: ["stopped": 1, "running": 3, "paused": 0], backends: backends)
        var plain = WarmReport(image: "base", wanted: 2, ready: 1, claimed: 7, refills: 8, memoryBytes: 362_496)
        plain.obstacle = "memory is scarce"
        var shaped = WarmReport(
            image: "docker.io/library/python:3", wanted: 1, ready: 1, claimed: 0, refills: 1, memoryBytes: 12_582_912)
        shaped.isolation = "runsc"
        shaped.limits = Limits(cpus: 1.5, memory: ByteSize(512 << 20), pids: 64)
        status.warm = [plain, shaped]
        try expectSnapshot(ServiceText.status(status, now: now), "status")
        let report = DoctorReport(
            version: "0.1.0", kernel: "6.18.5", backends: backends, auto: "runsc",
            checks: [
                DoctorCheck("cgroup", "ok", "v1 hybrid"),
                DoctorCheck("swap", "warning", "none", hint: "zram would help"),
            ])
        try expectSnapshot(ServiceText.doctor(report), "doctor")
    }

    @Test func imagesAndSecrets() throws {
        let image = ImageInfo(
            reference: "python:3.12-alpine", id: "sha256:0123456789abcdef0123", size: 51_234_567, layers: 5,
            createdAt: Timestamp(milliseconds: now.milliseconds - 60_000), inUse: true)
        try expectSnapshot(ServiceText.images([image], now: now), "images")
        let secret = SecretInfo(
            name: "API_KEY", createdAt: Timestamp(milliseconds: now.milliseconds - 86_400_000), updatedAt: now)
        try expectSnapshot(ServiceText.secrets([secret], now: now), "secrets")
        #expect(
            ServiceText.images([], now: now) == "No images\n" && ServiceText.secrets([], now: now) == "No secrets\n")
        let workspaces = [
            NamedWorkspace(
                name: "data", owner: 1000, size: 5 << 20, isWholeSize: false, createdAt: now, usedAt: now,
                usedBy: ["one", "two"]),
            NamedWorkspace(
                name: "x", owner: 0, size: 4096, isWholeSize: true, createdAt: now, usedAt: now, usedBy: []),
        ]
        #expect(
            ServiceText.workspaces(workspaces, now: now) == """
                NAME   SIZE           OWNER      LAST USED   USED BY
                data   over 5.0 MiB   uid 1000   0s ago      one,two
                x      4.0 KiB        root       0s ago      -

                """)
        #expect(ServiceText.workspaces([], now: now) == "No named workspaces\n")
        let group = NetworkGroup(
            name: "shop", owner: 1000, subnet: "198.19.3.0/24", gateway: "198.18.0.1",
            members: [
                NetworkGroup.Member(id: "i-0000000000000001", name: "db", address: "198.19.3.1"),
                NetworkGroup.Member(id: "i-0000000000000002", name: "web\u{1b}[2J", address: "198.19.3.2"),
            ])
        try expectSnapshot(NetworkText.groups([group]) + NetworkText.group(group), "groups")
        #expect(NetworkText.groups([]) == "No groups with running members\n")
    }

    @Test func aBuildSaysWhatItChanged() {
        let now = Timestamp(milliseconds: 1_800_000_000_000)
        let image = ImageInfo(
            reference: "base", id: "sha256:b", size: 2048, layers: 1,
            createdAt: Timestamp(milliseconds: now.milliseconds - 3 * 86_400_000), inUse: false)
        func built(_ previous: String?, fresh: Bool) -> String {
            ServiceText.built(image, previous: previous, fresh: fresh, now: now)
        }
        let line = "base sha256:b (2.0 KiB)\n"
        #expect(built(nil, fresh: false) == line && built(nil, fresh: true) == line)
        #expect(built("sha256:b", fresh: true) == line + "  unchanged: the packages are the same\n")
        #expect(built("sha256:a", fresh: true) == line + "  before: sha256:a\n")
        #expect(
            built("sha256:b", fresh: false) == line + """
                  'base' is here already, built 3d ago: nothing was done
                  hint: aegis image build base --fresh builds it again, with the packages of today

                """)
    }

    @Test func everyProblemOfAListStandsOnALineOfItsOwn() {
        let error = AegisError(
            .usage, "invalid-config", "a.yaml:5:5: unknown key\na.yaml:6:1: \u{1b}[2J", hint: "one\ntwo")
        #expect(
            ErrorText.text(error, .text)
                == "aegis: a.yaml:5:5: unknown key\n  a.yaml:6:1: \\e[2J (invalid-config)\n  hint: one\n  two\n")
    }

    @Test func errorsInAllFormats() {
        let error = AegisError(.conflict, "name-in-use", "the name 'web' is taken", hint: "choose another\u{1b}[0m")
        #expect(
            ErrorText.text(error, .text)
                == "aegis: the name 'web' is taken (name-in-use)\n  hint: choose another\\e[0m\n")
        #expect(
            ErrorText.text(error, .json) == """
                {
                  "error": {
                    "code": "name-in-use",
                    "message": "the name 'web' is taken",
                    "hint": "choose another\\u001b[0m"
                  }
                }

                """)
        #expect(
            ErrorText.text(.failed("x", "y"), .yaml) == """
                error:
                  code: x
                  message: "y"

                """)
    }

    @Test(
        arguments: [
            (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (12_700, "12.4 KiB"), (1_048_575, "1023.9 KiB"),
            (1_048_576, "1.0 MiB"),
            (5_368_709_120, "5.0 GiB"), (UInt64.max / 16, "1048575.9 TiB"),
        ] as [(UInt64, String)])
    func sizes(_ bytes: UInt64, _ text: String) { #expect(Plain.size(bytes) == text) }

    @Test(
        arguments: [
            (["ls"], "ls"), (["sh", "-c", "a b"], "sh -c 'a b'"), (["it's"], #"'it'\''s'"#), ([""], "''"),
            (["a$b"], "'a$b'"),
        ] as [([String], String)])
    func commandsAreQuotedForAShell(_ words: [String], _ text: String) { #expect(Plain.command(words) == text) }

    @Test(arguments: ["a\u{202e}b", "\u{9b}31m", "\r", "\u{2028}"])
    func whatChangesATerminalIsSpelledOut(_ text: String) {
        #expect(Plain.text(text).unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value < 0x7f })
    }

    @Test func transferReports() {
        var report = TarReport()
        report.files = 3
        report.bytes = 12_700
        #expect(
            TransferText.report(report, from: "/workspace/output", to: "out")
                == "/workspace/output -> out (3 files, 12.4 KiB)\n")
    }

    @Test func exitsBecomeCodes() {
        #expect(Outcome.of(StreamExit(code: 3)).code == 3 && Outcome.of(StreamExit(code: 3)).message == nil)
        #expect(Outcome.of(StreamExit(code: 143, reason: "timeout")).code == 124)
        #expect(Outcome.of(StreamExit(code: 137, reason: "oom")).code == 137)
        let ended = Outcome.of(StreamExit(code: 4, reason: "daemon-stopped"))
        #expect(ended.code == 4 && ended.message?.code == "daemon-stopped")
        let missing = AegisError.notFound("command-not-found", "no")
        #expect(Outcome.of(StreamExit(code: 127, error: missing)).code == 127)
        #expect(Outcome.code(of: missing) == 127 && Outcome.code(of: .failed("command-not-executable", "")) == 126)
        #expect(Outcome.code(of: .failed("boot-failed", "")) == 125 && Outcome.code(of: .usage("")) == 2)
        #expect(Outcome.code(of: AegisError(.daemonNotRunning, "daemon-not-running", "")) == 125)
    }
}
