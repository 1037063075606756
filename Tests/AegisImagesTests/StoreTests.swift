import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisImages

struct CollectionTests {
    @Test func aMovedTagLeavesLayersThatGoOnceNobodyHoldsThem() async throws {
        try await withBench { bench in
            try bench.registry.push(try TestImage.small("old"), "app:1")
            var old: ResolvedImage? = try await bench.ensure("app:1")
            let path = try unwrap(old?.layers.first?.path, "layer")
            let id = try unwrap(old?.digest, "id")
            try bench.registry.push(try TestImage.small("new"), "app:1")
            let new = try await bench.ensure("app:1", .always)
            #expect(try await bench.store.garbageCollect().layers == 0)
            #expect(Files.exists(path))
            old = nil
            #expect(try await bench.store.garbageCollect(inUse: [id]).layers == 0)
            let collected = try await bench.store.garbageCollect()
            #expect(collected.layers == 1 && collected.bytes == 3)
            #expect(!Files.exists(path))
            #expect(text(new.layers[0], "file") == "new")
            #expect(try leftovers(bench.store) == [])
        }
    }

    @Test func sharedLayersStay() async throws {
        try await withBench { bench in
            let shared = TestImage.Layer(tar: TarBuilder.make { $0.add("shared", .file) })
            let own = TestImage.Layer(tar: TarBuilder.make { $0.add("own", .file) })
            try bench.registry.push(try TestImage([shared]), "one:1")
            try bench.registry.push(try TestImage([shared, own]), "two:1")
            _ = try await bench.ensure("one:1")
            _ = try await bench.ensure("two:1")
            let collected = try await bench.store.delete(try bench.registry.reference("two:1"))
            #expect(collected.references == [bench.registry.name("two:1")] && collected.layers == 1)
            #expect(try await bench.ensure("one:1", .never).layers.count == 1)
        }
    }

    @Test func imagesInUseCannotBeDeleted() async throws {
        try await withBench { bench in
            let reference = try bench.registry.reference("app:1")
            try bench.registry.push(try TestImage.small("x"), "app:1")
            var held: ResolvedImage? = try await bench.ensure("app:1")
            #expect(try await bench.store.list().map(\.inUse) == [true])
            #expect(await failure { try await bench.store.delete(reference) }?.code == "image-in-use")
            let id = try unwrap(held?.digest, "id")
            held = nil
            #expect(await failure { try await bench.store.delete(reference, inUse: [id]) }?.code == "image-in-use")
            #expect(try await bench.store.list().map(\.inUse) == [false])
            _ = try await bench.store.delete(reference)
            #expect(try await bench.store.list().isEmpty)
            for area in StoreDirectory.Area.allCases { #expect(try bench.store.directory.keys(area).isEmpty) }
        }
    }

    @Test func unusedImagesGoWhenAsked() async throws {
        try await withBench { bench in
            for name in ["a", "b"] {
                try bench.registry.push(try TestImage.small(name), "\(name):1")
            }
            let held = try await bench.ensure("a:1")
            _ = try await bench.ensure("b:1")
            #expect(try await bench.store.garbageCollect().references == [])
            #expect(try await bench.store.garbageCollect(unusedImages: true).references == [bench.registry.name("b:1")])
            #expect(try await bench.store.list().map(\.reference) == [held.reference])
        }
    }

    @Test func deletingAnUnknownImageNamesTheNearest() async throws {
        try await withBench { bench in
            try bench.registry.push(try TestImage.small("x"), "python:3.12")
            _ = try await bench.ensure("python:3.12")
            let error = await failure { try await bench.store.delete(try bench.registry.reference("python:3.13")) }
            #expect(error?.code == "image-not-found" && error?.hint?.contains("python:3.12") == true)
        }
    }
}

struct StoreDirectoryTests {
    @Test func leftoversGoAtTheStartAndLiveWorkStays() throws {
        let folder = try TemporaryDirectory()
        defer { withExtendedLifetime(folder) {} }
        let path = folder.path("a/b/images")
        let living = try StoreDirectory(path: path)
        let work = try living.beginWork()
        try Files.makeDirectories("\(path)/tmp/orphan/deep")
        try Files.makeDirectories("\(path)/tmp/dead/deep")
        try Files.writeAtomically("\(path)/tmp/dead.lock", [])
        try Files.makeDirectories("\(path)/layers/sha256/not-a-digest/tree")
        try Files.writeAtomically("\(path)/refs/.new-1234-x.json", [1])
        _ = try StoreDirectory(path: path)
        #expect(try Files.list("\(path)/tmp").map(\.name) == [work.name, "\(work.name).lock"])
        #expect(try Files.list("\(path)/layers/sha256").isEmpty && Files.list("\(path)/refs").isEmpty)
        work.remove()
        #expect(try Files.list("\(path)/tmp").isEmpty)
        #expect(try Files.status(path).permissions == 0o700)
    }

