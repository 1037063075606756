package import AegisAudit
package import AegisBackends
package import AegisCapabilities
package import AegisCore
package import AegisFiles
package import AegisIO
package import AegisImages
package import AegisNetwork
package import AegisSandboxTypes
package import AegisSecrets

/// Who asks: taken from the socket's peer credentials, never from a field of a request (decision D15).
package struct Caller: Sendable, Equatable {
    package var uid: UInt32
    package var gid: UInt32
    package init(uid: UInt32, gid: UInt32) {
        self.uid = uid
        self.gid = gid
    }
    /// Root and the daemon's own user see every instance.
    package func maySee(owner: UInt32) -> Bool { uid == 0 || uid == owner }
}

/// Limits that the node sets where an instance gives none (decision D38).
package struct NodeDefaults: Sendable {
    package var limits: AegisSandboxTypes.Limits
    package var isolation = "auto"
    package var minIsolation = Grade.namespaces
    package var pull = "if-not-present"
    /// Instances that may exist at once.
    package var maxInstances = 500
    /// Bytes of stored log per instance.
    package var logLimit: UInt64 = 64 << 20
    /// How long an ephemeral instance waits for its client to come (back).
    package var clientPatience = Duration.seconds(30)
    /// Sandboxes that are kept ready.
    package var warm: [WarmWish] = []
    /// Bytes that those may use together.
    package var warmMemory: UInt64 = 1 << 30
    /// Bytes of memory that must stay available on the machine when one is made ahead.
    package var warmReserve: UInt64 = 512 << 20
    /// How long an instance that a port can wake is unused before it pauses; zero = never.
    package var idlePause = Duration.seconds(60)
    /// How long it is unused before it stops; zero = never.
    package var idleStop = Duration.seconds(20 * 60)
    package init(limits: AegisSandboxTypes.Limits) { self.limits = limits }
}

/// Everything below the instances that they use; made once, in the composition root.
package struct InstanceServices: Sendable {
    package var node: String
    package var home: String
    package var bootID: String
    package var defaults: NodeDefaults
    package var store: InstanceStore
    package var backends: BackendSet
    /// Writable layers with a limit.
    package var disk: DiskPool
    package var images: ImageStore
    /// The registry of image names that have none.
    package var defaultRegistry: String
    package var workspaces: WorkspaceStore
    package var opener: UserView
    package var secrets: SecretStore
    package var network: NetworkService
    /// What happens to instances, for whoever follows it.
    package let events = EventRing(after: EventRing.freshStart)
    /// Who may do what.
    package var grants: GrantBook
    /// Where it is written down what was done.
    package var audit: any AuditTrail
    package var scope: TaskScope
    package var clock: LoopClock
    package var logger: Logger
    /// Closed when the daemon ends: nothing is made or started any more.
    package let gate = Gate()
    /// Told whenever what instances expose has changed.
    package let routes = ChangeBoard()
    /// Who answers programs inside.
    package let guests = GuestBoard()
    /// When users waited for a start.
    package let starts = StartActivity()
    /// Who wants a sandbox made ready for its next start.
    package let standbys = StandbyBoard()

    package init(
        node: String, home: String, bootID: String, defaults: NodeDefaults, store: InstanceStore, backends: BackendSet,
        disk: DiskPool,
        images: ImageStore, defaultRegistry: String, workspaces: WorkspaceStore, opener: UserView, secrets: SecretStore,
        network: NetworkService, grants: GrantBook, audit: any AuditTrail, scope: TaskScope,
        clock: LoopClock, logger: Logger
    ) {
        self.node = node
        self.home = home
        self.bootID = bootID
        self.defaults = defaults
        self.store = store
        self.backends = backends
        self.disk = disk
        self.images = images
        self.defaultRegistry = defaultRegistry
        self.workspaces = workspaces
        self.opener = opener
        self.secrets = secrets
        self.network = network
        self.grants = grants
        self.audit = audit
        self.scope = scope
        self.clock = clock
        self.logger = logger
    }
}
