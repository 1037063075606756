import AegisBroker
import AegisCore
import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisProxy

/// The same checks when both sides speak HTTP/2: curl and the library h2 inside, the library h2 outside.
@Suite struct InspectorHTTP2Tests {
    /// The server and clients of the library h2.
    static func peer() throws -> String {
        let path = #filePath.split(separator: "/").dropLast().map { "/\($0)" }.joined() + "/Peers/h2_peer.py"
        return String(decoding: try Files.read(path, limit: 1 << 20), as: UTF8.self)
    }

    /// What a client of the library h2 says, by the first word of each line.
    private func said(_ what: String, _ world: InspectorTests.World) async throws -> [String: String] {
        let result = try await runTool(
            "python3", ["-c", try Self.peer(), what, "\(world.port)", world.placeholder], in: world.folder.path,
            environment: ["PYTHONPATH=\(try TestPeers.packages())"], on: world.loop)
        #expect(result.code == 0, "\(result)")
        var out: [String: String] = [:]
        for line in result.out.split(separator: "\n") {
            let parts = line.split(separator: " ", maxSplits: 1)
            out[String(parts[0])] = parts.count > 1 ? String(parts[1]) : ""
        }
        return out
    }

    @Test func aSecretIsUsedAndNotSeen() async throws {
        try await InspectorTests.world(protocols: "h2,http/1.1") { world in
            let key = "X-Api-Key: \(world.placeholder)"
            let good = try await world.curl([
                "--http2", "-w", " %{http_version}", "-H", key, "https://api.example.com/v1/count",
            ])
            #expect(good.out.contains(#""good": true"#) && good.out.hasSuffix(" 2"), "\(good)")
            let echo = try await world.curl(["--http2", "-i", "-H", key, "https://api.example.com/v1/echo"])
            #expect(echo.code == 0 && echo.out.hasSuffix("\ndone"), "\(echo)")
            #expect(!echo.out.contains("real-value") && !echo.out.contains("123+x"), "\(echo.out)")
            #expect(echo.out.contains("x-echo: ****************"))
            #expect(world.refusals == [])
        }
    }

    @Test func elsewhereItIsRefused() async throws {
        try await InspectorTests.world(protocols: "h2") { world in
            let p = world.placeholder
            for (arguments, reason) in [
                (["-H", "X-Api-Key: \(p)", "https://api.example.com/v2"], "secret-not-bound"),
                (["https://api.example.com/v1?k=\(p)"], "secret-misplaced"),
                (["-A", p, "https://api.example.com/v1"], "secret-misplaced"),
                (["-d", "k=\(p)", "https://api.example.com/v1"], "secret-misplaced"),
                (["-u", "x:\(Placeholder())", "https://api.example.com/v1"], "secret-unknown"),
            ] {
                let result = try await world.curl(["--http2", "-w", "%{http_code} %{http_version}"] + arguments)
                #expect(result.out.hasSuffix("403 2") && result.out.contains(reason), "\(arguments) \(result)")
                #expect(world.refusals.last == reason)
            }
            // Within basic authentication it is replaced, and masked again in the echo.
            let basic = try await world.curl(["--http2", "-u", "x:\(p)", "https://api.example.com/v1/fields"])
            #expect(basic.out.contains(#""Basic eDp*********************", "NeverIndexedHeaderTuple""#), "\(basic)")
            var body = [UInt8](repeating: UInt8(ascii: "A"), count: 1_000_001)
            body += Array(p.utf8) + body
            let deep = try await world.curl(
                ["--http2", "--data-binary", "@-", "https://api.example.com/v1/count"], input: body)
            // curl takes the end of an upload that nobody wants for an error.
            #expect(deep.out.contains("secret-misplaced") || deep.code == 92, "\(deep)")
            #expect(world.refusals.last == "secret-misplaced")
        }
    }

    @Test func bodiesGoThroughWhole() async throws {
        try await InspectorTests.world(protocols: "h2") { world in
            let body = scrambled(1_500_000)
            let sum = body.reduce(0) { $0 + Int($1) }
            let result = try await world.curl(
                [
                    "--http2", "-H", "X-Api-Key: \(world.placeholder)", "--data-binary", "@-",
                    "https://api.example.com/v1/count",
                ], input: body)
            #expect(
                result.out == #"{"good": true, "length": 1500000, "sum": \#(sum), "trailers": 0}"#, "\(result)")
            // Many at once on one connection.
            let urls = (0..<60).map { "https://api.example.com/v1/count?\($0)" }
            let many = try await world.curl(
                ["--http2", "-Z", "-H", "X-Api-Key: \(world.placeholder)", "-w", "%{num_connects} "] + urls)
            #expect(many.out.split(separator: "\"good\": true").count == 61, "\(many)")
        }
    }

