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
    /// A whole tree becomes a mount: read-only for `file_read`, writable where `file_write` covers it. A mount inside another of
    /// the same kind adds nothing and is left out; so is a read-only one inside a writable one.
    package init(_ capabilities: [Capability]) {
        var trees: Set<Mount> = []
        perOperation = []
        for capability in capabilities {
            switch capability {
            case .fileRead(let pattern), .fileWrite(let pattern):
                guard let tree = pattern.tree else {
                    perOperation.append(capability)
                    continue
                }
                trees.insert(Mount(path: tree, isWritable: capability.kind == .fileWrite))
            default: continue
            }
        }
        mounts = trees.filter { mount in
            !trees.contains { outer in
                outer != mount && mount.path.isWithin(outer.path) && (outer.isWritable || !mount.isWritable)
            }
        }.sorted { ($0.path.count, $0.path.description) < ($1.path.count, $1.path.description) }
    }
}
