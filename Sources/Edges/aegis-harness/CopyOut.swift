import AegisChannelEmbedded
import CHarness

/// Writes a file or tree as a tar stream on stdout, in a child of the harness.
///
/// The first entry is named by the last component of the path (`.` for `/` and for a path that ends in `/.`), the others
/// stand beneath it. Regular files, folders and links. Of FIFOs and devices below the path there is a header only, so that
/// whoever extracts the stream can say that they were there; sockets are left out and named on stderr. Small files, and
/// those that do not tell their size as those of `/proc`, are read to their end before their header is written. A longer
/// one that shrinks while it is read is filled up with zeros, as tar does; one that grows is cut. Links are not followed,
/// but for the path itself if it ends in a slash. What the sandbox added to the image is left out in silence: `/.aegis`,
/// and the loader's list that names our library.
struct CopyOut {
    private static let listName = bytes("ld.so.preload")
    private static let listText = bytes("/.aegis/shim.so")
    private static let depthLimit = 256
    private static let chunk = 64 << 10
    /// The longest file that is read although it says that it is empty.
    private static let sizeless = 16 << 20
    private var failed = false
    private var began = false
    private var isRoot = false
    private var buffer = [UInt8](repeating: 0, count: chunk)

    init() {}

    /// Copies; the result is the exit code.
    func run(_ path: [UInt8]) -> Int32 {
        var copy = self
        return copy.walk(path)
    }

    private mutating func walk(_ path: [UInt8]) -> Int32 {
        guard path.first == 0x2f else { return complain(path, bytes("not an absolute path")) }
        var trimmed = path
        while trimmed.count > 1 && trimmed.last == 0x2f { trimmed.removeLast() }
        let last = trimmed.lastIndex(of: 0x2f).map { Array(trimmed[($0 + 1)...]) } ?? []
        let name = last.isEmpty ? bytes(".") : last
        guard name != bytes("..") else { return complain(path, bytes("a path cannot end in ..")) }
        isRoot = trimmed == [0x2f] || trimmed == [0x2f, 0x2e]
        // With the slash kept, the kernel follows a link and wants a folder behind it.
        let target = path.last == 0x2f && path.count > 1 ? trimmed + bytes("/.") : trimmed
        add(Int32(AH_ROOT), target, as: name, depth: 0)
        // Without a byte of output whoever asked still can be told why, instead of getting an empty archive.
        guard began else { return 1 }
        write(Tar.end)
        return failed ? 1 : 0
    }

    private mutating func add(_ directory: Int32, _ name: [UInt8], as path: [UInt8], depth: Int) {
        if isRoot && depth == 1 && name == bytes(".aegis") { return }
        var info = ah_file()
        let result = unsafe ah_file_information(directory, terminated(name), &info)
        // What vanished since the folder was listed is not there any more, and that is all.
        if result == -Code.noEntry && depth > 0 { return }
        guard result >= 0 else { return fail(path, errorText(-result)) }
        switch Int(info.kind) {
        case AH_REGULAR: addFile(directory, name, path)
        case AH_DIRECTORY: addDirectory(directory, name, path, depth)
        case AH_SYMLINK: addLink(directory, name, path, info)
        default: addStrange(path, info, depth)
        }
    }

    private mutating func addStrange(_ path: [UInt8], _ info: ah_file, _ depth: Int) {
        let isFIFO = Int(info.kind) == AH_FIFO
        let isDevice = Int(info.kind) == AH_DEVICE
        guard depth > 0 else {
            let what = isFIFO ? bytes("is a FIFO") : isDevice ? bytes("is a device") : bytes("is a socket")
            return fail(path, what + bytes(": files, folders and links can be copied"))
        }
        guard isFIFO || isDevice else { return note(path, bytes("left out: a socket")) }
        write(entry(path, isFIFO ? .fifo : .device, info).encoded())
    }

    private func entry(_ path: [UInt8], _ kind: TarKind, _ info: ah_file) -> TarEntry {
        TarEntry(
            path: path, kind: kind, size: kind == .file ? info.size : 0, mode: info.mode, uid: info.uid, gid: info.gid,
            modified: UInt64(max(0, info.seconds)))
    }

