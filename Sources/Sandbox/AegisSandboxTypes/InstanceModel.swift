package import AegisCore

/// Where an instance stands.
package enum InstanceState: String, Sendable, Codable, CaseIterable {
    case stopped, starting, running, paused, stopping
}

/// When an instance may sleep; what is not given is the node's own where a port can wake it.
package struct IdlePolicy: Sendable, Codable, Equatable {
    /// Pause after being unused that long; 0 = never.
    package var pause: TimeSpan?
    /// Stop after being unused that long; 0 = never.
    package var stop: TimeSpan?
    /// Percent of one processor above which it counts as used.
    package var cpu: Double?
    /// Whether a pause pushes the memory out: `safe` only where it cannot reach a disk in the clear, `any` in any case.
    package var reclaim: Reclaim?
    /// Whether a sandbox is made ready after such a stop, so that the next start has only the command to start.
    package var standby: Bool?

    package enum Reclaim: String, Sendable, Codable, CaseIterable {
        case safe, any

        /// - Throws: `invalid-argument` for any other word.
        package init(parsing text: String) throws(AegisError) {
            guard let known = Reclaim(rawValue: text) else {
                throw .usage("'\(text)' is not a way to reclaim memory", hint: "use safe or any")
            }
            self = known
        }
    }

    package init(
        pause: TimeSpan? = nil, stop: TimeSpan? = nil, cpu: Double? = nil, reclaim: Reclaim? = nil,
        standby: Bool? = nil
    ) {
        self.pause = pause
        self.stop = stop
        self.cpu = cpu
        self.reclaim = reclaim
        self.standby = standby
    }
    package enum CodingKeys: String, CodingKey, CaseIterable { case pause, stop, cpu, reclaim, standby }
    package init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        let c = try decoder.container(keyedBy: CodingKeys.self)
        pause = try c.decodeIfPresent(TimeSpan.self, forKey: .pause)
        stop = try c.decodeIfPresent(TimeSpan.self, forKey: .stop)
        cpu = try c.decodeIfPresent(Double.self, forKey: .cpu)
        reclaim = try c.decodeIfPresent(String.self, forKey: .reclaim).map { try Reclaim(parsing: $0) }
        standby = try c.decodeIfPresent(Bool.self, forKey: .standby)
    }

    /// Whether the values make sense.
    ///
    /// - Throws: `invalid-argument` naming the value and its range.
    package func validate() throws(AegisError) {
        for (name, span) in [("pause", pause), ("stop", stop)] {
            guard let span, span.milliseconds != 0 else { continue }
            guard (100...30 * 86_400_000).contains(span.milliseconds) else {
                throw .usage("idle \(name) '\(span)' is out of range", hint: "100ms to 30d, or 0s for never")
            }
        }
        if let cpu, !(cpu > 0 && cpu <= 100_000) {
            throw .usage("idle cpu '\(cpu)' is out of range", hint: "percent of one processor, as in 5 or 0.5")
        }
    }
}

/// How far the sandbox is that an instance gets for its next start.
package enum StandbyState: String, Sendable, Codable {
    /// It is made when nobody waits for a start and there is room.
    case waiting
    case making, ready
}

/// What became of the memory of an instance that was pushed out.
package struct Reclaimed: Sendable, Codable, Equatable {
    package var at: Timestamp
    /// Bytes of memory in use, page cache included.
    package var before: UInt64
    package var after: UInt64
    package init(at: Timestamp, before: UInt64, after: UInt64) {
        self.at = at
        self.before = before
        self.after = after
    }
    private enum CodingKeys: String, CodingKey {
        case at
        case before = "before_bytes"
        case after = "after_bytes"
    }
}

/// What network an instance asks for.
package struct NetworkRequest: Sendable, Codable, Equatable {
    /// `none` (loopback only, and what `allow` lists) or `allow` (every public address).
    package var mode: String
    /// The group whose members it can reach.
    package var group: String?
    /// Places that it may connect to, as `HOST[:PORT]`, `*.DOMAIN` or `CIDR`.
    package var allow: [String]?
    package init(mode: String = "none", group: String? = nil, allow: [String]? = nil) {
        self.mode = mode
        self.group = group
        self.allow = allow
    }
    package enum CodingKeys: String, CodingKey, CaseIterable { case mode, group, allow }
    package init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        let c = try decoder.container(keyedBy: CodingKeys.self)
        mode = try c.decodeIfPresent(String.self, forKey: .mode) ?? "none"
        group = try c.decodeIfPresent(String.self, forKey: .group)
        allow = try c.decodeIfPresent([String].self, forKey: .allow)
    }
}

