import AegisCore
import AegisFiles
import AegisIO
import AegisTar
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct HostTreeTests {
    private func tree(
        _ fixture: FilesFixture, _ name: String, at target: String, readOnly: Bool = false
    ) async throws -> HostTree {
        let place = try fixture.folder(name)
        return try await onLoop { loop in
            let opened = try await fixture.view(on: loop).open(place, for: .mount, as: .root)
            return HostTree(target: target, root: opened, readOnly: readOnly, owner: (1234, 4321))
        }
    }

    @Test func pathsOfTheInstanceFindTheirTree() async throws {
        let fixture = try FilesFixture()
        let trees = [
            try await tree(fixture, "w", at: "/workspace"), try await tree(fixture, "d", at: "/workspace/data"),
            try await tree(fixture, "o", at: "/opt/in"),
        ]
        let table: [(String, String?, String)] = [
            ("/workspace", "/workspace", "."), ("/workspace/", "/workspace", "."),
            ("/workspace/.", "/workspace", "./."),
            ("/workspace/a/b", "/workspace", "a/b"), ("/workspace/a/", "/workspace", "a/"),
            ("/workspace/a/.", "/workspace", "a/."), ("/workspace/data/x", "/workspace/data", "x"),
            ("/workspace/database", "/workspace", "database"), ("/opt/in/../in/f", "/opt/in", "f"),
            ("/workspace/../etc/passwd", nil, ""), ("/workspaces", nil, ""), ("/etc", nil, ""),
            ("workspace/a", nil, ""),
            ("/workspace/a/../../opt/in/x", "/opt/in", "x"),
        ]
        for (path, target, rest) in table {
            let found = HostTree.find(path, in: trees)
            #expect(found?.tree.target == target, "\(path)")
            if target != nil { #expect(found?.path == rest, "\(path)") }
        }
    }

    @Test func kindsAreToldAndLinksOutAreNot() async throws {
        let fixture = try FilesFixture()
        let tree = try await tree(fixture, "w", at: "/workspace")
        try fixture.folder("w/dir")
        _ = try fixture.file("w/file")
        try Files.makeLink(fixture.directory.path("w/inner"), to: "dir")
        try Files.makeLink(fixture.directory.path("w/out"), to: "../home")
        try Files.makeLink(fixture.directory.path("w/absolute"), to: "/etc")
        #expect(try tree.kind(of: ".") == .exists(.directory) && tree.kind(of: "dir") == .exists(.directory))
        #expect(try tree.kind(of: "file") == .exists(.file) && tree.kind(of: "inner") == .exists(.directory))
        #expect(try tree.kind(of: "new") == .missing(parentExists: true))
        #expect(try tree.kind(of: "dir/new/") == .missing(parentExists: true))
        #expect(try tree.kind(of: "no/new") == .missing(parentExists: false))
        for path in ["out", "out/x", "absolute", "absolute/passwd", "../home", "dir/../../home"] {
            let error = #expect(throws: AegisError.self) { try tree.kind(of: path) }
            #expect(error?.code == "unsafe-path" && error?.kind == .denied, "\(path)")
            // A link itself can be copied as a link; what it points to cannot.
            if path.contains("/") { #expect(throws: AegisError.self) { try tree.read(path) } }
        }
    }

    @Test func copiesGoInAndOutByTheRules() async throws {
        let fixture = try FilesFixture()
        let tree = try await tree(fixture, "w", at: "/workspace")
        let local = try FileDescriptor.open(fixture.folder("local"), [.readOnly, .directory])
        try fixture.folder("local/src/sub")
        _ = try fixture.file("local/src/sub/leaf", "leaf")
        func put(_ source: String, _ destination: String) throws {
            let producer = try TarProducer(
                root: try local.duplicate(), path: Array(source.utf8), named: Array("src".utf8))
            let plan = try CopyRules.plan(
                source: source, kind: .directory, destination: destination, target: try tree.kind(of: destination))
            let extractor = try tree.write(plan)
            while let piece = try producer.next() { try extractor.consume(piece[...]) }
            _ = try extractor.finish()
        }
        try put("src", "new")
        try put("src", ".")
        try put("src/.", "new")
        for name in ["new/sub/leaf", "src/sub/leaf"] {
            let status = try Files.status(fixture.directory.path("w/\(name)"))
            #expect(status.user == 1234 && status.group == 4321 && status.size == 4, "\(name)")
        }
        let out = TarExtractor(into: try FileDescriptor.open(fixture.folder("out"), [.readOnly, .directory]))
        let producer = try tree.read("new/sub")
        while let piece = try producer.next(max: 700) { try out.consume(piece[...]) }
        #expect(try out.finish().files == 1)
        #expect(try Files.read(fixture.directory.path("out/sub/leaf"), limit: 10) == Array("leaf".utf8))
        let whole = try tree.read(".")
        var reader = TarReader()
        reader.feed(try #require(try whole.next())[...])
        guard case .entry(let entry) = try reader.next() else { Issue.record("no entry"); return }
        #expect(entry.path == Array("workspace/".utf8))
        #expect(throws: AegisError.self) { try tree.read("nothing") }
    }

    @Test func readOnlyMountsAndPlantedLinksTakeNothing() async throws {
        let fixture = try FilesFixture()
        let sealed = try await tree(fixture, "ro", at: "/data", readOnly: true)
        let denied = #expect(throws: AegisError.self) { try sealed.write(CopyPlan(directory: ".", top: .keep)) }
        #expect(denied?.code == "path-denied")
        let tree = try await tree(fixture, "w", at: "/workspace")
        try Files.makeLink(fixture.directory.path("w/planted"), to: fixture.home)
        let error = #expect(throws: AegisError.self) { try tree.write(CopyPlan(directory: "planted", top: .keep)) }
        #expect(error?.code == "unsafe-path")
        let extractor = try tree.write(CopyPlan(directory: ".", top: .keep))
        let entry = TarEntry(path: Array("planted/evil".utf8), kind: .file)
        #expect(throws: AegisError.self) { try extractor.consume(TarWriter.header(for: entry)[...]) }
        #expect(try Files.list(fixture.home).isEmpty)
    }
}
