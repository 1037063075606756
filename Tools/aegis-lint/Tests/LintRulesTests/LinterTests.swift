import Foundation
import LintRules
import Testing

private let house = House([
    .init(name: "Core", path: "Sources/Base/Core", dependencies: []),
    .init(name: "Store", path: "Sources/Base/Store", dependencies: ["Core"]),
    .init(name: "Other", path: "Sources/Base/Other", dependencies: []),
    .init(name: "Secrets", path: "Sources/Trust/Secrets", dependencies: ["Store"]),
    .init(name: "daemon", path: "Sources/Edges/daemon", dependencies: ["Secrets"]),
])

private func check(_ source: String, path: String = "Sources/Base/Store/File.swift") -> [String] {
    Linter(house: house).check(source, path: path).map { "\($0.line):\($0.column) \($0.severity) \($0.rule)" }
}

@Suite struct ErrorCodesTests {
    @Test func everyCodeStandsOnThePageAndNoOther() {
        var codes = ErrorCodes()
        codes.add(
            """
            func f() throws {
                throw AegisError(.denied, "one", "message '\\(x)'", hint: "not-a-code")
                throw .failed(error == .noSpace ? "two" : "three", "message")
                throw AegisError.conflict("four", "message", hint: "x")
                throw HelperFailure("five", "message")
                stream.failed("no message")
                throw AegisError(kind, error.code, "message")
            }
            struct Code { private enum Value: String { case a = "six", seven } }
            enum Other: String { case b = "eight" }
            """, path: "Sources/A.swift")
        let page = "| code | cause |\n| `one`, `two` | `eight` |\n| `three` | |\n| `nine` | |\n`ten`"
        #expect(
            codes.compare(with: page).map(\.description) == [
                "Sources/A.swift:4:31: error: 'four' does not stand in docs/troubleshooting.md [error-codes]",
                "Sources/A.swift:5:25: error: 'five' does not stand in docs/troubleshooting.md [error-codes]",
                "Sources/A.swift:9:53: error: 'six' does not stand in docs/troubleshooting.md [error-codes]",
                "Sources/A.swift:9:60: error: 'seven' does not stand in docs/troubleshooting.md [error-codes]",
                "docs/troubleshooting.md:4:1: error: no source has the code 'nine' [error-codes]",
            ])
    }
}

@Suite struct LinterTests {
    @Test func aCleanFileIsClean() {
        let source = """
            internal import Glibc
            package import Core

            /// What it is.
            package struct Thing {
                package var undocumentedMember = 1
                func f() async { await withTaskGroup(of: Void.self) { group in group.addTask {} } }
            }
            struct Inner {}
            """
        #expect(check(source) == [])
    }

    @Test(arguments: [
        "package struct A {}", "public func f() {}", "package let x = 1", "package enum E { case a }",
        "package protocol P {}",
        "package typealias T = Int", "package extension Int {}", "// no doc comment\npackage final class C {}",
        "#if os(Linux)\npackage struct A {}\n#endif", "@frozen public struct A {}", "package actor A {}",
    ])
    func undocumentedDeclarationsFail(_ source: String) {
        let found = check(source)
        #expect(found.count == 1 && found[0].hasSuffix("error documentation"), "\(found)")
    }

