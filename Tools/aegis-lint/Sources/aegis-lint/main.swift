import Foundation
import LintRules

// aegis-lint GRAPH FOLDER...: GRAPH is the output of `swift package dump-package`; folders are relative to the current
// directory, which must be the package's. Exit 0: no error; 1: errors; 2: it could not be run.

func fail(_ message: String) -> Never {
    FileHandle.standardError.write(Data("aegis-lint: \(message)\n".utf8))
    exit(2)
}

/// All Swift files below a folder, without what is built or reached by a link.
func swiftFiles(below folder: String) -> [String] {
    guard let names = FileManager.default.enumerator(atPath: folder) else { fail("there is no folder '\(folder)'") }
    return names.compactMap { ($0 as? String).map { "\(folder)/\($0)" } }
        .filter { $0.hasSuffix(".swift") && !$0.contains("/.build/") }
        .sorted()
}

let arguments = CommandLine.arguments.dropFirst()
guard arguments.count >= 2, let graph = arguments.first else { fail("usage: aegis-lint GRAPH.json FOLDER...") }
let house: House
do {
    house = try House(dump: Data(contentsOf: URL(fileURLWithPath: graph)))
} catch {
    fail("\(graph) is not the output of 'swift package dump-package': \(error)")
}

let linter = Linter(house: house)
var findings = house.upwardEdges()
var codes = ErrorCodes()
var count = 0
for file in arguments.dropFirst().flatMap(swiftFiles(below:)) {
    guard let source = try? String(contentsOfFile: file, encoding: .utf8) else {
        fail("\(file) is not a text in UTF-8")
    }
    findings += linter.check(source, path: file)
    if file.hasPrefix("Sources/") { codes.add(source, path: file) }
    count += 1
}
guard let page = try? String(contentsOfFile: ErrorCodes.page, encoding: .utf8) else {
    fail("\(ErrorCodes.page) cannot be read")
}
findings += codes.compare(with: page)
for finding in findings { print(finding) }
let errors = findings.count { $0.severity == .error }
print("aegis-lint: \(count) files, \(errors) errors, \(findings.count - errors) warnings")
exit(errors == 0 ? 0 : 1)
