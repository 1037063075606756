import AegisCore
import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisImages

/// Unpacks one layer through the real confined helpers.
private func unpack(
    _ tar: [UInt8], _ compression: Compression = .gzip, limits: ImageLimits = ImageLimits(),
    _ body: @escaping @Sendable (LayerPath, LayerRecord, [String]) throws -> Void
) async throws {
    try await onLoop { loop in
        let directory = try TemporaryDirectory()
        defer { withExtendedLifetime(directory) {} }
        let store = try StoreDirectory(path: directory.path("images"))
        let work = try store.beginWork()
        let unpacker = LayerUnpacker(helper: try helperProgram(), limits: limits, loop: loop)
        let bytes = try compression.apply(tar)
        try work.directory.writeAtomically("blob", bytes)
        let blob = Descriptor(mediaType: "", digest: Digest(of: bytes), size: Int64(bytes.count))
        let (record, warnings) = try await unpacker.unpack(
            "blob", blob, as: Digest(of: tar), in: work, name: "layer", of: "test")
        try body(LayerPath(digest: record.digest, path: "\(work.path)/layer/tree"), record, warnings)
    }
}

struct LayerTests {
    @Test(arguments: Compression.allCases)
    func unpacksEveryCompression(_ compression: Compression) async throws {
        let content = String(repeating: "some text that repeats itself ", count: 20_000)
        let tar = TarBuilder.make { $0.add("dir/file", .file, content) }
        try await unpack(tar, compression) { layer, record, warnings in
            #expect(text(layer, "dir/file") == content)
            #expect(record.bytes == Int64(content.utf8.count))
            #expect(record.entries == 1)
            #expect(warnings == [])
        }
    }

    @Test func keepsOwnersModesTimesAndAttributes() async throws {
        let capability =
            "\u{1}\u{0}\u{0}\u{2}\u{0}\u{4}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}"
        let tar = TarBuilder.make {
            $0.add("./", .directory, mode: 0o711, uid: 5, gid: 6)
            $0.add("d", .directory, mode: 0o1777, uid: 7, gid: 8, time: 1_500_000_000)
            $0.add("d/setuid", .file, "x", mode: 0o6755, uid: 1000, gid: 2000, time: 1_400_000_000)
            $0.add("far", .file, "x", uid: 65_535, gid: 65_535)
            $0.add("next", .file, "x", uid: 1000, gid: 65_536)
            $0.add("beyond", .file, "x", uid: 4_000_000_000)
            $0.add(
                "caps", .file, "x",
                attributes: [
                    "security.capability": capability, "user.note": "hello", "trusted.overlay.opaque": "y",
                    "user.overlay.opaque": "y",
                ])
            $0.add("link", .symbolicLink, link: "d/setuid", uid: 9, gid: 10, time: 1_300_000_000)
            $0.add("pipe", .fifo, mode: 0o620, uid: 11)
        }
        try await unpack(tar) { layer, _, warnings in
            #expect(look(layer, "") == Seen(kind: .directory, mode: 0o711, uid: 5, gid: 6))
            #expect(look(layer, "d") == Seen(kind: .directory, mode: 0o1777, uid: 7, gid: 8))
            #expect(look(layer, "d/setuid") == Seen(kind: .regular, mode: 0o6755, uid: 1000, gid: 2000))
            #expect(look(layer, "far")?.uid == 65_535 && look(layer, "far")?.gid == 65_535)
            // A sandbox has no more ids: nobody inside could reach a file of the next one.
            #expect(look(layer, "next")?.uid == 1000 && look(layer, "next")?.gid == 65_534)
            #expect(look(layer, "beyond")?.uid == 65534)
            #expect(look(layer, "link")?.uid == 9)
            #expect(look(layer, "pipe") == Seen(kind: .fifo, mode: 0o620, uid: 11))
            for (path, time) in [("d", 1_500_000_000), ("d/setuid", 1_400_000_000), ("link", 1_300_000_000)]
                as [(String, Int64)]
            {
                let status = try Files.status("\(layer.path)/\(path)", followLinks: false)
                #expect(status.modified == time * 1_000_000_000, "\(path)")
            }
            // As the root of the host sees it: the form without a namespace of its own.
            #expect(attribute(layer, "caps", "security.capability")?.prefix(8) == [1, 0, 0, 2, 0, 4, 0, 0])
            #expect(attribute(layer, "caps", "user.note") == Array("hello".utf8))
            #expect(attribute(layer, "caps", "trusted.overlay.opaque") == nil)
            #expect(attribute(layer, "caps", "user.overlay.opaque") == nil)
            #expect(warnings.count == 2 && warnings[0].contains("1000:65536") && warnings[1].contains("4000000000"))
        }
    }

