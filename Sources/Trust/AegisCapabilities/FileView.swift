/// What a sandbox may see of files, derived from its holder's grants (decision D1): so `exec` is no way round them.
package struct FileView: Sendable, Equatable {
    /// A directory that is visible inside at its own path.
    package struct Mount: Sendable, Hashable {
        /// The directory.
        package var path: CanonicalPath
        /// Whether it may be written to.
        package var isWritable: Bool

        /// Describes a mount.
        package init(path: CanonicalPath, isWritable: Bool) {
            self.path = path
            self.isWritable = isWritable
        }
    }

    /// What is mounted, outer directories before inner ones.
    package var mounts: [Mount]
    /// Grants that no mount can express: narrower than a whole tree. They are served by file tools, or by a gateway.
    package var perOperation: [Capability]

    /// Derives the view.
    ///
    /// A whole tree becomes a mount: read-only for `file_read`, writable where `file_write` covers it. What may be written to
    /// and not be read is no mount, for that would show it. A mount inside another of the same kind adds nothing and is left
    /// out; so is a read-only one inside a writable one.
    ///
    /// - Parameters:
    ///   - capabilities: what is granted.
    ///   - isMountable: whether a tree can be a mount; one that cannot does not stand for those inside it.
    package init(_ capabilities: [Capability], isMountable: (CanonicalPath) -> Bool = { _ in true }) {
        var read: [CanonicalPath] = []
        var written: [(path: CanonicalPath, capability: Capability)] = []
        perOperation = []
        for capability in capabilities {
            switch capability {
            case .fileRead(let pattern), .fileWrite(let pattern):
                guard let tree = pattern.tree else {
                    perOperation.append(capability)
                    continue
                }
                if capability.kind == .fileRead { read.append(tree) } else { written.append((tree, capability)) }
            default: continue
            }
        }
        var trees: Set<Mount> = []
        for path in read {
            trees.insert(Mount(path: path, isWritable: written.contains { path.isWithin($0.path) }))
        }
        for (path, capability) in written {
            if read.contains(where: { path.isWithin($0) }) {
                trees.insert(Mount(path: path, isWritable: true))
            } else if !read.contains(where: { $0.isWithin(path) }) {
                perOperation.append(capability)
            }
        }
        let mountable = trees.filter { isMountable($0.path) }
        mounts = mountable.filter { mount in
            !mountable.contains { outer in
                outer != mount && mount.path.isWithin(outer.path) && (outer.isWritable || !mount.isWritable)
            }
        }.sorted { ($0.path.count, $0.path.description) < ($1.path.count, $1.path.description) }
    }
}
