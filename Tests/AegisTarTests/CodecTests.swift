import AegisTar
import LinuxSys
import Testing

@Suite struct TarCodecTests {
    static let sample: [(TarEntry, [UInt8])] = [
        folder("top"), file("top/a", "hello"), file("top/empty", ""), link("top/l", to: "a"),
        link("top/h", to: "top/a", hard: true),
        file("top/" + String(repeating: "n", count: 120), String(repeating: "x", count: 513)),
        file(String(repeating: "d/", count: 120) + "deep", "deep"),
        file(String(repeating: "long/", count: 200) + "name", String(repeating: "y", count: 512)),
        link("top/far", to: String(repeating: "t/", count: 90) + "end"),
        (TarEntry(path: [0xFF, 0xFE, 0x2F, 0x80], kind: .file, user: 3_000_000, group: 70_000_000), []),
        (TarEntry(path: bytes("old"), kind: .file, modified: -5_000_000_000), []),
        (TarEntry(path: bytes("new"), kind: .file, permissions: 0o4755, modified: 1_700_000_000_000_000_000), []),
    ]

    @Test(arguments: [1, 7, 511, 512, 513, 100_000])
    func readsWhatItWroteInAnyPieces(step: Int) throws {
        let found = try events(archive(Self.sample), step: step)
        #expect(found.count == Self.sample.count)
        for ((wanted, content), (entry, read)) in zip(Self.sample, found) {
            var entry = entry
            if entry.kind == .directory { entry.path.removeLast() }
            #expect(entry == wanted)
            #expect(read == content)
        }
    }

    @Test func everyTruncationIsNoticed() {
        let stream = archive([folder("d"), file("d/f", "content"), link("d/l", to: "f")])
        for count in 0..<stream.count {
            #expect(throws: TarError.self, "cut at \(count)") { try events(Array(stream[..<count]), step: 4096) }
        }
    }

    @Test func hugeFilesAndIdsNeedPax() throws {
        let entry = TarEntry(path: bytes("big"), kind: .file, user: 1 << 40, group: 1 << 41, size: 9 << 30)
        var reader = TarReader()
        reader.feed(TarWriter.header(for: entry)[...])
        #expect(try reader.next() == .entry(entry))
    }

    @Test(arguments: ["gnu", "pax", "ustar", "posix --pax-option=globexthdr.name=g,comment=hi"])
    func readsWhatGNUTarWrites(format: String) throws {
        let scratch = try Scratch()
        let name = String(repeating: "n", count: 90)
        let place = "d/\(name)/\(name)"
        try Files.makeDirectories("\(scratch.path)/\(place)")
        try scratch.write("\(place)/file", String(repeating: "z", count: 70_000))
        try Files.makeLink("\(scratch.path)/d/link", to: format == "ustar" ? "x" : String(repeating: "t/", count: 80))
        #expect(shell("cd \(scratch.path) && tar --format=\(format) -cf a.tar d 2>/dev/null") == 0)
        let found = try events(try Files.read("\(scratch.path)/a.tar", limit: 1 << 22), step: 10_240)
        let file = try #require(found.first { $0.0.kind == .file })
        #expect(file.0.path == bytes("\(place)/file") && file.1.count == 70_000)
        #expect(found.contains { $0.0.kind == .symbolicLink && $0.0.linkTarget.first != nil })
    }

    @Test func gnuTarReadsWhatWeWrite() throws {
        let scratch = try Scratch()
        let stream = archive(Self.sample.filter { $0.0.kind != .hardLink && $0.0.path.first != 0xFF })
        try Files.writeAtomically("\(scratch.path)/a.tar", stream)
        #expect(shell("cd \(scratch.path) && mkdir out && tar -C out -xf a.tar") == 0)
        #expect(try scratch.read("out/top/a") == "hello")
        #expect(try scratch.read("out/" + String(repeating: "long/", count: 200) + "name").utf8.count == 512)
        #expect(try Files.status("\(scratch.path)/out/old").modified == -5_000_000_000)
    }

    /// Headers that must be refused: what is changed in a good one, and why that is a fault.
    static let faults: [(String, TarError.Reason, @Sendable (inout [UInt8]) -> Void)] = [
        ("checksum", .malformed, { $0[0] ^= 1 }),
        (
            "magic", .malformed,
            {
                $0[257] = 0; fix(&$0)
            }
        ),
        (
            "size not octal", .malformed,
            {
                $0[124] = 0x39; fix(&$0)
            }
        ),
        (
            "negative size", .malformed,
            {
                for i in 124..<136 { $0[i] = 0xFF }; fix(&$0)
            }
        ),
        (
            "size above 2^63", .malformed,
            {
                for i in 124..<136 { $0[i] = i == 124 ? 0x80 : 0xFF }; fix(&$0)
            }
        ),
        (
            "sparse", .unsupported,
            {
                $0[156] = 0x53; fix(&$0)
            }
        ),
        (
            "multi-volume", .unsupported,
            {
                $0[156] = 0x4D; fix(&$0)
            }
        ),
        (
            "unknown type", .unsupported,
            {
                $0[156] = 0x5A; fix(&$0)
            }
        ),
        (
            "directory with content", .malformed,
            {
                $0[156] = 0x35; fix(&$0)
            }
        ),
        (
            "hard link with content", .malformed,
            {
                $0[156] = 0x31; fix(&$0)
            }
        ),
        (
            "no name", .malformed,
            {
                for i in 0..<100 { $0[i] = 0 }; fix(&$0)
            }
        ),
        (
            "huge pax header", .tooLarge,
            {
                $0[156] = 0x78; for i in 124..<130 { $0[i] = 0x37 }; fix(&$0)
            }
        ),
        (
            "pax without form", .malformed,
            {
                $0[156] = 0x78; fix(&$0)
            }
        ),
    ]

