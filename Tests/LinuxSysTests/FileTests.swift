import CLinux
import LinuxSys
import Testing

/// A directory that is removed with all in it.
private final class Scratch {
    let path: String
    let descriptor: FileDescriptor
    init() throws {
        path = "/tmp/linuxsys-test-\(try Random.hex(bytes: 8))"
        try Files.makeDirectories(path)
        descriptor = try FileDescriptor.open(path, [.readOnly, .directory])
    }
    deinit { try? Files.removeTree(path) }
}

/// The error that a call ended with.
private func errno(_ body: () throws(Errno) -> Void) -> Errno? {
    do throws(Errno) { try body() } catch { return error }
    return nil
}

@Suite struct ErrnoTests {
    @Test func namesAndSentences() {
        #expect(Errno(2).name == "ENOENT" && Errno.noSuchFile.description == "No such file or directory (ENOENT)")
        #expect(Errno(99999).name == "E99999" && Errno(99999).description == "Unknown error (E99999)")
    }

    @Test func failedCallCarriesTheKernelsReason() {
        #expect(throws: Errno.noSuchFile) { _ = try FileDescriptor.open("/no/such/file") }
        #expect(throws: Errno.notDirectory) { _ = try FileDescriptor.open("/etc/passwd", .directory) }
    }
}

@Suite struct FileDescriptorTests {
    @Test func takeGivesOwnershipAwayAndCloseReports() throws {
        var pipe = try DescriptorPair.pipe()
        let number = pipe.takeFirst().take()
        let again = FileDescriptor(owning: number)
        #expect(try again.access() == .readOnly)
        try again.close()
        #expect(throws: Errno.badDescriptor) { try FileDescriptor(owning: 1 << 20).close() }
        #expect(try pipe.takeSecond().access() == .writeOnly)
    }

    @Test func untakenEndsCloseThemselves() throws {
        var pipe = try DescriptorPair.pipe()
        let read = pipe.takeFirst()
        _ = consume pipe
        var byte: [UInt8] = [0]
        #expect(try read.read(into: &byte) == 0)
    }

    @Test func duplicatesAreIndependentAndCloseOnExec() throws {
        let file = try FileDescriptor.inMemory(name: "dup")
        let copy = try file.duplicate()
        #expect(copy.raw != file.raw && copy.raw > 2)
        try file.close()
        try copy.writeAll([1, 2, 3])
        #expect(try copy.status().size == 3)
        let info = try Files.read("/proc/self/fdinfo/\(copy.raw)", limit: 4096)
        // 02000000 is O_CLOEXEC in fdinfo's octal flags.
        #expect(String(decoding: info, as: UTF8.self).contains("flags:\t02"))
    }

    @Test func readsAndWritesAtOffsets() throws {
        let file = try FileDescriptor.inMemory(name: "offsets")
        #expect(try file.write([9, 8, 7], at: 5) == 3)
        var bytes = [UInt8](repeating: 1, count: 4)
        #expect(try file.read(at: 4, into: &bytes) == 4 && bytes == [0, 9, 8, 7])
        try file.truncate(to: 6)
        #expect(try file.readAll(limit: 10) == [0, 0, 0, 0, 0, 9])
        try file.rewind()
        #expect(errno { () throws(Errno) in _ = try file.readAll(limit: 5) } == .fileTooLarge)
    }

    @Test func nonblockingReadSaysWouldBlock() throws {
        var pipe = try DescriptorPair.pipe()
        let read = pipe.takeFirst()
        #expect(try read.isNonblocking() == false)
        try read.setNonblocking(true)
        var byte: [UInt8] = [0]
        #expect(throws: Errno.wouldBlock) { try read.read(into: &byte) }
        let before = read.isReady(forWriting: false)
        let write = pipe.takeSecond()
        #expect(try write.write([5]) == 1)
        let after = read.isReady(forWriting: false)
        #expect(!before && after)
    }
}

