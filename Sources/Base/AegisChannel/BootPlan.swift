/// One range of an id mapping: `count` ids from `inside` on are the host's ids from `outside` on.
package struct IDRange: Sendable, Equatable {
    package var inside: UInt32
    package var outside: UInt32
    package var count: UInt32
    /// Makes a range.
    package init(inside: UInt32, outside: UInt32, count: UInt32) {
        self.inside = inside
        self.outside = outside
        self.count = count
    }
}

/// How the ids on disk of a mounted tree relate to ids of the host: users and groups apart, because a folder's owner and
/// its group rarely have the same number.
package struct IDMap: Sendable, Equatable {
    package var uids: [IDRange]
    package var gids: [IDRange]
    /// Makes a map.
    package init(uids: [IDRange], gids: [IDRange]) {
        self.uids = uids
        self.gids = gids
    }
}

/// One step by which a keeper builds the sandbox's files, in its own mount namespace.
///
/// Paths are absolute paths on the host; sources that a user named come as descriptors, opened beforehand as that user.
package enum MountStep: Sendable, Equatable {
    /// Clone the tree at descriptor `source`, idmapped by entry `map` of the plan's maps, and attach it at `target`.
    case idmapped(source: UInt16, map: UInt16, target: [UInt8], readOnly: Bool)
    /// Bind descriptor `source` (a folder or file) at `target`.
    case bind(source: UInt16, target: [UInt8], readOnly: Bool)
    /// Mount an overlay; `lower` is ordered top to bottom. A volatile one is never synced, neither by `fsync` inside nor at its
    /// end, where the kernel would else wait for all that the whole file system below has not written yet.
    case overlay(lower: [[UInt8]], upper: [UInt8], work: [UInt8], target: [UInt8], isVolatile: Bool = false)
    /// Make a folder (and its missing parents) owned by the sandbox's root; existing is fine.
    case makeDirectory([UInt8])
    /// Make an empty file as a mount point, owned by the sandbox's root; existing is fine.
    case makeFile([UInt8])
    /// Place a small file of the sandbox's root at `path` below the mounted `root`, with links resolved inside of that. What
    /// is there already stays, unless it is an empty file or `replace` is set; a file that cannot be placed is only logged.
    case placeFile(root: [UInt8], path: [UInt8], content: [UInt8], replace: Bool)
    /// Refuse what lies at `path` below `root`, links resolved inside of that, if it is of another kind than what will be
    /// mounted there.
    case expect(root: [UInt8], path: [UInt8], isDirectory: Bool)
}

/// How the runtime is started.
package enum RuntimeEntry: UInt8, Sendable {
    /// In the host's namespaces; its configuration names the keeper's namespaces by path (runc, crun).
    case byPath = 0
    /// Inside the keeper's user and network namespace and a fresh mount namespace (runsc).
    case inside = 1
}

/// Everything that a keeper needs to make a sandbox; the payload of `boot`.
package struct BootPlan: Sendable, Equatable {
    /// The protocol version of the daemon that wrote the plan.
    package var version: UInt16 = Channel.version
    /// The user namespace of the sandbox is made with these.
    package var uids: [IDRange]
    package var gids: [IDRange]
    /// Further mappings, for idmapped mounts; entry 0 stands for the sandbox's own.
    package var maps: [IDMap]
    package var mounts: [MountStep]
    package var entry: RuntimeEntry
    /// argv of the runtime; argv[0] is an absolute path. `@USERNS@` and `@NETNS@` in config.json are replaced (see `configPath`).
    package var runtime: [[UInt8]]
    package var environment: [[UInt8]]
    /// config.json of the bundle: the keeper writes it, with `@USERNS@`, `@NETNS@` replaced by the paths of its namespaces.
    package var configPath: [UInt8]
    package var config: [UInt8]
    /// The file in which the runtime leaves the pid of the sandbox's first process.
    package var pidFile: [UInt8]
    /// `cgroup.procs` files that the runtime's process joins before it is executed.
    package var cgroupProcs: [[UInt8]]
    /// Milliseconds until the harness must have said hello.
    package var deadline: UInt32

    /// Makes a plan.
    package init(
        uids: [IDRange], gids: [IDRange], maps: [IDMap], mounts: [MountStep], entry: RuntimeEntry,
        runtime: [[UInt8]],
        environment: [[UInt8]], configPath: [UInt8], config: [UInt8], pidFile: [UInt8], cgroupProcs: [[UInt8]],
        deadline: UInt32
    ) {
        self.uids = uids
        self.gids = gids
        self.maps = maps
        self.mounts = mounts
        self.entry = entry
        self.runtime = runtime
        self.environment = environment
        self.configPath = configPath
        self.config = config
        self.pidFile = pidFile
        self.cgroupProcs = cgroupProcs
        self.deadline = deadline
    }
}

