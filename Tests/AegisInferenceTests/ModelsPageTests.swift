import AegisConfig
import AegisCore
import AegisJSON
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisInference

/// The examples of `docs/models.md` are read by the program.
@Suite struct ModelsPageTests {
    private func examples(_ kind: String) throws -> [String] {
        // The nearest folder above this file that has the page.
        var folders = #filePath.split(separator: "/")
        while !folders.isEmpty, !Files.exists("/\(folders.joined(separator: "/"))/docs/models.md") {
            folders.removeLast()
        }
        let path = "/\(folders.joined(separator: "/"))/docs/models.md"
        let page = String(decoding: try Files.read(path, limit: 1 << 20), as: UTF8.self)
        var found: [String] = []
        var lines: [Substring]?
        for line in page.split(separator: "\n", omittingEmptySubsequences: false) {
            if line == "```yaml \(kind)" {
                lines = []
            } else if line == "```", let block = lines {
                found.append(block.joined(separator: "\n") + "\n")
                lines = nil
            } else {
                lines?.append(line)
            }
        }
        return found
    }

    @Test func theConfigurationIsRead() throws {
        let example = try #require(try examples("config").first)
        let config = try modelConfig(example.replacing("secret:ANTHROPIC_KEY", with: "env:KEY"))
        let catalog = try ModelCatalog(providers: config.providers, selection: config.selection)
        #expect(try catalog.resolve("default").map(\.id) == ["main/claude-sonnet-4-5", "local/qwen2.5-7b"])
    }

    @Test func theScenarioIsReadAndAnswers() async throws {
        let example = try #require(try examples("scenario").first)
        let folder = try TemporaryDirectory()
        try Files.writeAtomically(folder.path("s.yaml"), Array(example.utf8))
        let config = try modelConfig(
            "llm_providers:\n  - { name: demo, type: scripted, scenario: \(folder.path("s.yaml")), "
                + "record: \(folder.path("r.jsonl")), models: [{ model: m }] }\n"
                + "  - { name: again, type: replay, recording: \(folder.path("r.jsonl")), models: [{ model: m }] }\n")
        let time = InferenceTime()
        func none(_ section: ProviderSection) throws(AegisError) -> any ModelProvider {
            throw .usage("\(section.name) is not asked over the network")
        }
        let live = try #require(try InferenceBackend.all([config.providers[0]], time: time, remote: none)["demo"])
        let request = ModelRequest(
            model: "m", messages: [.user("Please write a report on bees")], maxOutputTokens: 1000, agent: "bootstrap")
        for _ in 0..<2 { await #expect(throws: ModelError.self) { try await live.provider.complete(request) { _ in } } }
        let reply = try await live.provider.complete(request) { _ in }
        #expect(reply.toolUses.first?.input["goal"]?.text == "Read about bees")
        let replay = try #require(try InferenceBackend.all([config.providers[1]], time: time, remote: none)["again"])
        for _ in 0..<2 {
            await #expect(throws: ModelError.self) { try await replay.provider.complete(request) { _ in } }
        }
        #expect(try await replay.provider.complete(request) { _ in } == reply)
    }

    @Test func aScenarioThatIsNotThereIsAnError() throws {
        let config = try modelConfig(
            "llm_providers:\n  - { name: demo, type: scripted, scenario: /nowhere/s.yaml, models: [{ model: m }] }\n")
        let error = #expect(throws: AegisError.self) {
            try InferenceBackend.all(config.providers, time: InferenceTime()) { _ throws(AegisError) in throw .usage("")
            }
        }
        #expect(error?.code == "scenario-not-readable")
    }
}
