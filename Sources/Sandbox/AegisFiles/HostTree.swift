package import AegisCore
package import AegisTar
package import LinuxSys

/// A workspace or mount of an instance, seen from the host: `aegis cp` reads and writes here without the instance (D51).
package struct HostTree: Sendable {
    /// Where the instance sees it, absolute.
    package var target: String
    /// The folder.
    package var root: OpenedPath
    package var readOnly: Bool
    /// Whom new files belong to on the host.
    package var owner: (user: UInt32, group: UInt32)
    /// Whose rights count beneath the root; nil for this process's own.
    package var identity: FileIdentity?

    /// A tree.
    package init(
        target: String, root: OpenedPath, readOnly: Bool, owner: (user: UInt32, group: UInt32),
        identity: FileIdentity? = nil
    ) {
        self.target = target
        self.root = root
        self.readOnly = readOnly
        self.owner = owner
        self.identity = identity
    }

    /// Runs what works beneath the root with the rights that count there: every call of this tree, of what reads from it and
    /// of what writes to it belongs in here. Blocks on the disk.
    ///
    /// - Throws: what `body` throws; `path-denied` when the rights cannot be taken.
    package func withRights<T>(_ body: () throws(AegisError) -> T) throws(AegisError) -> T {
        guard let identity else { return try body() }
        let result: Result<T, AegisError>
        do throws(Errno) {
            result = try identity.perform { () -> Result<T, AegisError> in
                do throws(AegisError) { return .success(try body()) } catch { return .failure(error) }
            }
        } catch {
            throw AegisError(.denied, "path-denied", "'\(target)' cannot be used as uid \(identity.user): \(error)")
        }
        return try result.get()
    }

    /// Finds the tree that holds a path of the instance, and the path within it.
    ///
    /// The path is cleaned as text first (`..` takes the name before it away); nil when it is in none of the trees, or in
    /// one that is a single file.
    package static func find(_ path: String, in trees: [HostTree]) -> (tree: HostTree, path: String)? {
        guard path.hasPrefix("/") else { return nil }
        let parts = clean(path)
        var best: (tree: HostTree, depth: Int)?
        for tree in trees {
            let target = clean(tree.target)
            guard parts.starts(with: target), target.count >= best?.depth ?? 0 else { continue }
            best = (tree, target.count)
        }
        guard let best, best.tree.root.isDirectory else { return nil }
        let rest = parts.dropFirst(best.depth).joined(separator: "/")
        // A trailing slash or `/.` says that a directory is meant: kept for the rules of copying.
        let ending = path.hasSuffix("/.") ? "/." : path.hasSuffix("/") && !rest.isEmpty ? "/" : ""
        return (best.tree, (rest.isEmpty ? "." : rest) + ending)
    }

    private static func clean(_ path: String) -> [Substring] {
        var parts: [Substring] = []
        for part in path.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(part) }
        }
        return parts
    }

    /// What a path in the tree is; links are followed as long as they stay inside.
    ///
    /// - Throws: `unsafe-path` when a link leads out; `path-denied`.
    package func kind(of path: String) throws(AegisError) -> CopyRules.Target {
        do throws(Errno) { return .exists(try type(of: path)) } catch {
            guard error == .noSuchFile else { throw refusal(error, path) }
        }
        let above = Files.split(path).directory
        do throws(Errno) { return .missing(parentExists: try type(of: above) == .directory) } catch {
            guard error == .noSuchFile || error == .notDirectory else { throw refusal(error, path) }
            return .missing(parentExists: false)
        }
    }

    private func type(of path: String) throws(Errno) -> CopyRules.Kind {
        let found = try root.descriptor.open(path, .pathOnly, resolve: [.beneath, .noMagicLinks])
        return try found.status().type == .directory ? .directory : .file
    }

    /// An archive of a path in the tree. Blocks on the disk, as reading from it does.
    ///
    /// - Parameter path: as `find` gives it.
    /// - Returns: the archive's source.
    /// - Throws: `path-not-found`, `unsafe-path`, `path-denied`, `not-copyable`.
    package func read(_ path: String) throws(AegisError) -> TarProducer {
        let name = path.split(separator: "/").last { $0 != "." } ?? Self.clean(target).last ?? "root"
        let directory: FileDescriptor
        do throws(Errno) { directory = try root.openForUse() } catch { throw refusal(error, path) }
        return try TarProducer(
            root: directory, path: Array(path.utf8), named: Array(name.utf8), marksLeftOut: true)
    }

    /// Takes an archive into the tree by a plan that was made from `kind(of:)`; owners become the tree's.
    ///
    /// - Parameters:
    ///   - plan: its directory is relative to the tree.
    ///   - options: limits; owner and top are set here.
    /// - Returns: what takes the archive.
    /// - Throws: `path-denied` for a read-only tree; `path-not-found`, `unsafe-path`.
    package func write(
        _ plan: CopyPlan, options: TarExtractOptions = TarExtractOptions()
    ) throws(AegisError) -> TarExtractor {
        guard !readOnly else {
            throw AegisError(.denied, "path-denied", "'\(target)' is mounted read-only", hint: "mount it with :rw")
        }
        var options = options
        // Who makes a file as its owner need not give it away, and could not.
        options.owner = identity == nil ? owner : nil
        options.top = plan.top
        do throws(Errno) {
            let directory = try root.descriptor.open(
                plan.directory, [.readOnly, .directory], resolve: [.beneath, .noMagicLinks])
            return TarExtractor(into: directory, options: options)
        } catch { throw refusal(error, plan.directory) }
    }

    private func refusal(_ error: Errno, _ path: String) -> AegisError {
        let shown = "'\(path == "." ? target : "\(target)/\(path)")'"
        switch error {
        case .noSuchFile: return .notFound("path-not-found", "\(shown) does not exist")
        case .notDirectory: return AegisError(.usage, "not-a-directory", "\(shown) leads through a file")
        case .crossDevice, .tooManyLinks:
            return AegisError(
                .denied, "unsafe-path", "\(shown) leads out of '\(target)'",
                hint: "links are followed only inside the workspace or mount")
        case .accessDenied, .notPermitted: return AegisError(.denied, "path-denied", "\(shown): \(error)")
        default: return .failed("io-error", "\(shown): \(error)")
        }
    }
}
