internal import AegisAudit
internal import AegisConfig
internal import AegisCore
internal import AegisInstances
internal import AegisSandboxTypes
internal import AegisSecrets
internal import AegisStore
internal import LinuxSys

/// `aegisd --backup`: one file with the records, the secrets and their key, the ledger and its key, the token and the
/// configuration of a home.
///
/// It reads the files themselves, whether a daemon runs or not: the database's copy is one consistent snapshot, the ledger only
/// grows, and the others never change. So the home's owner may make a backup, and nobody else.
struct Backup {
    /// The parts, by their names in a home; their order is that of the file.
    static let database = "aegis.db"
    static let key = "secrets.key"
    static let token = "token"
    static let configuration = "aegis-config.yaml"
    static let auditKey = DaemonHome.auditKey
    static let parts = [database, key, auditKey, token, configuration]
    /// The parts that are files of the ledger.
    static let ledger = DaemonHome.auditFolder + "/"
    /// The most that a part but the database may have.
    static let smallPart = 1 << 20
    /// What the file is written as.
    static let writer = "aegis \(Build.version)"

    private let options: DaemonOptions
    private let home: String

    /// Looks where the home is; nothing is made.
    init(_ options: DaemonOptions) throws {
        self.options = options
        home = try DaemonHome.place().path
        // Keys pass through this process.
        try CurrentProcess.setDumpable(false)
    }

    /// The passphrase, from standard input to its end.
    static func passphrase() throws -> Secret<[UInt8]> {
        let words = try FileDescriptor.duplicating(0).readAll(limit: 4096)
        guard !words.isEmpty else {
            throw AegisError.usage("the passphrase is empty", hint: "give it on standard input")
        }
        return Secret(words)
    }

    /// Writes the backup beside its place and moves it there when it is whole and on the disk.
    ///
    /// - Throws: `file-exists`, `nothing-to-back-up`, and what is wrong with the home.
    func write(to file: String) throws -> BackupReport {
        let passphrase = try Self.passphrase()
        try checkTarget(file)
        try checkHome()
        let staging = try StagingFolder(home, prefix: ".backup-")
        try Database.backup(RecordsPlace.current(home), to: staging.path(Self.database))
        let (instances, secrets) = try inspect(staging)
        let settings = try DaemonSettings.file(options, home)
        let small: [(String, [UInt8])] = try [Self.key, Self.auditKey, Self.token].compactMap { name in
            try read(name, in: home).map { (name, $0) }
        }
        // After the database: its head of the ledger is never ahead of the ledger then.
        let ledger = try LedgerFiles.snapshot("\(home)/\(DaemonHome.auditFolder)")
        let parts = small + (settings.map { [(Self.configuration, $0.bytes)] } ?? [])
        let (folder, name) = Files.split(file)
        let place = try open(folder, file)
        let temporary = ".\(name.prefix(200)).\(try Random.hex(bytes: 8))"
        do {
            let target = try place.open(temporary, [.readWrite, .create, .exclusive, .noFollow], mode: 0o600)
            try target.setPermissions(0o600)
            let created = try fill(target, staging, parts, ledger, passphrase)
            let size = try place.status(of: temporary).size
            try place.rename(temporary, as: name, .noReplace)
            try place.sync()
            return BackupReport(
                file: file, writer: Self.writer, createdAt: created, size: size, instances: instances,
                secrets: secrets, configuration: settings?.name)
        } catch {
            try? place.removeFile(temporary)
            throw Self.explained(error, file)
        }
    }

    private func fill(
        _ target: borrowing FileDescriptor, _ staging: borrowing StagingFolder, _ parts: [(String, [UInt8])],
        _ ledger: [(name: String, size: UInt64)], _ passphrase: Secret<[UInt8]>
    ) throws -> Timestamp {
        let database = try FileDescriptor.open(staging.path(Self.database), [.readOnly, .noFollow])
        let size = try database.status().size
        let content =
            PartHeader.bytes(Self.database) + size
            + parts.reduce(0) { $0 + PartHeader.bytes($1.0) + UInt64($1.1.count) }
            + ledger.reduce(0) { $0 + PartHeader.bytes(Self.ledger + $1.name) + $1.size } + 1
        let header = BackupHeader(
            writer: Self.writer, created: .now(), schema: UInt32(DaemonServices.migrations.count), contentBytes: content
        )
        var writer = try BackupWriter(try target.duplicate(), header, passphrase: passphrase)
        try append(database, Self.database, size, to: &writer)
        for (name, bytes) in parts {
            try writer.append(PartHeader(name: name, size: UInt64(bytes.count)).encoded[...])
            try writer.append(bytes[...])
        }
        for (name, size) in ledger {
            let file = try FileDescriptor.open("\(home)/\(Self.ledger)\(name)", [.readOnly, .noFollow])
            try append(file, Self.ledger + name, size, to: &writer)
        }
        try writer.append([0])
        try writer.finish()
        return header.created
    }

