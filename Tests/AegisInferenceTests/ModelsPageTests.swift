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

    /// Damaged files are read or refused, and what is read answers or fails: nothing traps.
    @Test func damagedScenariosAndRecordingsAreReadOrRefused() async throws {
        var random = Mutator(seed: 7)
        let scenario = Array(try #require(try examples("scenario").first).utf8)
        let request = ModelRequest(
            model: "m", messages: [.user("write a report on * {{1}}")], maxOutputTokens: 20, agent: "bootstrap")
        let call = RecordedCall(
            hash: RecordedCall.hash(of: try JSONValue(encoding: request)), provider: "p",
            request: try JSONValue(encoding: request), deltas: [.text("a"), .toolUse(id: "1", name: "f")],
            result: .failure(ModelError(.rateLimited, status: 429, retryAfter: .seconds(1), "m")))
        let line = try call.line() + [10]
        var read = 0
        for _ in 0..<300 {
            let file = ConfigFile(name: "s", bytes: random.mutate(scenario))
            if let damaged = try? Scenario(file), damaged.rules.allSatisfy({ $0.failure != .hang }) {
                read += 1
                let provider = ScriptedProvider(name: "s", scenario: damaged, time: InferenceTime(clock: NoWait()))
                _ = try? await provider.complete(request) { _ in }
            }
            let replay = try? ReplayProvider(name: "r", path: "r", bytes: random.mutate(line + line))
            _ = try? await replay?.complete(request) { _ in }
        }
        #expect(read > 10)
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

/// A clock on which nobody waits.
private struct NoWait: Clock {
    typealias Instant = ContinuousClock.Instant
    var now: Instant { ContinuousClock.now }
    var minimumResolution: Duration { .zero }
    func sleep(until deadline: Instant, tolerance: Duration?) async throws { try Task.checkCancellation() }
}
