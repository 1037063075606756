// swift-tools-version: 6.2
import Foundation
import PackageDescription

// The house rules, checked on the syntax tree. A package of its own: the product must not depend on the toolchain's
// SwiftSyntax, which is what this uses.

/// `usr` of the toolchain that builds this: $TOOLCHAIN, else where the `swift` on PATH leads.
func toolchain() -> String {
    let environment = ProcessInfo.processInfo.environment
    if let given = environment["TOOLCHAIN"], !given.isEmpty { return given }
    for folder in (environment["PATH"] ?? "").split(separator: ":") {
        let swift = URL(fileURLWithPath: "\(folder)/swift").resolvingSymlinksInPath()
        let usr = swift.deletingLastPathComponent().deletingLastPathComponent().path
        if FileManager.default.fileExists(atPath: "\(usr)/lib/swift/host/libSwiftParser.so") { return usr }
    }
    fatalError("no toolchain with SwiftParser found; set TOOLCHAIN to its usr folder")
}

let host = "\(toolchain())/lib/swift/host"
let compile: [SwiftSetting] = [.unsafeFlags(["-I", host])]
let link: [LinkerSetting] = [
    .unsafeFlags(["-L", host, "-lSwiftSyntax", "-lSwiftParser", "-Xlinker", "-rpath", "-Xlinker", host])
]

let package = Package(
    name: "aegis-lint",
    targets: [
        .target(name: "LintRules", swiftSettings: compile, linkerSettings: link),
        .executableTarget(
            name: "aegis-lint", dependencies: ["LintRules"], swiftSettings: compile, linkerSettings: link),
        .testTarget(name: "LintRulesTests", dependencies: ["LintRules"], swiftSettings: compile, linkerSettings: link),
    ],
    swiftLanguageModes: [.v6]
)
