package import AegisCapabilities
package import AegisCore
package import AegisSandboxTypes

/// What the sandbox of an agent is: the block of its manifest, and what its grants let programs see and reach (decisions D1, D46).
package struct SandboxPlan: Sendable, Codable, Equatable {
    package var image: String?
    package var kit: String?
    package var isolation: String?
    package var minIsolation: String?
    package var limits: AegisSandboxTypes.Limits
    package var idle: TimeSpan
    /// What is visible of the workspace.
    package var workspace: [AgentPlaces.Part]
    /// What is visible of the host.
    package var mounts: [MountSpec]
    /// What it may connect to.
    package var network: [String]
    /// Each of its network grants with its limits, where any has some or two say the same; nil where `network` says it all. The
    /// instance's grants are derived from its owner's: who has other limits has another sandbox, and one more or less is a change.
    package var allowances: [String]?
    /// From when on it sees or reaches less, because a grant ends.
    package var ends: Timestamp?

    /// How long a sandbox stays up unused where the manifest says nothing.
    package static let usualIdle = TimeSpan.seconds(300)
    /// Folders of an image that no grant of a host's folder hides: programs could not be started any more.
    private static let ofTheImage: Set<String> = [
        "/", "/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/root", "/run", "/sbin", "/tmp", "/usr", "/var",
    ]

    /// Derives the plan.
    ///
    /// Grants that count uses are left to the tools, for nobody counts what a program does with a mounted folder. So are grants
    /// narrower than a whole tree, and those whose folder would hide the image's own.
    ///
    /// - Parameters:
    ///   - block: the manifest's, of the agent at the top of the tree.
    ///   - set: the agent's grants.
    ///   - now: which of them have ended.
    package init(_ block: AgentManifest.Sandbox, _ set: GrantSet, at now: Timestamp) {
        (image, kit, isolation, minIsolation) = (block.image, block.kit, block.isolation, block.minIsolation)
        (limits, idle) = (block.limits, block.idle ?? Self.usualIdle)
        let held = set.grants.filter { held in
            held.standing.revoked == nil && held.standing.expires.map { $0 > now } ?? true
        }
        let counted: (GrantSet.Held) -> Bool = { $0.terms.limits != .none }
        let files = held.filter { !counted($0) && [.fileRead, .fileWrite].contains($0.terms.capability.kind) }
        let capabilities = files.map(\.terms.capability)
        let view = FileView(capabilities + Self.workspace(of: capabilities)) { path in
            !Self.ofTheImage.contains(path.description) && set.protected.refusal(of: path) == nil
                && !set.protected.closed.contains { $0.isWithin(path) }
        }
        (workspace, mounts) = ([], [])
        for mount in view.mounts {
            let path = mount.path.description
            if path == "/workspace" || path.hasPrefix("/workspace/") {
                workspace.append(.init(path: String(path.dropFirst(11)), readOnly: !mount.isWritable))
            } else {
                let spec = MountSpec(source: path, target: path, readOnly: !mount.isWritable)
                if (try? spec.validateTarget()) != nil { mounts.append(spec) }
            }
        }
        mounts += Self.granted(block.mounts, FileView(capabilities), besides: mounts)
        // What is granted to tools only is not granted to programs.
        let places = held.filter { held in
            if case .network(let pattern) = held.terms.capability { pattern.tools.isEmpty } else { false }
        }
        network = Set(places.map(\.terms.capability.resource)).sorted()
        if places.count > network.count || places.contains(where: counted) {
            allowances = places.map { "\($0.terms.capability.resource)\(Self.text(of: $0.terms.limits))" }.sorted()
        }
        ends = (files + places).compactMap(\.standing.expires).min()
    }

    private static func text(of limits: AegisCapabilities.Limits) -> String {
        let parts: [(String, UInt64?)] = [
            ("calls", limits.maxCalls), ("a minute", limits.perMinute.map { UInt64($0) }), ("bytes", limits.maxBytes),
        ]
        return parts.compactMap { name, count in count.map { ", \($0) \(name)" } }.joined()
    }

    /// The workspace is a part of what covers every file, which itself is no mount.
    private static func workspace(of capabilities: [Capability]) -> [Capability] {
        capabilities.compactMap { capability in
            switch capability {
            case .fileRead(let pattern), .fileWrite(let pattern):
                guard pattern.tree?.description == "/" else { return nil }
                return try? Capability(parsing: "\(capability.kind.rawValue): /workspace/**")
            default: return nil
            }
        }
    }

    /// The mounts of the manifest as far as the grants have them.
    private static func granted(_ wanted: [MountSpec], _ view: FileView, besides mounts: [MountSpec]) -> [MountSpec] {
        wanted.compactMap { mount in
            guard let source = CanonicalPath(mount.source), !mounts.contains(where: { $0.target == mount.target }),
                let tree = view.mounts.filter({ source.isWithin($0.path) }).max(by: { !$0.isWritable && $1.isWritable })
            else { return nil }
            return MountSpec(source: mount.source, target: mount.target, readOnly: mount.readOnly || !tree.isWritable)
        }
    }

    /// What it shows and reaches, for whoever wonders why something failed.
    package var summary: [String] {
        let shown =
            workspace.map { part in
                let name = part.path.isEmpty ? "/workspace" : "/workspace/\(part.path)"
                return "\(name) (\(part.readOnly ? "read only" : "read and write"))"
            }
            + mounts.map { "\($0.target) (\($0.readOnly ? "read only" : "read and write"))" }
        return [
            "files: " + (shown.isEmpty ? "none of the workspace or the host" : shown.joined(separator: ", ")),
            "network: " + (network.isEmpty ? "none" : network.joined(separator: ", ")),
        ]
    }
}
