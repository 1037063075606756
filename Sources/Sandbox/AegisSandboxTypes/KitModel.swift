package import AegisCore

/// What a kit says of an instance, as its manifest has it (`spec`). A nil leaves the thing to the node or the user.
package struct KitSpec: Sendable, Codable, Equatable {
    package var image: String?
    package var command: [String]?
    package var env: [String: String]?
    package var workdir: String?
    package var user: String?
    /// Ports as `--expose` takes them.
    package var expose: [String]?
    /// What is copied into an empty workspace; targets are relative to it.
    package var workspace: [KitFile]?
    /// What is there read-only; targets are absolute paths inside.
    package var files: [KitFile]?
    package var secrets: [KitSecret]?
    package var idle: IdlePolicy?
    package var hooks: KitHooks?
    package var health: KitHealth?
    package var routing: KitRouting?
    package var network: KitNetwork?
    package var limits: Limits?
    /// The weakest isolation that the kit is meant for; it only raises what the node and the user ask for.
    package var minIsolation: String?
    /// What the instance is granted, as `--grant` takes it.
    package var grants: [String]?
    /// Tools that the kit brings, as MCP servers that run in its sandbox.
    package var tools: [KitTool]?

    /// A kit that says nothing.
    package init() {}

    private enum CodingKeys: String, CodingKey {
        case image, command, env, workdir, user, expose, workspace, files, secrets, idle, hooks, health,
            routing, network, limits, grants, tools
        case minIsolation = "min_isolation"
    }
}

/// A file or folder of a kit, and where it goes.
package struct KitFile: Sendable, Codable, Equatable {
    /// Within the kit.
    package var from: String
    package var to: String
    /// Names a file.
    package init(from: String, to: String) {
        self.from = from
        self.to = to
    }
}

/// A secret that a kit needs, by its name in the store.
package struct KitSecret: Sendable, Codable, Equatable {
    package var name: String
    /// What it is, for whoever has to store it.
    package var description: String?
    /// Whether the kit works without it.
    package var optional: Bool
    /// Names a secret.
    package init(name: String, description: String? = nil, optional: Bool = false) {
        self.name = name
        self.description = description
        self.optional = optional
    }
}

/// A command that runs inside beside the instance's own.
package struct KitCommand: Sendable, Codable, Equatable {
    package var command: [String]
    /// Who runs it; nil = who runs the instance's command.
    package var user: String?
    /// How long it may take.
    package var timeout: TimeSpan
    /// Declares a command.
    package init(command: [String], user: String? = nil, timeout: TimeSpan) {
        self.command = command
        self.user = user
        self.timeout = timeout
    }
}

/// What runs inside at every start; one that fails stops the start.
package struct KitHooks: Sendable, Codable, Equatable {
    /// One after the other, before the command.
    package var before: [KitCommand]
    /// One after the other, once the command runs and is healthy.
    package var after: [KitCommand]
    /// Declares the hooks.
    package init(before: [KitCommand] = [], after: [KitCommand] = []) {
        self.before = before
        self.after = after
    }
}

/// When the instance counts as started.
package struct KitHealth: Sendable, Codable, Equatable {
    /// Answered with 2xx or 3xx by the first http port before the router hands it anything.
    package var path: String?
    /// Ends with 0 once the instance is ready; tried again and again until then.
    package var exec: [String]?
    /// Time between two tries.
    package var interval: TimeSpan
    /// How long the start may take until it is healthy.
    package var timeout: TimeSpan
    /// Declares the check.
    package init(path: String? = nil, exec: [String]? = nil, interval: TimeSpan, timeout: TimeSpan) {
        self.path = path
        self.exec = exec
        self.interval = interval
        self.timeout = timeout
    }
}

/// What the router does for the instances of a kit, beside what their ports say.
package struct KitRouting: Sendable, Codable, Equatable {
    /// `/NAME`: where the router's port serves the instance, too.
    package var path: String?
    package var headers: KitHeaders?
    /// Declares what is to be done.
    package init(path: String? = nil, headers: KitHeaders? = nil) {
        self.path = path
        self.headers = headers
    }
}

