import CLinux

/// Writes the entries of one layer into one directory, by descriptor, so that nothing is ever made outside of it or
/// through a link at the last component.
///
/// Paths are real paths below the directory: lists of plain components. A link among the parents is followed as if the
/// directory were the root of the file system; the last component is replaced, never followed.
struct TreeWriter: ~Copyable {
    private let root: Int32
    /// The directory of the entry before: entries mostly come directory by directory.
    private var cached: (path: [UInt8], handle: Int32)?
    /// Directories that no entry has described yet.
    private(set) var implicit: Set<[UInt8]> = []
    private var directoryTimes: [(path: [UInt8], seconds: Int64, nanoseconds: Int64)] = []

    /// The longest real path, in bytes.
    static let longestPath = 4096
    /// The most links that are followed for one path.
    static let mostLinks = 40

    /// Takes the directory to write into; it stays the caller's.
    init(root: Int32) { self.root = root }

    deinit { if let cached { al_tree_close(cached.handle) } }

    /// Owner, rights and time of an entry.
    struct Attributes {
        var uid: UInt32
        var gid: UInt32
        var mode: UInt32
        var seconds: Int64
        var nanoseconds: Int64
    }

    /// A directory that is there, and its real path. The descriptor is valid until the next call.
    struct Place {
        let descriptor: Int32
        let path: [UInt8]
        /// The path of an entry in this directory.
        func child(_ name: [UInt8]) -> [UInt8] { path.isEmpty ? name : path + [0x2f] + name }
    }

    /// Opens the directory of an entry, making what is missing of it.
    mutating func parent(_ components: ArraySlice<[UInt8]>) throws(HelperFailure) -> Place {
        let path = Array(components.joined(separator: [0x2f]))
        if let cached, cached.path == path { return Place(descriptor: cached.handle, path: path) }
        let direct =
            path.count < Self.longestPath ? unsafe al_tree_open_directory(root, cString(path), AL_TREE_NO_LINKS) : -1
        if direct >= 0 { return remember(direct, path) }
        let (handle, real) = try walk(components)
        return remember(handle, real)
    }

    private mutating func remember(_ handle: Int32, _ path: [UInt8]) -> Place {
        forget()
        cached = (path, handle)
        return Place(descriptor: handle, path: path)
    }

    private mutating func forget() {
        if let cached { al_tree_close(cached.handle) }
        cached = nil
    }

    /// Goes down component by component; follows links within the tree and makes missing directories.
    private mutating func walk(_ components: ArraySlice<[UInt8]>) throws(HelperFailure) -> (Int32, [UInt8]) {
        var pending = Array(components.reversed())
        var real: [[UInt8]] = []
        var links = 0
        var current = Handle(try open([]))
        while let name = pending.popLast() {
            if name == [0x2e, 0x2e] {
                _ = real.popLast()
                current = Handle(try open(real))
                continue
            }
            let below = real + [name]
            let written = cString(name)
            var info = al_tree_info()
            let found = unsafe al_tree_stat(current.raw, written, &info)
            if found == -HelperFailure.noEntry {
                try checkLength(below)
                try checked(unsafe al_tree_make_directory(current.raw, written, 0o755), "making a directory")
                try checked(unsafe al_tree_chmod(current.raw, written, 0o755), "making a directory")
                implicit.insert(Array(below.joined(separator: [0x2f])))
            } else if found < 0 {
                throw HelperFailure(errno: -found, "looking at '\(shown(name))'")
            } else if info.mode & Self.kindMask == Self.linkKind {
                links += 1
                guard links <= Self.mostLinks else {
                    throw HelperFailure("corrupt-layer", "too many links in a path of the layer")
                }
                let target = try target(of: name, in: current.raw)
                pending.append(contentsOf: Self.components(of: target, keepingUp: true).reversed())
                if target.first == 0x2f {
                    real = []
                    current = Handle(try open([]))
                }
                continue
            } else if info.mode & Self.kindMask != Self.directoryKind {
                throw HelperFailure(
                    "corrupt-layer",
                    "an entry of the layer lies in '\(shown(below.joined(separator: [0x2f])))', which is no directory")
            }
            try checkLength(below)
            let next = unsafe al_tree_open_directory(current.raw, written, AL_TREE_NO_LINKS)
            current = Handle(try checked(next, "opening '\(shown(name))'"))
            real = below
        }
        return (current.take(), Array(real.joined(separator: [0x2f])))
    }