    @Test(arguments: [true, false]) func whatTheServerDoesNotSpeakIsNotOffered(_ hasSecrets: Bool) async throws {
        // A server of HTTP/1.1: whoever can, speaks that.
        try await InspectorTests.world(bindings: hasSecrets ? ["KEY@api.example.com/v1"] : []) { world in
            let both = try await world.curl(["--http2", "-w", "%{http_version}", "-o", "x", "https://api.example.com/"])
            #expect(both.out == "1.1", "\(both)")
            let only = try await runTool(
                "openssl",
                ["s_client", "-connect", "127.0.0.1:\(world.port)", "-servername", "api.example.com", "-alpn", "h2"],
                on: world.loop)
            #expect(only.code != 0, "\(only)")
            _ = await world.events.wait(for: 1)
            #expect(world.refusals.last == "tls-nothing-in-common", "\(world.events.all)")
        }
        // A server of HTTP/2 alone.
        try await InspectorTests.world(bindings: hasSecrets ? ["KEY@api.example.com/v1"] : [], protocols: "h2") {
            world in
            let old = try await world.curl(["--http1.1", "-w", "%{http_code}", "https://api.example.com/"])
            #expect(old.out.hasSuffix("502"), "\(old)")
            let new = try await world.curl(["--http2", "-w", "%{http_version}", "https://api.example.com/"])
            #expect(new.out == "web2", "\(new)")
            await world.server.stop()
            let gone = try await world.curl(["--http2", "-w", "%{http_code}", "https://api.example.com/"])
            #expect(gone.out.hasSuffix("502") || gone.out.hasSuffix("503"), "\(gone)")
        }
    }

    @Test func eachStreamIsChecked() async throws {
        try await InspectorTests.world(protocols: "h2") { world in
            let said = try await said("authority", world)
            for what in ["other", "port", "host"] { #expect(said[what] == "421 host-mismatch", "\(said)") }
            #expect(said["connect"] == "403 connect-refused" && said["own"] == "200", "\(said)")
            #expect(said["extended"] == "None b'' reset=1", "\(said)")
            #expect(
                world.refusals == [
                    "host-mismatch", "host-mismatch", "host-mismatch", "connect-refused", "connect-refused",
                ])
        }
        try await InspectorTests.world(protocols: "h2") { request in
            request.path == "/open"
                ? nil : InspectRefusal(reason: "not-covered", message: "\(request.path) is not granted")
        } _: { world in
            let both = try await world.curl([
                "--http2", "-w", "%{http_code} ", "https://api.example.com/open", "https://api.example.com/closed",
            ])
            #expect(both.out.contains("web200") && both.out.hasSuffix("403 "), "\(both)")
            #expect(world.refusals == ["not-covered"])
        }
    }

