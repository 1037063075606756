package import AegisJSON

/// Gives back what it got: to try whether calling works.
package struct EchoTool: Tool {
    package let declaration = ToolDeclaration(
        name: "echo", description: "Returns its input unchanged.",
        input: [
            "type": "object",
            "properties": ["message": ["type": "string", "description": "What to return."]],
            "required": ["message"],
        ], effects: .none, isIdempotent: true, isParallelSafe: true)

    /// Makes the tool.
    package init() {}

    package func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply { ToolReply(input) }
}
