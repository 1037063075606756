package import AegisCore
internal import LinuxSys

/// What `skill_read` gives.
package struct SkillText: Sendable, Equatable {
    package var skill: String
    package var source: SkillSource
    /// The file beneath the skill's folder; nil for the instructions.
    package var file: String?
    package var text: String
    /// The other files that can be read.
    package var files: [SkillFile]
}

extension SkillLibrary {
    /// The instructions of a skill, or one of its files. Blocks on the disk.
    ///
    /// What is given out is what was there when the skill was loaded, and trusted; a file that was changed since is refused.
    ///
    /// - Parameters:
    ///   - name: the skill.
    ///   - file: a path beneath its folder; nil for the instructions.
    /// - Returns: the text.
    /// - Throws: `skill-not-found`, `skill-untrusted`, `skill-file-not-found`, `skill-file-too-large`, `skill-file-not-text`,
    ///   `skill-changed`.
    package func read(_ name: String, file: String? = nil) throws(AegisError) -> SkillText {
        try text(of: try usable(name), file: file)
    }

    /// What a person is shown of a skill, trusted or not. Blocks on the disk.
    ///
    /// - Parameters:
    ///   - skill: one of this library.
    ///   - file: a path beneath its folder; nil for the instructions.
    /// - Returns: the text.
    /// - Throws: as `read` does.
    package func text(of skill: Skill, file: String? = nil) throws(AegisError) -> SkillText {
        let name = skill.name
        guard let file, file != SkillDocument.file else {
            let bytes = try bytes(of: skill.document, in: skill)
            let document = try SkillDocument(bytes, folder: skill.name)
            return SkillText(
                skill: name, source: skill.source, text: document.instructions, files: skill.files)
        }
        let wanted = file.hasPrefix("./") ? String(file.dropFirst(2)) : file
        guard let known = skill.files.first(where: { $0.path == wanted }) else {
            let paths = skill.files.map(\.path)
            let hint =
                paths.isEmpty
                ? "it has no files; call skill_read without 'file'"
                : nearest(wanted, in: paths).map { "did you mean '\($0)'?" }
                    ?? "its files are \(paths.prefix(20).joined(separator: ", "))"
            throw .notFound("skill-file-not-found", "the skill '\(name)' has no file '\(file.prefix(200))'", hint: hint)
        }
        guard known.size <= limits.file else {
            throw AegisError(
                .tooLarge, "skill-file-too-large",
                "'\(known.path)' has \(known.size) bytes; at most \(limits.file) are read")
        }
        let bytes = try bytes(of: known, in: skill)
        guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
            throw AegisError(
                .usage, "skill-file-not-text", "'\(known.path)' is not a text",
                hint: "it may be used where the skill lies, but not be read as a text")
        }
        return SkillText(skill: name, source: skill.source, file: known.path, text: text, files: skill.files)
    }

    /// A skill that agents may use.
    private func usable(_ name: String) throws(AegisError) -> Skill {
        if let skill = skills.first(where: { $0.name == name }) { return skill }
        if let skill = untrusted.first(where: { $0.name == name }) {
            throw AegisError(
                .denied, "skill-untrusted", "the skill '\(name)' is not trusted: \(skill.whyUntrusted)",
                hint:
                    "a person can look at it (`aegis skill show`) and run `\(skill.trustCommand)`; work without it until then"
            )
        }
        throw missing(name, among: skills)
    }

    /// A skill for a person: one that waits for trust rather than the one that is used meanwhile.
    ///
    /// - Throws: `skill-not-found` with the nearest.
    package func find(_ name: String) throws(AegisError) -> Skill {
        let all = untrusted + skills
        guard let skill = all.first(where: { $0.name == name }) else { throw missing(name, among: all) }
        return skill
    }

    private func missing(_ name: String, among known: [Skill]) -> AegisError {
        let names = known.map(\.name)
        return .notFound(
            "skill-not-found", "there is no skill '\(name.prefix(100))'",
            hint: nearest(name, in: names).map { "did you mean '\($0)'?" }
                ?? (names.isEmpty ? "there are no skills" : "there are \(names.prefix(40).joined(separator: ", "))"))
    }

    /// A file's bytes, if they are still those that were loaded.
    private func bytes(of file: SkillFile, in skill: Skill) throws(AegisError) -> [UInt8] {
        let changed = AegisError(
            .conflict, "skill-changed", "'\(file.path)' of the skill '\(skill.name)' has changed since it was loaded",
            hint:
                "`aegis skill list` loads it again; one that others can write must be trusted again: `\(skill.trustCommand)`"
        )
        let bytes: [UInt8]
        do {
            guard let root = try SkillFolder.open(skill.root) else { throw changed }
            bytes = try SkillFolder(skill.name, in: root, limits: limits).read(file.path, limit: file.size)
        } catch { throw changed }
        guard SkillHash.of(bytes) == file.hash else { throw changed }
        return bytes
    }
}
