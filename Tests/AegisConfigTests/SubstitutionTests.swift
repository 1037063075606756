import Testing

@testable import AegisConfig

@Suite struct SubstitutionTests {
    let substitution = Substitution(environment: ["A": "one", "EMPTY": "", "NESTED": "${A}"], secret: nil)

    @Test(arguments: [
        ("plain", "plain"), ("${A}", "one"), ("x${A}y${A}", "xoney" + "one"), ("${A:-two}", "one"),
        ("${B:-two}", "two"),
        ("${B:-}", ""), ("${EMPTY}", ""), ("${EMPTY:-two}", "two"), ("${NESTED}", "${A}"),
        ("$A $ $$ cost", "$A $ $$ cost"),
        ("$${A}", "${A}"), ("${B:-a:b-c}", "a:b-c"), ("", ""), ("ünï${A}", "ünïone"),
    ])
    func expands(_ text: String, _ expected: String) throws { #expect(try substitution.expand(text).text == expected) }

    @Test(arguments: [
        ("${B}", "environment variable B is not set; set it or write ${B:-default}"),
        ("${A", "'${' is not closed by '}'; write '$${' for the two characters themselves"),
        ("${}", "'${}' is neither ${NAME} nor ${NAME:-default}"),
        ("${A-x}", "'${A-x}' is neither ${NAME} nor ${NAME:-default}"),
        ("${A:-${B}}", "'${A:-${B}' is neither ${NAME} nor ${NAME:-default}"),
        ("env:B", "environment variable B is not set"), ("env:", "'env:' is not env:NAME"),
        ("env:A B", "'env:A B' is not env:NAME"), ("secret:", "'secret:' is not secret:NAME"),
    ])
    func refuses(_ text: String, _ message: String) {
        let error = #expect(throws: SubstitutionFailure.self) { try substitution.expand(text) }
        #expect(error?.message == message)
    }

    @Test func environmentReferencesKeepTheirName() throws {
        let expanded = try substitution.expand("env:A")
        #expect(expanded.text == "one" && expanded.reference == "env:A")
        #expect(try substitution.expand("env:EMPTY").text == "")
    }
}