    private func open(_ real: [[UInt8]]) throws(HelperFailure) -> Int32 {
        try checkLength(real)
        let path = Array(real.joined(separator: [0x2f]))
        return try checked(
            unsafe al_tree_open_directory(root, cString(path), AL_TREE_NO_LINKS), "opening '\(shown(path))'")
    }

    private func checkLength(_ path: [[UInt8]]) throws(HelperFailure) {
        guard path.reduce(path.count, { $0 + $1.count }) < Self.longestPath else {
            throw HelperFailure("corrupt-layer", "a path of the layer is longer than \(Self.longestPath) bytes")
        }
    }

    private func target(of name: [UInt8], in directory: Int32) throws(HelperFailure) -> [UInt8] {
        var buffer = [CChar](repeating: 0, count: 4096)
        let size = try checked(
            unsafe al_tree_readlink(directory, cString(name), &buffer, buffer.count), "reading a link")
        return buffer[..<size].map { UInt8(bitPattern: $0) }
    }

    /// The plain components of a path; `..` is kept where a link says so and refused where an entry does.
    static func components(of path: some Sequence<UInt8>, keepingUp: Bool) -> [[UInt8]] {
        Array(path).split(separator: 0x2f).map(Array.init).filter { $0 != [0x2e] && (keepingUp || $0 != [0x2e, 0x2e]) }
    }

    static let kindMask: UInt32 = 0o170000
    static let directoryKind: UInt32 = 0o040000
    static let linkKind: UInt32 = 0o120000
}

// The kinds of entries. Each replaces what an earlier entry of the same path made.
extension TreeWriter {
    /// Makes a directory, or gives one that is there these attributes; returns its descriptor for more attributes.
    mutating func directory(_ name: [UInt8], in place: Place, _ attributes: Attributes) throws(HelperFailure) -> Handle
    {
        let path = place.child(name)
        let made = unsafe al_tree_make_directory(place.descriptor, cString(name), 0o700)
        if made == -HelperFailure.exists {
            var info = al_tree_info()
            try checked(unsafe al_tree_stat(place.descriptor, cString(name), &info), "looking at '\(shown(path))'")
            if info.mode & Self.kindMask != Self.directoryKind {
                try checked(unsafe al_tree_unlink(place.descriptor, cString(name)), "replacing '\(shown(path))'")
                try checked(
                    unsafe al_tree_make_directory(place.descriptor, cString(name), 0o700), "making '\(shown(path))'")
            }
        } else {
            try checked(made, "making '\(shown(path))'")
        }
        let flags = AL_TREE_NO_LINKS
        let handle = Handle(
            try checked(
                unsafe al_tree_open_directory(place.descriptor, cString(name), flags), "opening '\(shown(path))'"))
        try describe(handle.raw, attributes, path)
        implicit.remove(path)
        directoryTimes.append((path, attributes.seconds, attributes.nanoseconds))
        return handle
    }

    /// Gives the top directory its attributes.
    mutating func top(_ attributes: Attributes) throws(HelperFailure) {
        try describe(root, attributes, [])
        directoryTimes.append(([], attributes.seconds, attributes.nanoseconds))
    }

    /// Makes an empty file; `finish` it after its content.
    mutating func file(_ name: [UInt8], in place: Place) throws(HelperFailure) -> Handle {
        var made = unsafe al_tree_create(place.descriptor, cString(name))
        if made == -HelperFailure.exists {
            try clear(name, in: place)
            made = unsafe al_tree_create(place.descriptor, cString(name))
        }
        return Handle(try checked(made, "creating '\(shown(place.child(name)))'"))
    }

    /// Gives a file its owner and rights; call `setTime` last.
    func describe(_ descriptor: Int32, _ attributes: Attributes, _ path: [UInt8]) throws(HelperFailure) {
        // The owner first: changing it clears setuid, setgid and file capabilities.
        try checked(
            al_tree_chown_fd(descriptor, attributes.uid, attributes.gid), "setting the owner of '\(shown(path))'")
        try checked(al_tree_chmod_fd(descriptor, attributes.mode & 0o7777), "setting the mode of '\(shown(path))'")
    }

    /// Makes a link that holds `target` as it is.
    mutating func symbolicLink(_ name: [UInt8], to target: [UInt8], in place: Place, _ attributes: Attributes)
        throws(HelperFailure)
    {
        try clear(name, in: place)
        let path = place.child(name)
        try checked(
            unsafe al_tree_symlink(cString(target), place.descriptor, cString(name)), "making the link '\(shown(path))'"
        )
        try setOwnerAndTime(name, in: place, attributes)
    }

