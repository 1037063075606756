package import AegisCore

/// The body of `POST /v1/instances/{id}/exec`, and the hello of an exec stream.
package struct ExecRequest: Sendable, Codable, Equatable {
    package var command: [String]
    package var env: [String: String]?
    package var workdir: String?
    package var user: String?
    package var stdin: Bool?
    package var tty: Bool?
    package var columns: UInt16?
    package var rows: UInt16?
    /// Start a stopped instance first (its command runs again).
    package var start: Bool?
    package init(command: [String]) { self.command = command }

    package enum CodingKeys: String, CodingKey, CaseIterable {
        case command, env, workdir, user, stdin, tty, columns, rows, start
    }
    package init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        let c = try decoder.container(keyedBy: CodingKeys.self)
        command = try c.decode([String].self, forKey: .command)
        env = try c.decodeIfPresent([String: String].self, forKey: .env)
        workdir = try c.decodeIfPresent(String.self, forKey: .workdir)
        user = try c.decodeIfPresent(String.self, forKey: .user)
        stdin = try c.decodeIfPresent(Bool.self, forKey: .stdin)
        tty = try c.decodeIfPresent(Bool.self, forKey: .tty)
        columns = try c.decodeIfPresent(UInt16.self, forKey: .columns)
        rows = try c.decodeIfPresent(UInt16.self, forKey: .rows)
        start = try c.decodeIfPresent(Bool.self, forKey: .start)
    }
}

/// What one backend's canary showed.
package struct BackendReport: Sendable, Codable, Equatable {
    package var backend: String
    package var available: Bool
    package var grade: Grade?
    /// Milliseconds from the start of the sandbox to the canary's answer.
    package var latencyMs: Double?
    package var detail: GradeDetail?
    /// Why it is not available.
    package var reason: String?
    package var hint: String?
    package var checkedAt: Timestamp
    /// Whether it was only too slow, which another time it may not be; not told.
    package var isLate = false
    package init(backend: String, available: Bool, checkedAt: Timestamp) {
        self.backend = backend
        self.available = available
        self.checkedAt = checkedAt
    }
    private enum CodingKeys: String, CodingKey {
        case backend, available, grade, detail, reason, hint
        case latencyMs = "latency_ms"
        case checkedAt = "checked_at"
    }
}

/// One finding of `aegis doctor`.
package struct DoctorCheck: Sendable, Codable, Equatable {
    package var name: String
    /// ok, warning or failed
    package var status: String
    package var detail: String
    package var hint: String?
    package init(_ name: String, _ status: String, _ detail: String, hint: String? = nil) {
        self.name = name
        self.status = status
        self.detail = detail
        self.hint = hint
    }
}

/// The answer of `GET /v1/doctor`.
package struct DoctorReport: Sendable, Codable, Equatable {
    package var version: String
    package var kernel: String
    package var backends: [BackendReport]
    /// The backend that `auto` takes.
    package var auto: String?
    package var checks: [DoctorCheck]
    package init(version: String, kernel: String, backends: [BackendReport], auto: String?, checks: [DoctorCheck]) {
        self.version = version
        self.kernel = kernel
        self.backends = backends
        self.auto = auto
        self.checks = checks
    }
}

/// Sandboxes of one image that are kept ready, as `GET /v1/status` shows them.
package struct WarmReport: Sendable, Codable, Equatable {
    package var image: String
    /// The backend; nil where it is the node's own choice and there is none yet.
    package var isolation: String?
    /// The limits that were asked for; nil where all are the node's.
    package var limits: Limits?
    package var wanted: Int
    package var ready: Int
    /// How many have been taken, and made, since the daemon started.
    package var claimed: UInt64
    package var refills: UInt64
    /// Bytes that those which are ready use now.
    package var memoryBytes: UInt64
    /// Why there are fewer than wanted.
    package var obstacle: String?
    package init(image: String, wanted: Int, ready: Int, claimed: UInt64, refills: UInt64, memoryBytes: UInt64) {
        self.image = image
        self.wanted = wanted
        self.ready = ready
        self.claimed = claimed
        self.refills = refills
        self.memoryBytes = memoryBytes
    }
    private enum CodingKeys: String, CodingKey {
        case image, isolation, limits, wanted, ready, claimed, refills, obstacle
        case memoryBytes = "memory_bytes"
    }
}

/// What sleeping instances have ready for their next starts.
package struct StandbyReport: Sendable, Codable, Equatable {
    package var ready: Int
    /// How many more are wished.
    package var waiting: Int
    /// Bytes that those took which are ready.
    package var memoryBytes: UInt64
    package init(ready: Int, waiting: Int, memoryBytes: UInt64) {
        self.ready = ready
        self.waiting = waiting
        self.memoryBytes = memoryBytes
    }
    private enum CodingKeys: String, CodingKey {
        case ready, waiting
        case memoryBytes = "memory_bytes"
    }
}