    @Test func placeholdersInBodiesAreFoundAcrossFrames() async throws {
        try await InspectorTests.world(protocols: "h2") { world in
            let said = try await said("body", world)
            for what in ["body", "deep", "trailer"] { #expect(said[what] == "403 secret-misplaced", "\(said)") }
            #expect(said["late"] == "200 False True", "\(said)")
            let sum = Array("AegisSecre".utf8).reduce(0) { $0 + Int($1) }
            #expect(
                said["whole"] == #"{"good": false, "length": 10, "sum": \#(sum), "trailers": 1}"#, "\(said)")
            #expect(world.refusals == [String](repeating: "secret-misplaced", count: 4))
        }
    }

    @Test func answersAreMaskedAcrossFrames() async throws {
        try await InspectorTests.world(protocols: "h2") { world in
            let said = try await said("answers", world)
            let stars = String(repeating: "*", count: InspectorTests.value.utf8.count)
            #expect(said["interim"] == stars && said["pieces"] == "<\(stars)> \(stars)", "\(said)")
            #expect(said["coded"] == "502 response-encoded" && said["head"] == "b''", "\(said)")
        }
    }

    @Test func theValueIsNeverIndexed() async throws {
        try await InspectorTests.world(protocols: "h2") { world in
            let result = try await world.curl([
                "--http2", "-H", "X-Api-Key: \(world.placeholder)", "-H", "Accept-Encoding: gzip", "-H", "TE: trailers",
                "https://api.example.com/v1/fields",
            ])
            for field in [
                #"["x-api-key", "the value", "NeverIndexedHeaderTuple"]"#,
                #"["accept-encoding", "identity", "HeaderTuple"]"#, #"["te", "trailers", "HeaderTuple"]"#,
                #"[":scheme", "https", "HeaderTuple"]"#, #"[":authority", "api.example.com", "HeaderTuple"]"#,
            ] { #expect(result.out.contains(field), "\(field) \(result)") }
            #expect(!result.out.contains("gzip") && !result.out.contains("forwarded"))
        }
    }

    @Test(arguments: [true, false]) func endsAreTold(_ hasSecrets: Bool) async throws {
        try await InspectorTests.world(bindings: hasSecrets ? ["KEY@api.example.com/v1"] : [], protocols: "h2") {
            world in
            let said = try await said("ends", world)
            // Its own code goes on: ENHANCE_YOUR_CALM.
            #expect(said["reset"] == "11" && said["cancel"] == "b'yes'", "\(said)")
            // A connection that the server has ended is followed by another one; the guest keeps its own.
            #expect(said["goaway"] == "b'last' 200" && said["after"] == "200", "\(said)")
            #expect(said["half"] == "False True", "\(said)")
        }
    }

    @Test(arguments: [true, false]) func slowOnesHoldOnlyThemselvesUp(_ hasSecrets: Bool) async throws {
        try await InspectorTests.world(bindings: hasSecrets ? ["KEY@api.example.com"] : [], protocols: "h2") { world in
            let said = try await said("pressure", world)
            #expect(said["sent"] == "True" && said["big"] == "True", "\(said)")
        }
    }

    @Test func whatIsTooMuchIsRefused() async throws {
        try await InspectorTests.world(protocols: "h2") { world in
            let limits = try await said("limits", world)
            #expect(limits["large"] == "431 header-too-large" && limits["streams"] == "128", "\(limits)")
            #expect(limits["all"] == "True", "\(limits)")
            let flood = try await said("flood", world)
            #expect(flood["flood"] == "True" && flood["other"] == "200", "\(flood)")
        }
    }

    /// All connections share the room for what waits: what nobody reads any more gives it back.
    @Test func answersThatNobodyReadsLeaveNothingBehind() async throws {
        try await InspectorTests.world(protocols: "h2") { world in
            let said = try await said("unread", world)
            #expect(said["statuses"] == "{'421'} None", "\(said)")
            // The client has ended, and its connection goes with it.
            let end = ContinuousClock.now + .seconds(180)
            while world.proxy.connectionCount > 0, .now < end {
                try await world.loop.clock.sleep(for: .milliseconds(5))
            }
            #expect(world.proxy.connectionCount == 0 && world.proxy.heldBytes == 0)
        }
    }

    @Test func conversationsGoOn() async throws {
        try await InspectorTests.world(protocols: "h2") { world in
            let said = try await said("talk", world)
            #expect(said["talk"] == "True", "\(said)")
        }
    }

    @Test func whatIsHeldBackFillsNoWindow() async throws {
        var limits = ProxyLimits()
        limits.streamWindow = 64
        try await InspectorTests.world(protocols: "h2", limits: limits) { world in
            let said = try await said("window", world)
            let escaped = InspectorTests.value.utf8.dropLast().map { "\\u00" + String($0, radix: 16) }.joined() + "!"
            #expect(said["down"] == escaped && said["up"] == "\(47 * 6 + 1)", "\(said)")
            #expect(world.refusals == [])
        }
    }

    @Test func clientsThatWantAnotherCertificateAreReported() async throws {
        try await InspectorTests.world(protocols: "h2") { world in
            let pin = try await world.curl([
                "--http2", "--pinnedpubkey", "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "https://api.example.com/",
            ])
            #expect(pin.code == 90, "\(pin)")
            _ = await world.events.wait(for: 1)
            #expect(world.refusals == ["client-refused-certificate"])
        }
    }
}
