package import AegisCapabilities
package import AegisCore
internal import AegisJSON
internal import Synchronization

/// The tools of a node. What is registered is complete: its schema has been read, and its name is one that a grant can name.
package final class ToolRegistry: Sendable {
    /// A tool with what was made of its declaration.
    package final class Entry: Sendable {
        package let tool: any Tool
        package let declaration: ToolDeclaration
        package let schema: JSONSchema
        /// The name that models are told: providers take only letters, digits, `_` and `-` in it.
        package let wireName: String
        /// Bytes of the schema as a model is sent it.
        package let schemaSize: Int

        init(_ tool: any Tool, _ declaration: ToolDeclaration, _ schema: JSONSchema, wireName: String) {
            self.tool = tool
            self.declaration = declaration
            self.schema = schema
            self.wireName = wireName
            schemaSize = declaration.input.compact.count
        }
    }

    private struct State {
        var entries: [String: Entry] = [:]
        /// Names that models are told, where they are not the tools' own.
        var wire: [String: String] = [:]
        /// By name.
        var sorted: [Entry] = []
        var actions: [Action] = []

        mutating func sort() {
            sorted = entries.values.sorted { $0.declaration.name < $1.declaration.name }
            actions = sorted.map { .tool($0.declaration.name) }
        }
    }

    private let state = Mutex(State())
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
    ///   - replacing: whether it may take the place of one of its name; calls of that one which run go on.
    /// - Throws: `tool-invalid` when its declaration cannot be kept to; `tool-exists` when there is one of its name.
    package func register(_ tool: any Tool, foreign: Bool = false, replacing: Bool = false) throws(AegisError) {
        let declaration = tool.declaration
        let name = declaration.name
        guard (try? Capability(parsing: "tool: \(name)")) == .tool(name) else {
            throw AegisError(.usage, "tool-invalid", "'\(name)' cannot be the name of a tool: no grant could name it")
        }
        let schema: JSONSchema
        do { schema = try JSONSchema(declaration.input, keywords: foreign ? .anything : .known) } catch {
            throw AegisError(.usage, "tool-invalid", "the input schema of the tool '\(name)': \(error)")
        }
        try state.withLock { state throws(AegisError) in
            let old = state.entries[name]
            guard old == nil || replacing else { throw .conflict("tool-exists", "there is a tool '\(name)' already") }
            guard old != nil || state.entries.count < most else {
                throw AegisError(.conflict, "tool-invalid", "there are \(most) tools")
            }
            let wire = old?.wireName ?? WireName.of(name) { state.entries[$0] != nil || state.wire[$0] != nil }
            state.entries[name] = Entry(tool, declaration, schema, wireName: wire)
            if wire != name { state.wire[wire] = name }
            state.sort()
        }
    }

    /// Removes a tool; calls that run go on.
    ///
    /// - Returns: whether there was one.
    @discardableResult package func remove(_ name: String) -> Bool {
        state.withLock { state in
            guard let old = state.entries.removeValue(forKey: name) else { return false }
            if old.wireName != name { state.wire[old.wireName] = nil }
            state.sort()
            return true
        }
    }

    /// A tool by its name, or by the name that models are told.
    package func entry(_ name: String) -> Entry? {
        state.withLock { state in state.entries[name] ?? state.wire[name].flatMap { state.entries[$0] } }
    }

    /// The name that models are told of a tool.
    package func wireName(_ name: String) -> String { entry(name)?.wireName ?? name }

    /// All tools, by name.
    var all: [Entry] { state.withLock { $0.sorted } }

    /// All declarations, by name.
    package var declarations: [ToolDeclaration] { all.map(\.declaration) }

    /// The tools that a holder may call now, by name: what its model is told of.
    package func entries(for holder: HolderID, in grants: GrantBook) -> [Entry] {
        let (sorted, actions) = state.withLock { ($0.sorted, $0.actions) }
        let allowed = grants.allowed(actions, for: holder)
        return sorted.indices.compactMap { allowed[$0] ? sorted[$0] : nil }
    }

    /// Their declarations.
    package func declarations(for holder: HolderID, in grants: GrantBook) -> [ToolDeclaration] {
        entries(for: holder, in: grants).map(\.declaration)
    }
}
