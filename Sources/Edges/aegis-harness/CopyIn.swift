import AegisChannelEmbedded
import CHarness

/// Reads a tar stream from stdin and lays it out, in a child of the harness.
///
/// If the target is a folder (or a link to one), entries go beneath it. Otherwise its parent must be one, and the first
/// component of each entry's path is replaced by the target's last: a copy under another name. Beneath that, no link is
/// followed and `..` is refused; missing folders are made. Everything belongs to one owner, modes (rights only) and
/// times are the stream's. Hard links become copies. The first error ends the copy: a text on stderr and exit code 1.
struct CopyIn {
    private static let chunk = 64 << 10
    private static let depthLimit = 256
    private let owner: (uid: UInt32, gid: UInt32)
    private var base: Int32 = -1
    /// The name that replaces the first component of each path.
    private var rename: [UInt8]?
    /// The first component that is replaced; a second one would mean two things under one name.
    private var renamed: [UInt8]?
    private var buffer = [UInt8](repeating: 0, count: chunk)
    /// Folders whose times are set when the stream has left them: their contents would change them.
    private var open: [(path: [[UInt8]], mode: UInt32, modified: UInt64)] = []

    init(owner: (UInt32, UInt32)) { self.owner = (owner.0, owner.1) }

    /// Copies; the result is the exit code.
    mutating func run(into target: [UInt8]) -> Int32 {
        guard target.first == 0x2f else { fail(target, bytes("not an absolute path")) }
        openBase(target)
        var decoder = TarDecoder()
        while true {
            guard let block = readBlock() else { fail(target, bytes("the stream ended too early")) }
            do throws(TarError) {
                switch try decoder.take(block) {
                case .more: continue
                case .entry(let entry): extract(entry)
                case .end:
                    leaveFolders(for: [])
                    // What follows is filling; its writer must be able to finish.
                    while unsafe ah_read(0, &buffer, Self.chunk) > 0 {}
                    return 0
                }
            } catch {
                switch error {
                case .malformed: fail(target, bytes("the stream is not a valid tar stream"))
                case .tooLong: fail(target, bytes("a name in the stream is too long"))
                case .unsupported: fail(target, bytes("the stream has an entry that is neither file, folder nor link"))
                }
            }
        }
    }

    private mutating func openBase(_ target: [UInt8]) {
        let whole = unsafe ah_open_directory(Int32(AH_ROOT), terminated(target), 1)
        if whole >= 0 {
            base = Int32(whole)
            return
        }
        guard whole == -Code.noEntry || whole == -Code.notDirectory, target.last != 0x2f,
            let slash = target.lastIndex(of: 0x2f)
        else { fail(target, errorText(-whole)) }
        let name = Array(target[(slash + 1)...])
        guard name != bytes("."), name != bytes("..") else { fail(target, errorText(-whole)) }
        let parent = Array(target[..<max(1, slash)])
        let folder = unsafe ah_open_directory(Int32(AH_ROOT), terminated(parent), 1)
        guard folder >= 0 else { fail(parent, errorText(-folder)) }
        base = Int32(folder)
        rename = name
    }

    // MARK: Paths

    /// The components of an entry's path, safe to walk.
    private mutating func components(_ path: [UInt8]) -> [[UInt8]] {
        var parts: [[UInt8]] = []
        for part in path.split(separator: 0x2f) where !part.elementsEqual(".".utf8) {
            guard !part.elementsEqual("..".utf8), !part.contains(0) else {
                fail(path, bytes("an entry's path must not contain .."))
            }
            parts.append(Array(part))
        }
        guard parts.count <= Self.depthLimit else { fail(path, bytes("the tree is too deep")) }
        guard let rename else { return parts }
        // "." as the first entry: the folder itself gets the new name.
        guard let first = parts.first, path.first != 0x2e || path.count > 1 && path[1] != 0x2f else {
            return [rename] + parts
        }
        guard renamed == nil || renamed == first else {
            fail(path, bytes("several entries for a target that is not a folder"))
        }
        renamed = first
        parts[0] = rename
        return parts
    }

    /// A descriptor of the folder of these components, made where it is missing; never through a link.
    private func folder(_ parts: ArraySlice<[UInt8]>, _ path: [UInt8]) -> Int32 {
        var at = ah_duplicate(base)
        guard at >= 0 else { fail(path, errorText(-at)) }
        for part in parts {
            let name = terminated(part)
            var next = unsafe ah_open_directory(Int32(at), name, 0)
            if next == -Code.noEntry {
                let made = unsafe ah_make_directory(Int32(at), name)
                if made >= 0 { _ = unsafe ah_set_owner(Int32(at), name, owner.uid, owner.gid) }
                next = unsafe ah_open_directory(Int32(at), name, 0)
            }
            ah_close(Int32(at))
            guard next >= 0 else { fail(path, part + bytes(": ") + errorText(-next)) }
            at = next
        }
        return Int32(at)
    }