    @Test(arguments: [
        "/// D.\npackage struct A {}", "/** D. */ public func f() {}", "/// D.\n@frozen public struct A {}",
        "struct A {}",
    ])
    func documentedOrInternalDeclarationsPass(_ source: String) { #expect(check(source) == []) }

    @Test(arguments: [
        ("import Secrets", "Sources/Base/Store/F.swift"), ("package import Other", "Sources/Base/Store/F.swift"),
        ("internal import daemon", "Sources/Trust/Secrets/F.swift"), ("import Core", "Sources/Edges/daemon/F.swift"),
        ("import struct Secrets.Key", "Sources/Base/Core/F.swift"),
    ])
    func upwardAndUndeclaredImportsFail(_ source: String, _ path: String) {
        #expect(check(source, path: path) == ["1:1 error floors"])
    }

    @Test func fullFoundationFailsInSourcesOnly() {
        #expect(check("import Foundation") == ["1:1 error imports"])
        #expect(check("import FoundationEssentials") == [])
        #expect(check("import Foundation", path: "Tests/StoreTests/F.swift") == [])
    }

    @Test(arguments: [
        "func f() { Task { } }", "func f() { Task.detached { } }", "func f() { let t = Task<Void, Never> { } }",
        "func f() { _ = Task(priority: .low) { } }", "func f() { Task.immediate { } }",
        "func f() { Task(operation: { }) }",
        "func f() { Task.init { } }",
    ])
    func bareTasksFail(_ source: String) {
        let found = check(source)
        #expect(found.count == 1 && found[0].hasSuffix("error structured-concurrency"), "\(found)")
        #expect(check(source, path: "Sources/Edges/daemon/main.swift") == [])
        #expect(check("@main struct Main { \(source) }") == [])
        #expect(check(source, path: "Tests/StoreTests/F.swift") == [])
    }

    @Test(arguments: [
        "func f() async { try? await Task.sleep(for: .seconds(1)) }", "let t: Task<Void, Never>", "Tasks { }",
    ])
    func otherUsesOfTasksPass(_ source: String) { #expect(check(source) == []) }

    @Test(arguments: [
        ("// Unstructured: ended by `close`.\n    Task { }", true), ("// Unstructured:\n    Task { }", false),
        ("// Structured.\n    Task { }", false), ("// Unstructured: this one.\n    let t = Task { }", true),
        ("// Unstructured: the first only.\n    g()\n    Task { }", false),
    ])
    func aBareTaskMaySayWhoEndsIt(_ body: String, _ passes: Bool) {
        #expect(check("func f() {\n    \(body)\n}").isEmpty == passes)
    }

    @Test func mainEndsWithItsType() {
        #expect(check("@main struct M {}\nfunc f() { Task { } }") == ["2:12 error structured-concurrency"])
    }

    @Test(arguments: [
        "final class A: @unchecked Sendable { var x = 1 }", "/// A thing.\nfinal class A: @unchecked Sendable {}",
        "extension A: @unchecked Sendable {}", "nonisolated(unsafe) var x = 1",
    ])
    func promisesWithoutAReasonFail(_ source: String) {
        let found = check(source)
        #expect(found.count == 1 && found[0].hasSuffix("error promises"), "\(found)")
    }

    @Test(arguments: [
        "// Unchecked: the mutex protects it.\nfinal class A: @unchecked Sendable {}",
        "final class A: @unchecked Sendable {\n    // Used on the loop's thread only.\n    var x = 1\n}",
        "// SAFETY: written once, before any thread starts.\nnonisolated(unsafe) var x = 1", "nonisolated func f() {}",
    ])
    func promisesWithAReasonPass(_ source: String) { #expect(check(source) == []) }

    @Test(arguments: [
        "func f() { try! g() }", "let x = y as! Int", "let x = [y as! Int]", "func f() { let a = (try! g(), 1) }",
    ])
    func trapsFail(_ source: String) {
        let found = check(source)
        #expect(found.count == 1 && found[0].hasSuffix("error traps"), "\(found)")
    }

    @Test(arguments: ["func f() { try? g() }", "let x = y as? Int", "// try! as!", "let s = \"try! as!\""])
    func whatOnlyLooksLikeATrapPasses(_ source: String) { #expect(check(source) == []) }

    @Test(arguments: [
        (400, []), (401, ["1:1 warning file-length"]), (500, ["1:1 warning file-length"]),
        (501, ["1:1 error file-length"]),
    ])
    func fileLength(_ lines: Int, _ expected: [String]) {
        let source = String(repeating: "// x\n", count: lines)
        #expect(check(source) == expected)
        #expect(check(source, path: "Tests/StoreTests/F.swift") == expected)
        #expect(check(source + "// Long file: one table\n") == [])
        #expect(
            check(source + "// Long file: \n")
                == (lines == 400 ? ["1:1 warning file-length"] : lines >= 500 ? ["1:1 error file-length"] : expected))
    }

    @Test func longFunctionsAreWarnedAbout() {
        let body = { (lines: Int) in "func f() {\n" + String(repeating: "    g()\n", count: lines - 2) + "}\n" }
        #expect(check(body(60)) == [])
        #expect(check(body(61)) == ["1:1 warning function-length"])
    }

    @Test func theGraphIsReadFromTheManifestsDump() throws {
        let dump = """
            {"name": "p", "targets": [
              {"name": "A", "path": "Sources/Base/A", "dependencies": [{"byName": ["B", null]}], "type": "regular"},
              {"name": "B", "path": "Sources/Edges/B", "dependencies": [], "type": "executable"}]}
            """
        let house = try House(dump: Data(dump.utf8))
        #expect(house.owner(of: "Sources/Base/A/x/F.swift")?.name == "A")
        #expect(house.upwardEdges().map(\.message) == ["A (Base) depends on B, a floor above (Edges)"])
        #expect(throws: (any Error).self) { try House(dump: Data("{}".utf8)) }
    }

    @Test func findingsReadLikeCompilerMessages() {
        let found = Linter(house: house).check("func f() {\n    try! g()\n}", path: "Sources/Base/Store/F.swift")
        #expect(
            found.map(\.description) == [
                "Sources/Base/Store/F.swift:2:5: error: 'try!' traps; handle the error [traps]"
            ])
    }
}
