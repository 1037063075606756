internal import AegisAgents
internal import AegisConfig
internal import AegisCore
internal import AegisTools

/// `agents`: how many there may be, and what takes goals.
struct AgentsSection: ConfigSection {
    static let key = "agents"
    var maxLive: Int
    var maxDepth: Int
    var batchCap: Int
    /// Goals that are worked on at once.
    var maxGoals: Int
    /// How long a call waits for a person.
    var approvalTimeout: TimeSpan
    /// Model calls of one turn of agents whose manifest does not say.
    var maxIterations: Int
    /// The manifest that takes goals; nil is the one that comes with Aegis.
    var bootstrapManifest: String?
    /// Whether the agent that comes with Aegis to take goals keeps its memory, and whether that is forgotten at the start.
    var persistentMemory: Bool
    var resetMemory: Bool
    /// Which of several memories it keeps.
    var bootstrapID: String?
    /// Folders of skills beside the usual ones.
    var skillsDirs: [String]

    init(from reader: ConfigReader) {
        func range(_ range: ClosedRange<Int>) -> (Int) -> String? {
            { range.contains($0) ? nil : "must be \(range.lowerBound) to \(range.upperBound)" }
        }
        maxLive = reader.read("max_live", default: 100, check: range(1...10_000))
        maxDepth = reader.read("max_depth", default: 5, check: range(0...16))
        batchCap = reader.read(
            "batch_cap", default: 3, variables: ["AAOS_SPAWN_AGENTS_BATCH_CAP"], check: range(1...32))
        maxIterations = reader.read("max_iterations", default: 50, check: range(1...10_000))
        maxGoals = reader.read("max_goals", default: 4, check: range(1...100))
        approvalTimeout = reader.read("approval_timeout", default: TimeSpan(milliseconds: 600_000)) {
            (10_000...7 * 86_400_000).contains($0.milliseconds) ? nil : "must be 10s to 7d"
        }
        bootstrapManifest = reader.readIfPresent("bootstrap_manifest", variables: ["AAOS_BOOTSTRAP_MANIFEST"])
        persistentMemory =
            reader.read(
                "persistent_memory", default: Switch(isOn: false), variables: ["AAOS_PERSISTENT_MEMORY"]
            ).isOn
        resetMemory =
            reader.read("reset_memory", default: Switch(isOn: false), variables: ["AAOS_RESET_MEMORY"]).isOn
        if persistentMemory, bootstrapManifest != nil {
            reader.report(
                "persistent_memory is for the manifest that comes with Aegis: yours says memory: {persistent: true}")
        }
        bootstrapID = reader.readIfPresent("bootstrap_id", variables: ["AAOS_BOOTSTRAP_ID"]) { (text: String) in
            Self.isID(text) ? nil : "is no UUID, as in 0b6e7c1a-52f3-4d0e-9a57-3f1c2d4e5f60"
        }?.lowercased()
        if bootstrapID != nil, !persistentMemory {
            reader.report("bootstrap_id says which memory is kept: it needs persistent_memory: true")
        }
        skillsDirs = reader.readList("skills_dirs", of: String.self)
    }

    private static func isID(_ text: String) -> Bool {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        return parts.map(\.utf8.count) == [8, 4, 4, 4, 12]
            && parts.allSatisfy { $0.allSatisfy { $0.isASCII && $0.isHexDigit } }
    }

    /// The bounds of the queue of approvals.
    var approvals: ApprovalQueue.Settings {
        var settings = ApprovalQueue.Settings()
        settings.timeout = approvalTimeout.duration
        return settings
    }

    /// The bounds of the directory.
    var limits: AgentLimits {
        var limits = AgentLimits()
        limits.live = maxLive
        limits.depth = maxDepth
        limits.batch = batchCap
        return limits
    }
}