    /// Appends the first bytes of a file as a part.
    private func append(
        _ file: borrowing FileDescriptor, _ name: String, _ size: UInt64, to writer: inout BackupWriter
    ) throws {
        try writer.append(PartHeader(name: name, size: size).encoded[...])
        var (rest, piece) = (size, [UInt8](repeating: 0, count: 256 << 10))
        while rest > 0 {
            let count = try file.read(into: &piece)
            guard count > 0 else { throw Errno.ioError }
            // The ledger may have grown: what is new is not in the header.
            let wanted = Int(min(rest, UInt64(count)))
            try writer.append(piece[..<wanted])
            rest -= UInt64(wanted)
        }
    }

    /// Opens the copy as a daemon would, so that a backup that could not be restored is never written.
    private func inspect(_ staging: borrowing StagingFolder) throws -> (instances: Int, secrets: Int) {
        let database = try DaemonServices.openDatabase(staging.path(Self.database))
        defer { database.close() }
        // A home without a key gets none from us.
        let own = "\(home)/\(Self.key)"
        let secrets = try SecretStore(
            database: database, keyFile: Files.exists(own) ? own : staging.path(Self.key))
        return (try InstanceStore(database).count(), try secrets.list().count)
    }

    private func read(_ name: String, in folder: String) throws -> [UInt8]? {
        do throws(Errno) { return try Files.read("\(folder)/\(name)", limit: Self.smallPart) } catch {
            guard error != .noSuchFile else { return nil }
            throw AegisError.failed("home-unusable", "\(folder)/\(name) cannot be read: \(error)")
        }
    }

    private func checkTarget(_ file: String) throws(AegisError) {
        guard !Files.exists(file) else {
            throw .conflict("file-exists", "\(file) exists already", hint: "name a file that does not exist")
        }
    }

    private func checkHome() throws(AegisError) {
        let me = CurrentProcess.effectiveUser
        let owner: UInt32
        do {
            owner = try Files.status(home).user
            if owner == me { _ = try Files.status(RecordsPlace.current(home)) }
        } catch {
            throw .notFound(
                "nothing-to-back-up", "\(home) holds no records of a daemon (\(error))",
                hint: "set AEGIS_HOME to the daemon's, or ask as the user that it runs as")
        }
        // Root as well: what is written meanwhile must be the owner's, and the key's file is for its owner alone.
        guard owner == me else {
            throw AegisError(
                .denied, "administrator-needed", "\(home) belongs to uid \(owner)", hint: "ask as that user")
        }
    }

    private func open(_ folder: String, _ file: String) throws -> FileDescriptor {
        do { return try FileDescriptor.open(folder, [.readOnly, .directory]) } catch {
            throw Self.explained(error, file)
        }
    }

    private static func explained(_ error: any Error, _ file: String) -> any Error {
        guard let errno = error as? Errno else { return error }
        if errno == .fileExists {
            return AegisError.conflict("file-exists", "\(file) exists already", hint: "name a file that does not exist")
        }
        if errno == .noSpace { return AegisError.failed("disk-full", "no room for \(file)", hint: "free some space") }
        return AegisError.failed(
            "backup-not-written", "\(file) cannot be written: \(errno)",
            hint: "check that its folder exists and its rights")
    }
}

/// What stands before each part of a backup: a byte and the name, and the size; a name of no bytes ends the list.
struct PartHeader {
    var name: String
    var size: UInt64

    /// How many bytes the header of a part of this name has.
    static func bytes(_ name: String) -> UInt64 { UInt64(1 + name.utf8.count + 8) }

    var encoded: [UInt8] {
        [UInt8(name.utf8.count)] + Array(name.utf8) + (0..<8).map { UInt8(truncatingIfNeeded: size >> ($0 * 8)) }
    }

    /// The next part's; nil at the end of the list.
    init?(_ reader: inout BackupReader) throws {
        let count = Int(try reader.read(1)[0])
        guard count > 0 else { return nil }
        name = String(decoding: try reader.read(count), as: UTF8.self)
        size = try reader.read(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    init(name: String, size: UInt64) {
        self.name = name
        self.size = size
    }
}

/// A folder in a home for what is being made; it goes when nobody holds it any more, at the latest with the next one.
struct StagingFolder: ~Copyable {
    private let place: String
    private let lock: FileDescriptor

    init(_ home: String, prefix: String) throws {
        for entry in try Files.list(home) where entry.name.hasPrefix(prefix) && entry.type == .directory {
            // One that was left by a process that died.
            let old = "\(home)/\(entry.name)"
            if let folder = try? FileDescriptor.open(old, [.readOnly, .directory, .noFollow]), try folder.lock() {
                try Files.removeTree(old)
            }
        }
        let place = "\(home)/\(prefix)\(try Random.hex(bytes: 8))"
        try Files.makeDirectories(place, mode: 0o700)
        let lock = try FileDescriptor.open(place, [.readOnly, .directory, .noFollow])
        _ = try lock.lock()
        self.place = place
        self.lock = lock
    }

    func path(_ name: String) -> String { "\(place)/\(name)" }

    /// Everything in it is on the disk, and it has another name from now on.
    func commit(as name: String) throws {
        try lock.sync()
        try Files.rename(place, to: name, .noReplace)
        try FileDescriptor.open(Files.split(name).directory, [.readOnly, .directory]).sync()
    }

    deinit { try? Files.removeTree(place) }
}
