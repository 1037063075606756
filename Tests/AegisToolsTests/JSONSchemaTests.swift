import AegisJSON
import Testing

@testable import AegisTools

struct JSONSchemaTests {
    private func problems(_ schema: String, _ value: String) throws -> [String] {
        let schema = try JSONSchema(JSONValue(json: schema))
        return (schema.problems(try JSONValue(json: value)) ?? []).map(\.description)
    }

    @Test(arguments: [
        (#"{"type":"string"}"#, #""x""#), (#"{"type":["string","null"]}"#, "null"), (#"{"type":"integer"}"#, "1.0"),
        (#"{"type":"integer"}"#, "1e3"), (#"{"type":"number"}"#, "1.5"), ("true", "[1]"), ("{}", "{}"),
        (#"{"enum":["a",1]}"#, "1.0"), (#"{"const":{"a":1,"b":2}}"#, #"{"b":2,"a":1}"#),
        (#"{"minimum":1,"maximum":3}"#, "3"), (#"{"exclusiveMinimum":0}"#, "0.1"), (#"{"multipleOf":0.1}"#, "0.3"),
        (#"{"minLength":2,"maxLength":2}"#, #""äö""#), (#"{"pattern":"^a+$"}"#, #""aa""#),
        (#"{"items":{"type":"integer"},"prefixItems":[{"type":"string"}]}"#, #"["a",1,2]"#),
        (#"{"uniqueItems":true}"#, "[1,2,\"1\"]"), (#"{"minProperties":1,"maxProperties":1}"#, #"{"a":1}"#),
        (#"{"additionalProperties":{"type":"integer"}}"#, #"{"a":1}"#), (#"{"not":{"type":"string"}}"#, "1"),
        (#"{"anyOf":[{"type":"string"},{"minimum":5}]}"#, "5"), (#"{"oneOf":[{"minimum":5},{"maximum":3}]}"#, "1"),
        (#"{"allOf":[{"minimum":1},{"maximum":3}]}"#, "2"), (#"{"maximum":9007199254740993}"#, "9007199254740993"),
        (##"{"$ref":"#/$defs/t","$defs":{"t":{"type":"array","items":{"$ref":"#/$defs/t"}}}}"##, "[[],[[]]]"),
        (##"{"properties":{"a":{"$ref":"#"}}}"##, ##"{"a":{"a":{}}}"##),
        (#"{"patternProperties":{"^X-":{"type":"string"}},"additionalProperties":false}"#, #"{"X-a":"b"}"#),
        (#"{"properties":{"a":{}},"patternProperties":{"a":{"type":"integer"}}}"#, #"{"a":1,"ba":2,"c":"x"}"#),
        (#"{"pattern":"^[\\u4e00-\\u9fa5]+$"}"#, #""中文""#), (#"{"pattern":"^\\u{1f600}\\x41$"}"#, #""😀A""#),
        (#"{"title":"t","description":"d","default":1,"format":"uuid","examples":[]}"#, #""no uuid""#),
    ])
    func fits(_ schema: String, _ value: String) throws { #expect(try problems(schema, value).isEmpty) }

    @Test(arguments: [
        (#"{"type":"string"}"#, "1", "a string was expected, this is a number"),
        (#"{"type":"integer"}"#, "1.5", "a whole number was expected, this is a number"),
        (#"{"type":"integer"}"#, #""5""#, "a whole number was expected, this is a string: write 5 without quotes"),
        (
            #"{"type":["boolean","null"]}"#, #""true""#,
            "true or false or null was expected, this is a string: write true without quotes"
        ),
        (
            #"{"type":"array"}"#, #""[1]""#,
            "a list was expected, this is a string: write the JSON itself, without quotes around it"
        ),
        ("false", "1", "nothing may stand here"),
        (
            #"{"enum":["fact","decision"]}"#, #""fcat""#,
            #"one of "fact", "decision" was expected, did you mean 'fact'?"#
        ),
        (#"{"const":1}"#, "2", "only 1 is allowed"), (#"{"minimum":1}"#, "0", "0 is less than 1, the least allowed"),
        (
            #"{"maximum":9007199254740992}"#, "9007199254740993",
            "9007199254740993 is more than 9007199254740992, the most allowed"
        ),
        (#"{"exclusiveMaximum":1}"#, "1", "1 is not below 1"), (#"{"multipleOf":2}"#, "3", "3 is not a multiple of 2"),
        (#"{"minLength":1}"#, #""""#, "the text is empty"),
        (#"{"maxLength":1}"#, #""äö""#, "the text has 2 characters, at most 1 are allowed"),
        (#"{"pattern":"^a+$"}"#, #""b""#, "the text does not match the pattern ^a+$"),
        (#"{"pattern":"^a+$"}"#, #""a\n""#, "the text does not match the pattern ^a+$"),
        (#"{"pattern":"^[\\u4e00-\\u9fa5]+$"}"#, #""a""#, #"the text does not match the pattern ^[\u4e00-\u9fa5]+$"#),
        (
            #"{"patternProperties":{"^X-":{"type":"string"}},"additionalProperties":false}"#, #"{"X-a":1}"#,
            "/X-a: a string was expected, this is a number"
        ),
        (
            #"{"properties":{"name":{}},"patternProperties":{"^X-":{}},"additionalProperties":false}"#, #"{"nam":1}"#,
            "there is no field 'nam', did you mean 'name'?"
        ),
        (
            #"{"properties":{"a":{}},"patternProperties":{"a":{"type":"integer"}}}"#, #"{"a":"x"}"#,
            "/a: a whole number was expected, this is a string"
        ),
        (#"{"items":{"type":"integer"}}"#, #"[1,"a"]"#, "/1: a whole number was expected, this is a string"),
        (#"{"minItems":1}"#, "[]", "0 entries, at least 1 are needed"),
        (#"{"uniqueItems":true}"#, "[1,1.0]", "/1: this entry is there twice"),
        (#"{"required":["path"]}"#, "{}", "the field 'path' is missing"),
        (#"{"properties":{"a/b":{"type":"null"}}}"#, #"{"a/b":1}"#, "/a~1b: null was expected, this is a number"),
        (
            #"{"properties":{"path":{},"limit":{}},"additionalProperties":false}"#, #"{"pth":1}"#,
            "there is no field 'pth', did you mean 'path'?"
        ),
        (
            #"{"properties":{"path":{},"limit":{}},"additionalProperties":false}"#, #"{"zzzzzz":1}"#,
            "there is no field 'zzzzzz'; there are: path, limit"
        ),
        (#"{"properties":{"a":{}}}"#, #"{"a":1,"a":2}"#, "/a: this field is there twice"),
        (
            #"{"anyOf":[{"type":"string"},{"properties":{"a":{"type":"integer"}},"type":"object"}]}"#, #"{"a":"x"}"#,
            "none of the 2 allowed forms fits, the nearest because of /a: a whole number was expected, this is a string"
        ),
        (#"{"oneOf":[{"minimum":1},{"maximum":3}]}"#, "2", "2 of 2 forms fit, exactly one must"),
        (#"{"not":{}}"#, "1", "this form is not allowed"), (#"{"type":"number"}"#, "1e999", "the number is too large"),
    ])
    func doesNotFit(_ schema: String, _ value: String, _ problem: String) throws {
        #expect(try problems(schema, value) == [problem])
    }

    @Test(arguments: [
        ("1", "a schema is an object, true or false"), (#"{"type":"text"}"#, "/type: 'text' is no type"),
        (#"{"type":"strng"}"#, "/type: 'strng' is no type, 'string' is"),
        (#"{"type":[]}"#, "/type: the list of types is empty"),
        (#"{"propertis":{}}"#, "/propertis: the keyword 'propertis' is not supported, did you mean 'properties'?"),
        (#"{"if":{}}"#, "/if: the keyword 'if' is not supported"),
        (
            #"{"properties":{"a":{"propertyNames":{}}}}"#,
            "/properties/a/propertyNames: the keyword 'propertyNames' is not supported, did you mean 'properties'?"
        ),
        (
            #"{"patternProperties":{"(":{}}}"#, "/patternProperties/(: missing closing parenthesis at byte 1"
        ),
        (
            #"{"$ref":"https://example.com/x"}"#,
            "/$ref: only references within the schema can be followed, as in #/$defs/name"
        ),
        (##"{"$ref":"#/$defs/no"}"##, "/$ref: '#/$defs/no' leads nowhere"),
        (##"{"$ref":"#"}"##, "the references lead in a circle"),
        (#"{"pattern":"("}"#, "/pattern: missing closing parenthesis at byte 1"),
        (#"{"minLength":-1}"#, "/minLength: a whole number from 0 was expected"),
        (#"{"multipleOf":0}"#, "/multipleOf: above 0"),
        (#"{"required":"a"}"#, "/required: a list was expected"),
        (#"{"anyOf":[]}"#, "/anyOf: a list of schemas was expected"),
    ])
    func cannotBeUsed(_ schema: String, _ problem: String) throws {
        let error = #expect(throws: SchemaError.self) { try JSONSchema(JSONValue(json: schema)) }
        #expect(error?.description == problem)
    }

    @Test func foreignKeywordsArePassedOver() throws {
        let schema = try JSONSchema(JSONValue(json: #"{"if":{},"x-order":1,"type":"object"}"#), keywords: .anything)
        #expect(schema.problems([:]) == nil && schema.problems(1) != nil)
        // Of names that cannot be told apart none is refused.
        let text = #"{"patternProperties":{"(":{}},"additionalProperties":false}"#
        #expect(try JSONSchema(JSONValue(json: text), keywords: .anything).problems(["a": 1]) == nil)
    }

    @Test func hostileSchemasAndValuesEnd() throws {
        let deep = String(repeating: "[", count: 60) + String(repeating: "]", count: 60)
        let doubling =
            ##"{"$defs":{"t":{"anyOf":[{"items":{"$ref":"#/$defs/t"},"minItems":1},{"items":{"$ref":"#/$defs/t"},"minItems":2}]}},"$ref":"#/$defs/t"}"##
        #expect(try !problems(doubling, deep).isEmpty)
        let self1 = ##"{"anyOf":[{"$ref":"#"}]}"##
        #expect(try !problems(self1, "1").isEmpty)
        let many = "{\"properties\":{" + (0..<5000).map { "\"p\($0)\":{}" }.joined(separator: ",") + "}}"
        #expect(throws: SchemaError.self) { try JSONSchema(JSONValue(json: many)) }
        #expect(try problems(#"{"pattern":"^(a+)+$"}"#, "\"\(String(repeating: "a", count: 60))!\"").count == 1)
        // Each of these stays below its steps, and all of them together do not end.
        let costly = JSONValue.array(Array(repeating: .string(String(repeating: "a", count: 18) + "b"), count: 40_000))
        let list = try JSONSchema(["items": ["anyOf": [["pattern": "^(a+)+$"], ["type": "string"]]]])
        #expect(list.problems(costly) == nil)
        let long = JSONValue.string(String(repeating: "a", count: 1 << 20))
        #expect(try JSONSchema(["pattern": "a*+[cd]"]).problems(long)?.count == 1)
    }

    @Test func notMoreThanEightProblemsAreTold() throws {
        let value = "[" + (0..<100).map { "\"\($0)\"" }.joined(separator: ",") + "]"
        #expect(try problems(#"{"items":{"type":"integer"}}"#, value).count == 8)
    }
}
