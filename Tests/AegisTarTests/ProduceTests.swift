import AegisCore
import AegisTar
import LinuxSys
import Testing

@Suite struct TarProducerTests {
    private func makeTree(_ scratch: Scratch) throws {
        _ = try scratch.directory("src/tree/empty")
        _ = try scratch.directory("src/tree/" + String(repeating: "deep/", count: 150))
        try scratch.write("src/tree/a", "hello")
        try scratch.write("src/tree/big", String(repeating: "0123456789", count: 70_000))
        try scratch.write("src/tree/" + String(repeating: "deep/", count: 150) + "leaf", "leaf")
        try Files.makeLink("\(scratch.path)/src/tree/inner", to: "a")
        try Files.makeLink("\(scratch.path)/src/tree/outer", to: "/etc/passwd")
        try Files.makeFIFO("\(scratch.path)/src/tree/fifo")
        let tree = try scratch.directory("src/tree")
        try tree.open(bytes: [0x6E, 0xFF], [.writeOnly, .create]).writeAll(Array("raw".utf8)[...])
        try Files.setPermissions("\(scratch.path)/src/tree/a", 0o4751)
    }

    @Test(arguments: [512, 1000, 65536, 1 << 20])
    func aTreeComesBackAsItWas(piece: Int) throws {
        let scratch = try Scratch()
        try makeTree(scratch)
        let producer = try TarProducer(root: try scratch.directory("src"), path: bytes("tree"), named: bytes("copy"))
        let stream = try produce(producer, max: piece)
        #expect(producer.report.refused.map(\.path) == ["copy/fifo"])
        let report = try extract(stream, into: try scratch.directory("out"))
        #expect(report.refused.map(\.path) == ["copy/outer"] && report.refusedTop == nil)
        #expect(try scratch.read("out/copy/a") == "hello")
        #expect(try Files.status("\(scratch.path)/out/copy/a").permissions == 0o751)
        #expect(try scratch.read("out/copy/big") == String(repeating: "0123456789", count: 70_000))
        #expect(try scratch.read("out/copy/" + String(repeating: "deep/", count: 150) + "leaf") == "leaf")
        #expect(try Files.readLink("\(scratch.path)/out/copy/inner") == "a")
        #expect(try Files.list("\(scratch.path)/out/copy").contains { $0.bytes == [0x6E, 0xFF] })
        let times = try ["src/tree", "out/copy"].map {
            try Files.status("\(scratch.path)/\($0)/a").modified / 1_000_000_000
        }
        #expect(times[0] == times[1])
    }

    @Test func aSingleFileAndTheRootItself() throws {
        let scratch = try Scratch()
        try makeTree(scratch)
        let one = try TarProducer(root: try scratch.directory("src"), path: bytes("tree/a"), named: bytes("x"))
        #expect(try events(try produce(one, max: 4096), step: 4096).map(\.0.path) == [bytes("x")])
        let whole = try TarProducer(root: try scratch.directory("src/tree/empty"), path: [], named: bytes("e"))
        #expect(try events(try produce(whole, max: 4096), step: 4096).map(\.0.path) == [bytes("e/")])
        let link = try TarProducer(root: try scratch.directory("src"), path: bytes("tree/outer"), named: bytes("l"))
        #expect(try events(try produce(link, max: 4096), step: 4096).map(\.0.linkTarget) == [bytes("/etc/passwd")])
    }

    @Test func whatIsLeftOutIsToldWhenItIsAskedFor() throws {
        let scratch = try Scratch()
        try makeTree(scratch)
        let producer = try TarProducer(
            root: try scratch.directory("src"), path: bytes("tree"), named: bytes("t"), marksLeftOut: true)
        let report = try extract(try produce(producer, max: 4096), into: try scratch.directory("out"))
        #expect(report.refused.map(\.path).sorted() == ["t/fifo", "t/outer"])
        #expect(try !Files.list("\(scratch.path)/out/t").contains { $0.name == "fifo" })
        let link = try TarProducer(root: try scratch.directory("src"), path: bytes("tree/outer"), named: bytes("l"))
        let alone = try extract(try produce(link, max: 4096), into: try scratch.directory("out"))
        #expect(alone.refusedTop?.path == "l" && alone.refusedTop?.reason.contains("/etc/passwd") == true)
    }

