internal import AegisConfig
package import AegisCore
internal import LinuxSys

extension InferenceBackend {
    /// Makes the providers of the configuration, each with its queue and, where the entry says so, its recorder.
    ///
    /// - Parameters:
    ///   - sections: the entries; those that are not enabled are left out.
    ///   - time: for pauses and queues.
    ///   - remote: makes one that is asked over the network.
    /// - Returns: the providers by name.
    /// - Throws: `scenario-not-readable`, `invalid-config` of a scenario, `recording-...`, and what `remote` throws.
    package static func all(
        _ sections: [ProviderSection], time: InferenceTime,
        remote: (ProviderSection) throws(AegisError) -> any ModelProvider
    ) throws(AegisError) -> [String: InferenceBackend] {
        var backends: [String: InferenceBackend] = [:]
        for section in sections where section.isEnabled {
            var provider: any ModelProvider
            switch section.kind {
            case .scripted: provider = try scripted(section, time)
            case .replay: provider = try ReplayProvider(name: section.name, path: section.file ?? "")
            case .anthropic, .openai, .openaiCompatible, .ollama: provider = try remote(section)
            }
            if let path = section.record { provider = try RecordingProvider(provider, path: path) }
            backends[section.name] = InferenceBackend(
                provider, schedule: section.schedule, timeout: section.timeout.duration, time: time)
        }
        return backends
    }

    private static func scripted(
        _ section: ProviderSection, _ time: InferenceTime
    ) throws(AegisError) -> any ModelProvider {
        let path = section.file ?? ""
        let bytes: [UInt8]
        do throws(Errno) { bytes = try Files.read(path, limit: 1 << 20) } catch {
            throw AegisError(
                .failed, "scenario-not-readable", "the scenario \(path) cannot be read: \(error)",
                hint: path.hasPrefix("/") ? nil : "a relative path starts at the folder that the daemon is started in")
        }
        return ScriptedProvider(
            name: section.name, scenario: try Scenario(ConfigFile(name: path, bytes: bytes)), time: time)
    }
}
