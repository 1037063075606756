package import AegisCore
internal import AegisIO
package import LinuxSys
internal import Synchronization

/// What `--workspace` names.
package enum WorkspaceReference: Sendable, Equatable {
    /// Made for the instance and deleted with it.
    case automatic
    /// One of the store's; stays until its owner deletes it.
    case named(String)
    /// A folder of the caller's, which Aegis never deletes.
    case path(String)

    /// Reads the option; nil is automatic, anything with a slash is a path.
    ///
    /// - Throws: `invalid-argument` for a name or path that cannot be one.
    package init(parsing text: String?) throws(AegisError) {
        guard let text else {
            self = .automatic
            return
        }
        if text.contains("/") || text == "." || text == ".." {
            guard text.hasPrefix("/") else {
                throw .usage(
                    "the workspace path '\(text)' is not absolute",
                    hint: "the aegis command makes it so; a program must send an absolute path")
            }
            self = .path(text)
        } else {
            try Names.validate(text, what: "workspace")
            self = .named(text)
        }
    }
}

/// A workspace of the store.
package struct WorkspaceInfo: Sendable, Equatable {
    package var name: String
    /// Whether it goes with its instance; then the name is the instance's id.
    package var isAutomatic: Bool
    /// The uid that may use and delete it (and root).
    package var owner: UInt32
    package var createdAt: Timestamp
    /// When an instance, or who copies from or to one, has last asked for it.
    package var usedAt: Timestamp
    /// The user of the sandbox that it was given to, with the ids that its files have; nil before the first start.
    package var givenTo: FileIdentity?
}