    private mutating func addFile(_ directory: Int32, _ name: [UInt8], _ path: [UInt8]) {
        let file = unsafe ah_open_file(directory, terminated(name))
        guard file >= 0 else { return fail(path, errorText(-file)) }
        defer { ah_close(Int32(file)) }
        var info = ah_file()
        let result = unsafe ah_descriptor_information(Int32(file), &info)
        guard result >= 0 else { return fail(path, errorText(-result)) }
        if name == Self.listName && info.size == Self.listText.count && isOwnList(directory) { return }
        guard info.size > Self.chunk else { return addWhole(Int32(file), path, info) }
        write(entry(path, .file, info).encoded())
        var rest = info.size
        while rest > 0 {
            let want = Int(min(UInt64(Self.chunk), rest))
            var count = unsafe ah_read(Int32(file), &buffer, want)
            if count <= 0 {
                if count < 0 { fail(path, errorText(-count)) }
                for i in 0..<want { buffer[i] = 0 }
                count = want
            }
            send(count)
            rest -= UInt64(count)
        }
        write([UInt8](repeating: 0, count: Tar.padding(info.size)))
    }

    /// Whether the list for glibc's loader in a folder is ours.
    private func isOwnList(_ directory: Int32) -> Bool {
        let file = unsafe ah_open_file(directory, terminated(Self.listName))
        guard file >= 0 else { return false }
        defer { ah_close(Int32(file)) }
        var text = [UInt8](repeating: 0, count: Self.listText.count)
        return unsafe ah_read(Int32(file), &text, text.count) == text.count && text == Self.listText
    }

    /// Reads a small file, or one that does not tell its size, before its header is written: so that tells the truth.
    private mutating func addWhole(_ file: Int32, _ path: [UInt8], _ info: ah_file) {
        let limit = info.size == 0 ? Self.sizeless : Int(info.size)
        var content: [UInt8] = []
        while content.count < limit {
            let count = unsafe ah_read(file, &buffer, min(Self.chunk, limit - content.count))
            // A file of the kernel's that waits for events has nothing to tell now.
            guard count >= 0 || count == -Code.again else { return fail(path, errorText(-count)) }
            guard count > 0 else { break }
            content += buffer[..<count]
        }
        guard info.size > 0 || content.count < limit else {
            return fail(path, bytes("does not tell its size and is longer than 16 MiB"))
        }
        var real = info
        real.size = UInt64(content.count)
        write(entry(path, .file, real).encoded())
        write(content)
        write([UInt8](repeating: 0, count: Tar.padding(real.size)))
    }

    private mutating func addLink(_ directory: Int32, _ name: [UInt8], _ path: [UInt8], _ info: ah_file) {
        var target = [UInt8](repeating: 0, count: 4096)
        let count = unsafe ah_read_link(directory, terminated(name), &target, target.count)
        guard count >= 0 else { return fail(path, errorText(-count)) }
        var link = entry(path, .symlink, info)
        link.link = Array(target[..<count])
        write(link.encoded())
    }

    private mutating func addDirectory(_ directory: Int32, _ name: [UInt8], _ path: [UInt8], _ depth: Int) {
        guard depth < Self.depthLimit else { return fail(path, bytes("the tree is too deep")) }
        let opened = unsafe ah_open_directory(directory, terminated(name), 0)
        guard opened >= 0 else { return fail(path, errorText(-opened)) }
        let folder = Int32(opened)
        defer { ah_close(folder) }
        var info = ah_file()
        guard unsafe ah_descriptor_information(folder, &info) >= 0 else { return }
        write(entry(path + [0x2f], .directory, info).encoded())
        var names = [UInt8](repeating: 0, count: 8192)
        while true {
            let count = unsafe ah_list(folder, &names, names.count)
            guard count >= 0 else { return fail(path, errorText(-count)) }
            guard count > 0 else { return }
            for child in names[..<count].split(separator: 0) {
                add(folder, Array(child), as: path + [0x2f] + child, depth: depth + 1)
            }
        }
    }

    private mutating func write(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        began = true
        // Nobody reads any more: the daemon gave up, or the harness is gone.
        if unsafe ah_write_all(1, bytes, bytes.count) < 0 { ah_exit(1) }
    }

    private func send(_ count: Int) {
        if unsafe ah_write_all(1, buffer, count) < 0 { ah_exit(1) }
    }

    private func note(_ path: [UInt8], _ text: [UInt8]) {
        let line = path + bytes(": ") + text + [0x0a]
        _ = unsafe ah_write_all(2, line, line.count)
    }

    private mutating func fail(_ path: [UInt8], _ text: [UInt8]) {
        failed = true
        note(path, text)
    }

    private func complain(_ path: [UInt8], _ text: [UInt8]) -> Int32 {
        note(path, text)
        return 1
    }
}
