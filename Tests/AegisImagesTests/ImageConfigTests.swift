import AegisCore
import Testing

@testable import AegisImages

struct ImageConfigTests {
    private func config(_ entrypoint: [String], _ command: [String]) -> ImageConfig {
        var config = ImageConfig(architecture: "amd64", operatingSystem: "linux")
        (config.entrypoint, config.command) = (entrypoint, command)
        return config
    }

    @Test(
        arguments: [
            ([], ["sh"], [], ["sh"]),
            ([], ["sh"], ["ls", "-l"], ["ls", "-l"]),
            (["/entry"], ["serve"], [], ["/entry", "serve"]),
            (["/entry"], ["serve"], ["debug"], ["/entry", "debug"]),
            (["/entry"], [], [], ["/entry"]),
            ([], [], ["true"], ["true"]),
        ] as [([String], [String], [String], [String])])
    func joinsCommandsAsDockerDoes(_ entrypoint: [String], _ command: [String], _ user: [String], _ line: [String])
        throws
    {
        #expect(try config(entrypoint, command).commandLine(userCommand: user) == line)
    }

    @Test func anEntrypointOfTheCallerReplacesBoth() throws {
        let config = config(["/entry"], ["serve"])
        #expect(try config.commandLine(userCommand: [], entrypoint: ["/mine"]) == ["/mine"])
        #expect(try config.commandLine(userCommand: ["x"], entrypoint: ["/mine"]) == ["/mine", "x"])
        #expect(try config.commandLine(userCommand: ["x"], entrypoint: []) == ["x"])
    }

    @Test func noCommandAtAllIsAnError() {
        let error = #expect(throws: AegisError.self) { try config([], []).commandLine(userCommand: []) }
        #expect(error?.code == "missing-command")
    }

    @Test func theValueOfAVariableIsTheLastThatWasSet() {
        var config = ImageConfig(architecture: "amd64", operatingSystem: "linux")
        config.environment = ["PATH=/a:/b", "PATHS=no", "EMPTY=", "BARE", "X=1=2", "X=é"]
        #expect(config.value(of: "PATH") == "/a:/b")
        #expect(config.value(of: "EMPTY") == "")
        #expect(config.value(of: "X") == "é")
        #expect(config.value(of: "BARE") == nil && config.value(of: "PAT") == nil && config.value(of: "NONE") == nil)
    }

    @Test func variablesOfLaterLayersWin() {
        var config = config([], [])
        config.environment = ["PATH=/bin", "A=1", "B=x=y", "", "=bad"]
        #expect(
            config.environment(overriddenBy: ["A=2", "C="], ["C=3", "PATH=/usr/bin", "D"])
                == ["PATH=/usr/bin", "A=2", "B=x=y", "C=3", "D="])
    }

    @Test(
        arguments: [
            ("", "0", nil), ("1000", "1000", nil), ("node", "node", nil), ("1000:100", "1000", "100"),
            ("node:staff", "node", "staff"),
            ("0:0", "0", "0"), ("www-data:33", "www-data", "33"),
        ] as [(String, String, String?)])
    func readsUsers(_ text: String, _ user: String, _ group: String?) throws {
        let parsed = try ImageUser(parsing: text)
        #expect(parsed.user == user && parsed.group == group)
    }

    @Test(arguments: [":", "a:", ":b", "a:b:c", "a b", "4294967296", "a/b", "a\n"])
    func refusesOtherUsers(_ text: String) {
        #expect(throws: AegisError.self) { try ImageUser(parsing: text) }
    }

    @Test func theCallersUserWins() throws {
        var config = config([], [])
        config.user = "node"
        #expect(try config.user().user == "node")
        #expect(try config.user(overriddenBy: "1:2").description == "1:2")
        #expect(try config.user(overriddenBy: "").user == "node")
    }
}

struct ManifestTests {
    private static let hex = String(repeating: "ab", count: 32)

    private func variants(_ platforms: String...) throws -> [Manifest.Variant] {
        let entries = platforms.map { #"{"digest":"sha256:\#(Self.hex)","size":1,"platform":\#($0)}"# }.joined(
            separator: ",")
        guard
            case .index(let variants) = try Manifest(
                json: Array(#"{"schemaVersion":2,"manifests":[\#(entries)]}"#.utf8), of: "x")
        else {
            throw Missing(what: "index")
        }
        return variants
    }

    @Test func choosesThePlatform() throws {
        let variants = try variants(
            #"{"os":"unknown","architecture":"unknown"}"#, #"{"os":"windows","architecture":"amd64"}"#,
            #"{"os":"linux","architecture":"arm64","variant":"v8"}"#, #"{"os":"linux","architecture":"amd64"}"#)
        #expect(try Manifest.choose(variants, for: Platform("linux", "amd64"), of: "x") == variants[3].descriptor)
        #expect(try Manifest.choose(variants, for: Platform("linux", "arm64"), of: "x") == variants[2].descriptor)
    }

    @Test func namesTheVariantsThatExist() throws {
        let variants = try variants(
            #"{"os":"linux","architecture":"s390x"}"#, #"{"os":"linux","architecture":"arm","variant":"v7"}"#,
            #"{"os":"unknown","architecture":"unknown"}"#)
        let error = #expect(throws: AegisError.self) {
            try Manifest.choose(variants, for: Platform("linux", "amd64"), of: "x")
        }
        #expect(error?.code == "image-no-variant")
        #expect(error?.message == "'x' has no variant for linux/amd64; it has linux/arm/v7, linux/s390x")
    }

    @Test(arguments: [
        "", "{}", "[]", #"{"schemaVersion":2}"#, #"{"schemaVersion":1,"layers":[]}"#,
        #"{"schemaVersion":2,"config":{"digest":"sha256:12","size":1},"layers":[]}"#,
        #"{"schemaVersion":2,"config":{"digest":"sha256:\#(hex)","size":-1},"layers":[]}"#,
        #"{"schemaVersion":2,"config":{"digest":"sha256:\#(hex)","size":1},"layers":[{"digest":"../x","size":1}]}"#,
        #"{"schemaVersion":2,"config":{"digest":"sha256:\#(hex)","size":1},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"sha256:\#(hex)","size":1}]}"#,
    ])
    func refusesBrokenManifests(_ text: String) {
        #expect(throws: AegisError.self) { try Manifest(json: Array(text.utf8), of: "x") }
    }

    @Test func readsAConfigurationWithNulls() throws {
        let text =
            #"{"architecture":"amd64","os":"linux","config":{"Entrypoint":null,"Cmd":["a"],"Env":null,"ExposedPorts":{"80/tcp":{},"443/tcp":{}},"User":"u","WorkingDir":"/w","StopSignal":""},"rootfs":{"type":"layers","diff_ids":["sha256:\#(Self.hex)"]}}"#
        let document = try ImageDocument(json: Array(text.utf8), of: "x")
        #expect(
            document.config.entrypoint == [] && document.config.command == ["a"] && document.config.stopSignal == nil)
        #expect(document.config.exposedPorts == ["443/tcp", "80/tcp"])
        #expect(document.layers.count == 1)
    }
}
