import AegisCore
import CLinux
import LinuxSys

/// Restores what overlayfs would lose of directories that a layer holds without describing them.
///
/// Some tools write `home/user/file` without an entry for `home/user`. Unpacked, the directory gets plain attributes, and
/// as overlayfs takes a directory's owner and mode from the topmost layer that has it, those of the layer below would be
/// gone. Layers are stored by content and know nothing of their neighbours, so the cure is one small layer more on top,
/// which holds these directories with the attributes of the topmost layer that describes them.
struct AttributeLayer {
    /// One layer as it is stored.
    struct Layer {
        var digest: Digest
        var implicit: [[UInt8]]
    }
    /// A directory to be described anew.
    struct Entry: Equatable {
        var path: [UInt8]
        var mode: UInt32
        var uid: UInt32
        var gid: UInt32
        var seconds: Int64
        var nanoseconds: Int64
    }

    /// Finds the directories of a stack (bottom first) whose attributes are hidden by a layer that does not describe them.
    static func entries(_ stack: [Layer], open: (Digest) throws(AegisError) -> FileDescriptor) throws(AegisError)
        -> [Entry]
    {
        guard stack.dropFirst().contains(where: { !$0.implicit.isEmpty }) else { return [] }
        var trees: [OpenLayer] = []
        for layer in stack { trees.append(OpenLayer(try open(layer.digest))) }
        let implied = stack.map { Set($0.implicit) }
        var result: [Entry] = []
        for path in Set(stack.dropFirst().flatMap(\.implicit)).sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            if let entry = find(path, trees, implied) { result.append(entry) }
        }
        // A directory is described only together with those above it, or they would lose what they have.
        return try withParents(result, trees, implied)
    }

    /// An open layer that can be kept in an array.
    private final class OpenLayer {
        let descriptor: FileDescriptor
        init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
    }

    /// The attributes that a path should have, when the topmost layer that shows it does not describe it; nil otherwise.
    private static func find(_ path: [UInt8], _ trees: [OpenLayer], _ implied: [Set<[UInt8]>]) -> Entry? {
        var hidden = false
        for index in trees.indices.reversed() {
            let (info, stops) = look(path, trees[index].descriptor.raw)
            if let info {
                guard implied[index].contains(path) else { return hidden ? entry(path, info) : nil }
                hidden = true
            }
            if stops { return nil }
        }
        return nil
    }

    /// What one layer has at a path if it is a directory, and whether the layers below are hidden there.
    private static func look(_ path: [UInt8], _ tree: Int32) -> (al_tree_info?, Bool) {
        var opaque = false
        let components = path.split(separator: 0x2f).map(Array.init)
        for count in 1...max(1, components.count) {
            let part = Array(components.prefix(count).joined(separator: [0x2f]))
            let opened = unsafe al_tree_open_directory(tree, cString(part), AL_TREE_NO_LINKS)
            guard opened >= 0 else {
                // Nothing here: the layers below show through, unless something that is no directory stands in the way.
                let absent = opened == -HelperFailure.noEntry
                return (nil, opaque || !absent)
            }
            let directory = Handle(opened)
            var value: UInt8 = 0
            let name = cString("trusted.overlay.opaque".utf8)
            if unsafe al_tree_get_attribute(directory.raw, name, &value, 1) == 1, value == 0x79 { opaque = true }
            guard count == components.count else { continue }
            var info = al_tree_info()
            guard unsafe al_tree_stat(directory.raw, cString([0x2e]), &info) == 0 else { return (nil, true) }
            return (info, opaque)
        }
        return (nil, true)
    }

    private static func entry(_ path: [UInt8], _ info: al_tree_info) -> Entry {
        Entry(
            path: path, mode: info.mode & 0o7777, uid: info.uid, gid: info.gid, seconds: info.seconds,
            nanoseconds: info.nanoseconds)
    }

    private static func withParents(
        _ entries: [Entry], _ trees: [OpenLayer], _ implied: [Set<[UInt8]>]
    ) throws(AegisError) -> [Entry] {
        var all = Dictionary(uniqueKeysWithValues: entries.map { ($0.path, $0) })
        for entry in entries {
            var path = entry.path[...]
            while let slash = path.lastIndex(of: 0x2f) {
                path = path[..<slash]
                guard all[Array(path)] == nil else { continue }
                for index in trees.indices.reversed() {
                    guard let info = look(Array(path), trees[index].descriptor.raw).0 else { continue }
                    all[Array(path)] = Self.entry(Array(path), info)
                    break
                }
            }
        }
        return all.values.sorted { $0.path.lexicographicallyPrecedes($1.path) }
    }

    /// The content address of such a layer.
    static func digest(_ entries: [Entry]) -> Digest {
        var text = Array("aegis attribute layer 1\n".utf8)
        for entry in entries {
            text +=
                "\(entry.mode) \(entry.uid) \(entry.gid) \(entry.seconds) \(entry.nanoseconds) \(entry.path.count) "
                .utf8
            text += entry.path + [0x0a]
        }
        return Digest(of: text)
    }

    /// Makes the layer's files in an empty directory.
    static func write(_ entries: [Entry], top: al_tree_info, into tree: Int32) throws(HelperFailure) {
        var writer = TreeWriter(root: tree)
        try writer.top(attributes(entry([], top)))
        for entry in entries {
            let components = entry.path.split(separator: 0x2f).map(Array.init)
            guard let name = components.last else { continue }
            let place = try writer.parent(components.dropLast())
            _ = try writer.directory(name, in: place, attributes(entry))
        }
        try writer.setDirectoryTimes()
    }

    private static func attributes(_ entry: Entry) -> TreeWriter.Attributes {
        TreeWriter.Attributes(
            uid: entry.uid, gid: entry.gid, mode: entry.mode, seconds: entry.seconds, nanoseconds: entry.nanoseconds)
    }
}
