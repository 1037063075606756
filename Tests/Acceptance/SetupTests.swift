import AegisTestSupport
import Foundation
import Testing

/// `scripts/setup` installs what tests, benchmarks and scripts call.
@Suite struct SetupTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/dpkg")))
    func everyProgramThatIsCalledComesWithAPackageOfTheList() async throws {
        let setup = try String(contentsOf: Self.root.appending(path: "scripts/setup"), encoding: .utf8)
        let list =
            try #require(setup.firstMatch(of: /packages="\n([^"]*)"/)).1.split(whereSeparator: \.isWhitespace)
            + setup.matches(of: /packages="\$packages ([^"]*)"/).flatMap { $0.1.split(separator: " ") }
        #expect(list.count > 10 && list.contains("runc") && list.contains("chromium"))
        let called = try Self.programs()
        // Proof that the search finds anything: one by its path, one by its name alone.
        #expect(called["busybox"] != nil && called["musl-gcc"] != nil)
        let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        let paths = called.keys.flatMap { name in places.map { "\($0)/\(name)" } }
            .filter { FileManager.default.isExecutableFile(atPath: $0) }
        for (name, owner) in try await owners(of: paths) {
            // A part of a package of the list (python3-minimal) comes with it.
            // git and make are there before anything is set up.
            let isListed =
                ["git", "make"].contains(name)
                || list.contains { $0 == name || owner.package == $0 || owner.package.hasPrefix("\($0)-") }
            #expect(
                isListed || owner.isRequired,
                "\(called[name] ?? "?") calls \(name) of package \(owner.package), which scripts/setup does not install"
            )
        }
    }

    /// Names of programs by where they are called first: those with a path, and words that are no English ones.
    private static func programs() throws -> [String: String] {
        var found: [String: String] = [:]
        for folder in ["Tests", "Benchmarks", "scripts", ".ci"] {
            let names = FileManager.default.enumerator(atPath: root.appending(path: folder).path)
            while let name = names?.nextObject() as? String {
                let file = root.appending(path: "\(folder)/\(name)")
                guard !name.contains("Snapshots"), let text = try? String(contentsOf: file, encoding: .utf8) else {
                    continue
                }
                let code = text.split(separator: "\n").filter {
                    !$0.trimmingPrefix(while: \.isWhitespace).hasPrefix("//")
                }
                .joined(separator: "\n")
                for match in code.matches(of: /\/s?bin\/([a-z0-9][a-z0-9._+-]*)/) { found[String(match.1)] = file.path }
                for match in code.matches(of: /findExecutable\("([a-z0-9._+-]+)"/) {
                    found[String(match.1)] = file.path
                }
                for match in code.matches(of: /\b([a-z]+(?:-[a-z]+|[0-9]))\b/) { found[String(match.1)] = file.path }
            }
        }
        return found
    }

    private func owners(of paths: [String]) async throws -> [String: (package: String, isRequired: Bool)] {
        // Debian's packages know a program by the one or the other path, since /bin is a link to /usr/bin.
        let patterns = Set(paths.flatMap { [$0, $0.hasPrefix("/usr") ? String($0.dropFirst(4)) : "/usr\($0)"] })
        var owners: [String: String] = [:]
        for line in try await output("/usr/bin/dpkg", ["-S"] + patterns.sorted()).split(separator: "\n")
        where !line.hasPrefix("diversion") {
            guard let colon = line.firstRange(of: ": ") else { continue }
            let package = line[..<colon.lowerBound].prefix { $0 != ":" && $0 != "," }
            owners[String(line[colon.upperBound...].split(separator: "/").last ?? "")] = String(package)
        }
        var required: Set<Substring> = []
        let format = ["-W", "-f", "${Package} ${Priority}\\n"]
        for line in try await output("/usr/bin/dpkg-query", format + Set(owners.values).sorted()).split(separator: "\n")
        {
            let words = line.split(separator: " ")
            if words.count == 2, ["required", "important"].contains(words[1]) { required.insert(words[0]) }
        }
        return owners.mapValues { ($0, required.contains($0[...])) }
    }

    private func output(_ program: String, _ arguments: [String]) async throws -> String {
        try await onLoop { loop in
            // The exit code says only that some of the names belong to no package.
            let fixture = DaemonFixture(loop: loop, home: "/nonexistent")
            return try await fixture.run(program, arguments).out
        }
    }
}