@Suite struct FilesTests {
    @Test func atomicWriteReplacesAndLeavesNoTemporary() throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/file"
        try Files.writeAtomically(path, [1], mode: 0o640, synced: true)
        let before = try Files.status(path)
        try Files.writeAtomically(path, [2, 3], mode: 0o604)
        let after = try Files.status(path)
        #expect(try Files.read(path, limit: 2) == [2, 3])
        #expect(before.permissions == 0o640 && after.permissions == 0o604 && !before.isSameFile(as: after))
        #expect(try Files.list(scratch.path).map(\.name) == ["file"])
        #expect(throws: Errno.busy) { try Files.writeAtomically("\(scratch.path)/..", [1]) }
        #expect(try Files.list(scratch.path).map(\.name) == ["file"])
    }

    @Test func longNamesCanBeWrittenAtomically() throws {
        let scratch = try Scratch()
        let name = String(repeating: "é", count: 127)
        try Files.writeAtomically("\(scratch.path)/\(name)", [1])
        #expect(try Files.list(scratch.path).map(\.name) == [name])
    }

    @Test func smallFileHasALimit() throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/f"
        try Files.writeAtomically(path, [UInt8](repeating: 7, count: 100_000))
        #expect(try Files.read(path, limit: 100_000).count == 100_000)
        #expect(throws: Errno.fileTooLarge) { try Files.read(path, limit: 99_999) }
    }

    @Test func directoriesAreMadeOnTheWay() throws {
        let scratch = try Scratch()
        try Files.makeDirectories("\(scratch.path)/a/b//c/./d/", mode: 0o755)
        try Files.makeDirectories("\(scratch.path)/a/b/c")
        #expect(try Files.status("\(scratch.path)/a/b/c/d").type == .directory)
        try Files.writeAtomically("\(scratch.path)/a/file", [1])
        #expect(throws: Errno.notDirectory) { try Files.makeDirectories("\(scratch.path)/a/file/x") }
    }

    @Test(arguments: [
        ("a/b", "a", "b"), ("/a", "/", "a"), ("a", ".", "a"), ("/a/b/", "/a", "b"), ("/", "/", ""), ("", ".", ""),
    ])
    func pathsSplit(_ path: String, _ directory: String, _ name: String) {
        let split = Files.split(path)
        #expect(split.directory == directory && split.name == name)
    }

    @Test func executablesAreFound() throws {
        #expect(Files.findExecutable("sh", path: "/nowhere:/usr/bin:/bin")?.hasSuffix("/bin/sh") == true)
        #expect(Files.findExecutable("/bin/sh", path: "") == "/bin/sh")
        #expect(Files.findExecutable("no-such-program", path: "/usr/bin") == nil)
        #expect(Files.findExecutable("passwd", path: "/etc") == nil)
    }

    @Test func listingSeesEveryNameAndType() throws {
        let scratch = try Scratch()
        for index in 0..<3000 { try Files.writeAtomically("\(scratch.path)/entry-number-\(index)", []) }
        try Files.makeDirectories("\(scratch.path)/dir")
        try Files.makeLink("\(scratch.path)/link", to: "dir")
        try Files.makeFIFO("\(scratch.path)/fifo")
        let entries = try scratch.descriptor.entries()
        #expect(entries.count == 3003 && Set(entries.map(\.name)).count == 3003)
        let types = Dictionary(uniqueKeysWithValues: entries.map { ($0.name, $0.type) })
        #expect(types["dir"] == .directory && types["link"] == .symbolicLink && types["fifo"] == .fifo)
        #expect(types["entry-number-7"] == .regular)
        let inode = try scratch.descriptor.status(of: "dir").inode
        #expect(entries.first { $0.name == "dir" }?.inode == inode)
        #expect(throws: Errno.fileTooLarge) { try Files.list(scratch.path, limit: 3002) }
        // A second listing of the same descriptor starts anew.
        #expect(try scratch.descriptor.entries().count == 3003)
    }

    @Test func treesAreRemovedWithoutFollowingLinks() throws {
        let scratch = try Scratch()
        let outside = try Scratch()
        try Files.writeAtomically("\(outside.path)/precious", [1])
        let tree = "\(scratch.path)/tree"
        for index in 0..<30 {
            try Files.makeDirectories("\(tree)/d\(index)/e/f")
            try Files.writeAtomically("\(tree)/d\(index)/e/g", [1])
            try Files.makeLink("\(tree)/d\(index)/out", to: outside.path)
        }
        try Files.makeLink("\(scratch.path)/whole", to: outside.path)
        try Files.removeTree("\(scratch.path)/whole")
        try Files.removeTree(tree)
        try Files.removeTree("\(scratch.path)/was-never-there")
        try Files.removeTree("\(scratch.path)/no/parent")
        #expect(try Files.list(scratch.path) == [])
        #expect(try Files.read("\(outside.path)/precious", limit: 1) == [1])
    }

    @Test func deepAndWideTreesAreRemovedWithFewDescriptors() throws {
        let scratch = try Scratch()
        // Deeper than a path can be long.
        var here = try scratch.descriptor.duplicate()
        for _ in 0..<3000 {
            try here.makeDirectory("ddddd")
            here = try here.open("ddddd", [.readOnly, .directory])
        }
        for index in 0..<5000 { try here.makeDirectory("w\(index)") }
        try scratch.descriptor.removeTree("ddddd")
        #expect(try scratch.descriptor.entries() == [])
    }

    @Test func namesThatAreNoTextAreListedAndRemoved() throws {
        let scratch = try Scratch()
        let odd: [CChar] = [0x61, -1, -2, 0]
        let tree = try { () throws in
            try scratch.descriptor.makeDirectory("t")
            return try scratch.descriptor.open("t", [.readOnly, .directory])
        }()
        let made = unsafe odd.withUnsafeBufferPointer {
            unsafe al_open(tree.raw, $0.baseAddress, OpenFlags([.create, .writeOnly]).rawValue, 0o600, 0)
        }
        try FileDescriptor(checking: made).close()
        #expect(try tree.entries().map(\.bytes) == [[0x61, 0xFF, 0xFE]])
        try scratch.descriptor.removeTree("t")
        #expect(try scratch.descriptor.entries() == [])
    }
}

