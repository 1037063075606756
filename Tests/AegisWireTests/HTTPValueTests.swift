import AegisCore
import AegisWire
import Testing

@Suite struct HTTPHeadersTests {
    @Test func namesAreComparedWithoutCaseAndOrderIsKept() {
        var headers: HTTPHeaders = ["Accept": "a", "X-One": "1", "accept": "b"]
        #expect(headers.first("ACCEPT") == "a")
        #expect(headers.all("Accept") == ["a", "b"])
        #expect(headers.contains("x-one") && !headers.contains("x-on") && !headers.contains("x-two"))
        headers.set("Accept", "c")
        #expect(headers.map(\.name) == ["X-One", "Accept"] && headers.all("accept") == ["c"])
        headers.remove("ACCEPT")
        #expect(headers.count == 1 && headers.first("accept") == nil)
        #expect(["A": "b"] as HTTPHeaders == ["a": "b"] && ["A": "b"] as HTTPHeaders != ["a": "B"])
    }

    @Test func elementsOfListsAreSplitAndTrimmed() {
        let headers: HTTPHeaders = ["Connection": "keep-alive, ,\tUpgrade ", "connection": "x"]
        #expect(headers.elements("connection") == ["keep-alive", "Upgrade", "x"])
        #expect(headers.contains("connection", token: "upgrade"))
        #expect(!headers.contains("connection", token: "grade"))
    }

    @Test(arguments: [
        ("X", "a\r\nSet-Cookie: b"), ("X", "a\nb"), ("X", "\0"), ("X: y", "a"), ("", "a"), ("X\r\nY", "a"), ("ä", "a"),
    ])
    func whatWouldSplitAMessageIsNotAdded(_ name: String, _ value: String) {
        var headers = HTTPHeaders()
        headers.add(name, value)
        #expect(headers.isEmpty && headers.invalidField == name)
    }
}

@Suite struct HTTPTargetTests {
    static let paths: [(String, [String])] = [
        ("/", []), ("/a", ["a"]), ("/a/", ["a", ""]), ("//", ["", ""]), ("/a//b", ["a", "", "b"]),
        ("/v1/images/docker.io%2Flibrary%2Fpython%3A3.12", ["v1", "images", "docker.io/library/python:3.12"]),
        ("/%C3%BC+", ["ü+"]), ("/...", ["..."]), ("/a%20b", ["a b"]), ("http://h", []), ("http://h?x", []),
        ("HTTPS://h:1/p/q", ["p", "q"]), ("/a:b@c", ["a:b@c"]), ("/%25", ["%"]),
    ]
    @Test(arguments: paths) func pathIsDecodedSegmentBySegment(_ raw: String, _ segments: [String]) throws {
        let target = try HTTPTarget(parsing: raw)
        #expect(target.path == segments && target.raw == raw)
    }

    @Test func queryIsDecodedInOrder() throws {
        let query = try HTTPTarget(parsing: "/p?follow&since=1h%2B+x&a=1&a=2&&=z&e=").query
        #expect(query.names == ["follow", "since", "a", "a", "", "e"])
        #expect(query.first("follow") == "" && query.first("since") == "1h+ x" && query.first("e") == "")
        #expect(query.all("a") == ["1", "2"] && query.first("none") == nil)
        let many = "/?" + String(repeating: "a&", count: 129)
        #expect(throws: HTTPError.self) { try HTTPTarget(parsing: many) }
    }

    @Test func absoluteTargetTellsItsAuthority() throws {
        let target = try HTTPTarget(parsing: "http://b.example:81/x")
        #expect(target.form == .absolute && target.authority == "b.example:81")
        let head = HTTPRequestHead(.get, target, headers: ["Host": "other"])
        #expect(head.authority == "b.example:81")
        #expect(HTTPRequestHead(.get, try HTTPTarget(parsing: "/"), headers: ["Host": "h"]).authority == "h")
    }

    @Test func whatIsBuiltReadsBackTheSame() throws {
        let path = ["v1", "a/b c%", "ü?#&=+", ""]
        let query = HTTPQuery([("k&=", "v +%"), ("", "x"), ("y", "ü")])
        let built = HTTPTarget(path: path, query: query)
        let read = try HTTPTarget(parsing: built.raw)
        #expect(read.path == path && read.query == query && read.form == .origin)
        #expect(HTTPTarget(path: []).raw == "/")
    }
}

@Suite struct HTTPErrorBodyTests {
    @Test func bodyIsJSONWithEverythingEscaped() {
        let error = AegisError(.usage, "bad-thing", "a \"b\" \\ \n\r\t\u{1}\u{7f} ü", hint: "do </this>")
        let text = String(decoding: error.jsonBody, as: UTF8.self)
        #expect(
            text == #"{"error":{"code":"bad-thing","message":"a \"b\" \\ \n\r\t\u0001\u007f ü","hint":"do </this>"}}"#
                + "\n")
        let plain = String(decoding: AegisError.failed("x", "y").jsonBody, as: UTF8.self)
        #expect(plain == #"{"error":{"code":"x","message":"y"}}"# + "\n")
    }

    @Test(arguments: [
        (HTTPError.Code.malformed, 400), (.tooLarge, 413), (.timeout, 408), (.unsupported, 501), (.busy, 500),
    ])
    func codeDecidesTheStatus(_ code: HTTPError.Code, _ status: Int) {
        #expect(HTTPError(code, "m").status == status)
        #expect(HTTPError(code, "m", status: 431).status == 431)
        #expect(HTTPError(code, "m").aegisError.code == code.description)
    }
}
