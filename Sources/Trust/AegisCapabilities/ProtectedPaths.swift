/// Paths that no grant reaches, whatever it says (decision D31): Aegis itself, and what is not files but the kernel.
package struct ProtectedPaths: Sendable, Hashable {
    /// What is closed, with all below it.
    package var closed: [CanonicalPath]
    /// What is open although it lies below something closed: the volume in question.
    package var open: [CanonicalPath]

    /// Makes a set of paths; `/proc`, `/sys` and `/dev` are always closed.
    ///
    /// - Parameters:
    ///   - closed: AEGIS_HOME, the run directory, the daemon's configuration and programs.
    ///   - open: the volumes below AEGIS_HOME that gates serve.
    package init(closed: [CanonicalPath] = [], open: [CanonicalPath] = []) {
        self.closed = ["/proc", "/sys", "/dev"].compactMap { CanonicalPath($0) } + closed
        self.open = open
    }

    /// Only the kernel's file systems.
    package static let kernel = ProtectedPaths()

    /// The closed path in which a file lies; nil when a grant may reach it.
    package func refusal(of path: CanonicalPath) -> CanonicalPath? {
        guard let closest = closed.filter({ path.isWithin($0) }).max(by: { $0.count < $1.count }) else { return nil }
        return open.contains { $0.count > closest.count && path.isWithin($0) } ? nil : closest
    }

    /// The closed path in which an action's file lies; nil when there is none.
    func refuses(_ action: Action) -> CanonicalPath? {
        switch action {
        case .fileRead(let path), .fileWrite(let path):
            closed.contains { path.isWithin($0) } ? refusal(of: path) : nil
        default: nil
        }
    }
}
