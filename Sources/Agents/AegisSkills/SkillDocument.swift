internal import AegisConfig
internal import AegisCore

/// SKILL.md: YAML between two lines of `---`, then the instructions.
struct SkillDocument: Sendable, Equatable {
    var name: String
    var description: String
    var license: String?
    var compatibility: String?
    var metadata: [String: String]
    var allowedTools: [String]
    /// What follows the front matter.
    var instructions: String

    /// The file's name.
    static let file = "SKILL.md"

    /// Reads the file strictly, by the rules of the standard.
    ///
    /// - Parameters:
    ///   - bytes: the file.
    ///   - folder: the name of its folder, which the skill's must be.
    /// - Throws: `skill-invalid` with everything that is wrong, each with its line.
    init(_ bytes: [UInt8], folder: String) throws(AegisError) {
        guard let text = String(validating: bytes, as: UTF8.self) else { throw Self.invalid("SKILL.md is not UTF-8") }
        let (matter, rest) = try Self.split(text)
        let read: SkillDocument
        do {
            read = try ConfigDocument.read(
                ConfigFile(name: Self.file, bytes: Array(matter.utf8)), substitutes: false, limits: Self.limits
            ) { Self.fields($0, folder: folder) }
        } catch { throw Self.invalid(error.message) }
        self = read
        instructions = rest
    }

    private static func invalid(_ message: String) -> AegisError {
        AegisError(
            .usage, "skill-invalid", message,
            hint: "the rules are in docs/skills.md, and at agentskills.io/specification")
    }

    private static var limits: YAMLLimits {
        var limits = YAMLLimits()
        limits.bytes = 32 << 10
        limits.depth = 4
        limits.values = 500
        return limits
    }

    /// The front matter with an empty line for its first, so that the lines of messages are those of the file.
    private static func split(_ text: String) throws(AegisError) -> (matter: String, rest: String) {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)[...]
        func isRule(_ line: Substring?) -> Bool {
            guard let line else { return false }
            return line == "---" || line == "---\r"
        }
        // Swift sees "\r\n" as one character, which does not split.
        if text.utf8.contains(13) {
            lines = text.replacingLineEnds().split(separator: "\n", omittingEmptySubsequences: false)[...]
        }
        guard isRule(lines.first) else { throw invalid("SKILL.md:1:1: the first line is not '---'") }
        guard let end = lines.dropFirst().firstIndex(where: { isRule($0) }) else {
            throw invalid("SKILL.md:1:1: the front matter has no end: a second line '---' is missing")
        }
        let matter = "\n" + lines[1..<end].joined(separator: "\n") + "\n"
        let rest = lines[(end + 1)...].drop { $0.allSatisfy(\.isWhitespace) }
        return (matter, rest.joined(separator: "\n"))
    }

    private static func fields(_ reader: ConfigReader, folder: String) -> SkillDocument {
        let name = reader.require("name", placeholder: folder) { nameProblem($0, folder: folder) }
        let description = reader.require("description", placeholder: "") { text in
            let count = text.unicodeScalars.count
            return text.allSatisfy(\.isWhitespace) || count > 1024
                ? "must have 1 to 1024 characters, it has \(count)" : nil
        }
        let license: String? = reader.readIfPresent("license")
        let compatibility: String? = reader.readIfPresent("compatibility") { text in
            let count = text.unicodeScalars.count
            return (1...500).contains(count) ? nil : "must have 1 to 500 characters, it has \(count)"
        }
        let metadata = reader.readMap("metadata", of: String.self)
        let tools: String? = reader.readIfPresent("allowed-tools")
        return SkillDocument(
            name: name, description: description, license: license, compatibility: compatibility,
            metadata: Dictionary(metadata.map { ($0.key, $0.value) }) { first, _ in first },
            allowedTools: tools?.split(separator: " ").map(String.init) ?? [], instructions: "")
    }

    private init(
        name: String, description: String, license: String?, compatibility: String?, metadata: [String: String],
        allowedTools: [String], instructions: String
    ) {
        (self.name, self.description, self.license, self.compatibility) = (name, description, license, compatibility)
        (self.metadata, self.allowedTools, self.instructions) = (metadata, allowedTools, instructions)
    }

    private static func nameProblem(_ name: String, folder: String) -> String? {
        let bytes = Array(name.utf8)
        guard (1...64).contains(bytes.count) else { return "must have 1 to 64 characters, it has \(name.count)" }
        guard bytes.allSatisfy({ (97...122).contains($0) || (48...57).contains($0) || $0 == 45 }) else {
            return "may have only a-z, 0-9 and '-'"
        }
        guard bytes.first != 45, bytes.last != 45 else { return "must not start or end with '-'" }
        guard !zip(bytes, bytes.dropFirst()).contains(where: { $0 == 45 && $1 == 45 }) else {
            return "must not have '--' inside"
        }
        return name == folder ? nil : "must be the name of its folder, '\(folder)'"
    }
}

extension String {
    /// With `\n` for `\r\n`.
    func replacingLineEnds() -> String {
        var out = String.UnicodeScalarView()
        for scalar in unicodeScalars where scalar != "\r" { out.append(scalar) }
        return String(out)
    }
}
