package import AegisCapabilities
internal import AegisCore
internal import LinuxSys

/// What a file was before a change.
package enum FileBase: Sendable, Equatable {
    case absent
    case content([UInt8])
    /// Too large to be looked at: which version it is.
    case large(version: String)

    /// How much of a file is looked at, in bytes.
    package static let most = 4 << 20
}

/// A file that was written.
package struct FileWritten: Sendable {
    /// The name as the kernel has it.
    package var path: CanonicalPath
    /// How long it was; nil where there was none.
    package var sizeBefore: UInt64?
    /// How long it is.
    package var size: UInt64
}

extension AgentFiles {
    /// A last look at what is about to be changed; it throws when it is not what was meant.
    package typealias Confirm = (CanonicalPath, FileBase) throws -> Void

    /// Writes a file: as a whole, in one step that readers see or do not see, or at its end. Missing folders are made.
    ///
    /// - Parameters:
    ///   - text: the path.
    ///   - content: what is written.
    ///   - append: whether it comes at the end.
    ///   - confirm: a last look at what is there.
    /// - Returns: what was written.
    /// - Throws: `Denial`; as `read` does; `file-linked`, `file-changed`, `disk-full`; what `confirm` throws. Then nothing
    ///   was changed.
    package func write(
        _ text: String, _ content: [UInt8], append: Bool = false, confirm: Confirm? = nil
    ) throws -> FileWritten {
        let path = try AgentPath(text)
        return try withRights(path) {
            let root = try FileRoot(path, in: scope)
            switch root.find(path) {
            case .found(let file):
                let admission = try admit(.write, file.path, given: path, bytes: UInt64(content.count))
                do {
                    let written = try change(file, root, path, append: append, exactly: confirm != nil) { base in
                        try confirm?(file.path, base())
                        return content
                    }
                    admission.settle(used: Amounts(bytes: UInt64(content.count)))
                    return written
                } catch {
                    admission.refund()
                    throw error
                }
            case .missing(let name, let errno):
                let admission = try admit(.write, name, given: path, bytes: UInt64(content.count))
                do {
                    guard errno == .noSuchFile else { throw Self.refusal(errno, path) }
                    try confirm?(name, .absent)
                    try create(name, root, path, content)
                    admission.settle(used: Amounts(bytes: UInt64(content.count)))
                    return FileWritten(path: name, sizeBefore: nil, size: UInt64(content.count))
                } catch {
                    admission.refund()
                    throw error
                }
            }
        }
    }

    /// Changes a file that is there, as a whole. It takes leave to read it and to write it.
    ///
    /// - Parameters:
    ///   - text: the path.
    ///   - limit: how long it may be, before and after, in bytes.
    ///   - confirm: a last look at what is there.
    ///   - body: makes the new content from the old one.
    /// - Returns: what was written.
    /// - Throws: as `write` does; what `body` throws. Then nothing was changed.
    package func edit(
        _ text: String, limit: Int, confirm: Confirm? = nil, change body: ([UInt8]) throws -> [UInt8]
    ) throws -> FileWritten {
        let path = try AgentPath(text)
        return try withRights(path) {
            let root = try FileRoot(path, in: scope)
            guard case .found(let file) = root.find(path) else {
                // Says no to what is not granted, and only to others that it does not exist.
                _ = try decide(path, .read) { _ in 0 }
                throw AgentFiles.refusal(.noSuchFile, path)
            }
            let reading = try admit(.read, file.path, given: path, bytes: min(file.status.size, UInt64(limit)))
            do {
                let writing = try admit(.write, file.path, given: path)
                do {
                    try checkGuarded(file, path)
                    let old = try content(file, path, limit: limit)
                    let written = try self.change(file, root, path, append: false, exactly: true) { _ in
                        try confirm?(file.path, .content(old))
                        let new = try body(old)
                        guard new.count <= limit else {
                            throw AegisError(
                                .tooLarge, "file-too-large",
                                "'\(path.name)' would have \(new.count) bytes, at most \(limit) are written")
                        }
                        return new
                    }
                    writing.settle(used: Amounts(bytes: written.size))
                    reading.settle(used: Amounts(bytes: UInt64(old.count)))
                    return written
                } catch {
                    writing.refund()
                    throw error
                }
            } catch {
                reading.refund()
                throw error
            }
        }
    }

