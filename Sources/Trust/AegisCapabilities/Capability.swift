/// The families of capabilities, as they are spelled.
package enum CapabilityKind: String, Sendable, CaseIterable, Codable {
    case tool, network, exec, spawn, model, memory, message, secret
    case fileRead = "file_read"
    case fileWrite = "file_write"

    /// Position in tables by kind.
    var index: Int {
        switch self {
        case .tool: 0
        case .network: 1
        case .exec: 2
        case .spawn: 3
        case .model: 4
        case .memory: 5
        case .message: 6
        case .secret: 7
        case .fileRead: 8
        case .fileWrite: 9
        }
    }
}

/// Which programs a grant lets be started.
package enum ProgramPattern: Hashable, Sendable, CustomStringConvertible {
    /// Every program.
    case any
    /// What is called by this bare name and found along PATH.
    case name(String)
    /// What lies at this path inside.
    case path(CanonicalPath)

    /// The canonical text.
    package var description: String {
        switch self {
        case .any: "*"
        case .name(let name): name
        case .path(let path): path.description
        }
    }
}

/// One thing that may be done: the unit that manifests, flags, grants and gates speak in (decision D13).
package enum Capability: Hashable, Sendable {
    /// Calling a tool; nil is every tool.
    case tool(String?)
    case fileRead(PathPattern)
    case fileWrite(PathPattern)
    case network(NetworkPattern)
    case exec(ProgramPattern)
    /// Starting agents of these manifests.
    case spawn(NameSet)
    /// Asking a model, by alias or by a provider's model id.
    case model(String)
    /// Using a memory scope; `self` is the holder's own.
    case memory(String)
    /// Sending messages to these agents.
    case message(NameSet)
    case secret(SecretBinding)

    /// The family.
    package var kind: CapabilityKind {
        switch self {
        case .tool: .tool
        case .fileRead: .fileRead
        case .fileWrite: .fileWrite
        case .network: .network
        case .exec: .exec
        case .spawn: .spawn
        case .model: .model
        case .memory: .memory
        case .message: .message
        case .secret: .secret
        }
    }

    /// Whether it allows an action.
    package func allows(_ action: Action) -> Bool {
        switch (self, action) {
        case (.tool(let own), .tool(let name)): own == nil || own == name
        case (.fileRead(let pattern), .fileRead(let path)): pattern.matches(path)
        case (.fileWrite(let pattern), .fileWrite(let path)): pattern.matches(path)
        case (.network(let pattern), .connect(let destination, let tool)): pattern.matches(destination, tool: tool)
        case (.exec(let pattern), .exec(let program, let resolved)):
            switch pattern {
            case .any: true
            case .name(let name): name == program
            case .path(let path): path == resolved
            }
        case (.spawn(let names), .spawn(let name)): names.contains(name)
        case (.model(let own), .model(let name)): own == name
        case (.memory(let own), .memory(let scope)): own == scope
        case (.message(let names), .message(let name)): names.contains(name)
        case (.secret(let binding), .secret(let use)): binding.matches(use)
        default: false
        }
    }

    /// Whether it allows everything that the other one allows: then the other may be derived from it.
    package func covers(_ other: Capability) -> Bool {
        switch (self, other) {
        case (.tool(let own), .tool(let name)): own == nil || own == name
        case (.fileRead(let own), .fileRead(let pattern)): own.covers(pattern)
        case (.fileWrite(let own), .fileWrite(let pattern)): own.covers(pattern)
        case (.network(let own), .network(let pattern)): own.covers(pattern)
        case (.exec(let own), .exec(let program)): own == .any || own == program
        case (.spawn(let own), .spawn(let names)): own.covers(names)
        case (.model(let own), .model(let name)): own == name
        case (.memory(let own), .memory(let scope)): own == scope
        case (.message(let own), .message(let names)): own.covers(names)
        case (.secret(let own), .secret(let binding)): own.covers(binding)
        default: false
        }
    }

    /// How narrow it is beside others of its kind: of several that fit, the narrowest answers.
    var rank: Int {
        switch self {
        case .tool(let name): name == nil ? 0 : 1
        case .fileRead(let pattern), .fileWrite(let pattern):
            pattern.literalCount * 128 + pattern.components.count + (pattern.isLiteral ? 64 : 0)
        case .network(let pattern): pattern.rank
        case .exec(let pattern):
            switch pattern {
            case .any: 0
            case .name: 1
            case .path: 2
            }
        case .spawn(let names), .message(let names): names == .any ? 0 : 1
        case .model, .memory: 0
        case .secret(let binding):
            (binding.path?.utf8.count ?? 0) * 4 + (binding.header == nil ? 0 : 2) + (binding.methods.isEmpty ? 0 : 1)
        }
    }
}

extension Capability: CustomStringConvertible {
    /// The resource, in canonical form.
    package var resource: String {
        switch self {
        case .tool(let name): name ?? "*"
        case .fileRead(let pattern), .fileWrite(let pattern): pattern.description
        case .network(let pattern): pattern.description
        case .exec(let pattern): pattern.description
        case .spawn(let names), .message(let names): names.description
        case .model(let name), .memory(let name): name
        case .secret(let binding): binding.description
        }
    }

    /// The canonical text, as in `file_read: /data/**`. Reading it gives the same capability.
    package var description: String { "\(kind.rawValue): \(resource)" }
}

extension Capability: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        do { try self.init(parsing: container.decode(String.self)) } catch let error as CapabilityError {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "\(error)")
        }
    }
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
