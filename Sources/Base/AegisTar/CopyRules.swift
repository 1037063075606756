package import AegisCore

/// What an archive's first path component becomes where the archive is extracted.
package enum TarTop: Sendable, Equatable {
    /// It stays.
    case keep
    /// It gets this name.
    case rename([UInt8])
    /// It is left out: its content lands in the directory itself.
    case strip
}

/// Where a copy goes, decided before anything is written.
package struct CopyPlan: Sendable, Equatable {
    /// An existing directory; everything is made beneath it.
    package var directory: String
    package var top: TarTop
    /// Makes a plan.
    package init(directory: String, top: TarTop) {
        self.directory = directory
        self.top = top
    }
}

/// The rules of `docker cp` for source and destination, as a pure function.
package enum CopyRules {
    /// What a path is on its side.
    package enum Kind: Sendable, Equatable { case file, directory }

    /// What the destination is now.
    package enum Target: Sendable, Equatable {
        case exists(Kind)
        case missing(parentExists: Bool)
    }

    /// Decides where a copy goes.
    ///
    /// - Parameters:
    ///   - source: as written by the user; `DIR/.` means the content of DIR.
    ///   - kind: what the source is.
    ///   - destination: as written by the user.
    ///   - target: what the destination is.
    /// - Returns: where to make what.
    /// - Throws: `invalid-argument`, `path-not-found`, `not-a-directory` or `is-a-directory`, naming the path.
    package static func plan(
        source: String, kind: Kind, destination: String, target: Target
    ) throws(AegisError) -> CopyPlan {
        guard !source.isEmpty else { throw .usage("the source path is empty") }
        guard !destination.isEmpty else { throw .usage("the destination path is empty") }
        let wantsDirectory = endsAsDirectory(source)
        if kind == .file, wantsDirectory {
            throw AegisError(.usage, "not-a-directory", "'\(source)' is a file, not a directory")
        }
        switch (kind, target) {
        case (_, .missing(parentExists: false)):
            throw .notFound(
                "path-not-found", "the directory of '\(destination)' does not exist", hint: "create it first")
        case (.file, .missing):
            guard !endsAsDirectory(destination) else {
                throw .notFound(
                    "path-not-found", "the directory '\(destination)' does not exist",
                    hint: "create it first, or leave out the final slash to copy to a file of that name")
            }
            return beside(destination)
        case (.directory, .missing):
            return beside(destination)
        case (.file, .exists(.file)):
            guard !endsAsDirectory(destination) else {
                throw AegisError(.usage, "not-a-directory", "'\(destination)' is a file, not a directory")
            }
            return beside(destination)
        case (.directory, .exists(.file)):
            throw AegisError(
                .usage, "not-a-directory", "cannot copy the directory '\(source)' over the file '\(destination)'",
                hint: "name a directory, or a path that does not exist yet")
        case (.file, .exists(.directory)), (.directory, .exists(.directory)):
            let name = lastComponent(source)
            // `DIR/.`, `/` and `..` have no name of their own: their content is meant.
            guard kind == .file || !(isContent(source) || name.isEmpty || name == "..") else {
                return CopyPlan(directory: destination, top: .strip)
            }
            return CopyPlan(directory: destination, top: .rename(Array(name.utf8)))
        }
    }

    /// The plan that makes or replaces the destination by its own name.
    private static func beside(_ destination: String) -> CopyPlan {
        var path = destination
        while path.count > 1, path.hasSuffix("/") || path.hasSuffix("/.") { path.removeLast() }
        guard let slash = path.lastIndex(of: "/") else {
            return CopyPlan(directory: ".", top: .rename(Array(path.utf8)))
        }
        let directory = path[..<slash]
        let name = path[path.index(after: slash)...]
        return CopyPlan(directory: directory.isEmpty ? "/" : String(directory), top: .rename(Array(name.utf8)))
    }

    private static func isContent(_ path: String) -> Bool { path == "." || path.hasSuffix("/.") }
    private static func endsAsDirectory(_ path: String) -> Bool {
        path.hasSuffix("/") || isContent(path) || path == ".." || path.hasSuffix("/..")
    }

    private static func lastComponent(_ path: String) -> String {
        path.split(separator: "/").last(where: { $0 != "." }).map(String.init) ?? ""
    }
}