extension BootPlan {
    /// The payload of a `boot` frame.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u16(version)
        w.ranges(uids)
        w.ranges(gids)
        w.u16(UInt16(truncatingIfNeeded: maps.count))
        for map in maps {
            w.ranges(map.uids)
            w.ranges(map.gids)
        }
        w.u16(UInt16(truncatingIfNeeded: mounts.count))
        for step in mounts { w.step(step) }
        w.u8(entry.rawValue)
        w.texts(runtime)
        w.texts(environment)
        w.text(configPath)
        w.text(config)
        w.text(pidFile)
        w.texts(cgroupProcs)
        w.u32(deadline)
        return w.bytes
    }

    /// Reads the payload of a `boot` frame.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .boot)
        let version = try r.u16()
        guard version >= Channel.oldestVersion else { throw ChannelError.version(version) }
        self.version = version
        uids = try r.ranges()
        gids = try r.ranges()
        let mapCount = Int(try r.u16())
        maps = []
        for _ in 0..<mapCount { maps.append(IDMap(uids: try r.ranges(), gids: try r.ranges())) }
        let stepCount = Int(try r.u16())
        mounts = []
        for _ in 0..<stepCount { mounts.append(try r.step()) }
        guard let entry = RuntimeEntry(rawValue: try r.u8()) else {
            throw ChannelError.malformed(type: FrameType.boot.rawValue)
        }
        self.entry = entry
        runtime = try r.texts()
        environment = try r.texts()
        configPath = try r.text()
        config = try r.text()
        pidFile = try r.text()
        cgroupProcs = try r.texts()
        deadline = try r.u32()
        guard !runtime.isEmpty else { throw ChannelError.malformed(type: FrameType.boot.rawValue) }
    }
}

extension FieldWriter {
    mutating func ranges(_ ranges: [IDRange]) {
        u16(UInt16(truncatingIfNeeded: ranges.count))
        for range in ranges {
            u32(range.inside)
            u32(range.outside)
            u32(range.count)
        }
    }
    mutating func step(_ step: MountStep) {
        switch step {
        case .idmapped(let source, let map, let target, let readOnly):
            u8(0)
            u16(source)
            u16(map)
            text(target)
            u8(readOnly ? 1 : 0)
        case .bind(let source, let target, let readOnly):
            u8(1)
            u16(source)
            text(target)
            u8(readOnly ? 1 : 0)
        case .overlay(let lower, let upper, let work, let target, let isVolatile):
            u8(2)
            texts(lower)
            text(upper)
            text(work)
            text(target)
            u8(isVolatile ? 1 : 0)
        case .makeDirectory(let path):
            u8(3)
            text(path)
        case .makeFile(let path):
            u8(4)
            text(path)
        case .placeFile(let root, let path, let content, let replace):
            u8(5)
            text(root)
            text(path)
            text(content)
            u8(replace ? 1 : 0)
        case .expect(let root, let path, let isDirectory):
            u8(6)
            text(root)
            text(path)
            u8(isDirectory ? 1 : 0)
        }
    }
}

extension FieldReader {
    mutating func ranges() throws(ChannelError) -> [IDRange] {
        let count = Int(try u16())
        var ranges: [IDRange] = []
        for _ in 0..<count { ranges.append(IDRange(inside: try u32(), outside: try u32(), count: try u32())) }
        return ranges
    }
    mutating func step() throws(ChannelError) -> MountStep {
        switch try u8() {
        case 0: .idmapped(source: try u16(), map: try u16(), target: try text(), readOnly: try u8() != 0)
        case 1: .bind(source: try u16(), target: try text(), readOnly: try u8() != 0)
        case 2:
            .overlay(
                lower: try texts(), upper: try text(), work: try text(), target: try text(), isVolatile: try u8() != 0)
        case 3: .makeDirectory(try text())
        case 4: .makeFile(try text())
        case 5: .placeFile(root: try text(), path: try text(), content: try text(), replace: try u8() != 0)
        case 6: .expect(root: try text(), path: try text(), isDirectory: try u8() != 0)
        default: throw ChannelError.malformed(type: FrameType.boot.rawValue)
        }
    }
}
