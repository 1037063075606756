package import AegisCore
internal import AegisIO
internal import LinuxSys
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
}

/// The workspaces that Aegis keeps, `AEGIS_HOME/workspaces/NAME`.
///
/// What kind a workspace is stands in its name, so that nothing can lose it: an automatic one is called as its instance is
/// (`i-…`), and no user can choose a name of that form. Owner and time of creation are in a small file beside. Files inside
/// have the ids that they have in the instance (mapped id by id, decision D17); the folder is root's, 0755.
package final class WorkspaceStore: Sendable {
    private let place: OpenedRoot
    /// Creation and removal take turns; both are short.
    private let turn = Mutex(())

    /// The store's own directories.
    private struct OpenedRoot: ~Copyable, Sendable {
        let root: FileDescriptor
        let records: FileDescriptor
        let trash: FileDescriptor
    }

    private static let recordsName = ".records"
    private static let trashName = ".trash"

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
    /// - Throws: `workspace-denied` when it belongs to another user; `invalid-argument`; `disk-full`.
    package func open(named name: String, owner: UInt32) async throws(AegisError) -> (OpenedPath, WorkspaceInfo) {
        try Names.validate(name, what: "workspace")
        return try await blocking { () throws(AegisError) in try self.openNow(name, owner: owner, automatic: false) }
    }

    /// Opens the automatic workspace of an instance, making it when it is not there.
    package func openAutomatic(instance id: String, owner: UInt32) async throws(AegisError) -> (
        OpenedPath, WorkspaceInfo
    ) {
        guard Names.isInstanceID(id) else { throw .usage("'\(id)' is not an instance id") }
        return try await blocking { () throws(AegisError) in try self.openNow(id, owner: owner, automatic: true) }
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

    /// Deletes a named workspace with all that it holds.
    ///
    /// - Parameters:
    ///   - name: which.
    ///   - user: who asks.
    ///   - instances: those that use it now.
    /// - Throws: `workspace-not-found`, `workspace-in-use` naming the instances, `workspace-denied`.
    package func remove(named name: String, as user: UInt32, usedBy instances: [String]) async throws(AegisError) {
        try Names.validate(name, what: "workspace")
        guard instances.isEmpty else {
            throw .conflict(
                "workspace-in-use", "workspace '\(name)' is used by \(instances.joined(separator: ", "))",
                hint: "delete these instances first")
        }
        try await blocking { () throws(AegisError) in
            guard (try? self.place.root.status(of: name)) != nil else {
                throw .notFound("workspace-not-found", "there is no workspace '\(name)'")
            }
            try self.check(self.info(name), user)
            try self.removeNow(name, synced: true)
        }
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

    private func openNow(_ name: String, owner: UInt32, automatic: Bool) throws(AegisError) -> (
        OpenedPath, WorkspaceInfo
    ) {
        try turn.withLock { _ throws(AegisError) in
            if (try? place.root.status(of: name)) != nil { try check(info(name), owner) }
            do throws(Errno) {
                if (try? place.root.status(of: name)) == nil {
                    let record = "aegis-workspace 1\nowner \(owner)\ncreated \(Timestamp.now().milliseconds)\n"
                    // The record first: a folder without one would be root's.
                    try place.records.writeAtomically(name, Array(record.utf8), synced: !automatic)
                    try place.root.makeDirectory(name, mode: 0o755)
                    let made = try place.root.open(name, [.readOnly, .directory, .noFollow])
                    try made.setPermissions(0o755)
                    if !automatic {
                        try made.sync()
                        try place.root.sync()
                    }
                }
                let opened = try OpenedPath(place.root.open(name, [.pathOnly, .directory, .noFollow]))
                return (opened, info(name))
            } catch {
                throw error == .noSpace
                    ? .failed("disk-full", "no space left for workspace '\(name)'")
                    : .failed("workspaces-unusable", "workspace '\(name)' cannot be opened: \(error)")
            }
        }
    }

    private func removeNow(_ name: String, synced: Bool) throws(AegisError) {
        do throws(Errno) {
            let aside = try turn.withLock { _ throws(Errno) -> String? in
                let aside = "\(name)-\(try Random.hex(bytes: 8))"
                do throws(Errno) { try place.root.rename(name, to: place.trash, as: aside) } catch {
                    if error == .noSuchFile { return nil }
                    throw error
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
            name: name, isAutomatic: Names.isInstanceID(name), owner: 0, createdAt: Timestamp(milliseconds: 0))
        guard let record = try? place.records.open(name, [.readOnly, .noFollow]),
            let bytes = try? record.readAll(limit: 4096)
        else { return info }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2 else { continue }
            if words[0] == "owner", let owner = UInt32(words[1]) { info.owner = owner }
            if words[0] == "created", let time = Int64(words[1]) { info.createdAt = Timestamp(milliseconds: time) }
        }
        return info
    }
}
