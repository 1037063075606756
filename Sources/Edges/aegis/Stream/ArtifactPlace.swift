internal import AegisCore
internal import LinuxSys

/// The folder of the caller's that takes an artifact.
enum ArtifactPlace {
    /// The folder that is opened for one: the destination itself for contents, else what the destination lies in.
    static func folder(_ spec: ArtifactSpec) -> String {
        spec.contentsOnly ? spec.destination : Files.split(spec.destination).directory
    }

    /// Makes the folder where it is missing and opens it.
    ///
    /// - Throws: the refusal of the file system.
    static func open(_ folder: String) throws(Errno) -> FileDescriptor {
        try Files.makeDirectories(folder, mode: 0o777)
        return try FileDescriptor.open(folder, [.readOnly, .directory])
    }

    /// Finds out before anything is started whether the artifacts can be written where they are to go: a run whose results
    /// have no place would be for nothing.
    ///
    /// - Throws: `artifact-place` naming the folder.
    static func check(_ specs: [ArtifactSpec]) throws(AegisError) {
        for spec in specs {
            let path = folder(spec)
            do throws(Errno) {
                let folder = try open(path)
                let name = ".aegis-\(try Random.hex(bytes: 8))"
                _ = try folder.open(name, [.writeOnly, .create, .exclusive, .noFollow])
                try folder.removeFile(name)
            } catch {
                throw AegisError(
                    .usage, "artifact-place", "'\(path)' cannot take artifacts: \(error)",
                    hint: "name a folder that you can write to, or one that can be made")
            }
        }
    }
}