    @Test func linksThatPointOutsideStayAndAreNeverFollowed() async throws {
        let tar = TarBuilder.make {
            $0.add("up", .symbolicLink, link: "../../../../../../tmp")
            $0.add("abs", .symbolicLink, link: "/var/lib")
            $0.add("up/inside", .file, "contained")
            $0.add("abs/inside", .file, "contained too")
            $0.add("passwd", .symbolicLink, link: "/etc/passwd")
            $0.add("passwd", .file, "replaced the link")
            $0.add("loop", .symbolicLink, link: "loop")
        }
        try await unpack(tar) { layer, _, _ in
            #expect(text(layer, "tmp/inside") == "contained")
            #expect(text(layer, "var/lib/inside") == "contained too")
            let target = try? Files.readLink("\(layer.path)/up")
            #expect(target == "../../../../../../tmp")
            #expect(look(layer, "passwd")?.kind == .regular)
            #expect(!Files.exists("/tmp/inside") && !Files.exists("/var/lib/inside"))
        }
    }

    @Test func laterEntriesReplaceEarlierOnes() async throws {
        let tar = TarBuilder.make {
            $0.add("a", .file, "first")
            $0.add("a", .file, "second", mode: 0o600)
            $0.add("b", .directory)
            $0.add("b/c", .file, "gone")
            $0.add("b", .file, "now a file")
            $0.add("d", .symbolicLink, link: "a")
            $0.add("d", .directory, mode: 0o700)
            $0.add("d/e", .file, "in a directory")
            $0.add("k", .directory, mode: 0o700)
            $0.add("k/l", .file, "kept")
            $0.add("k", .directory, mode: 0o750)
        }
        try await unpack(tar) { layer, _, _ in
            #expect(text(layer, "a") == "second")
            #expect(look(layer, "a")?.mode == 0o600)
            #expect(text(layer, "b") == "now a file")
            #expect(look(layer, "d")?.kind == .directory)
            #expect(text(layer, "d/e") == "in a directory")
            #expect(text(layer, "k/l") == "kept")
            #expect(look(layer, "k")?.mode == 0o750)
        }
    }

    @Test func hardLinksShareOneFileAndStayInside() async throws {
        let tar = TarBuilder.make {
            $0.add("real/file", .file, "one", uid: 3)
            $0.add("other", .hardLink, link: "real/file")
            $0.add("alias", .symbolicLink, link: "real")
            $0.add("through", .hardLink, link: "alias/file")
            $0.add("self", .file, "x")
            $0.add("self", .hardLink, link: "self")
        }
        try await unpack(tar) { layer, _, _ in
            let status = try Files.status("\(layer.path)/real/file")
            #expect(status.links == 3)
            let (other, through) = (try Files.status("\(layer.path)/other"), try Files.status("\(layer.path)/through"))
            #expect(other.inode == status.inode && through.inode == status.inode)
            #expect(text(layer, "self") == "x")
        }
    }

    @Test(arguments: ["../../etc/passwd", "/etc/passwd", "missing", "dir"])
    func hardLinksToAnythingElseAreRefused(_ target: String) async throws {
        let tar = TarBuilder.make {
            $0.add("dir", .directory)
            $0.add("bad", .hardLink, link: target)
        }
        let error = await failure { try await unpack(tar) { _, _, _ in } }
        #expect(error?.code == "corrupt-layer")
    }