    @Test func recordsOfALaterVersionAreRefused() throws {
        let folder = try TemporaryDirectory()
        defer { withExtendedLifetime(folder) {} }
        let store = try StoreDirectory(path: folder.path("images"))
        let key = Digest(of: [1]).hex
        try store.write(.images, key, Array(#"{"version":2,"something":"else"}"#.utf8))
        let newer = #expect(throws: AegisError.self) { try store.record(ImageRecord.self, .images, key) }
        #expect(newer?.code == "newer-version")
        try store.write(.images, key, Array("{".utf8))
        let damaged = #expect(throws: AegisError.self) { try store.record(ImageRecord.self, .images, key) }
        #expect(damaged?.code == "image-store-damaged")
    }
}

struct LayerFinishTests {
    @Test(
        arguments: [
            [.whiteout(Array("link/x".utf8))], [.opaque(Array("link".utf8))], [.whiteout(Array("missing/x".utf8))],
            [.whiteout(Array("file".utf8))], [.opaque(Array("file".utf8))],
            [.failure(code: "corrupt-layer", message: "x")],
        ] as [[HelperRecord]])
    func recordsThatDoNotFitTheTreeAreRefused(_ records: [HelperRecord]) throws {
        let folder = try TemporaryDirectory()
        defer { withExtendedLifetime(folder) {} }
        try Files.makeDirectories(folder.path("tree/real"))
        try Files.makeLink(folder.path("tree/link"), to: "/tmp")
        try Files.writeAtomically(folder.path("tree/file"), [])
        let tree = try FileDescriptor.open(folder.path("tree"), [.readOnly, .directory])
        #expect(throws: AegisError.self) { try LayerFinish.apply(records, to: tree) }
        #expect(!Files.exists("/tmp/x"))
    }
}

/// The layers as a kernel mounts them.
struct MountedImageTests {
    @Test func overlayfsShowsTheMergedImage() async throws {
        try await withBench { bench in
            let image = try TestImage([
                TestImage.Layer(
                    tar: TarBuilder.make {
                        $0.add("keep", .file, "kept")
                        $0.add("hide", .file, "old")
                        $0.add("opaque/old", .file, "old")
                        $0.add("merge", .directory, mode: 0o750, uid: 12)
                        $0.add("merge/old", .file, "old")
                        $0.add("replaced/old", .file, "old")
                    }),
                TestImage.Layer(
                    tar: TarBuilder.make {
                        $0.add(".wh.hide", .file)
                        $0.add("opaque/new", .file, "new")
                        $0.add("opaque/.wh..wh..opq", .file)
                        $0.add("merge/new", .file, "new")
                        $0.add(".wh.replaced", .file)
                        $0.add("replaced/new", .file, "new")
                    }),
            ])
            try bench.registry.push(image, "app:1")
            let resolved = try await bench.ensure("app:1")
            let place = bench.directory.path("mounted")
            try Files.makeDirectories(place)
            let lower = resolved.layers.reversed().map(\.path).joined(separator: ":")
            try await command(
                ["mount", "-t", "overlay", "overlay", "-o", "ro,lowerdir=\(lower)", place], on: bench.loop)
            let names = try Files.list(place).map(\.name)
            let opaque = try Files.list("\(place)/opaque").map(\.name)
            let merge = try Files.list("\(place)/merge").map(\.name)
            let replaced = try Files.list("\(place)/replaced").map(\.name)
            let status = try Files.status("\(place)/merge")
            try await command(["umount", "-l", place], on: bench.loop)
            #expect(names == ["keep", "merge", "opaque", "replaced"])
            #expect(opaque == ["new"] && merge == ["new", "old"] && replaced == ["new"])
            #expect(status.permissions == 0o750 && status.user == 12)
        }
    }
}

struct DiskFullTests {
    /// Runs a pull into a store on a file system of 4 MiB.
    private func pull(_ image: TestImage) async throws -> AegisError? {
        try await onLoop { loop in
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            try Files.makeDirectories(folder.path("small"))
            try await command(
                ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", folder.path("small")], on: loop)
            let registry = try await Registry(on: loop)
            try registry.push(image, "app:1")
            let error = try await withStore(folder.path("small/images"), on: loop) { store in
                let error = await failure { try await store.ensure(try registry.reference("app:1")) }
                let (left, layers) = (try leftovers(store), try store.directory.layerDigests())
                #expect(left == [] && layers == [])
                return error
            }
            await registry.stop()
            try await command(["umount", "-l", folder.path("small")], on: loop)
            return error
        }
    }

    @Test func whileUnpacking() async throws {
        let zeros = String(repeating: "\u{0}", count: 8 << 20)
        let layer = TestImage.Layer(tar: TarBuilder.make { $0.add("zeros", .file, zeros) })
        #expect(try await pull(try TestImage([layer]))?.code == "disk-full")
    }

    @Test func beforeADownloadThatCannotFit() async throws {
        var random = SystemRandomNumberGenerator()
        let noise = String(
            decoding: (0..<3 << 20).map { _ in UInt8.random(in: 32..<127, using: &random) }, as: UTF8.self)
        let layer = TestImage.Layer(tar: TarBuilder.make { $0.add("noise", .file, noise) }, compression: .none)
        #expect(try await pull(try TestImage([layer]))?.code == "disk-full")
    }
}

/// Runs a program of the system and expects it to succeed.
func command(_ words: [String], on loop: EventLoop) async throws {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    let program = try unwrap(Files.findExecutable(words[0], path: path), words[0])
    var spec = ProcessSpec(executable: program, arguments: words, environment: ["PATH=\(path)"])
    spec.stderr = .pipe
    let child = try await ChildProcess.spawnInBackground(spec, on: loop)
    let text = try await readAll(child.stderr, limit: 4096)
    let status = try await child.wait()
    guard status.isSuccess else { throw Missing(what: "\(words): \(String(decoding: text, as: UTF8.self))") }
}