    @Test func aDeviceOrFIFOByItselfIsNamedAsWhatItIs() throws {
        let scratch = try Scratch()
        try makeTree(scratch)
        for (root, path, what) in [("/dev", "zero", "a device"), ("\(scratch.path)/src", "tree/fifo", "a FIFO")] {
            let error = #expect(throws: AegisError.self) {
                _ = try TarProducer(
                    root: try FileDescriptor.open(root, [.pathOnly, .directory]), path: bytes(path), named: bytes("x"))
            }
            #expect(error?.code == "not-copyable" && error?.message == "'\(path)' is \(what)")
        }
    }

    /// Files of /proc say that they are empty, those of /sys that they are a page long.
    @Test(arguments: [("/proc/self", "status"), ("/sys/kernel/mm/transparent_hugepage", "enabled")])
    func filesThatDoNotTellTheirSizeAreReadToTheirEnd(root: String, path: String) throws {
        guard Files.exists("\(root)/\(path)") else { return }
        let scratch = try Scratch()
        let producer = try TarProducer(
            root: try FileDescriptor.open(root, [.pathOnly, .directory]), path: bytes(path), named: bytes("copy"))
        _ = try extract(try produce(producer, max: 512), into: try scratch.directory("out"))
        let (copy, real) = (try scratch.read("out/copy"), try Files.read("\(root)/\(path)", limit: 1 << 20))
        let first = String(decoding: real.prefix { $0 != 10 }, as: UTF8.self)
        #expect(!copy.isEmpty && copy.split(separator: "\n").first.map(String.init) == first && !copy.contains("\0"))
    }

    @Test(arguments: [
        ("nothing", "path-not-found"), ("tree/up/secret", "unsafe-path"), ("../secret", "unsafe-path"),
        ("/etc/passwd", "unsafe-path"),
    ])
    func whatIsOutsideIsRefused(path: String, code: String) throws {
        let scratch = try Scratch()
        _ = try scratch.directory("src/tree")
        try scratch.write("secret", "s")
        try Files.makeLink("\(scratch.path)/src/tree/up", to: "../..")
        let error = #expect(throws: AegisError.self) {
            // An absolute path is taken as relative to the root: there it does not exist.
            try TarProducer(root: try scratch.directory("src"), path: bytes(path), named: bytes("x"))
        }
        #expect(error?.code == code || (path.hasPrefix("/") && error?.code == "path-not-found"))
    }

    @Test func filesThatShrinkOrGrowKeepTheArchiveWhole() throws {
        let scratch = try Scratch()
        _ = try scratch.directory("src")
        try scratch.write("src/f", String(repeating: "x", count: 80_000))
        let producer = try TarProducer(root: try scratch.directory("src"), path: bytes("f"), named: bytes("f"))
        var stream = try #require(try producer.next(max: 1000))
        try FileDescriptor.open("\(scratch.path)/src/f", .writeOnly).truncate(to: 1200)
        stream += try produce(producer, max: 1000)
        let found = try events(stream, step: 512)
        #expect(found.count == 1 && found[0].1.count == 80_000)
        #expect(found[0].1.suffix(78_800).allSatisfy { $0 == 0 })
    }
}

@Suite struct CopyRulesTests {
    private static let aFile = CopyRules.Target.exists(.file)
    private static let directory = CopyRules.Target.exists(.directory)
    private static let missing = CopyRules.Target.missing(parentExists: true)
    private static let nowhere = CopyRules.Target.missing(parentExists: false)