/// The answer of `GET /v1/status`.
package struct StatusReport: Sendable, Codable, Equatable {
    package var version: String
    package var pid: Int32
    package var node: String
    package var home: String
    package var runDirectory: String
    package var socket: String
    /// Listening addresses by name, for example `api: 127.0.0.1:8080`.
    package var ports: [String: String]
    package var startedAt: Timestamp
    package var instances: [String: Int]
    package var backends: [BackendReport]
    /// The configuration's file; nil when there is none.
    package var configuration: String?
    /// The file of the records; nil is not known.
    package var database: String?
    /// What is kept ready; nil where nothing is wished.
    package var warm: [WarmReport]?
    /// What is ready for instances that sleep; nil where none wishes that.
    package var standby: StandbyReport?
    package init(
        version: String, pid: Int32, node: String, home: String, runDirectory: String, socket: String,
        ports: [String: String],
        startedAt: Timestamp, instances: [String: Int], backends: [BackendReport], configuration: String? = nil
    ) {
        self.version = version
        self.pid = pid
        self.node = node
        self.home = home
        self.runDirectory = runDirectory
        self.socket = socket
        self.ports = ports
        self.startedAt = startedAt
        self.instances = instances
        self.backends = backends
        self.configuration = configuration
    }
    private enum CodingKeys: String, CodingKey {
        case version, pid, node, home, socket, ports, instances, backends, configuration, database, warm, standby
        case runDirectory = "run_directory"
        case startedAt = "started_at"
    }
}

/// What `aegis backup` wrote, or `aegis restore` brought back.
package struct BackupReport: Sendable, Codable, Equatable {
    package var file: String
    /// The program and release that wrote it.
    package var writer: String
    package var createdAt: Timestamp
    /// Bytes of the file.
    package var size: UInt64
    package var instances: Int
    package var secrets: Int
    /// The configuration's file; nil when there was none.
    package var configuration: String?
    /// The folder where a restore put what was there before; nil when nothing was.
    package var replaced: String?
    package init(
        file: String, writer: String, createdAt: Timestamp, size: UInt64, instances: Int, secrets: Int,
        configuration: String? = nil, replaced: String? = nil
    ) {
        self.file = file
        self.writer = writer
        self.createdAt = createdAt
        self.size = size
        self.instances = instances
        self.secrets = secrets
        self.configuration = configuration
        self.replaced = replaced
    }
    private enum CodingKeys: String, CodingKey {
        case file, writer, size, instances, secrets, configuration, replaced
        case createdAt = "created_at"
    }
}

/// An image as `GET /v1/images` lists it.
package struct ImageInfo: Sendable, Codable, Equatable {
    package var reference: String
    /// `sha256:` and the digest of the image's configuration.
    package var id: String
    package var size: UInt64
    package var layers: Int
    package var createdAt: Timestamp
    package var inUse: Bool
    package init(reference: String, id: String, size: UInt64, layers: Int, createdAt: Timestamp, inUse: Bool) {
        self.reference = reference
        self.id = id
        self.size = size
        self.layers = layers
        self.createdAt = createdAt
        self.inUse = inUse
    }
    private enum CodingKeys: String, CodingKey {
        case reference, id, size, layers
        case createdAt = "created_at"
        case inUse = "in_use"
    }
}

/// A secret without its value.
package struct SecretInfo: Sendable, Codable, Equatable {
    package var name: String
    package var createdAt: Timestamp
    package var updatedAt: Timestamp
    package init(name: String, createdAt: Timestamp, updatedAt: Timestamp) {
        self.name = name
        self.createdAt = createdAt
        self.updatedAt = updatedAt
    }
    private enum CodingKeys: String, CodingKey {
        case name
        case createdAt = "created_at"
        case updatedAt = "updated_at"
    }
}

/// A page of a list.
package struct Page<Item: Codable & Sendable>: Sendable, Codable {
    package var items: [Item]
    package var next: String?
    package init(items: [Item], next: String? = nil) {
        self.items = items
        self.next = next
    }
}

/// A record of an instance's log (decision D10): text in `line`, anything else in `data` (base64).
package struct LogRecord: Sendable, Codable, Equatable {
    package var ts: Timestamp
    /// stdout, stderr or system
    package var stream: String
    /// server, exec or system
    package var source: String
    package var execID: String?
    /// Text without its newline.
    package var line: String?
    /// Base64 of bytes that are not valid UTF-8.
    package var data: String?
    /// A piece of a longer line, or a last line without newline.
    package var partial: Bool?
    /// Bytes that are not there.
    package var gap: UInt64?
    /// Why they are not there: rotated, not-written or damaged.
    package var gapReason: String?
    package init(ts: Timestamp, stream: String, source: String) {
        self.ts = ts
        self.stream = stream
        self.source = source
    }
    private enum CodingKeys: String, CodingKey {
        case ts, stream, source, line, data, partial, gap
        case gapReason = "gap_reason"
        case execID = "exec_id"
    }
}
