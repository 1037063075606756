import AegisChannel
import AegisCore
import AegisSandboxTypes

/// Turns what is known about a sandbox into the plan that its keeper carries out. No I/O.
struct BootPlanner {
    /// A mount without its descriptor.
    struct Mount {
        var target: String
        var readOnly: Bool
        var isDirectory: Bool
        var ownership: BootMount.Ownership
    }
    var id: String
    var layout: RunLayout
    var config: OCIConfig
    var layerCount: Int
    /// Whether the writable layer has never been used: what the image has of our files is replaced.
    var isNewLayer: Bool
    /// Whether the writable layer goes with the sandbox, so that nobody needs it on the disk.
    var isEphemeral: Bool
    var mounts: [Mount]
    /// First of the host ids that stand on disk for "some other user of the sandbox" in folders of host users.
    var reservedBase: UInt32
    /// The runtime's command line.
    var runtime: [String]
    /// `cgroup.procs` files that the runtime joins; empty where the runtime manages cgroups itself.
    var cgroupProcs: [String]
    var deadline: Duration
}

extension BootPlanner {
    /// The keeper's descriptor of the first mount source; the sources are the writable layer, the harness, the image's
    /// layers, then the mounts.
    static let firstSource: UInt16 = 5

    /// The plan.
    ///
    /// - Throws: `not-idmappable` when a mount's owner cannot be told from the ids that stand for other users.
    func plan() throws(AegisError) -> BootPlan {
        let count = OCIConfig.idCount
        let own = [IDRange(inside: 0, outside: config.idBase, count: count)]
        // The overlay itself works in the writable layer as the host's root, which on disk is an id no sandbox has.
        let writable = own + [IDRange(inside: count, outside: 0, count: 1)]
        var maps = [IDMap(uids: own, gids: own), IDMap(uids: writable, gids: writable)]
        var steps: [MountStep] = [
            .bind(source: Self.firstSource + 1, target: Array(layout.harness.utf8), readOnly: true),
            .idmapped(source: Self.firstSource, map: 1, target: Array(layout.writable.utf8), readOnly: false),
        ]
        var source = Self.firstSource + 2
        for index in 0..<layerCount {
            steps.append(.idmapped(source: source, map: 0, target: Array(layout.layer(index).utf8), readOnly: true))
            source += 1
        }
        steps.append(
            .overlay(
                lower: (0..<layerCount).map { Array(layout.layer($0).utf8) },
                upper: Array((layout.writable + "/upper").utf8), work: Array((layout.writable + "/work").utf8),
                target: Array(layout.root.utf8), isVolatile: isEphemeral))
        steps += ownFiles()
        steps += targetChecks()
        for (index, mount) in mounts.enumerated() {
            let entry = try map(of: mount) ?? maps[0]
            let known = maps.firstIndex(of: entry) ?? maps.count
            if known == maps.count { maps.append(entry) }
            steps.append(
                .idmapped(
                    source: source, map: UInt16(known), target: Array(layout.mount(index).utf8),
                    readOnly: mount.readOnly))
            source += 1
        }
        return BootPlan(
            uids: own, gids: own, maps: maps, mounts: steps, entry: config.kind == .namespaces ? .byPath : .inside,
            runtime: runtime.map { Array($0.utf8) },
            environment: [Array("PATH=\(OCIRuntime.searchPath)".utf8)], configPath: Array(layout.config.utf8),
            config: config.encoded(), pidFile: Array(layout.pidFile.utf8),
            cgroupProcs: cgroupProcs.map { Array($0.utf8) },
            deadline: UInt32(clamping: deadline.milliseconds))
    }

    /// The ids of a mount; nil for id by id.
    private func map(of mount: Mount) throws(AegisError) -> IDMap? {
        switch mount.ownership {
        case .managed: nil
        case .exchanged(let uid, let gid, let insideUID, let insideGID):
            IDMap(
                uids: try exchangeMap(owner: uid, inside: insideUID),
                gids: try exchangeMap(owner: gid, inside: insideGID))
        case .host(let uid, let gid, let insideUID, let insideGID, let others):
            IDMap(
                uids: try hostMap(owner: uid, inside: insideUID, others: others, target: mount.target),
                gids: try hostMap(owner: gid, inside: insideGID, others: others, target: mount.target))
        }
    }

