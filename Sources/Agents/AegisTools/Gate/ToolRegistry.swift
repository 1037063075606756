package import AegisCapabilities
package import AegisCore
internal import Synchronization

/// The tools of a node. What is registered is complete: its schema has been read, and its name is one that a grant can name.
package final class ToolRegistry: Sendable {
    /// A tool with what was made of its declaration.
    package struct Entry: Sendable {
        package let tool: any Tool
        package let declaration: ToolDeclaration
        package let schema: JSONSchema
    }

    private let entries = Mutex<[String: Entry]>([:])
    private let most: Int

    /// An empty registry.
    ///
    /// - Parameter most: how many tools it takes, foreign ones included.
    package init(most: Int = 4096) { self.most = most }

    /// A registry with tools.
    ///
    /// - Throws: as `register` does.
    package convenience init(_ tools: [any Tool]) throws(AegisError) {
        self.init()
        for tool in tools { try register(tool) }
    }

    /// Adds a tool.
    ///
    /// - Parameters:
    ///   - tool: what is added.
    ///   - foreign: whether others wrote its schema: keywords that are not known are passed over then, as the standard says.
    /// - Throws: `tool-invalid` when its declaration cannot be kept to; `tool-exists` when there is one of its name.
    package func register(_ tool: any Tool, foreign: Bool = false) throws(AegisError) {
        let declaration = tool.declaration
        let name = declaration.name
        guard (try? Capability(parsing: "tool: \(name)")) == .tool(name) else {
            throw AegisError(.usage, "tool-invalid", "'\(name)' cannot be the name of a tool: no grant could name it")
        }
        let schema: JSONSchema
        do { schema = try JSONSchema(declaration.input, keywords: foreign ? .anything : .known) } catch {
            throw AegisError(.usage, "tool-invalid", "the input schema of the tool '\(name)': \(error)")
        }
        try entries.withLock { entries throws(AegisError) in
            guard entries[name] == nil else { throw .conflict("tool-exists", "there is a tool '\(name)' already") }
            guard entries.count < most else { throw AegisError(.conflict, "tool-invalid", "there are \(most) tools") }
            entries[name] = Entry(tool: tool, declaration: declaration, schema: schema)
        }
    }

    /// Removes a tool; calls that run go on.
    ///
    /// - Returns: whether there was one.
    @discardableResult package func remove(_ name: String) -> Bool {
        entries.withLock { $0.removeValue(forKey: name) != nil }
    }

    /// A tool by its name.
    package func entry(_ name: String) -> Entry? { entries.withLock { $0[name] } }

    /// All declarations, by name.
    package var declarations: [ToolDeclaration] {
        entries.withLock { $0.values.map(\.declaration) }.sorted { $0.name < $1.name }
    }

    /// The tools that a holder may call now, by name: what its model is told of.
    package func declarations(for holder: HolderID, in grants: GrantBook) -> [ToolDeclaration] {
        let set = grants.grants(of: holder)
        let now = Timestamp.now()
        return declarations.filter { declaration in
            if case .allow = evaluate(Request(.tool(declaration.name)), with: set, at: now) { true } else { false }
        }
    }
}