    @Test(arguments: ["../evil", "a/../../evil", "/../evil"])
    func namesThatLeadOutAreRefused(_ name: String) async throws {
        let error = await failure { try await unpack(TarBuilder.make { $0.add(name, .file, "x") }) { _, _, _ in } }
        #expect(error?.code == "corrupt-layer")
        #expect(error?.message.contains("leads out") == true)
    }

    @Test func devicesAreLeftOutWithAWarning() async throws {
        let tar = TarBuilder.make {
            $0.add("dev/sda", .blockDevice, device: (8, 0))
            $0.add("dev/mem", .characterDevice, device: (1, 1))
            $0.add("dev/hidden", .characterDevice, device: (0, 0))
            $0.add("dev/file", .file, "x")
        }
        try await unpack(tar) { layer, _, warnings in
            #expect(look(layer, "dev/sda") == nil && look(layer, "dev/mem") == nil && look(layer, "dev/hidden") == nil)
            #expect(text(layer, "dev/file") == "x")
            #expect(warnings.count == 3)
        }
    }

    @Test func longNamesAndManyEntries() async throws {
        let deep = (0..<40).map { "directory-number-\($0)" }.joined(separator: "/")
        let tar = TarBuilder.make {
            $0.add("\(deep)/file", .file, "deep")
            $0.add(String(repeating: "n", count: 255), .file, "long")
            $0.add("target", .symbolicLink, link: String(repeating: "t/", count: 200) + "x")
            for i in 0..<3000 { $0.add("many/\(i)", .file, "\(i)") }
        }
        try await unpack(tar) { layer, record, _ in
            #expect(text(layer, "\(deep)/file") == "deep")
            #expect(text(layer, String(repeating: "n", count: 255)) == "long")
            #expect(text(layer, "many/2999") == "2999")
            #expect(record.entries == 3003)
        }
    }

    @Test func aTreeDeeperThanTheDescriptorsOfAProcessIsMadeAndRemoved() async throws {
        let deep = String(repeating: "d/", count: 2000)
        let tar = TarBuilder.make {
            $0.add("top/\(deep)file", .file, "deep")
            $0.add("top", .file, "replaced")
        }
        try await unpack(tar) { layer, _, _ in #expect(text(layer, "top") == "replaced") }
    }

    @Test(arguments: [
        String(repeating: "n", count: 256), String(repeating: "d/", count: 2100) + "f",
    ])
    func namesThatAreTooLongAreRefused(_ name: String) async throws {
        let error = await failure { try await unpack(TarBuilder.make { $0.add(name, .file, "x") }) { _, _, _ in } }
        #expect(error?.code == "corrupt-layer")
    }

    @Test func modesDoNotDependOnTheUmask() async throws {
        let tar = TarBuilder.make {
            $0.add("f", .file, "x", mode: 0o666)
            $0.add("d", .directory, mode: 0o777)
            $0.add("implied/f", .file, "x")
        }
        try await unpack(tar) { layer, record, _ in
            #expect(look(layer, "f")?.mode == 0o666)
            #expect(look(layer, "d")?.mode == 0o777)
            #expect(look(layer, "implied")?.mode == 0o755)
            #expect(record.implicit.map { String(decoding: $0, as: UTF8.self) } == ["implied"])
        }
    }
}

struct WhiteoutTests {
    @Test func hidesNamesOfLowerLayers() async throws {
        let tar = TarBuilder.make {
            $0.add("dir", .directory, time: 1_111_111_111)
            $0.add("dir/.wh.old", .file)
            $0.add(".wh.top", .file)
            $0.add("deep/er/.wh.x", .file)
            $0.add(".wh..wh.plnk", .directory)
        }
        try await unpack(tar) { layer, record, warnings in
            #expect(isWhiteout(layer, "dir/old") && isWhiteout(layer, "top") && isWhiteout(layer, "deep/er/x"))
            #expect(look(layer, "dir/.wh.old") == nil)
            let time = try? Files.status("\(layer.path)/dir").modified
            #expect(time == 1_111_111_111_000_000_000)
            #expect(Set(record.implicit.map { String(decoding: $0, as: UTF8.self) }) == ["deep", "deep/er"])
            #expect(warnings.count == 1)
        }
    }

