import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The examples of the documentation, run as they are written and compared with what they are said to print (needs root and
/// nf_tables). Each page has a daemon of its own, in a world of its own: all its ports and names are free there.
@Suite(.serialized) struct DocsTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    @Test(arguments: ["networks.md", "secrets.md", "inside.md", "warm.md", "serve.md", "kits.md"])
    func examplesHold(_ name: String) async throws {
        let text = try String(contentsOfFile: "\(Self.root)/docs/\(name)", encoding: .utf8)
        let page = DocsPage(name, text: text)
        #expect(page.mistakes.isEmpty, "\(page.mistakes.joined(separator: "\n"))")
        print("docs/\(name): \(page.steps.count) examples run, \(page.skipped.count) not run")
        for (line, reason) in page.skipped { print("docs/\(name):\(line): not run: \(reason)") }
        try #require(!page.steps.isEmpty)
        try await OutsideWorld.with { f in
            let (work, results) = (f.path("page"), f.path("results"))
            for folder in [work, results] { try Files.makeDirectories(folder) }
            // What a page names as being in the source tree.
            try await f.run("/bin/cp", ["-r", "\(Self.root)/kits", "\(work)/kits"])
            let script = "cd '\(work)'\n" + page.script(in: results)
            try Files.writeAtomically(f.path("page.sh"), Array(script.utf8), mode: 0o600, synced: false)
            let path =
                "PATH=\(DaemonFixture.binaries):\(ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin")"
            let command = f.launcher + [path, "/bin/bash", f.path("page.sh")]
            let result = try await f.run(command[0], Array(command.dropFirst()), deadline: .seconds(180))
            #expect(result.code == 0 && result.out + result.err == "", "docs/\(name): \(result)")
            for (number, step) in page.steps.enumerated() {
                let code = (try? String(contentsOfFile: "\(results)/\(number).code", encoding: .utf8))?.dropLast()
                let output = (try? String(contentsOfFile: "\(results)/\(number).out", encoding: .utf8)) ?? ""
                let place = "docs/\(name):\(step.line): \(step.text)\n"
                #expect(code == "0", "\(place)ended with \(code ?? "nothing") and printed:\n\(output)")
                guard let expected = step.expected else { continue }
                var printed = output.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
                if printed.last == "" { printed.removeLast() }
                #expect(DocsPage.matches(printed, expected), "\(place)printed:\n\(output)")
            }
        }
    }

    @Test func whatVariesIsMarkedAndNothingElseIsTaken() {
        let page = DocsPage(
            "x.md",
            text: """
                ```console run
                $ printf 'a\\nb 17 c\\nd\\n'
                a
                b ... c
                ...
                $ echo '1
                > 2'
                1
                ```
                ```sh skip="why"
                false
                ```
                ```python file=a/b.py
                print(1)
                ```
                ```sh
                true
                ```
                """)
        #expect(page.steps.map(\.line) == [2, 6] && page.steps[1].text == "echo '1\n2'" && page.parts.count == 3)
        #expect(page.skipped.map(\.reason) == ["why"] && page.skipped.first?.line == 10)
        #expect(page.mistakes.count == 1 && page.mistakes[0].hasPrefix("x.md:16:"))
        let expected = page.steps[0].expected ?? []
        #expect(DocsPage.matches(["a", "b 17 c", "d"], expected) && DocsPage.matches(["a", "b  c"], expected))
        for printed in [["a"], ["a", "b 17 d"], ["b 17 c"], ["x", "a", "b 17 c"]] {
            #expect(!DocsPage.matches(printed, expected), "\(printed)")
        }
        #expect(DocsPage.matches([], []) && !DocsPage.matches(["x"], []) && !DocsPage.matches(["1", "2"], ["1"]))
    }
}
