import AegisCore
import AegisSandboxTypes
import Testing

@testable import aegis

@Suite struct SandboxOptionsTests {
    private func request(_ words: [String], _ from: Caller = caller()) throws -> CreateInstance {
        try SandboxOptions.request(parse(["run"] + words + ["--", "x"]), from)
    }

    @Test func allOptionsReachTheRequest() throws {
        let here = caller(files: ["/home/u/project/data": .directory], variables: ["TOKEN": "t", "HOME": "/home/u"])
        let request = try request(
            [
                "--name", "web", "--image", "python:3.12", "--pull", "always", "--env", "A=1", "--env", "TOKEN",
                "--secret", "K",
                "--workdir", "/w", "--user", "1000:1000", "--label", "a=b", "--label", "c", "--workspace", ".",
                "--mount",
                "./data:/data", "--mount", "~/x:/x:rw", "--isolation", "runc", "--min-isolation", "namespaces",
                "--network",
                "none", "--cpus", "1.5", "--memory", "512Mi", "--disk", "1Gi", "--pids", "64", "--timeout", "5m",
                "--idle-pause", "60s", "--idle-stop", "20m", "--expose", "8080:80:http,ui", "--idle-cpu",
                "5%", "--reclaim", "--idle-standby", "--allow-setuid",
            ], here)
        var expected = CreateInstance(command: ["x"])
        expected.name = "web"
        expected.image = "python:3.12"
        expected.pull = "always"
        expected.env = ["A": "1", "TOKEN": "t"]
        expected.secrets = ["K"]
        expected.workdir = "/w"
        expected.user = "1000:1000"
        expected.labels = ["a": "b", "c": ""]
        expected.workspace = "/home/u/project"
        expected.mounts = [
            MountSpec(source: "/home/u/project/data", target: "/data"),
            MountSpec(source: "/home/u/x", target: "/x", readOnly: false),
        ]
        expected.isolation = "runc"
        expected.minIsolation = "namespaces"
        expected.network = NetworkRequest(mode: "none")
        expected.limits = Limits(
            cpus: 1.5, memory: ByteSize(512 << 20), disk: ByteSize(1 << 30), pids: 64, timeout: .seconds(300))
        expected.idle = IdlePolicy(pause: .seconds(60), stop: .seconds(1200), cpu: 5, reclaim: .safe, standby: true)
        expected.expose = ["8080:80:http,ui"]
        expected.allowSetuid = true
        #expect(request == expected)
    }

    @Test func aVariableThatIsNoTextIsRefusedRatherThanChanged() throws {
        var here = caller(variables: ["BAD": "\u{FFFD}", "GOOD": "\u{FFFD}"])
        here.variableBytes = { $0 == "BAD" ? [0x61, 0xff] : Array("\u{FFFD}".utf8) }
        let error = #expect(throws: AegisError.self) { _ = try request(["--env", "BAD"], here) }
        #expect(error?.kind == .usage && error?.message.contains("'BAD'") == true)
        #expect(error?.message.contains("a\\xff") == true)
        #expect(try request(["--env", "GOOD"], here).env == ["GOOD": "\u{FFFD}"])
    }

    @Test func wordsThatAreNoTextAreNamedByTheirPlace() throws {
        #expect(try Words.text([Array("ä".utf8), []]) == ["ä", ""])
        let error = #expect(throws: AegisError.self) { _ = try Words.text([[0x61], [0x62, 0xfe, 0x0a]]) }
        #expect(error?.kind == .usage && error?.message == "argument 2 is not UTF-8: 'b\\xfe\\x0a'")
    }

