import AegisCore
import AegisSandboxTypes
import Testing

@testable import AegisJSON

@Suite struct JSONValueTests {
    @Test(arguments: [
        "null", "true", "false", "0", "-1.5e+10", "\"\"", "[]", "{}", "[1,2,[3]]", #"{"b":1,"a":{"c":null}}"#,
        #""tab\tquote\"slash\\nl\nbell\u0007""#, "\"é€😀\"",
    ])
    func aTextReadsAndWritesTheSame(_ text: String) throws {
        #expect(String(decoding: try JSONValue(parsing: text.utf8).compact, as: UTF8.self) == text)
    }

    @Test func escapesAreDecoded() throws {
        let value = try JSONValue(parsing: #"  "a\/\u0041\ud83d\ude00\u00e9\ud800x\b\f"  "#.utf8)
        #expect(value.text == "a/A😀é\u{fffd}x\u{8}\u{c}")
    }

    @Test(arguments: [
        "", " ", "nul", "01", "1.", ".5", "1e", "+1", "[1,]", "[1 2]", "{\"a\"}", "{\"a\":1,}", "{a:1}", "\"a",
        "\"\u{1}\"",
        #""\x""#, #""\u12g4""#, "true false", "[", "{\"a\":", "'a'", "NaN",
    ])
    func whatIsNoJSONIsRefusedWithItsPlace(_ text: String) {
        let error = #expect(throws: JSONError.self) { try JSONValue(parsing: text.utf8) }
        #expect((error?.offset ?? -1) <= text.utf8.count)
    }

    @Test func badUTF8AndDeepNestingAreRefused() {
        #expect(throws: JSONError.self) { try JSONValue(parsing: [34, 0xff, 34]) }
        #expect(throws: JSONError.self) { try JSONValue(parsing: String(repeating: "[", count: 100_000).utf8) }
        #expect(throws: Never.self) {
            try JSONValue(parsing: (String(repeating: "[", count: 60) + String(repeating: "]", count: 60)).utf8)
        }
    }

    @Test func prettyKeepsOrderAndNumbers() throws {
        let value = try JSONValue(parsing: #"{"z":1.50,"a":[],"list":[{"k":"v"},2],"n":{}}"#.utf8)
        #expect(
            value.pretty == """
                {
                  "z": 1.50,
                  "a": [],
                  "list": [
                    {
                      "k": "v"
                    },
                    2
                  ],
                  "n": {}
                }
                """)
    }

    @Test func theCanonicalTextIsTheSameForTheSameValue() throws {
        let text = #"{"b":[1.50,1e2,-0,-0.0,10000000000000000000000],"a":{"z":null,"é":"\u0041"},"":true}"#
        let value = try JSONValue(parsing: text.utf8, duplicates: .refuse)
        let canonical = #"{"":true,"a":{"z":null,"é":"A"},"b":[1.5,100,0,0,1e+22]}"#
        #expect(String(decoding: value.canonical, as: UTF8.self) == canonical)
        #expect(try JSONValue(parsing: value.canonical).canonical == value.canonical)
    }

    @Test func aFieldThatComesTwiceIsRefusedWhereItMatters() throws {
        let text = #"{"path":"/a","x":{"path":1},"path":"/etc/passwd"}"#
        let error = #expect(throws: JSONError.self) { try JSONValue(parsing: text.utf8, duplicates: .refuse) }
        #expect(error?.reason == "the field 'path' comes twice")
        #expect(throws: Never.self) { try JSONValue(parsing: text.utf8) }
    }

    @Test(arguments: [("1.5", 1.5), ("-2", -2), ("1e400", nil), ("9007199254740993", 9007199254740992)])
    func numbersAreRead(_ text: String, _ value: Double?) {
        #expect(JSONValue.number(text).double == value)
    }

