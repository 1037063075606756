internal import AegisCore
internal import LinuxSys

/// What no grant may reach: Aegis itself and the kernel's file systems (decision D31).
struct GuardedPlaces: Sendable {
    /// AEGIS_HOME, the run directory, and the folder of records that are not in the home, as given.
    let own: [(path: String, name: String)]

    init(home: String, runDirectory: String, records: String?) {
        own =
            [(home, "AEGIS_HOME"), (runDirectory, "Aegis's run directory")]
            + (records.map { [($0, "Aegis's database")] } ?? [])
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

    /// Why a file that an agent names is refused; nil if it is not. Other than `refusal(_:)`, a folder that merely holds one
    /// of the places is not: what is in it is asked for again.
    ///
    /// - Parameters:
    ///   - place: the opened file or folder.
    ///   - status: its status.
    ///   - isInWorkspace: whether it lies in a workspace, which may itself lie in AEGIS_HOME.
    /// - Returns: the reason.
    func refusal(of place: borrowing FileDescriptor, _ status: FileStatus, isInWorkspace: Bool) -> String? {
        let kind = FileSystems.name(place.fileSystemMagic())
        if FileSystems.ofTheKernel.contains(kind) { return "it shows the kernel (\(kind))" }
        guard let real = try? place.realPath() else { return "its name is not known" }
        for folder in ["/proc", "/sys", "/dev"] where isInside(real, folder) { return "it is in \(folder)" }
        guard !isInWorkspace else { return nil }
        for (path, name) in own {
            guard let directory = try? FileDescriptor.open(path, [.pathOnly, .directory]),
                let inner = try? directory.status(), let known = try? directory.realPath()
            else { continue }
            if isInside(real, known) { return "it belongs to \(name)" }
            // A bind mount gives the same folder another name.
            if status.type == .directory {
                if isBeneath(place, status, inner) { return "it belongs to \(name)" }
            } else if let folder = try? FileDescriptor.open(Files.split(real).directory, [.pathOnly, .directory]),
                let folderStatus = try? folder.status(), isBeneath(folder, folderStatus, inner)
            {
                return "it belongs to \(name)"
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