    /// The ids of a folder of Aegis's own where two of the sandbox's ids are each other. Every id is mapped, so that root
    /// inside can give files to anybody.
    func exchangeMap(owner: UInt32, inside: UInt32) throws(AegisError) -> [IDRange] {
        let (count, base) = (OCIConfig.idCount, config.idBase)
        for id in [owner, inside] where id >= count {
            throw .usage("user or group \(id) is outside the sandbox's ids", hint: "use an id below \(count)")
        }
        guard owner != inside else { return [IDRange(inside: 0, outside: base, count: count)] }
        let (low, high) = (min(owner, inside), max(owner, inside))
        return [
            IDRange(inside: 0, outside: base, count: low),
            IDRange(inside: low, outside: base + high, count: 1),
            IDRange(inside: low + 1, outside: base + low + 1, count: high - low - 1),
            IDRange(inside: high, outside: base + low, count: 1),
            IDRange(inside: high + 1, outside: base + high + 1, count: count - high - 1),
        ].filter { $0.count > 0 }
    }

    /// `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` are in the writable layer: the sandbox may change them, and its limits hold for them. A
    /// mount of the user's in their place, or of all of `/etc`, is used as it is.
    private func ownFiles() -> [MountStep] {
        let taken = mounts.map { Self.components($0.target) }
        let name = config.hostname
        return [
            ("hosts", "127.0.0.1\tlocalhost \(name)\n::1\tlocalhost ip6-localhost\n"), ("hostname", name + "\n"),
            // The same in every sandbox, so that a network can be opened later; without one it leads nowhere.
            ("resolv.conf", ResolverFile.content),
        ]
        .filter { file, _ in !taken.contains(["etc"]) && !taken.contains(["etc", file]) }
        .map { file, content in
            .placeFile(
                root: Array(layout.root.utf8), path: Array("/etc/\(file)".utf8), content: Array(content.utf8),
                replace: isNewLayer)
        }
    }

    /// A folder cannot be mounted over a file of the image, nor a file over a folder: said here in words of ours. What lies
    /// in another mount, or in what is in memory, is not in the image.
    private func targetChecks() -> [MountStep] {
        let targets = mounts.map { Self.components($0.target) }
        let covering = targets + [["tmp"], ["run"]]
        return zip(mounts, targets)
            .filter { _, target in
                !covering.contains { $0.count < target.count && target.starts(with: $0) }
            }
            .map { mount, target in
                .expect(
                    root: Array(layout.root.utf8), path: Array("/\(target.joined(separator: "/"))".utf8),
                    isDirectory: mount.isDirectory)
            }
    }

    private static func components(_ path: String) -> [String] { path.split(separator: "/").map(String.init) }

    /// The ids of a host user's folder: its owner is `inside` in the sandbox, every other user of the sandbox has an id of the
    /// node's reserved range there (decision D17). Ids that are neither are nobody's inside.
    ///
    /// Root inside has rights over every file whose ids are mapped. The reserved range is shared by all sandboxes of the node:
    /// a caller that is not root gets it nowhere (`others` is false), else it could change in a folder that it may merely
    /// enter what other callers' sandboxes left there.
    func hostMap(owner: UInt32, inside: UInt32, others: Bool, target: String) throws(AegisError) -> [IDRange] {
        let count = OCIConfig.idCount
        guard inside < count else {
            throw .usage("user or group \(inside) is outside the sandbox's ids", hint: "use an id below \(count)")
        }
        guard owner < reservedBase || owner - reservedBase >= count else {
            throw AegisError(
                .failed, "not-idmappable",
                "the folder for \(target) belongs to id \(owner), which stands for a sandbox's users on this node",
                hint: "give the folder to another owner")
        }
        let base = config.idBase
        guard others else { return [IDRange(inside: owner, outside: base + inside, count: 1)] }
        return [
            IDRange(inside: reservedBase, outside: base, count: inside),
            IDRange(inside: owner, outside: base + inside, count: 1),
            IDRange(inside: reservedBase + inside + 1, outside: base + inside + 1, count: count - inside - 1),
        ].filter { $0.count > 0 }
    }
}

extension Duration {
    /// Whole milliseconds, rounded towards zero.
    var milliseconds: Int64 { components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000 }
}
