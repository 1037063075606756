import LinuxSys
import Testing

@testable import aegis

@Suite struct HelpTests {
    @Test func theOverviewIsAsWritten() throws { try expectSnapshot(Help(Commands.table).page([]), "help") }

    @Test(arguments: Commands.table.visible.map(\.path))
    func eachCommandsPageIsAsWritten(_ path: [String]) throws {
        let page = Help(Commands.table).page(path)
        #expect(page.contains("\nExamples:\n"))
        #expect(page.split(separator: "\n").allSatisfy { $0.count <= 120 })
        try expectSnapshot(page, "help-" + path.joined(separator: "-"))
    }

    @Test(arguments: ["instance", "image", "secret", "workspace", "group", "kit", "config"])
    func eachGroupsPageIsAsWritten(_ group: String) throws {
        try expectSnapshot(Help(Commands.table).page([group]), "help-" + group)
    }

    /// docs/cli.md is the table's own page; after a change of the table run this test with UPDATE_SNAPSHOTS=1.
    @Test func theReferencePageIsUpToDate() throws {
        let path = Files.split(Files.split(Files.split(#filePath).directory).directory).directory + "/docs/cli.md"
        let page = ReferencePage(Commands.table).markdown
        if CurrentProcess.environment("UPDATE_SNAPSHOTS") == "1" {
            try Files.makeDirectories(Files.split(path).directory, mode: 0o755)
            try Files.writeAtomically(path, Array(page.utf8), mode: 0o644)
        }
        #expect(String(decoding: try Files.read(path, limit: 1 << 20), as: UTF8.self) == page)
    }
}

@Suite struct CompleterTests {
    private func offer(_ words: String...) -> Completer.Offer { Completer(Commands.table).offer(words) }

    @Test func commandsAndGroups() {
        #expect(offer("ex") == .words(["exec"]))
        #expect(offer("instance", "st") == .words(["start", "stop"]))
        #expect(offer("zzz", "") == .words([]))
        guard case .words(let all) = offer("") else { Issue.record(); return }
        #expect(all.contains("run") && all.filter { $0 == "instance" }.count == 1 && !all.contains("__complete"))
    }

    @Test func optionsAndTheirValues() {
        #expect(offer("run", "--isol") == .words(["--isolation"]))
        #expect(offer("run", "--isolation", "run") == .words(["runsc", "runc"]))
        #expect(offer("run", "--workspace", "") == .directories)
        #expect(offer("run", "--image", "") == .images)
        #expect(offer("run", "-it", "--secret", "A") == .secrets)
        #expect(offer("run", "--group", "") == .groups && offer("group", "info", "") == .groups)
        #expect(offer("run", "--exp") == .words(["--expose"]))
        #expect(offer("--out") == .words(["--output"]))
        #expect(offer("status", "-o", "j") == .words(["json"]))
    }

    @Test func placesAndCommands() {
        #expect(offer("exec", "") == .instances)
        #expect(offer("exec", "web", "") == .files)
        #expect(offer("instance", "stop", "a", "") == .instances)
        #expect(offer("instance", "info", "a", "") == .words([]))
        #expect(offer("run", "--", "l") == .files)
        #expect(offer("completion", "") == .words(["bash", "zsh", "fish"]))
        #expect(offer("run", "--name", "x", "--", "-") == .files)
    }
}
