internal import AegisCore
internal import LinuxSys

/// What no grant may reach: Aegis itself and the kernel's file systems (decision D31).
struct GuardedPlaces: Sendable {
    /// AEGIS_HOME and the run directory, as given.
    let own: [(path: String, name: String)]

    init(home: String, runDirectory: String) {
        own = [(home, "AEGIS_HOME"), (runDirectory, "Aegis's run directory")]
    }

    /// Why an opened path is refused; nil if it is not.
    func refusal(_ opened: OpenedPath) -> String? {
        let real = opened.realPath
        if FileSystems.ofTheKernel.contains(opened.fileSystem) { return "it shows the kernel (\(opened.fileSystem))" }
        for place in ["/proc", "/sys", "/dev"] where isInside(real, place) { return "it is in \(place)" }
        for (path, name) in own {
            // Not there yet: nothing to protect.
            guard let directory = try? FileDescriptor.open(path, [.pathOnly, .directory]),
                let status = try? directory.status(), let place = try? directory.realPath()
            else { continue }
            // By name and by identity: a bind mount gives the same folder another name.
            if isInside(real, place) || isBeneath(opened.descriptor, opened.status, status) {
                return "it belongs to \(name)"
            }
            if opened.isDirectory, isInside(place, real) || isBeneath(directory, status, opened.status) {
                return "it holds \(name)"
            }
        }
        return nil
    }

    private func isInside(_ path: String, _ directory: String) -> Bool {
        directory == "/" || path == directory || path.hasPrefix(directory + "/")
    }

    /// Goes up from a place and looks for a directory by its identity.
    private func isBeneath(_ start: borrowing FileDescriptor, _ first: FileStatus, _ directory: FileStatus) -> Bool {
        if first.isSameFile(as: directory) { return true }
        guard first.type == .directory, var here = try? start.open("..", [.pathOnly, .directory]),
            var status = try? here.status()
        else { return false }
        var last = first
        while !status.isSameFile(as: last) {
            if status.isSameFile(as: directory) { return true }
            last = status
            guard let above = try? here.open("..", [.pathOnly, .directory]), let next = try? above.status() else {
                return false
            }
            here = above
            status = next
        }
        return false
    }
}
