internal import AegisCore
internal import AegisIO
internal import Glibc
internal import LinuxSys

/// The places of one daemon, and the lock that makes it the only one in them.
struct DaemonHome: Sendable {
    /// What the daemon keeps (0700).
    let path: String
    /// Where its sockets are.
    let sockets: String
    /// Run state of this node: `/run/aegis/<node>` for root.
    let runDirectory: String
    /// Eight hexadecimal digits, made once per home (decision D36).
    let node: String
    /// This boot of the host.
    let bootID: String
    /// Held open while the daemon runs.
    private let lock: HomeLock

    /// The segments of the ledger, and the key that signs them.
    static let auditFolder = "audit"
    static let auditKey = "audit.key"

    var socket: String { "\(sockets)/aegisd.sock" }
    /// The door of JSON-RPC.
    var agentSocket: String { "\(sockets)/agentd.sock" }
    var pidFile: String { "\(path)/aegisd.pid" }
    var token: String { "\(path)/token" }

    /// Makes the home if it is missing and takes its lock.
    ///
    /// - Throws: `already-running` naming the pid of the other daemon; what is wrong with the folder.
    static func open(_ options: DaemonOptions) throws -> DaemonHome {
        let isRoot = CurrentProcess.effectiveUser == 0
        let (path, sockets) = try place()
        try makeFolder(path, mode: 0o700)
        if let note = try HomeFolder.secure(path) { say("aegisd: \(note)") }
        let lock = try takeLock(path)
        // One that was cut short after the point of no return.
        try RestoredFiles(home: path).moveIn()
        if sockets != path {
            try makeFolder(sockets, mode: 0o755)
            try HomeFolder.checkShared(sockets)
        }
        let node = try nodeID(path)
        let runRoot = runRoot
        // Runtimes that start inside a user namespace must be able to walk through (decision D3).
        try makeFolder(runRoot, mode: isRoot ? 0o711 : 0o700)
        try HomeFolder.checkShared(runRoot)
        let runDirectory = "\(runRoot)/\(node)"
        try makeFolder(runDirectory, mode: 0o711)
        // A daemon before this one was killed over them.
        try? Files.removeUnfinished(in: runDirectory)
        let bootID = try Files.read("/proc/sys/kernel/random/boot_id", limit: 64)
        return DaemonHome(
            path: path, sockets: sockets, runDirectory: runDirectory, node: node,
            bootID: String(decoding: bootID.prefix(36), as: UTF8.self), lock: lock)
    }

    /// Where the home of this environment is, and its sockets; nothing is made.
    static func place() throws -> (path: String, sockets: String) {
        let isRoot = CurrentProcess.effectiveUser == 0
        let given = environmentValue("AEGIS_HOME")
        let path =
            try given.map { Files.absolute($0, from: try Files.readLink("/proc/self/cwd")) }
            ?? (isRoot ? "/var/lib/aegis" : "\(environmentValue("HOME") ?? "/")/.aegis")
        let sockets = given == nil && isRoot ? "/run/aegis" : path
        return (path, sockets)
    }

    /// Where the run state of this user's nodes is.
    static var runRoot: String {
        let user = CurrentProcess.effectiveUser
        return user == 0 ? "/run/aegis" : "\(environmentValue("XDG_RUNTIME_DIR") ?? "/tmp")/aegis-\(user)"
    }

    static func makeFolder(_ path: String, mode: UInt32) throws {
        do { try Files.makeDirectories(path, mode: mode) } catch {
            throw AegisError.failed(
                "home-unusable", "cannot make the folder \(path): \(error)", hint: "check its parents and rights")
        }
    }

    /// How long the last daemon may take to let go of its home: one that was killed, or is ending, has it a little longer
    /// than anybody can reach it.
    static let lockPatience = 5

    static func takeLock(_ path: String) throws -> HomeLock {
        guard let lock = try HomeLock("\(path)/aegisd.lock", patience: lockPatience) else {
            let pid =
                (try? Files.read("\(path)/aegisd.pid", limit: 64)).map { String(decoding: $0, as: UTF8.self) } ?? ""
            let who = pid.split(separator: "\n").first.map { " (pid \($0))" } ?? ""
            throw AegisError.conflict(
                "already-running", "a daemon already runs in \(path)\(who)",
                hint: "use it, stop it with 'aegis down', or set another AEGIS_HOME")
        }
        return lock
    }

    /// The node's id; made at the first start and kept.
    private static func nodeID(_ path: String) throws -> String {
        let file = "\(path)/node"
        if let bytes = try? Files.read(file, limit: 64) {
            let text = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first.map(String.init) ?? ""
            guard text.utf8.count == 8, text.allSatisfy({ $0.isHexDigit }) else {
                throw AegisError.failed(
                    "node-invalid", "\(file) does not hold a node id", hint: "restore it; it names cgroups and folders")
            }
            return text
        }
        var random = SystemRandomNumberGenerator()
        let id = Identifiers.node(using: &random)
        try Files.writeAtomically(file, Array((id + "\n").utf8), mode: 0o600, synced: true)
        return id
    }

    /// Says who runs here; removed at a graceful end.
    func writePid() throws {
        try Files.writeAtomically(pidFile, Array("\(CurrentProcess.pid)\n".utf8), mode: 0o644)
    }

    /// Lets the group `aegis`, if there is one, use root's socket (decision D15).
    func shareSocket() throws { try share(socket) }

    /// Gives a socket to the group `aegis` where there is one, and it is not in a home of one's own.
    func share(_ socket: String) throws {
        guard sockets != path, let text = try? Files.read("/etc/group", limit: 1 << 20) else { return }
        for line in String(decoding: text, as: UTF8.self).split(separator: "\n") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count > 2, fields[0] == "aegis", let group = UInt32(fields[2]) else { continue }
            try Files.setOwner(socket, user: 0, group: group)
            try Files.setPermissions(socket, 0o660)
        }
    }

    /// Removes what says that a daemon runs here.
    func removeMarks() {
        try? Files.removeFile(socket)
        try? Files.removeFile(agentSocket)
        try? Files.removeFile(pidFile)
        // Only when it is empty: a keeper that lives on has its folder here.
        _ = unsafe rmdir(runDirectory)
    }
}

/// The value of an environment variable; nil when unset or empty.
func environmentValue(_ name: String) -> String? { ProcessEnvironment.all[name].flatMap { $0.isEmpty ? nil : $0 } }

/// The lock of a home, held until the process ends.
final class HomeLock: Sendable {
    private let file: FileDescriptor

    /// Takes the lock; nil when another process has it and keeps it for so many seconds.
    init?(_ path: String, patience seconds: Int) throws(Errno) {
        let file = try FileDescriptor.open(path, [.readWrite, .create], mode: 0o600)
        let end = ContinuousClock.now + .seconds(seconds)
        while !(try file.lock()) {
            guard ContinuousClock.now < end else { return nil }
            SystemThread.pause(microseconds: 10_000)
        }
        self.file = file
    }
}