/// The body of `POST /v1/instances` (decision D18).
package struct CreateInstance: Sendable, Codable, Equatable {
    package var name: String?
    package var image: String?
    package var command: [String]?
    package var env: [String: String]?
    package var workdir: String?
    package var user: String?
    /// A name or an absolute host path; nil = automatic.
    package var workspace: String?
    package var mounts: [MountSpec]?
    package var secrets: [String]?
    package var expose: [String]?
    package var isolation: String?
    package var minIsolation: String?
    package var limits: Limits?
    package var idle: IdlePolicy?
    package var network: NetworkRequest?
    /// The kit that it is made from, `NAME` or `NAME@VERSION`; what is said beside it wins.
    package var kit: String?
    package var labels: [String: String]?
    /// always, if-not-present or never.
    package var pull: String?
    /// Lives by its client's attach stream and is removed with it.
    package var ephemeral: Bool?
    /// For ephemeral ones: when the command has ended, also by its time-out, everything else that runs inside is ended
    /// too, but the sandbox stays, so that its files can be read until the instance is deleted or its client is gone.
    package var linger: Bool?
    /// Whether the command's stdin is open.
    package var stdin: Bool?
    /// Whether the command gets a terminal.
    package var tty: Bool?
    /// Whether the instance is started at once (default true).
    package var start: Bool?
    /// Whether setuid and setgid bits may be set although folders of the host can be written to (default false).
    package var allowSetuid: Bool?
    /// Where programs inside reach Aegis (default port 7777 of their loopback).
    package var guestAPI: GuestAPISetting?
    /// Capabilities that programs inside get, as in `spawn: *`.
    package var grants: [String]?
    /// The caller's own credentials for the image's registry, for the first start; not part of the record.
    package var credentials: RegistryCredentials?
    /// Whose programs it runs, and what they see of files; only the daemon itself says that, never a request.
    package var agent: AgentPlaces?

    package init(command: [String]? = nil) { self.command = command }

    package enum CodingKeys: String, CodingKey, CaseIterable {
        case name, image, command, env, workdir, user, workspace, mounts, secrets, expose, isolation, limits, idle,
            network, kit
        case labels, pull, ephemeral, linger, stdin, tty, start
        case minIsolation = "min_isolation"
        case allowSetuid = "allow_setuid"
        case guestAPI = "guest_api"
        case grants
        case credentials
    }

    package init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        let c = try decoder.container(keyedBy: CodingKeys.self)
        name = try c.decodeIfPresent(String.self, forKey: .name)
        image = try c.decodeIfPresent(String.self, forKey: .image)
        command = try c.decodeIfPresent([String].self, forKey: .command)
        env = try c.decodeIfPresent([String: String].self, forKey: .env)
        workdir = try c.decodeIfPresent(String.self, forKey: .workdir)
        user = try c.decodeIfPresent(String.self, forKey: .user)
        workspace = try c.decodeIfPresent(String.self, forKey: .workspace)
        mounts = try c.decodeIfPresent([MountSpec].self, forKey: .mounts)
        secrets = try c.decodeIfPresent([String].self, forKey: .secrets)
        expose = try c.decodeIfPresent([String].self, forKey: .expose)
        isolation = try c.decodeIfPresent(String.self, forKey: .isolation)
        minIsolation = try c.decodeIfPresent(String.self, forKey: .minIsolation)
        limits = try c.decodeIfPresent(Limits.self, forKey: .limits)
        idle = try c.decodeIfPresent(IdlePolicy.self, forKey: .idle)
        network = try c.decodeIfPresent(NetworkRequest.self, forKey: .network)
        kit = try c.decodeIfPresent(String.self, forKey: .kit)
        labels = try c.decodeIfPresent([String: String].self, forKey: .labels)
        pull = try c.decodeIfPresent(String.self, forKey: .pull)
        ephemeral = try c.decodeIfPresent(Bool.self, forKey: .ephemeral)
        linger = try c.decodeIfPresent(Bool.self, forKey: .linger)
        stdin = try c.decodeIfPresent(Bool.self, forKey: .stdin)
        tty = try c.decodeIfPresent(Bool.self, forKey: .tty)
        start = try c.decodeIfPresent(Bool.self, forKey: .start)
        allowSetuid = try c.decodeIfPresent(Bool.self, forKey: .allowSetuid)
        guestAPI = try c.decodeIfPresent(GuestAPISetting.self, forKey: .guestAPI)
        grants = try c.decodeIfPresent([String].self, forKey: .grants)
        credentials = try c.decodeIfPresent(RegistryCredentials.self, forKey: .credentials)
    }
}

