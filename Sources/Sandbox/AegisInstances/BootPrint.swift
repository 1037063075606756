internal import AegisBackends
internal import AegisFiles
internal import AegisImages
internal import AegisSandboxTypes
internal import LinuxSys

/// Everything that the boot of a sandbox was made from: a start whose own is the same would boot the same sandbox.
///
/// Environment, command, secrets and network are no part of it: they come after the boot.
struct BootPrint: Sendable, Equatable {
    /// A folder or file of the host, by what it is and not by what it is called.
    struct Mount: Sendable, Equatable {
        var target: String
        var readOnly: Bool
        var isDirectory: Bool
        var ownership: BootMount.Ownership
        var device: UInt64
        var inode: UInt64
    }

    var backend: String
    var grade: Grade
    var runtime: GradeDetail
    /// The image's id.
    var image: String
    var layers: [String]
    var hostname: String
    var user: String
    var limits: AegisSandboxTypes.Limits
    var isEphemeral: Bool
    var allowsSetID: Bool
    var mounts: [Mount]

    init(_ spec: BootSpec, image: String, by choice: BackendChoice, mounts: [Mount]) {
        backend = choice.backend.name
        grade = choice.grade
        runtime = choice.detail
        // Why others were not chosen says nothing of this one.
        runtime.notChosen = [:]
        self.image = image
        layers = spec.layers
        hostname = spec.hostname
        user = spec.user
        limits = spec.limits
        // How long a command and its end may take is no matter of the sandbox.
        (limits.timeout, limits.grace) = (nil, nil)
        isEphemeral = spec.isEphemeral
        allowsSetID = spec.allowsSetID
        self.mounts = mounts
    }

    /// What differs, for the log; nil when nothing does.
    func difference(from other: BootPrint) -> String? {
        if (backend, grade, runtime) != (other.backend, other.grade, other.runtime) { return "the isolation" }
        if (image, layers) != (other.image, other.layers) { return "the image" }
        if user != other.user { return "the user" }
        if hostname != other.hostname { return "the host name" }
        if limits != other.limits { return "the limits" }
        if mounts != other.mounts { return "the workspace or a mount" }
        return self == other ? nil : "what it may do"
    }
}

extension BootPrint.Mount {
    init(_ mount: BootMount, of status: FileStatus) {
        self.init(
            target: mount.target, readOnly: mount.readOnly, isDirectory: mount.isDirectory, ownership: mount.ownership,
            device: status.device, inode: status.inode)
    }
}

/// What a start has found out and opened before it boots.
struct PreparedBoot: Sendable {
    var choice: BackendChoice
    var image: ResolvedImage
    var ids: (uid: UInt32, gid: UInt32)
    var spec: BootSpec
    var print: BootPrint
}
