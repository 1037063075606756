package import AegisCore
internal import Synchronization

/// The skills of a node: the folders that all agents have, looked through once and again when somebody asks for it, and what
/// lies in an agent's workspace, looked through each time.
package final class SkillShelf: Sendable {
    private let roots: [SkillRoot]
    private let trust: SkillTrust
    private let limits: SkillLimits
    private let scans: Mutex<[SkillScan]>

    /// Looks through the folders. Blocks on the disk, as every call here does.
    ///
    /// - Parameters:
    ///   - roots: the folders that all agents have.
    ///   - trust: who trusts what.
    ///   - limits: what a skill may be.
    package init(_ roots: [SkillRoot], trust: SkillTrust, limits: SkillLimits = SkillLimits()) {
        self.roots = roots
        self.trust = trust
        self.limits = limits
        scans = Mutex(roots.map { SkillScan($0, limits: limits) })
    }

    /// Looks through the folders again.
    package func reload() {
        let found = roots.map { SkillScan($0, limits: limits) }
        scans.withLock { $0 = found }
    }

    /// The skills that a user's agents may use, and those that wait for the user's trust.
    ///
    /// - Parameters:
    ///   - owner: the user.
    ///   - workspace: the workspace's skills; nil is without.
    /// - Returns: them as they are now.
    package func library(for owner: UInt32, workspace: SkillRoot? = nil) -> SkillLibrary {
        var all = scans.withLock { $0 }
        if let workspace {
            // It is looked through often, and its agent can fill it.
            var narrow = limits
            narrow.root = min(limits.root, 8 << 20)
            all.append(SkillScan(workspace, limits: narrow))
        }
        return SkillLibrary(all, limits: limits) { [trust] in trust.isTrusted($0, by: owner) }
    }

    /// A skill of a library that a person was shown and may trust.
    ///
    /// - Parameters:
    ///   - name: the skill.
    ///   - hash: the content that was looked at, or the beginning of its hash (8 digits at least); nil is what is there now.
    ///   - library: where it is looked for.
    /// - Returns: the skill.
    /// - Throws: `skill-not-found`; `skill-changed` when its content is another; `skill-needs-no-trust`.
    package func trustable(_ name: String, hash: String?, in library: SkillLibrary) throws(AegisError) -> Skill {
        let skill = try library.find(name)
        if let hash, hash.utf8.count < 8 || !skill.hash.hasPrefix(hash) {
            throw .conflict(
                "skill-changed", "the skill '\(name)' has the hash \(skill.hash), not the one that was given",
                hint: "look at it again ('aegis skill show \(name)'), and trust what is there now")
        }
        guard skill.needsTrust else {
            throw .conflict(
                "skill-needs-no-trust", "the skill '\(name)' is used without being trusted: it is \(skill.source)",
                hint: "only skills that others can write are trusted one by one")
        }
        return skill
    }

    /// Trusts a skill as it was loaded; synced.
    ///
    /// - Throws: what the database throws.
    package func trust(_ skill: Skill, by user: UInt32) throws(AegisError) { try trust.trust(skill, by: user) }

    /// Trusts nothing of a name any more; synced.
    ///
    /// - Parameters:
    ///   - name: the skill.
    ///   - user: whose trust ends; nil is everybody's.
    /// - Returns: how many versions of it were trusted.
    /// - Throws: what the database throws.
    @discardableResult
    package func untrust(_ name: String, by user: UInt32?) throws(AegisError) -> Int {
        try trust.revoke(name, by: user)
    }
}
