internal import AegisConfig
internal import AegisCore
internal import Glibc
internal import LinuxSys

/// `database`: where records are kept.
struct DatabaseSection: ConfigSection {
    static let key = "database"
    var url: DatabaseURL

    init(from reader: ConfigReader) {
        url = reader.read(
            "url", default: DatabaseURL(configText: "sqlite"), variables: ["DATABASE_URL", "AAOS_MEMORY_DB"]
        ) { $0.problem }
    }
}

/// The database of a home: `aegis.db` in it, or a file elsewhere that the home remembers.
///
/// It is remembered because a daemon with other records than its home's would take everything in the home for left behind, and
/// remove it. Another database is taken only where the one before is not at its place any more: somebody has moved it.
struct RecordsPlace: Sendable {
    /// The file, absolute, without links on the way to it.
    let file: String
    /// The folder of a file that is not in the home; nothing else is in there.
    let folder: String?
    private let home: String
    /// Held to the end of the process: two homes must not use one database.
    private let lock: HomeLock?

    /// In the home: the path of its database, from the home on if it is in it.
    static let mark = "database"
    private static let belongings = ["", "-wal", "-shm", "-journal", ".lock"]

    /// Finds the database that the configuration names, and takes it if it is elsewhere.
    ///
    /// - Parameters:
    ///   - url: what the configuration says.
    ///   - home: the daemon's home, whose lock is held.
    /// - Throws: `database-elsewhere`, `database-missing`, `database-place`, `database-busy`.
    init(_ url: DatabaseURL, home: String) throws {
        self.home = home
        let own = "\(home)/\(Backup.database)"
        guard let path = url.path, let place = try Self.place(path, home) else {
            (file, folder, lock) = (own, nil, nil)
            try check()
            return
        }
        (file, folder) = ("\(place)/\(Files.split(path).name)", place)
        guard let lock = try HomeLock("\(file).lock", patience: DaemonHome.lockPatience) else {
            throw AegisError.conflict(
                "database-busy", "the daemon of another AEGIS_HOME uses \(file)", hint: "each needs one of its own")
        }
        self.lock = lock
        try check()
    }

    /// The database of a home whose configuration is not asked: what its last daemon used.
    static func current(_ home: String) throws(AegisError) -> String {
        let file = "\(home)/\(mark)"
        let bytes: [UInt8]
        do throws(Errno) { bytes = try Files.read(file, limit: 4096) } catch {
            guard error != .noSuchFile else { return "\(home)/\(Backup.database)" }
            throw .failed("home-unusable", "\(file) cannot be read: \(error)")
        }
        let path = String(decoding: bytes.prefix { $0 != 0x0a }, as: UTF8.self)
        return path.hasPrefix("/") ? path : "\(home)/\(path)"
    }

    /// Keeps in the home where its records are. Call it when they are there.
    func remember() throws {
        let mark = "\(home)/\(Self.mark)"
        guard try !Files.exists(mark) || Self.current(home) != file else { return }
        // A home may be moved and copied, with what is in it.
        let path = folder == nil ? Backup.database : file
        try Files.writeAtomically(mark, Array((path + "\n").utf8), mode: 0o600, synced: true)
    }

    /// Refuses other records than those of the home.
    private func check() throws(AegisError) {
        let before = try Self.current(home)
        let (isThere, wasUsed) = (Files.exists(before), Files.exists("\(home)/\(Self.mark)"))
        guard before == file ? wasUsed : (isThere || wasUsed) else { return }
        guard isThere else {
            // Moved to where it is named now, or out of reach?
            guard before == file || !Files.exists(file) else { return }
            throw .failed(
                "database-missing", "the records of \(home) are in \(before), which is not there",
                hint: "mount what it is on, or bring it back; if it is gone for good, remove \(home)/\(Self.mark)")
        }
        guard before != file else { return }
        throw .conflict(
            "database-elsewhere", "the records of \(home) are in \(before), and the configuration names \(file)",
            hint: "set database.url (or DATABASE_URL) back, or move the records there, with \(before)-wal if there is"
                + " one, while no daemon runs")
    }

    /// The folder of a file outside of the home, made if it is missing; nil when the file is the home's own.
    private static func place(_ path: String, _ home: String) throws -> String? {
        let absolute = Files.absolute(path, from: try Files.readLink("/proc/self/cwd"))
        let (given, name) = Files.split(absolute)
        let (real, status): (String, FileStatus)
        do throws(Errno) {
            if !Files.exists(given) { try Files.makeDirectories(given, mode: 0o700) }
            let folder = try FileDescriptor.open(given, [.readOnly, .directory])
            (real, status) = (try folder.realPath(), try folder.status())
        } catch {
            throw refusal("the folder of \(absolute) cannot be used: \(error)", hint: "check its parents and rights")
        }
        let realHome = try FileDescriptor.open(home, [.pathOnly, .directory]).realPath()
        if real == realHome, name == Backup.database { return nil }
        guard real != realHome, !real.hasPrefix(realHome + "/") else {
            throw refusal(
                "\(absolute) is in AEGIS_HOME, where the database is called \(Backup.database)",
                hint: "leave database.url out, or name a file outside of \(home)")
        }
        let me = CurrentProcess.effectiveUser
        guard status.user == me, status.permissions & 0o077 == 0 else {
            throw refusal(
                "\(real) is open to others than the daemon (uid \(status.user), mode 0\(String(status.permissions, radix: 8)))",
                hint: "records hold what was given to instances: chown \(me) \(real) && chmod 700 \(real)")
        }
        let known = Set(belongings.map { name + $0 } + ["lost+found"])
        let others = try Files.list(real).map(\.name).filter { !known.contains($0) }.sorted()
        guard others.isEmpty else {
            throw refusal(
                "\(real) holds other things than the database (\(others.prefix(3).joined(separator: ", ")))",
                hint: "give it a folder of its own: no mount and no grant reaches that")
        }
        return real
    }

    private static func refusal(_ message: String, hint: String) -> AegisError {
        .failed("database-place", message, hint: hint)
    }
}
