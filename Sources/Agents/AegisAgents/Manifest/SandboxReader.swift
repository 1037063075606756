internal import AegisCapabilities
internal import AegisConfig
internal import AegisCore
internal import AegisSandboxTypes

/// Reads the `sandbox` block of a manifest (decision D46).
enum SandboxReader {
    /// The isolations that there are, whichever of them this node has.
    private static let isolations = ["auto", "qemu", "firecracker", "runsc", "runc", "crun", "docker"]

    /// Reads the block.
    ///
    /// - Parameters:
    ///   - reader: its keys.
    ///   - capabilities: what the manifest asks for: a mount shows no more.
    /// - Returns: what it says; what is wrong with it is reported to the reader.
    static func read(_ reader: ConfigReader, _ capabilities: [GrantSpec]) -> AgentManifest.Sandbox {
        var sandbox = AgentManifest.Sandbox()
        sandbox.image = reader.readIfPresent("image") { $0.isEmpty ? "is empty" : nil }
        sandbox.kit = reader.readIfPresent("kit") { $0.isEmpty ? "is empty" : nil }
        if sandbox.image != nil, sandbox.kit != nil {
            reader.report("image and kit are both given; a kit has an image")
        }
        sandbox.isolation = reader.readIfPresent("isolation") { word in
            guard !isolations.contains(word) else { return nil }
            let near = nearest(word, in: isolations).map { "; did you mean '\($0)'?" } ?? ""
            return "must be one of \(isolations.joined(separator: ", "))\(near)"
        }
        sandbox.minIsolation = reader.readIfPresent("min_isolation") { text in
            ManifestReader.problem { () throws(AegisError) in _ = try Grade(parsing: text) }
        }
        sandbox.limits = reader.section("limits") { limits in
            let value = AegisSandboxTypes.Limits(
                cpus: limits.readIfPresent("cpus"), memory: limits.readIfPresent("memory"),
                disk: limits.readIfPresent("disk"), pids: limits.readIfPresent("pids"))
            if let wrong = ManifestReader.problem({ () throws(AegisError) in try value.validate() }) {
                limits.report("limits \(wrong)")
            }
            return value
        }
        let view = FileView(capabilities.filter { $0.limits == .none }.map(\.capability))
        sandbox.mounts = reader.readList("mounts", of: String.self) { problem(ofMount: $0, view) }
            .compactMap { try? MountSpec(parsing: $0) }
        sandbox.idle = reader.readIfPresent("idle", as: TimeSpan.self) { span in
            ManifestReader.problem { () throws(AegisError) in try IdlePolicy(stop: span).validate() }
        }
        return sandbox
    }

    /// A mount gives a granted folder another name inside, and nothing that is not granted.
    private static func problem(ofMount text: String, _ view: FileView) -> String? {
        if let wrong = ManifestReader.problem({ () throws(AegisError) in
            try MountSpec(parsing: text).validateTarget()
        }) {
            return wrong
        }
        guard let mount = try? MountSpec(parsing: text) else { return nil }
        guard let source = CanonicalPath(mount.source) else {
            return "is wrong: '\(mount.source)' is not a plain absolute path of the host"
        }
        guard !mount.source.hasPrefix("/workspace"), mount.target != "/workspace",
            !mount.target.hasPrefix("/workspace/")
        else { return "is wrong: /workspace is mounted as it is granted" }
        let trees = view.mounts.filter { source.isWithin($0.path) }
        guard !trees.isEmpty else {
            return "is wrong: '\(mount.source)' is not granted: add 'file_read: \(mount.source)/**' to capabilities"
        }
        guard mount.readOnly || trees.contains(where: \.isWritable) else {
            return
                "is wrong: '\(mount.source)' is granted for reading: add 'file_write: \(mount.source)/**' to capabilities"
        }
        return nil
    }
}
