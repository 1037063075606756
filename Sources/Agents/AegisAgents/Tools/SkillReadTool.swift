internal import AegisIO
package import AegisJSON
package import AegisSkills
package import AegisTools

/// `skill_read`: the instructions of a skill of the catalogue, or one of its files.
package struct SkillReadTool: Tool {
    /// The skills of the caller: those of its workspace among them.
    package typealias Library = @Sendable (ToolContext) async throws -> SkillLibrary

    private let library: Library
    package let declaration = ToolDeclaration(
        name: "skill_read",
        description:
            "Reads the instructions of one of the available skills, or a file that they name. Read them before you begin "
            + "work that a skill's description fits.",
        input: [
            "type": "object",
            "properties": [
                "skill_name": [
                    "type": "string", "minLength": 1, "maxLength": 64, "description": "As the catalogue has it.",
                ],
                "file": [
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "description":
                        "A path below the skill's folder, as in references/api.md; without it the instructions.",
                ],
            ], "required": ["skill_name"], "additionalProperties": false,
        ], effects: .reads, isIdempotent: true, isParallelSafe: true, outputLimit: 1 << 20)

    /// Makes the tool.
    package init(library: @escaping Library) { self.library = library }

    package func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let name = input["skill_name"]?.text ?? ""
        let file = input["file"]?.text
        let library = try await library(context)
        let found = try await BlockingPool.shared.run { try library.read(name, file: file) }
        var fields: [JSONValue.Field] = [
            .init("skill", .string(found.skill)), .init("source", .string("\(found.source)")),
        ]
        if let file = found.file {
            fields += [.init("file", .string(file)), .init("content", .string(found.text))]
        } else {
            fields += [
                .init("instructions", .string(found.text)),
                .init("reference_files", .array(found.files.map { .string($0.path) })),
            ]
        }
        return ToolReply(.object(fields))
    }
}
