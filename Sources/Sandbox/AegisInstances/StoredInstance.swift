package import AegisBackends
package import AegisCore
package import AegisImages
package import AegisNetwork
package import AegisSandboxTypes

/// Where the workspace of an instance comes from.
package enum WorkspaceKind: String, Sendable, Codable, Equatable {
    /// Made for the instance and deleted with it.
    case automatic
    /// A named workspace of Aegis; never deleted with an instance.
    case named
    /// A folder of the host, named by the owner; never deleted.
    case host
    /// That of an agent's tree, or parts of it; never deleted with an instance.
    case agent
}

/// What is saved of an instance: what users see, what a start needs, and how to find a live sandbox again.
package struct StoredInstance: Sendable, Codable, Equatable {
    /// The version of this form; a reader takes its own and its predecessor's.
    package var version = 1
    package var info: InstanceInfo
    package var env: [String: String]
    package var workdir: String?
    package var user: String?
    package var userCommand: [String]
    package var workspaceKind: WorkspaceKind
    /// The workspace's name or path, as `workspaceKind` says.
    package var workspaceSource: String
    package var isolation: String
    package var minIsolation: String
    package var pull: String
    package var stdin: Bool
    package var tty: Bool
    /// Whether the sandbox stays for its files when the command has ended; nil in records of before this was known.
    package var lingers: Bool?
    /// The live sandbox, while there is one.
    package var sandbox: SandboxRecord?
    /// One that is made ready for the next start: nothing of the instance's runs in it, and it ends with the daemon.
    package var standby: SandboxRecord?
    package var attempt: UInt64 = 0
    /// What the image said at the last start.
    package var image: StoredImage?
    /// Group of the owner, for opening paths as the owner.
    package var ownerGroup: UInt32
    /// The numbers of the user that the command ran as at the last start.
    package var insideUser: UInt32?
    package var insideGroup: UInt32?
    /// What was asked for and is not done yet.
    package var intent: InstanceLifecycle.Intent?
    /// When it crashed of late, in milliseconds since 1970.
    package var crashes: [Int64]?
    /// When its ports with a cooldown were last used, in milliseconds since 1970, by their numbers.
    package var lastUses: [String: Int64]?
    /// Whether the start under way is that of a daemon which died before it was through.
    package var isSecondTry: Bool?
    /// Whether setuid bits may be set although folders of the host can be written to; nil in records of before.
    package var allowsSetID: Bool?
    /// What it may reach; nil is nothing.
    package var network: NetworkRequest?
    /// Its place in the node's networks, while it has one.
    package var place: NetworkService.Place?
    /// How many denials of its network have been told since that was opened; nil is none.
    package var denials: UInt64?
    /// Whether TLS of the live run is looked into, so that what that needs is kept.
    package var isInspected: Bool?
    /// Until when somebody asked it to stay awake.
    package var lease: Timestamp?
    /// Where programs inside reach Aegis; nil = where they do everywhere.
    package var guestAPI: GuestAPISetting?
    /// What it needs of the kit that it was made with.
    package var kit: KitPlan?
    /// How many instances it has started, and those that it has started, in its whole life; nil is none.
    package var spawned: UInt64?
    /// When its grants were first given, where one of them has a lifetime.
    package var granted: Timestamp?
    /// Whose programs it runs, and what they see of files; nil for an instance that is no agent's.
    package var agent: AgentPlaces?

    /// Makes it the instance of a sandbox that was kept ready. The sandbox is noted at once: a daemon that comes after a
    /// crash must find it.
    func taking(_ claim: WarmClaim) -> StoredInstance {
        var stored = self
        stored.info.id = claim.warm.id
        stored.workspaceSource = "auto-\(claim.warm.id)"
        stored.sandbox = claim.warm.sandbox.record
        return stored
    }
}

/// What is kept of an instance's image: what further processes need, and what a garbage collection must keep.
package struct StoredImage: Sendable, Codable, Equatable {
    /// The image's id.
    package var digest: String
    package var entrypoint: [String]
    package var command: [String]
    package var environment: [String]
    package var user: String
    package var workingDirectory: String
    package var architecture: String
    package var operatingSystem: String

    init(_ image: ResolvedImage) {
        digest = image.digest
        entrypoint = image.config.entrypoint
        command = image.config.command
        environment = image.config.environment
        user = image.config.user
        workingDirectory = image.config.workingDirectory
        architecture = image.config.architecture
        operatingSystem = image.config.operatingSystem
    }

    var config: ImageConfig {
        var config = ImageConfig(architecture: architecture, operatingSystem: operatingSystem)
        config.entrypoint = entrypoint
        config.command = command
        config.environment = environment
        config.user = user
        config.workingDirectory = workingDirectory
        return config
    }
}

extension ImageProgress {
    /// One line for people.
    package func text(_ reference: ImageReference) -> String {
        switch self {
        case .resolving: "\(reference): asking the registry"
        case .downloading(let bytes, let all):
            "\(reference): fetching \(bytes >> 20) of \(all >> 20) MiB"
        case .unpacking(let done, let all): "\(reference): unpacking, \(done) of \(all) layers done"
        case .building(let line): "\(reference): \(line)"
        case .warning(let text): "\(reference): \(text)"
        case .ready: "\(reference): ready"
        }
    }
}