    static let plans: [(String, CopyRules.Kind, String, CopyRules.Target, String, String?)] = [
        ("/in/f", .file, "out", missing, ".", "out"), ("/in/f", .file, "a/b/out", missing, "a/b", "out"),
        ("/in/f", .file, "/out", missing, "/", "out"), ("/in/f", .file, "old", aFile, ".", "old"),
        ("/in/f", .file, "dir", directory, "dir", "f"), ("/in/f", .file, "dir/", directory, "dir/", "f"),
        ("/in/f", .file, ".", directory, ".", "f"),
        ("/in/d", .directory, "new", missing, ".", "new"), ("/in/d/", .directory, "new/", missing, ".", "new"),
        ("/in/d/.", .directory, "new", missing, ".", "new"), ("/in/d", .directory, "dir", directory, "dir", "d"),
        ("/in/d/", .directory, "dir", directory, "dir", "d"), ("/in/d/.", .directory, "dir", directory, "dir", nil),
        ("/", .directory, "dir", directory, "dir", nil), (".", .directory, "dir", directory, "dir", nil),
        ("a/..", .directory, "dir", directory, "dir", nil),
    ]

    @Test(arguments: plans.indices)
    func copiesGoWhereDockerPutsThem(index: Int) throws {
        let (source, kind, destination, target, directory, name) = Self.plans[index]
        let plan = try CopyRules.plan(source: source, kind: kind, destination: destination, target: target)
        #expect(
            plan == CopyPlan(directory: directory, top: name.map { .rename(bytes($0)) } ?? .strip),
            "\(source) \(destination)")
    }

    static let refusals: [(String, CopyRules.Kind, String, CopyRules.Target, String)] = [
        ("/in/f", .file, "new/", missing, "path-not-found"), ("/in/f", .file, "a/b", nowhere, "path-not-found"),
        ("/in/d", .directory, "a/b", nowhere, "path-not-found"), ("/in/d", .directory, "old", aFile, "not-a-directory"),
        ("/in/f/", .file, "x", missing, "not-a-directory"), ("/in/f/.", .file, "x", missing, "not-a-directory"),
        ("/in/f", .file, "old/", aFile, "not-a-directory"), ("", .file, "x", missing, "invalid-argument"),
        ("/in/f", .file, "", missing, "invalid-argument"),
    ]

    @Test(arguments: refusals.indices)
    func impossibleCopiesSayWhy(index: Int) {
        let (source, kind, destination, target, code) = Self.refusals[index]
        let error = #expect(throws: AegisError.self) {
            try CopyRules.plan(source: source, kind: kind, destination: destination, target: target)
        }
        #expect(error?.code == code)
    }

    @Test func renamingAndStrippingTheTop() throws {
        let scratch = try Scratch()
        let stream = archive([folder("top"), file("top/a", "1"), file("top/b/c", "2")])
        try extract(stream, into: try scratch.directory("r"), options: TarExtractOptions(top: .rename(bytes("new"))))
        try extract(stream, into: try scratch.directory("s"), options: TarExtractOptions(top: .strip))
        #expect(try scratch.read("r/new/b/c") == "2" && scratch.read("s/b/c") == "2" && scratch.read("s/a") == "1")
        // A folder's content, as the harness archives `DIR/.`: the first component is the dot.
        let content = archive([folder("."), file("./a", "1"), file("./b/c", "2")])
        try extract(content, into: try scratch.directory("k"))
        try extract(content, into: try scratch.directory("n"), options: TarExtractOptions(top: .rename(bytes("new"))))
        try extract(content, into: try scratch.directory("t"), options: TarExtractOptions(top: .strip))
        for place in ["k/b/c", "n/new/b/c", "t/b/c"] { #expect(try scratch.read(place) == "2", "\(place)") }
        for place in ["k/a", "n/new/a", "t/a"] { #expect(try scratch.read(place) == "1", "\(place)") }
    }
}