    /// What a change would start from, for showing it to a person. Nothing is counted.
    ///
    /// - Parameters:
    ///   - text: the path.
    ///   - reading: whether the change takes leave to read the file as well.
    /// - Returns: the name as the kernel has it, and what is there.
    /// - Throws: what the change would be refused with already now.
    package func base(_ text: String, reading: Bool) throws -> (path: CanonicalPath, base: FileBase) {
        let path = try AgentPath(text)
        let set = grants.grants(of: holder)
        return try withRights(path) {
            let root = try FileRoot(path, in: scope)
            switch root.find(path) {
            case .found(let file):
                if reading { try check(.read, file.path, given: path, in: set) }
                try check(.write, file.path, given: path, in: set)
                try checkChangeable(file, path, inPlace: false)
                return (file.path, try base(of: file, path))
            case .missing(let name, let errno):
                if reading { try check(.read, name, given: path, in: set) }
                try check(.write, name, given: path, in: set)
                guard errno == .noSuchFile, !reading else { throw Self.refusal(errno, path) }
                return (name, .absent)
            }
        }
    }

    // MARK: Parts

    private func base(of file: borrowing FoundFile, _ path: AgentPath) throws(AegisError) -> FileBase {
        let status = file.status
        guard status.size <= UInt64(FileBase.most) else {
            return .large(version: "\(status.device):\(status.inode) \(status.size) \(status.changed)")
        }
        return .content(try content(file, path, limit: FileBase.most))
    }

    /// Whether a file that is there may be changed at all.
    private func checkChangeable(_ file: borrowing FoundFile, _ path: AgentPath, inPlace: Bool) throws {
        try checkGuarded(file, path)
        guard file.status.type == .regular else { throw Self.notAFile(file.status, path) }
        // Another name of the file may lie where no grant reaches (decision D31). In a workspace a file is replaced, and
        // its other names keep what they had.
        guard file.status.links <= 1 || (path.isInWorkspace && !inPlace) else {
            throw AegisError(
                .denied, "file-linked",
                "'\(path.name)' has \(file.status.links) names (hard links), and so it is not changed")
        }
    }

    /// Changes a file that is there. With `exactly` the new content was made from the old one, which must not be another by now.
    private func change(
        _ file: borrowing FoundFile, _ root: borrowing FileRoot, _ path: AgentPath, append: Bool, exactly: Bool,
        _ content: (() throws -> FileBase) throws -> [UInt8]
    ) throws -> FileWritten {
        try checkChangeable(file, path, inPlace: append)
        let new = try content { try base(of: file, path) }
        let before = file.status.size
        guard !append else {
            try appendInPlace(file, path, new)
            return FileWritten(path: file.path, sizeBefore: before, size: before + UInt64(new.count))
        }
        let place = AgentPath(file.path)
        guard let leaf = place.parts.last else { throw Self.notAFile(file.status, path) }
        let folder = try folder(place, root, path)
        // What was decided on, or read, is what is replaced.
        let now = try calls(path) { () throws(Errno) in try folder.status(ofBytes: leaf) }
        guard now.isSameFile(as: file.status) else { throw Self.changed(path) }
        try replace(leaf, in: folder, path, new, like: file.status) { () throws(AegisError) in
            let latest = try calls(path) { () throws(Errno) in try folder.status(ofBytes: leaf) }
            let isUnchanged = latest.changed == file.status.changed && latest.size == file.status.size
            guard latest.isSameFile(as: file.status), !exactly || isUnchanged else { throw Self.changed(path) }
        }
        return FileWritten(path: file.path, sizeBefore: before, size: UInt64(new.count))
    }

    private func appendInPlace(_ file: borrowing FoundFile, _ path: AgentPath, _ content: [UInt8]) throws(AegisError) {
        try calls(path) { () throws(Errno) in
            let descriptor = try file.opened([.writeOnly, .append])
            let size = try descriptor.status().size
            do throws(Errno) { try descriptor.writeAll(content[...]) } catch {
                // A part is worse than nothing.
                try? descriptor.truncate(to: size)
                throw error
            }
        }
    }