    static func fix(_ block: inout [UInt8]) {
        for i in 148..<156 { block[i] = 32 }
        let sum = block[..<512].reduce(0) { $0 + Int($1) }
        let text = String(sum, radix: 8)
        let digits = Array((String(repeating: "0", count: 6 - text.utf8.count) + text).utf8)
        for (i, digit) in digits.enumerated() { block[148 + i] = digit }
        block[154] = 0
    }

    @Test(arguments: faults.indices)
    func refusesFaultyHeaders(index: Int) {
        let (what, reason, change) = Self.faults[index]
        var stream = archive([file("name", "content")])
        change(&stream)
        let error = #expect(throws: TarError.self, "\(what)") { try events(stream, step: 512) }
        #expect(error?.reason == reason, "\(what): \(error?.message ?? "")")
    }

    @Test(
        arguments: [
            ("path=\(String(repeating: "x", count: 5000))", TarError.Reason.tooLarge),
            ("path=a\u{0}b", .unsafePath), ("size=12x", .malformed), ("size=-1", .malformed),
            ("GNU.sparse.major=1", .unsupported), ("mtime=1.x", .malformed),
        ])
    func refusesFaultyPaxRecords(record: String, reason: TarError.Reason) {
        let stream = pax([record], type: 0x78) + archive([file("name", "")])
        #expect(throws: TarError.self) { try events(stream, step: 512) }
        do { _ = try events(stream, step: 512) } catch { #expect(error.reason == reason) }
    }

    @Test func globalHeadersMayNotNameFiles() throws {
        #expect(try events(pax(["comment=x"], type: 0x67) + archive([file("a", "")]), step: 512).count == 1)
        for record in ["path=evil", "linkpath=evil", "size=1"] {
            #expect(throws: TarError.self) {
                try events(pax([record], type: 0x67) + archive([file("a", "")]), step: 512)
            }
        }
    }

    private func pax(_ records: [String], type: UInt8) -> [UInt8] {
        var content: [UInt8] = []
        for record in records {
            var length = record.utf8.count + 3
            while "\(length) \(record)\n".utf8.count != length { length += 1 }
            content += Array("\(length) \(record)\n".utf8)
        }
        var stream = TarWriter.header(
            for: TarEntry(path: bytes("pax"), kind: .file, size: UInt64(content.count)))
        stream[156] = type
        Self.fix(&stream)
        return stream + content + [UInt8](repeating: 0, count: TarWriter.padding(after: UInt64(content.count)))
    }

    @Test func bytesAfterTheEndAreRefusedButZerosAreNot() throws {
        let stream = archive([file("a", "x")])
        #expect(try events(stream + [UInt8](repeating: 0, count: 9000), step: 512).count == 1)
        #expect(throws: TarError.self) { try events(stream + [1], step: 512) }
        #expect(throws: TarError.self) {
            try events(archive([file("a", "")], trailer: false) + stream.suffix(512), step: 512)
        }
    }

    /// Whatever the bytes: the reader ends with events or an error, and never says more content than it was given.
    @Test func fuzzedStreamsAreHandled() {
        var random = SystemRandomNumberGenerator()
        let good = archive(Self.sample)
        var refused = 0
        for _ in 0..<3000 {
            var stream = good
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let at = Int.random(in: 0..<stream.count, using: &random)
                stream[at] = UInt8.random(in: 0...255, using: &random)
                if Bool.random(using: &random), stream.count >= 512 {
                    var block = Array(stream[(at / 512 * 512)...].prefix(512))
                    Self.fix(&block)
                    stream.replaceSubrange((at / 512 * 512)..<(at / 512 * 512 + 512), with: block)
                }
            }
            do {
                let found = try events(stream, step: Int.random(in: 1...5000, using: &random))
                #expect(found.reduce(0) { $0 + $1.1.count } <= stream.count)
            } catch { refused += 1 }
        }
        #expect(refused > 0)
    }
}

@Suite struct TarPathTests {
    @Test(arguments: [("a/b", 2), ("./a//b/.", 2), (".", 0), ("", 0), ("a/", 1)])
    func componentsAreCleaned(path: String, count: Int) throws {
        #expect(try TarPath.components(bytes(path)).count == count)
    }

    @Test(arguments: ["/a", "..", "a/../b", "a/..", "\u{0}", "a/" + String(repeating: "x", count: 256)])
    func unsafePathsAreRefused(path: String) { #expect(throws: TarError.self) { try TarPath.components(bytes(path)) } }

    @Test(
        arguments: [
            ("a", 0, true), ("../a", 1, true), ("../a", 0, false), ("../../a", 1, false), ("/a", 3, false),
            ("a/..", 3, false), ("s/s/../../..", 0, false), ("../a/../..", 2, false), ("", 0, false), ("./a", 0, true),
            (".././../a", 2, true),
        ])
    func linksInsideAreTold(target: String, depth: Int, inside: Bool) {
        #expect(TarPath.linkStaysInside(bytes(target), depth: depth) == inside)
    }
}
