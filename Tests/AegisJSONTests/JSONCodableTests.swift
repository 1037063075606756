import Testing

@testable import AegisJSON

@Suite struct JSONCodableTests {
    private struct Holder: Codable, Equatable {
        var before: Int
        var tree: JSONValue
        var list: [JSONValue]
        var none: JSONValue?
    }

    @Test func aTreeInsideATypeKeepsOrderAndSpelling() throws {
        let text = #"{"before":1,"tree":{"z":1.50,"a":[null,true,"x"]},"list":[1e2,{}]}"#
        let holder = try JSONValue(parsing: text.utf8).decode(Holder.self)
        #expect(holder.tree["z"] == .number("1.50"))
        #expect(String(decoding: try JSONValue(encoding: holder).compact, as: UTF8.self) == text)
    }
}
