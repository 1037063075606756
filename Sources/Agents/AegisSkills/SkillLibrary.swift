internal import AegisCore

/// The skills that agents may use, as they were when they were loaded.
///
/// A skill that is broken, untrusted or shadowed is told as a notice; it never keeps another from being used.
package struct SkillLibrary: Sendable {
    /// By name.
    package private(set) var skills: [Skill] = []
    /// Skills that others can write and that were not trusted, by name.
    package private(set) var untrusted: [Skill] = []
    package private(set) var notices: [SkillNotice] = []
    let limits: SkillLimits

    /// Looks through the roots. Blocks on the disk.
    ///
    /// - Parameters:
    ///   - roots: where to look; a skill of a later one takes the place of one of the same name.
    ///   - limits: what a skill may be.
    ///   - isTrusted: whether a skill that others can write may be used, by its hash.
    package init(
        roots: [SkillRoot], limits: SkillLimits = SkillLimits(), isTrusted: (_ hash: String) -> Bool = { _ in false }
    ) {
        self.init(roots.map { SkillScan($0, limits: limits) }, limits: limits, isTrusted: isTrusted)
    }

    /// Takes what was found, as far as it may be used.
    init(_ scans: [SkillScan], limits: SkillLimits, isTrusted: (_ hash: String) -> Bool) {
        self.limits = limits
        var found: [String: Skill] = [:]
        for scan in scans {
            notices += scan.notices
            for skill in scan.skills {
                guard !skill.needsTrust || isTrusted(skill.hash) else {
                    untrusted.append(skill)
                    note(
                        .untrusted, skill, "\(skill.whyUntrusted) and is not used until `\(skill.trustCommand)` says so"
                    )
                    continue
                }
                if let other = found[skill.name] {
                    note(.shadowed, other, "the one in \(scan.root.path) is used instead")
                }
                found[skill.name] = skill
            }
        }
        skills = found.values.sorted { $0.name < $1.name }
        untrusted.sort { $0.name < $1.name }
    }

    private mutating func note(_ kind: SkillNotice.Kind, _ skill: Skill, _ message: String) {
        notices.append(SkillNotice(kind: kind, path: "\(skill.root.path)/\(skill.name)", message: message))
    }

    // MARK: The catalogue

    /// The names and descriptions for a system prompt; nil when there are none.
    ///
    /// It is bounded: descriptions that do not fit any more are left out, then names, and how many is said.
    package var catalogue: String? {
        guard !skills.isEmpty else { return nil }
        var text = """
            <available_skills>
            Each skill is a tested way to do one kind of work. When a task fits a description, call skill_read with the name and \
            follow what it says before you begin; do not guess from the name.

            """
        let end = "</available_skills>"
        let reserve = 80 + end.utf8.count
        var left = 0
        for skill in skills {
            let name = "<skill name=\"\(skill.name)\">"
            let whole = "\(name)\(Self.inline(skill.description))</skill>\n"
            let short = "\(name)</skill>\n"
            if text.utf8.count + whole.utf8.count + reserve <= limits.catalogue {
                text += whole
            } else if text.utf8.count + short.utf8.count + reserve <= limits.catalogue {
                text += short
            } else {
                left += 1
            }
        }
        if left > 0 { text += "(\(left) more do not fit here)\n" }
        return text + end
    }

    /// One line that cannot end the element that it stands in.
    private static func inline(_ text: String) -> String {
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "<": out += "&lt;"
            case ">": out += "&gt;"
            case "&": out += "&amp;"
            case _ where scalar.properties.isWhitespace: if out.last != " " { out += " " }
            // Control and format characters can hide or reorder text.
            case _ where [.control, .format].contains(scalar.properties.generalCategory): break
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }
}
