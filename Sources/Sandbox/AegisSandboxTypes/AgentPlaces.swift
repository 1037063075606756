/// What an instance that runs the programs of an agent sees of files: as the agent's grants have it (decision D1).
package struct AgentPlaces: Sendable, Codable, Equatable {
    /// A part of the workspace of the agent's tree.
    package struct Part: Sendable, Codable, Equatable {
        /// Relative to the workspace; empty is all of it.
        package var path: String
        package var readOnly: Bool

        /// Describes a part.
        package init(path: String, readOnly: Bool) {
            self.path = path
            self.readOnly = readOnly
        }
    }

    /// The agent; the grants of its network are derived from the agent's.
    package var agent: String
    /// The agent's name, for people.
    package var name: String
    /// The agent at the top, whose workspace it is.
    package var tree: String
    /// A folder of the owner's that is the workspace instead of one that Aegis keeps.
    package var folder: String?
    /// What is visible of the workspace, outer parts before inner ones; where all of it is not, the rest of `/workspace` is an
    /// empty folder that cannot be written to.
    package var parts: [Part]
    /// What the grants were when it was made, as a text to be compared.
    package var policy: String

    /// Describes what an instance sees.
    package init(agent: String, name: String, tree: String, folder: String? = nil, parts: [Part], policy: String) {
        self.agent = agent
        self.name = name
        self.tree = tree
        self.folder = folder
        self.parts = parts
        self.policy = policy
    }
}
