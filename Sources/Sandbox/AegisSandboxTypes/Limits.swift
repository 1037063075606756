package import AegisCore

/// What an instance may use at most. A nil means the node's default.
package struct Limits: Sendable, Codable, Equatable {
    /// Processors, in steps of 0.01; at least 0.01.
    package var cpus: Double?
    /// Memory of all processes and tmpfs together; at least 16 MiB.
    package var memory: ByteSize?
    /// The writable layer.
    package var disk: ByteSize?
    /// Processes and threads.
    package var pids: Int?
    /// Time from start of the command until it is stopped (exit code 124).
    package var timeout: TimeSpan?
    /// Time from SIGTERM until SIGKILL at a stop, at most two minutes; nil = `usualGrace`.
    package var grace: TimeSpan?

    /// How long processes may take to end after SIGTERM when nothing else was asked for.
    package static let usualGrace = TimeSpan(milliseconds: 5000)
    private static let longestGrace = TimeSpan(milliseconds: 120_000)

    package init(
        cpus: Double? = nil, memory: ByteSize? = nil, disk: ByteSize? = nil, pids: Int? = nil,
        timeout: TimeSpan? = nil, grace: TimeSpan? = nil
    ) {
        self.cpus = cpus
        self.memory = memory
        self.disk = disk
        self.pids = pids
        self.timeout = timeout
        self.grace = grace
    }

    package enum CodingKeys: String, CodingKey, CaseIterable { case cpus, memory, disk, pids, timeout, grace }

    package init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        let c = try decoder.container(keyedBy: CodingKeys.self)
        cpus = try c.decodeIfPresent(Double.self, forKey: .cpus)
        memory = try c.decodeIfPresent(ByteSize.self, forKey: .memory)
        disk = try c.decodeIfPresent(ByteSize.self, forKey: .disk)
        pids = try c.decodeIfPresent(Int.self, forKey: .pids)
        timeout = try c.decodeIfPresent(TimeSpan.self, forKey: .timeout)
        grace = try c.decodeIfPresent(TimeSpan.self, forKey: .grace)
    }

    /// Refuses limits that no instance can live with.
    ///
    /// - Throws: `invalid-argument` naming the limit and its range.
    package func validate() throws(AegisError) {
        if let cpus, !(cpus >= 0.01 && cpus <= 1024) {
            throw .usage("cpus \(cpus) is out of range", hint: "give 0.01 to 1024, for example 1.5")
        }
        if let memory, memory.bytes < 16 << 20 {
            throw .usage("memory \(memory) is too small", hint: "give at least 16Mi, for example 512Mi")
        }
        if let disk, disk.bytes < 1 << 20 {
            throw .usage("disk \(disk) is too small", hint: "give at least 1Mi, for example 1Gi")
        }
        if let pids, !(4...4_194_304).contains(pids) {
            throw .usage("pids \(pids) is out of range", hint: "give 4 to 4194304, for example 256")
        }
        if let timeout, timeout.milliseconds < 1 {
            throw .usage("timeout \(timeout) is too short", hint: "give at least 1ms")
        }
        if let grace, !(0...Self.longestGrace.milliseconds).contains(grace.milliseconds) {
            throw .usage("grace \(grace) is out of range", hint: "give 0s to \(Self.longestGrace)")
        }
    }
}