/// The plain form of an error inside a record.
package struct RecordedError: Sendable, Codable, Equatable {
    package var code: String
    package var message: String
    package var hint: String?
    package init(_ error: AegisError) {
        code = error.code
        message = error.message
        hint = error.hint
    }
}

/// An instance as the API shows it (contract: instance record).
package struct InstanceInfo: Sendable, Codable, Equatable {
    package var id: String
    package var name: String?
    package var state: InstanceState
    package var enabled: Bool
    package var image: String
    package var command: [String]
    package var backend: String?
    package var grade: Grade?
    package var gradeDetail: GradeDetail?
    package var workspace: String?
    package var mounts: [MountSpec]
    package var expose: [ExposedPort]
    package var secrets: [String]
    package var limits: Limits
    /// `none` (loopback only), `listed` (the places of `allow`) or `allow` (every public address).
    package var network: String
    /// The places that it may connect to.
    package var allow: [String]?
    /// What programs inside were granted, in canonical form.
    package var grants: [String]?
    package var group: String?
    package var kit: String?
    package var connections: Int
    package var labels: [String: String]
    package var owner: UInt32
    package var parent: String?
    /// The agent whose programs it runs, and which it goes with.
    package var agent: String?
    package var idle: IdlePolicy?
    /// What the last pause gave back, if it was to.
    package var reclaimed: Reclaimed?
    /// How far the sandbox for the next start is, while the instance is stopped for want of use and its policy wants one.
    package var standby: StandbyState?
    /// Why it is not there yet.
    package var standbyObstacle: String?
    package var filePolicy: String
    package var ephemeral: Bool
    package var createdAt: Timestamp
    package var startedAt: Timestamp?
    package var lastActiveAt: Timestamp?
    package var stoppedAt: Timestamp?
    package var exitCode: Int32?
    /// exited, stopped, killed, timeout, oom, boot-failed, crash-loop, lost, host-restart, policy-failed
    package var stopReason: String?
    package var oomKilled: Bool
    package var error: RecordedError?
    package var node: String

    package init(
        id: String, name: String?, state: InstanceState, image: String, command: [String], owner: UInt32, node: String,
        createdAt: Timestamp
    ) {
        self.id = id
        self.name = name
        self.state = state
        self.image = image
        self.command = command
        self.owner = owner
        self.node = node
        self.createdAt = createdAt
        enabled = true
        mounts = []
        expose = []
        secrets = []
        limits = Limits()
        network = "none"
        connections = 0
        labels = [:]
        filePolicy = "mounts"
        ephemeral = false
        oomKilled = false
    }

    package enum CodingKeys: String, CodingKey {
        case id, name, state, enabled, image, command, backend, grade, workspace, mounts, expose, secrets, limits,
            network, allow, grants
        case group, kit, connections, labels, owner, parent, agent, idle, reclaimed, standby, ephemeral, error, node
        case standbyObstacle = "standby_obstacle"
        case gradeDetail = "grade_detail"
        case filePolicy = "file_policy"
        case createdAt = "created_at"
        case startedAt = "started_at"
        case lastActiveAt = "last_active_at"
        case stoppedAt = "stopped_at"
        case exitCode = "exit_code"
        case stopReason = "stop_reason"
        case oomKilled = "oom_killed"
    }
}
