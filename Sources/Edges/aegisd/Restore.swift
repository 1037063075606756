internal import AegisAgents
internal import AegisAudit
internal import AegisCore
internal import AegisIO
internal import AegisInstances
internal import AegisSandboxTypes
internal import AegisSecrets
internal import AegisStore
internal import LinuxSys

/// `aegisd --restore`: brings a backup into a home that no daemon uses.
///
/// Everything is opened, proven and brought up to date in a folder of its own first. What is there before stays as it is until
/// that folder gets the name that `RestoredFiles` looks for; from then on the restore is done, whoever finishes it.
struct Restore {
    private let options: DaemonOptions

    init(_ options: DaemonOptions) throws {
        self.options = options
        try CurrentProcess.setDumpable(false)
    }

    /// Brings the backup back.
    ///
    /// - Throws: `backup-…` for a file that cannot be used, `already-running`, `instances-running`, `home-in-use`; nothing is
    ///   changed then.
    func run(from file: String) throws -> BackupReport {
        let passphrase = try Backup.passphrase()
        let newest = DaemonServices.migrations.count
        var reader = try BackupReader(file, newestSchema: newest, passphrase: passphrase)
        let header = reader.header
        let size = try Files.status(file).size
        let home = try DaemonHome.place().path
        let made = !Files.exists(home)
        try DaemonHome.makeFolder(home, mode: 0o700)
        do {
            try HomeFolder.secure(home)
            let lock = try DaemonHome.takeLock(home)
            defer { withExtendedLifetime(lock) {} }
            let files = RestoredFiles(home: home)
            // An earlier restore that was cut short is finished before another is judged.
            _ = try files.moveIn()
            try checkNothingRuns(home)
            let staging = try StagingFolder(home, prefix: ".restore-")
            let names = try unpack(&reader, into: staging)
            try reader.finish()
            try checkRoom(home, for: names)
            let (instances, secrets) = try settle(staging)
            for name in names { try FileDescriptor.open(staging.path(name), [.readOnly, .noFollow]).sync() }
            try staging.commit(as: files.newReady())
            let replaced = try files.moveIn()
            return BackupReport(
                file: file, writer: header.writer, createdAt: header.created, size: size, instances: instances,
                secrets: secrets,
                configuration: names.contains(Backup.configuration) ? "\(home)/\(Backup.configuration)" : nil,
                replaced: replaced)
        } catch {
            // A home that was made for this goes again.
            if made, (try? Files.list(home).map(\.name)) == ["aegisd.lock"] { try? Files.removeTree(home) }
            throw error
        }
    }

    /// Writes the parts that this release knows.
    private func unpack(_ reader: inout BackupReader, into staging: borrowing StagingFolder) throws -> [String] {
        var names: [String] = []
        while let part = try PartHeader(&reader) {
            guard Backup.parts.contains(part.name) || isOfLedger(part.name), !names.contains(part.name) else {
                throw AegisError.failed(
                    "backup-damaged", "the backup holds a part '\(part.name)' that this release does not know",
                    hint: "restore it with the release that wrote it")
            }
            names.append(part.name)
            if isOfLedger(part.name) { try Files.makeDirectories(staging.path(DaemonHome.auditFolder), mode: 0o700) }
            let file = try FileDescriptor.open(
                staging.path(part.name), [.writeOnly, .create, .exclusive, .noFollow], mode: 0o600)
            var rest = part.size
            while rest > 0 {
                let bytes = try reader.read(atMost: Int(min(rest, 64 << 10)))
                guard !bytes.isEmpty else {
                    throw AegisError.failed("backup-damaged", "the part '\(part.name)' of the backup ends early")
                }
                try file.writeAll(bytes[...])
                rest -= UInt64(bytes.count)
            }
        }
        return names
    }

    private func isOfLedger(_ name: String) -> Bool {
        name.hasPrefix(Backup.ledger) && LedgerFiles.isName(String(name.dropFirst(Backup.ledger.count)))
    }

