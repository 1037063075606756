/// Where a skill comes from; later ones take the place of earlier ones of the same name.
package enum SkillSource: Int, Sendable, Comparable, CaseIterable, CustomStringConvertible {
    /// Comes with Aegis.
    case bundled
    /// `$AEGIS_HOME/skills`.
    case home
    /// A folder of the configuration or of `AEGIS_SKILLS_DIR`.
    case configured
    /// `.agents/skills` of a workspace: whoever can write there writes instructions, so it counts only once it is trusted.
    case workspace

    package var description: String {
        switch self {
        case .bundled: "bundled"
        case .home: "home"
        case .configured: "configured"
        case .workspace: "workspace"
        }
    }
    package static func < (a: SkillSource, b: SkillSource) -> Bool { a.rawValue < b.rawValue }
}

/// A folder that skills are looked for in, one level deep.
package struct SkillRoot: Sendable, Equatable {
    package var source: SkillSource
    /// The folder that is opened by its name.
    package var base: String
    /// A path beneath it that is opened without following any link; empty for the folder itself.
    package var inside: String
    /// The agent whose workspace it is, for messages.
    package var agent: String?

    /// A folder of skills.
    package init(_ source: SkillSource, _ folder: String) {
        (self.source, base, inside) = (source, folder, "")
    }
    /// The skills of a workspace: a link in it cannot lead elsewhere.
    ///
    /// - Parameters:
    ///   - folder: the workspace.
    ///   - agent: whose it is; messages name it.
    /// - Returns: the root.
    package static func workspace(_ folder: String, agent: String? = nil) -> SkillRoot {
        var root = SkillRoot(.workspace, folder)
        root.agent = agent
        root.inside = ".agents/skills"
        return root
    }
    /// What messages call it.
    package var path: String { inside.isEmpty ? base : "\(base)/\(inside)" }

    /// The folders that are looked in, in their order.
    ///
    /// - Parameters:
    ///   - programs: the folder of the daemon's own program; skills lie beside it or, in a source tree, above it.
    ///   - home: `$AEGIS_HOME`.
    ///   - configured: folders of the configuration, then those of `AEGIS_SKILLS_DIR` (or `AAOS_SKILLS_DIR`), between colons.
    ///   - workspace: the agent's workspace, when it has one.
    ///   - exists: whether a folder is there.
    /// - Returns: the roots; those that are not there give no skills, except configured ones, which are a problem then.
    package static func standard(
        programs: String, home: String, configured: [String], workspace: String?, exists: (String) -> Bool
    ) -> [SkillRoot] {
        let bundled = ["\(programs)/skills", "\(programs)/../skills", "/usr/share/aegis/skills"].first(where: exists)
        var roots = bundled.map { [SkillRoot(.bundled, $0)] } ?? []
        roots.append(SkillRoot(.home, "\(home)/skills"))
        roots += configured.filter { !$0.isEmpty }.map { SkillRoot(.configured, $0) }
        if let workspace { roots.append(.workspace(workspace)) }
        return roots
    }
}

/// A file of a skill.
package struct SkillFile: Sendable, Equatable {
    /// Beneath the skill's folder, as in `references/api.md`.
    package var path: String
    /// In bytes.
    package var size: Int
    /// SHA-256 of what was there when the skill was loaded.
    var hash: String
}

/// A folder of instructions, as the AgentSkills standard has it.
package struct Skill: Sendable, Equatable {
    package var name: String
    package var description: String
    package var license: String?
    package var compatibility: String?
    package var metadata: [String: String]
    /// The tools that it says it uses; a word to the agent, never a grant.
    package var allowedTools: [String]
    package var source: SkillSource
    /// The root that it was found in.
    package var root: SkillRoot
    /// Everything in its folder but SKILL.md, by path.
    package var files: [SkillFile]
    /// The hash of all its files: what trust is given to.
    package var hash: String
    /// Whether somebody else than root and the daemon's own user can change it.
    package var isOpen: Bool
    /// SKILL.md itself.
    var document: SkillFile

    /// Whether it counts only once a person has looked at it: others can write it.
    package var needsTrust: Bool { source == .workspace || (source != .bundled && isOpen) }
    /// What trusts it.
    package var trustCommand: String { "aegis skill trust \(name)" + (root.agent.map { " --agent \($0)" } ?? "") }
    /// Why it is not simply used.
    var whyUntrusted: String {
        source == .workspace ? "it came with the workspace" : "others than the daemon's user can change it"
    }
}

/// What was noticed while skills were loaded; none of it keeps other skills from being used.
package struct SkillNotice: Sendable, Equatable, CustomStringConvertible {
    package enum Kind: String, Sendable {
        /// It cannot be used, for the reason given.
        case broken
        /// Another one of the same name counts.
        case shadowed
        /// It waits for `aegis skill trust`.
        case untrusted
    }
    package var kind: Kind
    /// The folder.
    package var path: String
    package var message: String
    package var description: String { "\(path): \(message)" }
}

/// What a skill may be at most.
package struct SkillLimits: Sendable, Equatable {
    /// Bytes of SKILL.md.
    package var document = 256 << 10
    /// Bytes of a file that can be read.
    package var file = 1 << 20
    /// Files of a skill.
    package var files = 256
    /// Bytes of all its files.
    package var total = 8 << 20
    /// Bytes of all skills of one root: somebody else may have filled it.
    package var root = 64 << 20
    /// How deep its folders may be.
    package var depth = 6
    /// Skills of one root.
    package var skills = 500
    /// Bytes of the catalogue in a prompt.
    package var catalogue = 16 << 10

    /// The limits that Aegis uses unless told otherwise.
    package init() {}
}