    // MARK: Entries

    private mutating func extract(_ entry: TarEntry) {
        let parts = components(entry.path)
        leaveFolders(for: parts)
        guard let name = parts.last else {
            // The target itself stays as it is.
            guard entry.kind == .directory else { fail(entry.path, bytes("an entry without a name")) }
            return
        }
        if entry.kind == .directory {
            ah_close(folder(parts[...], entry.path))
            open.append((parts, entry.mode, entry.modified))
            return
        }
        let parent = folder(parts.dropLast(), entry.path)
        defer { ah_close(parent) }
        switch entry.kind {
        case .symlink: link(entry, parent, name)
        case .hardLink: duplicate(entry, parent, name)
        default: file(entry, parent, name)
        }
    }

    private func link(_ entry: TarEntry, _ parent: Int32, _ name: [UInt8]) {
        guard !entry.link.contains(0) else { fail(entry.path, bytes("a link's target contains a NUL")) }
        let made = unsafe ah_make_link(parent, terminated(name), terminated(entry.link))
        guard made >= 0 else { fail(entry.path, errorText(-made)) }
        _ = unsafe ah_set_owner(parent, terminated(name), owner.uid, owner.gid)
        _ = unsafe ah_set_link_time(parent, terminated(name), Int64(clamping: entry.modified))
    }

    private mutating func file(_ entry: TarEntry, _ parent: Int32, _ name: [UInt8]) {
        let made = unsafe ah_create_file(parent, terminated(name))
        guard made >= 0 else { fail(entry.path, errorText(-made)) }
        let file = Int32(made)
        var rest = entry.size
        while rest > 0 {
            let count = unsafe ah_read(0, &buffer, Int(min(UInt64(Self.chunk), rest)))
            guard count > 0 else { fail(entry.path, bytes("the stream ended too early")) }
            write(count, to: file, entry.path)
            rest -= UInt64(count)
        }
        var padding = Tar.padding(entry.size)
        while padding > 0 {
            let count = unsafe ah_read(0, &buffer, padding)
            guard count > 0 else { fail(entry.path, bytes("the stream ended too early")) }
            padding -= count
        }
        finish(file, entry.mode, entry.modified, entry.path)
    }

    /// A second name of what came before, as a copy: no name outside the target is ever looked at.
    private mutating func duplicate(_ entry: TarEntry, _ parent: Int32, _ name: [UInt8]) {
        let parts = components(entry.link)
        guard let last = parts.last else { fail(entry.path, bytes("a link to nothing")) }
        let folder = folder(parts.dropLast(), entry.link)
        defer { ah_close(folder) }
        let source = unsafe ah_open_file(folder, terminated(last))
        guard source >= 0 else { fail(entry.link, errorText(-source)) }
        defer { ah_close(Int32(source)) }
        let made = unsafe ah_create_file(parent, terminated(name))
        guard made >= 0 else { fail(entry.path, errorText(-made)) }
        while true {
            let count = unsafe ah_read(Int32(source), &buffer, Self.chunk)
            guard count >= 0 else { fail(entry.link, errorText(-count)) }
            if count == 0 { break }
            write(count, to: Int32(made), entry.path)
        }
        finish(Int32(made), entry.mode, entry.modified, entry.path)
    }

    private func write(_ count: Int, to file: Int32, _ path: [UInt8]) {
        let result = unsafe ah_write_all(file, buffer, count)
        if result < 0 { fail(path, errorText(-result)) }
    }

    private func finish(_ file: Int32, _ mode: UInt32, _ modified: UInt64, _ path: [UInt8]) {
        // A program that runs as its owner would run as another one here; nor can one be made where folders of the host can
        // be written to.
        let plain = mode & 0o777
        let result = ah_set_descriptor(file, owner.uid, owner.gid, plain, Int64(clamping: modified))
        if result < 0 { fail(path, errorText(-result)) }
        ah_close(file)
    }

    /// Finishes the folders that do not lie above `parts`: entries come in the order of the tree.
    private mutating func leaveFolders(for parts: [[UInt8]]) {
        while let last = open.last, !(parts.count > last.path.count && parts.starts(with: last.path)) {
            open.removeLast()
            finish(folder(last.path[...], []), last.mode, last.modified, last.path[last.path.count - 1])
        }
    }

    // MARK: The stream

    private func readBlock() -> [UInt8]? {
        var block = [UInt8](repeating: 0, count: Tar.block)
        var have = 0
        while have < Tar.block {
            let count = unsafe block.withUnsafeMutableBytes {
                unsafe ah_read(0, $0.baseAddress.map { unsafe $0 + have }, Tar.block - have)
            }
            guard count > 0 else { return nil }
            have += count
        }
        return block
    }

    private func fail(_ path: [UInt8], _ text: [UInt8]) -> Never {
        let line = path + bytes(": ") + text + [0x0a]
        _ = unsafe ah_write_all(2, line, line.count)
        ah_exit(1)
    }
}