/// Header fields, by name, that the router sets on http and ws ports, whatever was there before.
package struct KitHeaders: Sendable, Codable, Equatable {
    /// What the server gets with each request.
    package var request: [String: String]
    /// What the client gets with each response of the server.
    package var response: [String: String]
    /// Declares the fields.
    package init(request: [String: String] = [:], response: [String: String] = [:]) {
        self.request = request
        self.response = response
    }
}

/// What a kit may reach. There is no way for it to open everything.
package struct KitNetwork: Sendable, Codable, Equatable {
    package var group: String?
    package var allow: [String]
    /// Declares the places.
    package init(group: String? = nil, allow: [String] = []) {
        self.group = group
        self.allow = allow
    }
}

/// A tool that a kit brings: an MCP server that speaks on its standard streams, in the kit's sandbox.
package struct KitTool: Sendable, Codable, Equatable {
    package var name: String
    package var description: String?
    package var command: [String]
    package var env: [String: String]?
    /// Secrets of the kit that the server gets.
    package var secrets: [String]?
    /// How long a call may take.
    package var timeout: TimeSpan?
    /// Declares a server.
    package init(
        name: String, description: String? = nil, command: [String], env: [String: String]? = nil,
        secrets: [String]? = nil, timeout: TimeSpan? = nil
    ) {
        self.name = name
        self.description = description
        self.command = command
        self.env = env
        self.secrets = secrets
        self.timeout = timeout
    }
}

/// An installed kit as the API shows it.
package struct KitInfo: Sendable, Codable, Equatable {
    package var name: String
    package var version: String
    package var description: String?
    /// The address of its content: `sha256:…`.
    package var digest: String
    /// Bytes of all its files.
    package var size: UInt64
    package var installedAt: Timestamp
    /// `ok`, or `broken`: its files are not what was installed.
    package var status: String
    /// Why it is broken.
    package var problem: String?
    /// Names or ids of the caller's instances that use it.
    package var usedBy: [String]
    /// What it says; nil in lists and of a broken one.
    package var spec: KitSpec?

    /// What is known of every kit.
    package init(name: String, version: String, digest: String, size: UInt64, installedAt: Timestamp) {
        self.name = name
        self.version = version
        self.digest = digest
        self.size = size
        self.installedAt = installedAt
        status = "ok"
        usedBy = []
    }

    private enum CodingKeys: String, CodingKey {
        case name, version, description, digest, size, status, problem, spec
        case installedAt = "installed_at"
        case usedBy = "used_by"
    }
}

/// The body of `POST /v1/kits`.
package struct InstallKit: Sendable, Codable, Equatable {
    /// An absolute path of a folder or archive, opened with the caller's rights.
    package var path: String
    /// Names a kit.
    package init(path: String) { self.path = path }

    private enum CodingKeys: String, CodingKey, CaseIterable { case path }
    package init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        path = try decoder.container(keyedBy: CodingKeys.self).decode(String.self, forKey: .path)
    }
}

/// What an instance keeps of the kit that it was made with.
package struct KitPlan: Sendable, Codable, Equatable {
    /// `NAME@VERSION`
    package var reference: String
    /// The folder of the kit's files, beneath `AEGIS_HOME`.
    package var root: String
    package var files: [KitFile]
    package var workspace: [KitFile]
    package var hooks: KitHooks
    package var health: KitHealth?
    package var routing: KitRouting?
    package var tools: [KitTool]
    /// How far the copy into the workspace is; nil = not begun.
    package var layout: Layout?

    /// How far the workspace is filled.
    package enum Layout: String, Sendable, Codable { case begun, done }

    /// Takes over what an instance needs of a kit.
    package init(reference: String, root: String, spec: KitSpec) {
        self.reference = reference
        self.root = root
        files = spec.files ?? []
        workspace = spec.workspace ?? []
        hooks = spec.hooks ?? KitHooks()
        health = spec.health?.exec == nil ? nil : spec.health
        routing = spec.routing
        tools = spec.tools ?? []
    }
}