    @Test(arguments: [true, false])
    func neverHidesWhatItsOwnLayerBrings(_ whiteoutFirst: Bool) async throws {
        let tar = TarBuilder.make {
            if whiteoutFirst {
                $0.add("d/.wh..wh..opq", .file)
                $0.add("e/.wh.file", .file)
                $0.add("e/.wh.sub", .file)
            }
            $0.add("d", .directory)
            $0.add("d/new", .file, "stays")
            $0.add("e/file", .file, "stays too")
            $0.add("e/sub", .directory)
            $0.add("e/sub/x", .file, "and this")
            if !whiteoutFirst {
                $0.add("d/.wh..wh..opq", .file)
                $0.add("e/.wh.file", .file)
                $0.add("e/.wh.sub", .file)
            }
        }
        try await unpack(tar) { layer, _, _ in
            #expect(text(layer, "d/new") == "stays")
            #expect(attribute(layer, "d", "trusted.overlay.opaque") == [0x79])
            #expect(text(layer, "e/file") == "stays too")
            #expect(attribute(layer, "e", "trusted.overlay.opaque") == nil)
            // The whole directory was replaced: what lay in its namesake below must not show.
            #expect(attribute(layer, "e/sub", "trusted.overlay.opaque") == [0x79])
            #expect(text(layer, "e/sub/x") == "and this")
        }
    }

    @Test func anOpaqueTopHidesAllLayersBelow() async throws {
        try await unpack(TarBuilder.make { $0.add(".wh..wh..opq", .file) }) { _, record, _ in #expect(record.hidesAll) }
    }

    @Test func whiteoutsThroughLinksStayInside() async throws {
        let tar = TarBuilder.make {
            $0.add("out", .symbolicLink, link: "/../../tmp")
            $0.add("out/.wh.victim", .file)
        }
        try await unpack(tar) { layer, _, _ in #expect(isWhiteout(layer, "tmp/victim")) }
    }

    @Test(arguments: [".wh.", ".wh..", ".wh..."])
    func whiteoutsOfNoNameAreRefused(_ name: String) async throws {
        let error = await failure { try await unpack(TarBuilder.make { $0.add("d/\(name)", .file) }) { _, _, _ in } }
        #expect(error?.code == "corrupt-layer")
    }
}

struct HostileLayerTests {
    @Test func bombsAreStopped() async throws {
        var limits = ImageLimits()
        limits.layerBytes = 1 << 20
        let tar = TarBuilder.make { $0.add("zeros", .file, String(repeating: "\u{0}", count: 8 << 20)) }
        let error = await failure { try await unpack(tar, limits: limits) { _, _, _ in } }
        #expect(error?.code == "image-too-large")
    }

    @Test func tooManyEntriesAreStopped() async throws {
        var limits = ImageLimits()
        limits.entries = 10
        let error = await failure {
            try await unpack(TarBuilder.make { for i in 0..<11 { $0.add("\(i)", .file) } }, limits: limits) { _, _, _ in
            }
        }
        #expect(error?.code == "image-too-large")
    }

    @Test(arguments: ["not a tar stream at all, only text, and long enough to be looked at", "\u{1}\u{2}"])
    func noise(_ noise: String) async throws {
        let bytes = Array(String(repeating: noise, count: 64).utf8)
        let error = await failure { try await unpack(bytes, .none) { _, _, _ in } }
        #expect(error?.code == "corrupt-layer")
    }

    @Test func anEmptyStreamIsAnEmptyLayer() async throws {
        try await unpack(TarBuilder().finished()) { _, record, _ in #expect(record.entries == 0) }
        try await unpack([], .none) { _, record, _ in #expect(record.entries == 0) }
    }

    @Test func aTruncatedEntryIsRefused() async throws {
        let tar = TarBuilder.make { $0.add("f", .file, String(repeating: "x", count: 5000)) }
        let error = await failure { try await unpack(Array(tar.prefix(2048))) { _, _, _ in } }
        #expect(error?.code == "corrupt-layer")
    }
}
