import AegisJSON
import Testing

@testable import AegisTools

/// What the ledger gets of a call's arguments.
@Suite struct InputPreviewTests {
    private static func text(_ json: String, atMost length: Int = 200, mask: InputPreview.Mask? = nil) throws -> String
    {
        InputPreview.text(try JSONValue(json: json), atMost: length, mask: mask)
    }

    @Test(arguments: [
        (#"{"a":1,"b":[true,null,"x"]}"#, #"{"a":1,"b":[true,null,"x"]}"#),
        (#"{"password":"hunter2","user":"u"}"#, #"{"password":"•••","user":"u"}"#),
        (
            #"{"headers":{"Authorization":"Bearer hunter2","X-Api-Key":["hunter2"],"Accept":"x"}}"#,
            #"{"headers":{"Authorization":"•••","X-Api-Key":"•••","Accept":"x"}}"#
        ),
        (#"{"max_tokens":500,"token":"hunter2"}"#, #"{"max_tokens":500,"token":"•••"}"#),
        (#"{"env":{"DB_PASSWORD":"hunter2"}}"#, #"{"env":{"DB_PASSWORD":"•••"}}"#),
        (#"{"argv":["mysql","--password","hunter2","-p","db"]}"#, #"{"argv":["mysql","--password","•••","-p","db"]}"#),
        (#"{"argv":["x","--api-key=hunter2","y"]}"#, #"{"argv":["x","--api-key=•••","y"]}"#),
        (
            #"{"command":"TOKEN=hunter2 curl -H 'Authorization: Bearer hunter2' https://u:hunter2@h/p"}"#,
            #"{"command":"TOKEN=••• curl -H 'Authorization: •••' https://•••@h/p"}"#
        ),
        (
            #"{"content":"{\"secret\": \"hunter 2\", \"more\": 1}"}"#,
            #"{"content":"{\"secret\": \"•••\", \"more\": 1}"}"#
        ),
        (#"{"url":"https://h/p?access_token=hunter2&x=1"}"#, #"{"url":"https://h/p?access_token=•••&x=1"}"#),
        (
            #"{"text":"a token is a word, and so is a password."}"#,
            #"{"text":"a token is a word, and so is a password."}"#
        ),
    ])
    func whatLooksLikeASecretIsMasked(_ input: String, _ shown: String) throws {
        #expect(try Self.text(input) == shown)
    }

    @Test func whatIsASecretIsMaskedWhereverItStands() throws {
        let mask: InputPreview.Mask = { bytes, _ in
            Array(String(decoding: bytes, as: UTF8.self).replacing("s3cr\"t", with: "***").utf8)
        }
        #expect(
            try Self.text(#"{"argv":["echo","xs3cr\"ty"],"s3cr\"t":1}"#, mask: mask)
                == #"{"argv":["echo","x***y"],"***":1}"#)
    }

    /// Also of one that is cut off by the end of what is shown.
    @Test func whatIsShownIsShort() throws {
        let secret = String(repeating: "s", count: 60_000)
        let mask: InputPreview.Mask = { bytes, _ in
            Array(String(decoding: bytes, as: UTF8.self).replacing(secret, with: "***").utf8)
        }
        let long = try Self.text(#"{"text":"begin \#(secret)"}"#, mask: mask)
        #expect(long == #"{"text":"begin ***"}"#)
        let many = "[" + Array(repeating: "\"äöü\"", count: 100_000).joined(separator: ",") + "]"
        let cut = try Self.text(many)
        #expect((195...200).contains(cut.utf8.count) && cut.hasPrefix("[\"äöü\",") && !cut.contains("\u{FFFD}"))
        #expect(try Self.text(#"{"text":"\#(String(repeating: "x", count: 1000))"}"#).utf8.count == 200)
    }
}