    @Test(arguments: [
        ("2", 2), ("2.0", 2), ("2e0", 2), ("0.2E1", 2), ("-3.0", -3), ("6e2", 600), ("1.5", nil), ("1e300", nil),
        ("x", nil),
        ("9223372036854775807", .max), ("9007199254740992.0", 9_007_199_254_740_992), ("20e-1", 2), ("0.0", 0),
        ("-0e5", 0), ("0.005e3", 5),
        ("2.0000000000000000001", nil), ("0.99999999999999999999", nil), ("1e-400", nil), ("1e19", nil),
        ("1e18", 1_000_000_000_000_000_000),
        ("-9.223372036854775808e18", .min), ("9.223372036854775808e18", nil), ("1e99999999999999999999", nil),
        ("9007199254740991.0", 9_007_199_254_740_991),
    ])
    func wholeNumbersAreReadAsTheyAreMeant(_ text: String, _ value: Int64?) {
        #expect(JSONValue.number(text).integer == value)
        #expect(JSONValue.number(text).unsigned == value.flatMap { UInt64(exactly: $0) })
    }

    @Test func terminalsGetNoControlCharacters() throws {
        let value = JSONValue.string("\u{1b}[2J\u{9b}31m\u{7f}")
        #expect(value.pretty == #""\u001b[2J\u009b31m\u007f""#)
    }

    @Test func yamlQuotesWhatWouldBeReadAsSomethingElse() throws {
        let value: JSONValue = [
            "name": "web", "image": "python:3.12", "answer": "yes", "version": "1.0", "empty": "", "none": .null,
            "list": ["a", ["x": 1, "y": ["k": true]], [2, 3]], "nothing": [], "map": ["k": "two words"],
            "path": "/workspace", "multi": "a\nb", "odd": "- dash",
        ]
        #expect(
            value.yaml == """
                name: web
                image: "python:3.12"
                answer: "yes"
                version: "1.0"
                empty: ""
                none: null
                list:
                  - a
                  - x: 1
                    "y":
                      k: true
                  -
                    - 2
                    - 3
                nothing: []
                map:
                  k: two words
                path: /workspace
                multi: "a\\nb"
                odd: "- dash"

                """)
    }

    @Test func aRequestIsEncodedWithTheFieldsThatAreSet() throws {
        var request = CreateInstance(command: ["python", "a.py"])
        request.limits = Limits(cpus: 1.5, memory: ByteSize(512 << 20), timeout: .seconds(300))
        request.mounts = [MountSpec(source: "/a", target: "/b")]
        request.ephemeral = true
        let json = try JSONValue(encoding: request)
        #expect(
            String(decoding: json.compact, as: UTF8.self)
                == #"{"command":["python","a.py"],"mounts":[{"source":"/a","target":"/b","read_only":true}],"#
                + #""limits":{"cpus":1.5,"memory":"512Mi","timeout":"5m"},"ephemeral":true}"#)
        #expect(try json.decode(CreateInstance.self) == request)
    }

    @Test func everyModelTypeSurvivesARoundTrip() throws {
        var one = InstanceInfo(
            id: "i-0123456789abcdef", name: "web", state: .running, image: "base", command: ["a", ""], owner: 1000,
            node: "12345678", createdAt: Timestamp(milliseconds: 1_795_000_000_123))
        one.exitCode = -1
        one.labels = ["k": "v"]
        one.expose = [
            ExposedPort(try ExposeSpec(parsing: "49152:80:http,ui,wake=http,cooldown=5s,ready=/x"))
        ]
        one.limits.cpus = 2
        #expect(try JSONValue(parsing: JSONValue(encoding: one).compact).decode(InstanceInfo.self) == one)
    }

    @Test func aWrongTypeIsAnError() throws {
        let json = try JSONValue(parsing: #"{"command":"x"}"#.utf8)
        #expect(throws: DecodingError.self) { try json.decode(CreateInstance.self) }
        #expect(throws: DecodingError.self) { try JSONValue(parsing: "{}".utf8).decode(InstanceInfo.self) }
        #expect(throws: DecodingError.self) { try JSONValue(parsing: "70000".utf8).decode(UInt16.self) }
    }
}