    /// Makes a file that is not there, and what is missing above it.
    private func create(
        _ name: CanonicalPath, _ root: borrowing FileRoot, _ path: AgentPath, _ content: [UInt8]
    ) throws {
        let place = AgentPath(name)
        guard place.isInWorkspace == path.isInWorkspace, let leaf = place.parts.last else {
            throw Self.refusal(.isDirectory, path)
        }
        let folder = try madeFolder(place, root, path)
        // The folder is still where the decision was for.
        let now = try calls(path) { () throws(Errno) in try root.found(folder.duplicate()) }
        guard AgentPath(now.path).parts == Array(place.parts.dropLast()) else { throw Self.changed(path) }
        try replace(leaf, in: folder, path, content, like: nil) {}
    }

    /// The folder of a path that is free of links, for work in it.
    private func folder(
        _ place: AgentPath, _ root: borrowing FileRoot, _ path: AgentPath
    ) throws(AegisError) -> FileDescriptor {
        try calls(path) { () throws(Errno) in
            try root.found(root.open(place.parts.dropLast(), noLinks: true)).opened([.readOnly, .directory])
        }
    }

    /// The same, where folders may be missing: they are made, and belong to whom new files belong to.
    private func madeFolder(
        _ place: AgentPath, _ root: borrowing FileRoot, _ path: AgentPath
    ) throws -> FileDescriptor {
        let parts = place.parts.dropLast()
        var depth = parts.count
        while depth > 0, !root.holds(parts.prefix(depth)) { depth -= 1 }
        let found = try calls(path) { () throws(Errno) in
            try root.found(root.open(parts.prefix(depth), noLinks: true))
        }
        try checkGuarded(found, path)
        var folder = try calls(path) { () throws(Errno) in try found.opened([.readOnly, .directory]) }
        for part in parts.dropFirst(depth) {
            folder = try calls(path) { () throws(Errno) in
                do throws(Errno) {
                    try folder.makeDirectory(bytes: part, mode: path.isInWorkspace ? 0o755 : 0o700)
                } catch {
                    guard error == .fileExists else { throw error }
                }
                // Not a link that somebody put there meanwhile.
                let made = try folder.open(bytes: part, [.readOnly, .directory, .noFollow])
                if path.isInWorkspace, let owner = scope.owner {
                    try made.setOwner(user: owner.user, group: owner.group)
                }
                return made
            }
        }
        return folder
    }

    /// Puts a new file in the place of a name, in one step, after a last look. It gets the owner and permissions of `old`; where
    /// there is none the name must be free.
    private func replace(
        _ leaf: [UInt8], in folder: borrowing FileDescriptor, _ path: AgentPath, _ content: [UInt8],
        like old: FileStatus?, _ confirm: () throws(AegisError) -> Void
    ) throws(AegisError) {
        let temporary = try calls(path) { () throws(Errno) in Array(".aegis-new-\(try Random.hex(bytes: 8))".utf8) }
        do throws(AegisError) {
            try calls(path) { () throws(Errno) in
                let file = try folder.open(bytes: temporary, [.writeOnly, .create, .exclusive, .noFollow], mode: 0o600)
                try file.writeAll(content[...])
                let owner = old.map { FileIdentity(user: $0.user, group: $0.group) }
                if let owner = owner ?? (path.isInWorkspace ? scope.owner : nil) {
                    // Who may not give files away keeps them: that is what saving a file has always done.
                    do throws(Errno) { try file.setOwner(user: owner.user, group: owner.group) } catch {
                        guard error == .notPermitted else { throw error }
                    }
                }
                try file.setPermissions(old.map { $0.permissions & 0o777 } ?? (path.isInWorkspace ? 0o644 : 0o600))
            }
            try confirm()
            do throws(Errno) {
                try folder.rename(
                    bytes: temporary, to: folder, as: leaf, old == nil ? .noReplace : .replace)
            } catch { throw error == .fileExists ? Self.changed(path) : Self.refusal(error, path) }
        } catch {
            try? folder.removeFile(bytes: temporary)
            throw error
        }
    }

    private static func changed(_ path: AgentPath) -> AegisError {
        .conflict("file-changed", "'\(path.name)' was changed by somebody else meanwhile", hint: "read it again")
    }
}