    /// Opens what was unpacked as a daemon would, and makes its records those of a node where nothing runs.
    private func settle(_ staging: borrowing StagingFolder) throws -> (instances: Int, secrets: Int) {
        let database = try DaemonServices.openDatabase(staging.path(Backup.database))
        defer { database.close() }
        try RestoredAgents.settle(database, at: .now())
        let secrets = try SecretStore(database: database, keyFile: staging.path(Backup.key))
        return (try InstanceStore(database).settleRestored(), try secrets.list().count)
    }

    /// Refuses a home that holds what the backup would replace, unless that was asked for.
    private func checkRoom(_ home: String, for names: [String]) throws(AegisError) {
        var there = names.filter { !isOfLedger($0) && Files.exists("\(home)/\($0)") }
        if names.contains(where: isOfLedger), Files.exists("\(home)/\(DaemonHome.auditFolder)") {
            there.append(DaemonHome.auditFolder)
        }
        let records = try RecordsPlace.current(home)
        if records != "\(home)/\(Backup.database)" { there.append("records in \(records)") }
        guard there.isEmpty || options.forced else {
            throw .conflict(
                "home-in-use", "\(home) holds \(there.joined(separator: ", ")) already",
                hint: "restore into another AEGIS_HOME, or with --force: what is there is put aside, not deleted")
        }
    }

    /// A sandbox that runs belongs to records that would be replaced.
    private func checkNothingRuns(_ home: String) throws(AegisError) {
        guard let bytes = try? Files.read("\(home)/node", limit: 64) else { return }
        let node = String(decoding: bytes.prefix { $0 > 32 }, as: UTF8.self)
        guard node.utf8.count == 8, node.allSatisfy(\.isHexDigit) else { return }
        let there = ((try? Files.list("\(DaemonHome.runRoot)/\(node)")) ?? []).count { $0.name.hasPrefix("i-") }
        guard there == 0 else {
            throw .conflict(
                "instances-running", "no daemon runs in \(home), but \(there) of its instances may run on",
                hint: "end them: aegis down")
        }
    }
}

/// The files of a restore that is decided: they move to their places, by whoever comes next.
struct RestoredFiles {
    private static let prefix = "restore.ready-"
    private let home: String

    init(home: String) { self.home = home }

    /// The name of the folder that says that a restore is decided, with the time, which names the folder of earlier files.
    func newReady() -> String { "\(home)/\(Self.prefix)\(Timestamp.now().milliseconds / 1000)" }

    /// Moves what was there aside and what was restored in; may be cut short and done again at any point. The home's lock is
    /// held.
    ///
    /// - Returns: the folder where earlier files are; nil when there were none, or no restore.
    @discardableResult func moveIn() throws -> String? {
        guard let folder = try Files.list(home).map(\.name).first(where: { $0.hasPrefix(Self.prefix) }) else {
            return nil
        }
        let ready = "\(home)/\(folder)"
        let aside = "\(home)/before-restore-\(folder.dropFirst(Self.prefix.count))"
        do {
            for name in try Files.list(ready).map(\.name) {
                let belongings = name == Backup.database ? ["-wal", "-shm", "-journal"] : []
                for suffix in belongings + [""] where Files.exists("\(home)/\(name)\(suffix)") {
                    try Files.makeDirectories(aside, mode: 0o700)
                    try Files.rename("\(home)/\(name)\(suffix)", to: "\(aside)/\(name)\(suffix)")
                }
                // Records elsewhere stay there; the home's are the restored ones.
                let mark = "\(home)/\(RecordsPlace.mark)"
                if name == Backup.database, Files.exists(mark) {
                    try Files.makeDirectories(aside, mode: 0o700)
                    try Files.rename(mark, to: "\(aside)/\(RecordsPlace.mark)")
                }
                try Files.rename("\(ready)/\(name)", to: "\(home)/\(name)")
            }
            try FileDescriptor.open(home, [.readOnly, .directory]).sync()
            try Files.removeTree(ready)
        } catch {
            throw AegisError.failed(
                "restore-not-finished", "the restored files in \(ready) cannot be moved to \(home): \(error)",
                hint: "correct that; the next 'aegis up' or 'aegis restore' goes on")
        }
        return Files.exists(aside) ? aside : nil
    }
}