/// The workspaces that Aegis keeps, `AEGIS_HOME/workspaces/NAME`.
///
/// What kind a workspace is stands in its name, so that nothing can lose it: an automatic one is called as its instance is
/// (`i-…`), and no user can choose a name of that form. Owner and time of creation are in a small file beside. Files inside
/// have the ids that they have in the instance (mapped id by id, decision D17). The folder, 0755, is given to the user that the
/// first instance's command runs as; for a command that runs as another user the two are each other, so that what one instance
/// left the next can change.
package final class WorkspaceStore: Sendable {
    private let place: OpenedRoot
    /// Creation and removal take turns; both are short. The names are those of workspaces that are being deleted.
    private let turn = Mutex<Set<String>>([])

    /// The store's own directories.
    private struct OpenedRoot: ~Copyable, Sendable {
        let root: FileDescriptor
        let records: FileDescriptor
        let trash: FileDescriptor
    }

    private static let recordsName = ".records"
    private static let trashName = ".trash"
    /// What a workspace is called until it is whole; one at a time.
    private static let newName = ".new"

    /// Opens the store and removes what a crash left half deleted. Blocks on the disk.
    package init(home: String) throws(AegisError) {
        do throws(Errno) {
            let path = "\(home)/workspaces"
            try Files.makeDirectories(path, mode: 0o700)
            let root = try FileDescriptor.open(path, [.readOnly, .directory])
            for name in [Self.recordsName, Self.trashName] { try root.makeDirectories(name, mode: 0o700) }
            let records = try root.open(Self.recordsName, [.readOnly, .directory])
            let trash = try root.open(Self.trashName, [.readOnly, .directory])
            for entry in try trash.entries() { try trash.removeTree(entry.name) }
            place = OpenedRoot(root: root, records: records, trash: trash)
        } catch { throw .failed("workspaces-unusable", "the workspaces in '\(home)' cannot be used: \(error)") }
    }

    /// Opens a workspace, making it when it is not there; what was made is on the disk (synced) when this returns, for an
    /// automatic one it is saved only.
    ///
    /// - Parameters:
    ///   - name: which.
    ///   - owner: the user on the host whose it is, or becomes.
    ///   - user: whom inside it is given to, if it is nobody's yet; nil before that is known.
    /// - Returns: the folder, and what is known of it.
    /// - Throws: `workspace-denied` when it belongs to another user; `invalid-argument`; `disk-full`.
    package func open(
        named name: String, owner: UInt32, givingTo user: FileIdentity? = nil
    ) async throws(AegisError) -> (OpenedPath, WorkspaceInfo) {
        try Names.validate(name, what: "workspace")
        return try await blocking { () throws(AegisError) in
            try self.openNow(name, owner: owner, givingTo: user, automatic: false)
        }
    }

    /// Opens the automatic workspace of an instance, making it when it is not there; as `open(named:)` otherwise.
    package func openAutomatic(
        instance id: String, owner: UInt32, givingTo user: FileIdentity? = nil
    ) async throws(AegisError) -> (OpenedPath, WorkspaceInfo) {
        guard Names.isInstanceID(id) else { throw .usage("'\(id)' is not an instance id") }
        return try await blocking { () throws(AegisError) in
            try self.openNow(id, owner: owner, givingTo: user, automatic: true)
        }
    }

    /// Opens the automatic workspace of an instance that lies elsewhere; whom it was given to is kept here.
    ///
    /// - Parameters:
    ///   - id: the instance.
    ///   - owner: the user on the host whose it is.
    ///   - user: as for `open(named:)`.
    ///   - folder: the workspace's absolute path.
    /// - Returns: the folder, and what is known of it.
    /// - Throws: `workspaces-unusable` when the folder cannot be opened or changed.
    package func openAutomatic(
        instance id: String, owner: UInt32, givingTo user: FileIdentity?, at folder: String
    ) async throws(AegisError) -> (OpenedPath, WorkspaceInfo) {
        guard Names.isInstanceID(id) else { throw .usage("'\(id)' is not an instance id") }
        return try await blocking { () throws(AegisError) in
            try self.turn.withLock { _ throws(AegisError) in
                var info = self.info(id)
                if let user, info.givenTo == nil {
                    (info.owner, info.createdAt) = (owner, .now())
                    do throws(Errno) {
                        try self.give(
                            try FileDescriptor.open(folder, [.readOnly, .directory, .noFollow]), &info, to: user)
                    } catch { throw .failed("workspaces-unusable", "'\(folder)' cannot be opened: \(error)") }
                }
                return (try OpenedPath(ownFolder: folder), info)
            }
        }
    }

    /// Gives the workspace of a sandbox that was kept ready to the instance that takes it, as if it had been made now.
    ///
    /// - Parameters:
    ///   - id: the instance.
    ///   - owner: the user on the host whose it becomes.
    ///   - user: whom inside it is given to; it is empty.
    ///   - folder: its absolute path where it lies elsewhere; nil for the store's own place.
    /// - Throws: `workspaces-unusable`.
    package func adoptAutomatic(
        instance id: String, owner: UInt32, givingTo user: FileIdentity, at folder: String?
    ) async throws(AegisError) {
        guard Names.isInstanceID(id) else { throw .usage("'\(id)' is not an instance id") }
        try await blocking { () throws(AegisError) in
            try self.turn.withLock { _ throws(AegisError) in
                var info = self.info(id)
                (info.owner, info.createdAt) = (owner, .now())
                do throws(Errno) {
                    let directory =
                        if let folder { try FileDescriptor.open(folder, [.readOnly, .directory, .noFollow]) } else {
                            try self.place.root.open(id, [.readOnly, .directory, .noFollow])
                        }
                    if info.givenTo != user { try directory.setOwner(user: user.user, group: user.group) }
                    info.givenTo = user
                    let now = Int64(SystemTime.realtime)
                    try directory.setTimes(accessed: now, modified: now)
                    try self.write(info)
                } catch {
                    throw .failed("workspaces-unusable", "the workspace of \(id) cannot be given away: \(error)")
                }
            }
        }
    }

    /// Whether the store keeps the automatic workspace of an instance.
    package func hasAutomatic(instance id: String) async throws(AegisError) -> Bool {
        try await blocking { () throws(AegisError) in (try? self.place.root.status(of: id)) != nil }
    }

    /// The workspaces that a user may see, by name; root sees all.
    package func list(as user: UInt32) async throws(AegisError) -> [WorkspaceInfo] {
        try await blocking { () throws(AegisError) in
            do throws(Errno) {
                return try self.place.root.entries()
                    .filter { $0.type == .directory && !$0.name.hasPrefix(".") }
                    .map { self.info($0.name) }
                    .filter { user == 0 || $0.owner == user }
                    .sorted { $0.name < $1.name }
            } catch { throw .failed("workspaces-unusable", "the workspaces cannot be listed: \(error)") }
        }
    }

    /// What each workspace occupies on the disk.
    ///
    /// - Parameter names: which; those that are gone have no size.
    /// - Returns: bytes, and whether they are all of it: of trees with very many files only a part is counted.
    /// - Throws: `workspaces-unusable`, also when the task is cancelled.
    package func sizes(of names: [String]) async throws(AegisError) -> [String: (bytes: UInt64, isWhole: Bool)] {
        var sizes: [String: (bytes: UInt64, isWhole: Bool)] = [:]
        // A share for each, so that one large tree does not hide the others.
        let share = max(Self.leastMeasured, Self.mostMeasured / max(1, names.count))
        for name in names {
            // One at a time, on a thread of its own: starts do not wait for somebody's large trees.
            do {
                sizes[name] = try await Self.measuring.run { try? self.place.root.treeSize(name, atMost: share) }
            } catch { throw .failed("workspaces-unusable", "the workspaces cannot be measured: \(error)") }
        }
        return sizes
    }
    /// Names that are looked at for all workspaces together, and for each at least.
    private static let (mostMeasured, leastMeasured) = (200_000, 1000)
    private static let measuring = BlockingPool(threads: 1, queueLimit: 4096)

    /// Deletes a named workspace with all that it holds. It is out of sight at once; nobody can begin to use it meanwhile.
    ///
    /// - Parameters:
    ///   - name: which.
    ///   - user: who asks.
    ///   - users: the instances that use it now; asked when none can come to use it any more.
    /// - Throws: `workspace-not-found`, `workspace-in-use` naming the instances, `workspace-denied`.
    package func remove(
        named name: String, as user: UInt32, usedBy users: () async -> [String]
    ) async throws(AegisError) {
        try Names.validate(name, what: "workspace")
        try await blocking { () throws(AegisError) in
            try self.turn.withLock { leaving throws(AegisError) in
                let isThere = (try? self.place.root.status(of: name)) != nil && !leaving.contains(name)
                guard isThere, !Names.isInstanceID(name) else {
                    throw .notFound("workspace-not-found", "there is no workspace '\(name)'")
                }
                try self.check(self.info(name), user)
                leaving.insert(name)
            }
        }
        defer { turn.withLock { _ = $0.remove(name) } }
        let instances = await users()
        guard instances.isEmpty else {
            throw .conflict(
                "workspace-in-use", "workspace '\(name)' is used by \(instances.joined(separator: ", "))",
                hint: "delete these instances first")
        }
        try await blocking { () throws(AegisError) in try self.removeNow(name, synced: true) }
    }

    /// Deletes the automatic workspace of an instance; fine when there is none. Never touches another kind.
    package func removeAutomatic(instance id: String) async throws(AegisError) {
        guard Names.isInstanceID(id) else { return }
        try await blocking { () throws(AegisError) in try self.removeNow(id, synced: false) }
    }

    // MARK: On the pool's threads

    private func blocking<T: Sendable>(
        _ body: @escaping @Sendable () throws(AegisError) -> T
    ) async throws(AegisError) -> T {
        do { return try await BlockingPool.shared.run { try body() } } catch let error as AegisError {
            throw error
        } catch {
            throw .failed("workspaces-unusable", "\(error)")
        }
    }

    private func openNow(
        _ name: String, owner: UInt32, givingTo user: FileIdentity?, automatic: Bool
    ) throws(AegisError) -> (OpenedPath, WorkspaceInfo) {
        try turn.withLock { leaving throws(AegisError) in
            guard !leaving.contains(name) else {
                throw .notFound(
                    "workspace-not-found", "workspace '\(name)' is being deleted", hint: "try again when it is gone")
            }
            if (try? place.root.status(of: name)) != nil { try check(info(name), owner) }
            do throws(Errno) {
                if (try? place.root.status(of: name)) == nil {
                    // The record first: a folder without one would be root's.
                    try write(
                        WorkspaceInfo(
                            name: name, isAutomatic: automatic, owner: owner, createdAt: .now(), usedAt: .now(),
                            givenTo: user))
                    try makeFolder(name, for: user, automatic: automatic)
                }
                var info = info(name)
                if let user, info.givenTo == nil {
                    try give(try place.root.open(name, [.readOnly, .directory, .noFollow]), &info, to: user)
                }
                if !automatic { noteUse(name) }
                return (try OpenedPath(place.root.open(name, [.pathOnly, .directory, .noFollow])), info)
            } catch {
                throw error == .noSpace
                    ? .failed("disk-full", "no space left for workspace '\(name)'")
                    : .failed("workspaces-unusable", "workspace '\(name)' cannot be opened: \(error)")
            }
        }
    }

    /// Makes the folder of a workspace whole: it has its name only when it has its owner.
    private func makeFolder(_ name: String, for user: FileIdentity?, automatic: Bool) throws(Errno) {
        let isRoots = user == nil || (user?.user == 0 && user?.group == 0)
        let first = isRoots ? name : Self.newName
        do throws(Errno) { try place.root.makeDirectory(first, mode: 0o755) } catch {
            guard error == .fileExists, !isRoots else { throw error }
            try place.root.removeTree(first)
            try place.root.makeDirectory(first, mode: 0o755)
        }
        let made = try place.root.open(first, [.readOnly, .directory, .noFollow])
        try made.setPermissions(0o755)
        if let user, !isRoots {
            try made.setOwner(user: user.user, group: user.group)
            try place.root.rename(first, to: place.root, as: name)
        }
        if !automatic {
            try made.sync()
            try place.root.sync()
        }
    }

    /// Gives a workspace that is nobody's yet to a user. What holds files already stays whose it is.
    private func give(
        _ folder: borrowing FileDescriptor, _ info: inout WorkspaceInfo, to user: FileIdentity
    ) throws(Errno) {
        let status = try folder.status()
        var owner = FileIdentity(user: status.user, group: status.group)
        if try folder.entries().isEmpty {
            // First the folder: a crash in between leaves it nobody's, and empty.
            try folder.setOwner(user: user.user, group: user.group)
            owner = user
        }
        info.givenTo = owner
        try write(info)
    }

    private func write(_ info: WorkspaceInfo) throws(Errno) {
        var record = "aegis-workspace 1\nowner \(info.owner)\ncreated \(info.createdAt.milliseconds)\n"
        if let user = info.givenTo { record += "given \(user.user):\(user.group)\n" }
        try place.records.writeAtomically(info.name, Array(record.utf8), synced: !info.isAutomatic)
    }

    /// The record's own time is when the workspace was last used.
    private func noteUse(_ name: String) {
        let now = Int64(SystemTime.realtime)
        try? place.records.open(name, [.readOnly, .noFollow]).setTimes(accessed: now, modified: now)
    }

    private func removeNow(_ name: String, synced: Bool) throws(AegisError) {
        do throws(Errno) {
            let aside = try turn.withLock { _ throws(Errno) -> String? in
                let aside = "\(name)-\(try Random.hex(bytes: 8))"
                do throws(Errno) { try place.root.rename(name, to: place.trash, as: aside) } catch {
                    guard error == .noSuchFile else { throw error }
                    // One that lies elsewhere has its record here.
                    try? place.records.removeFile(name)
                    return nil
                }
                try? place.records.removeFile(name)
                if synced { try place.root.sync() }
                return aside
            }
            // Out of sight already; what a crash leaves of it goes at the next start.
            if let aside { try place.trash.removeTree(aside) }
        } catch { throw .failed("workspace-not-removed", "workspace '\(name)' cannot be removed: \(error)") }
    }

    private func check(_ info: WorkspaceInfo, _ user: UInt32) throws(AegisError) {
        guard user == 0 || user == info.owner else {
            throw AegisError(
                .denied, "workspace-denied", "workspace '\(info.name)' belongs to uid \(info.owner)",
                hint: "choose another name")
        }
    }

    /// A damaged or missing record makes the workspace root's.
    private func info(_ name: String) -> WorkspaceInfo {
        var info = WorkspaceInfo(
            name: name, isAutomatic: Names.isInstanceID(name), owner: 0, createdAt: Timestamp(milliseconds: 0),
            usedAt: Timestamp(milliseconds: 0))
        guard let record = try? place.records.open(name, [.readOnly, .noFollow]),
            let bytes = try? record.readAll(limit: 4096)
        else { return info }
        if let used = try? record.status().modified { info.usedAt = Timestamp(milliseconds: used / 1_000_000) }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2 else { continue }
            if words[0] == "owner", let owner = UInt32(words[1]) { info.owner = owner }
            if words[0] == "created", let time = Int64(words[1]) { info.createdAt = Timestamp(milliseconds: time) }
            let ids = words[1].split(separator: ":").compactMap { UInt32($0) }
            if words[0] == "given", ids.count == 2 { info.givenTo = FileIdentity(user: ids[0], group: ids[1]) }
        }
        return info
    }
}