    /// Makes a named pipe.
    mutating func fifo(_ name: [UInt8], in place: Place, _ attributes: Attributes) throws(HelperFailure) {
        try clear(name, in: place)
        try checked(
            unsafe al_tree_make_fifo(place.descriptor, cString(name), 0o600), "making '\(shown(place.child(name)))'")
        try setOwnerAndTime(name, in: place, attributes)
        try checked(unsafe al_tree_chmod(place.descriptor, cString(name), attributes.mode & 0o7777), "setting a mode")
    }

    /// Makes a second name of a file that this layer has.
    mutating func hardLink(_ components: [[UInt8]], to target: [[UInt8]]) throws(HelperFailure) {
        guard let name = components.last, let old = target.last else {
            throw HelperFailure("corrupt-layer", "a hard link without a name")
        }
        let oldPlace = try parent(target.dropLast())
        let oldPath = oldPlace.child(old)
        let from = Handle(
            try checked(
                unsafe al_tree_open_directory(oldPlace.descriptor, cString([]), AL_TREE_NO_LINKS), "opening a directory"
            ))
        var info = al_tree_info()
        guard unsafe al_tree_stat(from.raw, cString(old), &info) == 0, info.mode & Self.kindMask != Self.directoryKind
        else {
            throw HelperFailure(
                "corrupt-layer",
                "the hard link '\(shown(components.joined(separator: [0x2f])))' leads to no file of its layer")
        }
        let place = try parent(components.dropLast())
        guard place.child(name) != oldPath else { return }
        try clear(name, in: place)
        try checked(
            unsafe al_tree_link(from.raw, cString(old), place.descriptor, cString(name)),
            "making the hard link '\(shown(place.child(name)))'")
    }

    /// Removes what is at a name, with all below it.
    private mutating func clear(_ name: [UInt8], in place: Place) throws(HelperFailure) {
        let path = place.child(name)
        var info = al_tree_info()
        guard unsafe al_tree_stat(place.descriptor, cString(name), &info) == 0 else { return }
        try checked(unsafe al_tree_remove(place.descriptor, cString(name)), "replacing '\(shown(path))'")
        guard info.mode & Self.kindMask == Self.directoryKind else { return }
        let prefix = path + [0x2f]
        implicit = implicit.filter { $0 != path && !$0.starts(with: prefix) }
        directoryTimes.removeAll { $0.path == path || $0.path.starts(with: prefix) }
    }

    private func setOwnerAndTime(_ name: [UInt8], in place: Place, _ attributes: Attributes) throws(HelperFailure) {
        try checked(
            unsafe al_tree_chown(place.descriptor, cString(name), attributes.uid, attributes.gid), "setting an owner")
        try checked(
            unsafe al_tree_set_time(place.descriptor, cString(name), attributes.seconds, attributes.nanoseconds),
            "setting a time")
    }

    /// What is at a path now: its kind bits, or nil when nothing is there.
    func kind(_ path: [UInt8]) -> UInt32? {
        let components = Self.components(of: path, keepingUp: true)
        guard let name = components.last else { return Self.directoryKind }
        let above = Array(components.dropLast().joined(separator: [0x2f]))
        let opened = unsafe al_tree_open_directory(root, cString(above), AL_TREE_NO_LINKS)
        guard opened >= 0 else { return nil }
        let directory = Handle(opened)
        var info = al_tree_info()
        guard unsafe al_tree_stat(directory.raw, cString(name), &info) == 0 else { return nil }
        return info.mode & Self.kindMask
    }

    /// Sets the times of directories, which every entry made in them has changed.
    mutating func setDirectoryTimes() throws(HelperFailure) {
        forget()
        for (path, seconds, nanoseconds) in directoryTimes {
            let opened = unsafe al_tree_open_directory(root, cString(path), AL_TREE_NO_LINKS)
            guard opened >= 0 else { continue }  // a later entry replaced it
            let directory = Handle(opened)
            try checked(
                al_tree_set_time_fd(directory.raw, seconds, nanoseconds), "setting the time of '\(shown(path))'")
        }
        for path in implicit {
            // Times of directories that nobody described must not differ from one machine to the next.
            let opened = unsafe al_tree_open_directory(root, cString(path), AL_TREE_NO_LINKS)
            guard opened >= 0 else { continue }
            let directory = Handle(opened)
            try checked(al_tree_set_time_fd(directory.raw, 0, 0), "setting the time of '\(shown(path))'")
        }
    }
}