    @Test func nothingGivenAsksForNothing() throws { #expect(try request([]) == CreateInstance(command: ["x"])) }

    @Test(
        arguments: [
            (["--memory", "12x"], "--memory: '12x' is not a size"), (["--memory", "1Mi"], "memory 1Mi is too small"),
            (["--cpus", "many"], "'many' is not a number of processors"),
            (["--cpus", "-1"], "cpus -1.0 is out of range"),
            (["--cpus", "nan"], "'nan' is not a number of processors"), (["--pids", "3"], "pids 3 is out of range"),
            (["--pids", "x"], "'x' is not a number of processes"),
            (["--timeout", "5"], "--timeout: '5' is not a length of time"),
            (["--disk", "-1"], "--disk: '-1' is not a size"), (["--env", "=x"], "'=x' is not a variable"),
            (["--env", ""], "'' is not a variable"), (["--env", "A B=1"], "'A B=1' is not a variable"),
            (["--env", "UNSET"], "'UNSET' is not set in your environment"), (["--label", "=x"], "'=x' is not a label"),
            (["--name", "Web"], "'Web' is not a valid instance name"),
            (["--name", "i-0123456789abcdef"], "'i-0123456789abcdef' has the form of an instance id"),
            (
                ["--expose", "80/tcp"],
                "'80/tcp', character 3: the protocol follows a colon, not a slash"
            ),
            (["--expose", "99999"], "'99999', character 1: '99999' is not a guest port"),
            (["--expose", "80", "--expose", "81:80"], "'81:80': port 80 is exposed twice, also by '80'"),
            (["--idle-cpu", "much"], "--idle-cpu: 'much' is not a percentage"),
            (["--idle-pause", "1ms"], "idle pause '1ms' is out of range"),
            (["--idle-standby=maybe"], "--idle-standby: 'maybe' is neither on nor off"),
            (["--reclaim=all"], "--reclaim: 'all' is not a way to reclaim memory"),
            (["--mount", "x"], "'x' is not a mount"), (["--mount", "a:b"], "mount target 'b' is not an absolute path"),
            (["--mount", "a:/b:rx"], "'rx' is not a mount option"),
            (["--mount", "a:/proc"], "mount target '/proc' belongs to the sandbox"),
            (["--pull", "alwys"], "'alwys' is not a pull policy"),
            (["--isolation", "runv"], "'runv' is not an isolation"),
            (["--min-isolation", "strong"], "'strong' is not an isolation grade"),
            (["--image", ""], "--image is empty"),
            (["--workspace", ""], "--workspace is empty"),
            (["--idle-pause", "soon"], "--idle-pause: 'soon' is not a length of time"),
        ] as [([String], String)])
    func malformedValuesAreNamedWithAHint(_ words: [String], _ message: String) {
        let error = #expect(throws: AegisError.self) { try request(words) }
        #expect(error?.message == message)
        #expect(error?.kind == .usage && error?.hint?.isEmpty == false)
    }

    @Test(arguments: [
        (".", "/home/u/project"), ("..", "/home/u"), ("./a", "/home/u/project/a"), ("/abs/../x/", "/x"),
        ("~", "/home/u"),
        ("~/w", "/home/u/w"), ("here", "here"), ("here/", "/home/u/project/here"), ("name", "name"), ("file", "file"),
    ])
    func aWorkspaceIsAPathOrAName(_ value: String, _ expected: String) {
        let here = caller(
            files: ["/home/u/project/here": .directory, "/home/u/project/file": .other], variables: ["HOME": "/home/u"])
        #expect(here.workspace(value) == expected)
        #expect((here.workspaceNote(value)?.contains("write ./here for the folder") ?? false) == (value == "here"))
    }

    @Test(arguments: [
        ("a", "/home/u/project/a"), ("/", "/"), ("../../../../x", "/x"), ("a//b/./c/..", "/home/u/project/a/b"),
        ("~x", "/home/u/project/~x"),
    ])
    func pathsAreMadeAbsolute(_ path: String, _ expected: String) { #expect(caller().absolute(path) == expected) }
}

@Suite struct ArtifactSpecTests {
    private func specs(_ words: [String]) throws -> [ArtifactSpec] {
        try ArtifactSpec.all(parse(["run"] + words + ["--", "x"]), caller(files: ["/home/u/project/out": .directory]))
    }

    @Test func bothOptionsAreRead() throws {
        let specs = try specs([
            "--artifacts", "res", "--artifact", "a/report.pdf", "--artifact", "/etc/x:y", "--artifact", "log:out",
        ])
        #expect(specs.map(\.source) == ["/workspace/output", "/workspace/a/report.pdf", "/etc/x", "/workspace/log"])
        let base = "/home/u/project"
        #expect(specs.map(\.destination) == ["\(base)/res", "\(base)/report.pdf", "\(base)/y", "\(base)/out/log"])
        #expect(specs.map(\.contentsOnly) == [true, false, false, false])
    }

    @Test(arguments: [
        ["--artifacts", ""], ["--artifact", ":x"], ["--artifact", "a:"], ["--artifact", ".."],
        ["-d", "--artifacts", "x"],
    ])
    func mistakesAreRefused(_ words: [String]) { #expect(throws: AegisError.self) { try specs(words) } }
}

@Suite struct MissingFileHintTests {
    private let here = caller(files: [
        "/home/u/project/analyze.py": .other, "/home/u/project/data": .directory, "/home/u/project/data/x.csv": .other,
    ])
    private func line(_ command: [String], workspace: String? = nil, mounts: [MountSpec]? = nil) -> String? {
        var request = CreateInstance(command: command)
        request.workspace = workspace
        request.mounts = mounts
        return MissingFileHint.line(command: command, request: request, caller: here)
    }

    @Test func aFileThatOnlyTheCallerHasIsNamed() {
        #expect(
            line(["python", "analyze.py"])
                == "'analyze.py' is here, but not in the sandbox: add --workspace . to give it this folder,"
                + " or --mount ./analyze.py:/workspace/analyze.py")
        #expect(line(["cat", "data/x.csv"])?.contains("'data/x.csv'") == true)
        #expect(line(["python", "analyze.py"], workspace: "named") != nil)
    }

    @Test func aFileThatTheSandboxSeesIsNot() {
        #expect(line(["python", "analyze.py"], workspace: "/home/u/project") == nil)
        #expect(line(["python", "analyze.py"], workspace: "/") == nil)
        #expect(line(["cat", "data/x.csv"], mounts: [MountSpec(source: "/home/u/project/data", target: "/d")]) == nil)
        #expect(line(["cat", "data/x.csv"], mounts: [MountSpec(source: "/home/u/project/dat", target: "/d")]) != nil)
    }

    @Test(arguments: [
        ["python", "nothing.py"], ["-x"], ["/home/u/project/analyze.py"], [], ["."], ["--file=analyze.py"],
    ])
    func otherWordsAreNot(_ command: [String]) { #expect(line(command) == nil) }
}
