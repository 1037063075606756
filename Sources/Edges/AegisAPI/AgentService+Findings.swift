internal import AegisAgents
internal import AegisCapabilities
internal import AegisCore
package import AegisInstances
package import AegisSandboxTypes

extension AgentService {
    /// The most of them that are shown.
    private static let mostFindings = 50

    /// What an operator should know of the grants that there are (decision D31): of deployed manifests, of the one that takes goals,
    /// and of agents that live. A caller sees its own, an administrator all.
    ///
    /// - Parameters:
    ///   - caller: who asks.
    ///   - seesAll: whether it is an administrator.
    /// - Returns: a warning for each that has such grants.
    package func findings(for caller: Caller, seesAll: Bool) async -> [DoctorCheck] {
        var found: [DoctorCheck] = []
        if seesAll {
            do {
                if let check = Self.finding("bootstrap", try goals.usualManifest(for: caller.uid).capabilities) {
                    found.append(check)
                }
            } catch {
                found.append(
                    DoctorCheck(
                        "bootstrap", "warning", "goals cannot be worked on: \(error.message)",
                        hint: error.hint ?? "see agents.bootstrap_manifest"))
            }
        }
        for entry in (try? manifests.list(owner: seesAll ? nil : caller.uid)) ?? [] {
            guard let manifest = try? entry.manifest() else { continue }
            let name = "manifest \(entry.name)" + (entry.owner == caller.uid ? "" : " of uid \(entry.owner)")
            if let check = Self.finding(name, manifest.capabilities) { found.append(check) }
        }
        for process in directory.all where seesAll || process.record.owner == caller.uid {
            let held = services.grants.records(of: process.holder).map { GrantSpec($0.terms.capability) }
            if let check = Self.finding("agent \(process.id)", held, called: process.record.name) {
                found.append(check)
            }
        }
        guard found.count > Self.mostFindings else { return found }
        let rest = found.count - Self.mostFindings
        return found.prefix(Self.mostFindings) + [DoctorCheck("grants", "warning", "\(rest) more have such grants")]
    }

    private static func finding(_ subject: String, _ specs: [GrantSpec], called name: String? = nil) -> DoctorCheck? {
        // Limits that another grant makes moot are for whoever writes the manifest: 'agent validate' tells those.
        let texts = specs.flatMap { GrantSpec.warnings([GrantSpec($0.capability)]) }
        guard !texts.isEmpty else { return nil }
        let most = 10
        let shown = texts.prefix(most).joined(separator: "; ")
        let more = texts.count > most ? "; and \(texts.count - most) more" : ""
        return DoctorCheck(
            subject, "warning", (name.map { "\($0): " } ?? "") + shown + more,
            hint: "grant the folder that is needed and no more")
    }
}
