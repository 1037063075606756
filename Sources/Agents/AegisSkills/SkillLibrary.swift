internal import AegisCore
internal import LinuxSys

/// The skills that agents may use, as they were when they were loaded.
///
/// A skill that is broken, untrusted or shadowed is told as a notice; it never keeps another from being used.
package struct SkillLibrary: Sendable {
    /// By name.
    package private(set) var skills: [Skill] = []
    /// Skills of workspaces that nobody has trusted, by name.
    package private(set) var untrusted: [Skill] = []
    package private(set) var notices: [SkillNotice] = []
    let limits: SkillLimits

    /// Looks through the roots. Blocks on the disk.
    ///
    /// - Parameters:
    ///   - roots: where to look; a skill of a later one takes the place of one of the same name.
    ///   - limits: what a skill may be.
    ///   - isTrusted: whether a skill of a workspace with that hash may be used.
    package init(
        roots: [SkillRoot], limits: SkillLimits = SkillLimits(), isTrusted: (_ hash: String) -> Bool = { _ in false }
    ) {
        self.limits = limits
        var found: [String: Skill] = [:]
        for root in roots {
            for skill in load(root) {
                guard root.source != .workspace || isTrusted(skill.hash) else {
                    untrusted.append(skill)
                    note(
                        .untrusted, skill,
                        "it came with the workspace and is not used until "
                            + "`aegis skill trust \(skill.name)` says so")
                    continue
                }
                if let other = found[skill.name] {
                    note(.shadowed, other, "the one in \(root.path) is used instead")
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

    private mutating func broken(_ path: String, _ message: String) {
        notices.append(SkillNotice(kind: .broken, path: path, message: message))
    }

    private mutating func load(_ root: SkillRoot) -> [Skill] {
        do throws(Errno) {
            if let folder = try SkillFolder.open(root) { return try load(root, folder) }
            // Somebody has named it, so somebody expects it.
            if root.source == .configured { broken(root.path, "there is no such folder") }
        } catch { broken(root.path, "it cannot be read: \(error)") }
        return []
    }

    private mutating func load(_ root: SkillRoot, _ folder: borrowing FileDescriptor) throws(Errno) -> [Skill] {
        let names = try folder.entries(limit: limits.skills * 4).filter { $0.type == .directory }.map(\.name)
            .filter { !$0.hasPrefix(".") && $0 != "node_modules" }.sorted()
        if names.count > limits.skills { broken(root.path, "only the first \(limits.skills) skills are used") }
        var skills: [Skill] = []
        var budget = limits.root
        for name in names.prefix(limits.skills) {
            do throws(AegisError) {
                if let skill = try Self.skill(name, in: folder, root, limits, &budget) { skills.append(skill) }
            } catch { broken("\(root.path)/\(name)", error.message) }
        }
        return skills
    }

    /// Reads one folder; nil when it is no skill, for want of a SKILL.md.
    private static func skill(
        _ name: String, in root: borrowing FileDescriptor, _ place: SkillRoot, _ limits: SkillLimits,
        _ budget: inout Int
    ) throws(AegisError) -> Skill? {
        let folder = try open(name, in: root, limits)
        guard (try? folder.descriptor.status(of: SkillDocument.file)) != nil else { return nil }
        let files = try folder.files(budget: &budget)
        guard let own = files.first(where: { $0.path == SkillDocument.file }) else { return nil }
        let bytes = try folder.read(SkillDocument.file, limit: limits.document)
        guard SkillHash.of(bytes) == own.hash else {
            throw AegisError(.conflict, "skill-invalid", "it is being changed just now")
        }
        let document = try SkillDocument(bytes, folder: name)
        return Skill(
            name: name, description: document.description, license: document.license,
            compatibility: document.compatibility, metadata: document.metadata, allowedTools: document.allowedTools,
            source: place.source, root: place, files: files.filter { $0 != own }, hash: SkillHash.of(files),
            document: own)
    }

    private static func open(
        _ name: String, in root: borrowing FileDescriptor, _ limits: SkillLimits
    ) throws(AegisError) -> SkillFolder {
        do throws(Errno) { return try SkillFolder(name, in: root, limits: limits) } catch {
            throw AegisError(.usage, "skill-invalid", "it cannot be opened: \(error)")
        }
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