@Suite struct ResolveTests {
    @Test(arguments: ["../x", "/etc/passwd", "up/passwd", "absolute"])
    func pathsThatLeaveTheDirectoryAreRefused(_ path: String) throws {
        let scratch = try Scratch()
        try scratch.descriptor.makeLink("up", to: "../../etc")
        try scratch.descriptor.makeLink("absolute", to: "/etc/passwd")
        #expect(throws: Errno.crossDevice) { _ = try scratch.descriptor.open(path, resolve: .beneath) }
    }

    @Test func linksInsideAreFollowedUnlessForbidden() throws {
        let scratch = try Scratch()
        try scratch.descriptor.makeDirectory("in")
        try scratch.descriptor.makeLink("link", to: "in")
        #expect(try scratch.descriptor.open("link", .directory, resolve: .beneath).status().type == .directory)
        #expect(throws: Errno.tooManyLinks) {
            _ = try scratch.descriptor.open("link", resolve: [.beneath, .noLinks])
        }
        let root = try scratch.descriptor.open("/in", .directory, resolve: .inRoot)
        #expect(try root.status().isSameFile(as: scratch.descriptor.status(of: "in")))
        let file = try scratch.descriptor.open("new", [.create, .writeOnly], mode: 0o604, resolve: .beneath)
        #expect(try file.status().size == 0)
    }
}

@Suite struct MetadataTests {
    @Test func modeTimesOwnerAndLinks() throws {
        let scratch = try Scratch()
        let file = try scratch.descriptor.open("f", [.create, .writeOnly])
        try file.setPermissions(0o4755)
        try file.setTimes(accessed: -1, modified: 1_234_567_890_123_456_789)
        let status = try file.status()
        #expect(status.permissions == 0o4755 && status.type == .regular && status.links == 1)
        #expect(status.modified == 1_234_567_890_123_456_789 && status.accessed == -1)
        try scratch.descriptor.makeLink("l", to: "f")
        #expect(try scratch.descriptor.readLink("l") == "f")
        #expect(try scratch.descriptor.status(of: "l").type == .symbolicLink)
        #expect(try scratch.descriptor.status(of: "l", followLinks: true).isSameFile(as: status))
        if CurrentProcess.effectiveUser == 0 {
            try file.setOwner(user: 1234, group: 2345)
            try scratch.descriptor.setOwner(of: "l", user: 7, group: 8)
            let (now, link) = (try file.status(), try scratch.descriptor.status(of: "l"))
            #expect(now.user == 1234 && now.group == 2345 && link.user == 7 && link.group == 8)
        }
    }

    @Test func renamesKeepTheirPromises() throws {
        let scratch = try Scratch()
        try scratch.descriptor.writeAtomically("a", [1])
        try scratch.descriptor.writeAtomically("b", [2])
        #expect(errno { () throws(Errno) in try scratch.descriptor.rename("a", as: "b", .noReplace) } == .fileExists)
        try scratch.descriptor.rename("a", as: "b", .exchange)
        #expect(try Files.read("\(scratch.path)/a", limit: 1) == [2])
        try scratch.descriptor.rename("a", as: "b")
        #expect(try Files.list(scratch.path).map(\.name) == ["b"])
    }

    @Test func locksExclude() throws {
        let scratch = try Scratch()
        let one = try scratch.descriptor.open("lock", [.create, .readWrite])
        let two = try scratch.descriptor.open("lock", [.readWrite])
        #expect(try one.lock())
        #expect(try two.lock() == false)
        try one.unlock()
        #expect(try two.lock(exclusive: false))
        #expect(try one.lock(exclusive: false))
    }

    @Test func freeSpaceIsPlausible() throws {
        let space = try Scratch().descriptor.freeSpace()
        #expect(space.totalBytes >= space.freeBytes && space.freeBytes > 0)
    }
}
