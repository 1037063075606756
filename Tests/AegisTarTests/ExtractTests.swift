import AegisCore
import AegisTar
import Glibc
import LinuxSys
import Synchronization
import Testing

@Suite struct TarExtractorTests {
    @Test func aTreeIsMade() throws {
        let scratch = try Scratch()
        let report = try extract(
            archive([
                folder("top", mode: 0o550), file("top/run", "#!", mode: 0o6755), file("top/sub/deep", "d"),
                link("top/link", to: "sub/deep"), link("top/second", to: "top/run", hard: true),
            ]), into: try scratch.directory("out"))
        #expect([report.files, report.directories, report.links, Int(report.bytes)] == [2, 1, 2, 3])
        #expect(try Files.status("\(scratch.path)/out/top").permissions == 0o550)
        #expect(try Files.status("\(scratch.path)/out/top/run").permissions == 0o755)
        #expect(try scratch.read("out/top/link") == "d")
        #expect(try Files.status("\(scratch.path)/out/top/second").links == 2)
    }

    @Test func ownersAreThoseOfTheCaller() throws {
        let scratch = try Scratch()
        var options = TarExtractOptions()
        options.owner = (1234, 4321)
        let entry = TarEntry(path: bytes("a/b/f"), kind: .file, user: 77, group: 77)
        try extract(
            archive([folder("a"), (entry, []), link("a/l", to: "b")]), into: try scratch.directory("out"),
            options: options)
        for name in ["a", "a/b", "a/b/f", "a/l"] {
            let status = try Files.status("\(scratch.path)/out/\(name)", followLinks: false)
            #expect(status.user == 1234 && status.group == 4321, "\(name)")
        }
    }

    @Test(
        arguments: [
            [file("../evil", "x")], [file("/evil", "x")], [file("a/../../evil", "x")],
            [link("l", to: "../outside"), file("l/evil", "x")],
            [link("l", to: "inside"), folder("inside"), file("l/evil", "x")],
            [folder("d"), link("d/up", to: ".."), file("d/up/evil", "x")],
            [link("x", to: "../outside/victim", hard: true)], [link("x", to: "victim", hard: true), file("x", "evil")],
        ])
    func attacksWriteNothingOutside(entries: [(TarEntry, [UInt8])]) throws {
        let scratch = try Scratch()
        let root = try scratch.directory("out")
        _ = try scratch.directory("outside")
        try scratch.write("outside/victim", "victim")
        try scratch.write("out/victim", "mine")
        _ = try? extract(archive(entries), into: root)
        #expect(try Files.list("\(scratch.path)/outside").map(\.name) == ["victim"])
        #expect(try scratch.read("outside/victim") == "victim")
        #expect(try scratch.read("out/victim") == "mine" && Files.status("\(scratch.path)/out/victim").links == 1)
        #expect(!scratch.exists("evil") && !scratch.exists("out/inside/evil"))
    }

    @Test func linksThatWereThereAreNotFollowed() throws {
        let scratch = try Scratch()
        _ = try scratch.directory("out")
        _ = try scratch.directory("outside")
        try Files.makeLink("\(scratch.path)/out/d", to: "../outside")
        try Files.makeLink("\(scratch.path)/out/f", to: "../outside/f")
        let error = #expect(throws: AegisError.self) {
            try extract(archive([file("d/x", "x")]), into: try scratch.directory("out"))
        }
        #expect(error?.code == "unsafe-path")
        // A link with the file's own name is replaced, not written through.
        try extract(archive([file("f", "mine")]), into: try scratch.directory("out"))
        #expect(try Files.list("\(scratch.path)/outside").isEmpty && scratch.read("out/f") == "mine")
        #expect(try Files.status("\(scratch.path)/out/f", followLinks: false).type == .regular)
    }

    @Test func aDirectorySwappedForALinkBetweenEntriesLeadsNowhere() throws {
        let scratch = try Scratch()
        _ = try scratch.directory("outside")
        let extractor = TarExtractor(into: try scratch.directory("out"))
        let parts = [archive([folder("d"), file("d/a", "1")], trailer: false), archive([file("d/b", "2")])]
        try extractor.consume(parts[0][...])
        try Files.rename("\(scratch.path)/out/d", to: "\(scratch.path)/out/moved")
        try Files.makeLink("\(scratch.path)/out/d", to: "../outside")
        #expect(throws: AegisError.self) { try extractor.consume(parts[1][...]) }
        #expect(try Files.list("\(scratch.path)/outside").isEmpty)
    }

    @Test func aRacingSwapNeverLeadsOutside() throws {
        let scratch = try Scratch()
        _ = try scratch.directory("outside")
        let root = try scratch.directory("out")
        try Files.makeLink("\(scratch.path)/link", to: "\(scratch.path)/outside")
        try Files.makeDirectories("\(scratch.path)/out/d")
        let state = Shared()
        let place = scratch.path
        try SystemThread.start(name: "racer") {
            // One call that swaps the folder and the link: there is always one of the two.
            while !state.stop.load(ordering: .relaxed) {
                try? Files.rename("\(place)/out/d", to: "\(place)/link", .exchange)
            }
            state.done.store(true, ordering: .releasing)
        }
        var refused = 0
        var made = 0
        var round = 0
        // Until both have been met often enough; the bound only keeps a broken test from running for ever.
        while (refused < 50 || made < 50) && round < 100_000 {
            round += 1
            let duplicate = try root.duplicate()
            do {
                try extract(archive([folder("d"), file("d/f", "x")]), into: duplicate)
                made += 1
            } catch { refused += 1 }
        }
        state.stop.store(true, ordering: .relaxed)
        while !state.done.load(ordering: .acquiring) { sched_yield() }
        #expect(refused >= 50 && made >= 50, "the race was not met: \(refused) refused, \(made) made")
        #expect(try Files.list("\(scratch.path)/outside").isEmpty)
    }

    final class Shared: Sendable {
        let stop = Atomic<Bool>(false)
        let done = Atomic<Bool>(false)
    }

    @Test func devicesAndOuterLinksAreRefusedOrReported() throws {
        let scratch = try Scratch()
        let entries = [
            (TarEntry(path: bytes("dev"), kind: .device), [UInt8]()), (TarEntry(path: bytes("fifo"), kind: .fifo), []),
            link("abs", to: "/etc/passwd"), link("up", to: "../x"), link("hard", to: "missing", hard: true),
            file("ok", "fine"),
        ]
        let report = try extract(archive(entries), into: try scratch.directory("out"))
        #expect(report.refusedCount == 5 && report.refused.map(\.path) == ["dev", "fifo", "abs", "up", "hard"])
        #expect(try Files.list("\(scratch.path)/out").map(\.name) == ["ok"])
        var strict = TarExtractOptions()
        strict.refusal = .fail
        strict.links = .refuse
        for entry in entries.dropLast() + [link("inner", to: "ok")] {
            let error = #expect(throws: AegisError.self) {
                try extract(archive([entry]), into: try scratch.directory("strict"), options: strict)
            }
            #expect(error?.code == "unsafe-entry")
        }
        #expect(try Files.list("\(scratch.path)/strict").isEmpty)
    }

    @Test func filesAndDirectoriesNeverReplaceEachOther() throws {
        let scratch = try Scratch()
        for entries in [
            [file("a", "x"), folder("a")], [folder("a"), file("a", "x")], [folder("a"), link("a", to: "b")],
            [file("a", "x"), file("a/b", "y")],
        ] {
            let error = #expect(throws: AegisError.self) {
                try extract(archive(entries), into: try scratch.directory("\(entries[0].0.kind)-\(entries[1].0.kind)"))
            }
            #expect(error?.code == "path-occupied" || error?.code == "unsafe-path")
        }
        try extract(
            archive([file("twice", "1"), file("twice", "2"), link("twice", to: "x"), file("twice", "3")]),
            into: try scratch.directory("twice"))
        #expect(try scratch.read("twice/twice") == "3")
        #expect(try Files.list("\(scratch.path)/twice").count == 1)
    }

    @Test func capsHoldBeforeAnythingIsWritten() throws {
        let scratch = try Scratch()
        var options = TarExtractOptions()
        options.maximumBytes = 1000
        options.maximumEntries = 3
        let bomb = TarEntry(path: bytes("bomb"), kind: .file, size: 1 << 62)
        for stream in [
            TarWriter.header(for: bomb),
            archive([file("a", String(repeating: "x", count: 600)), file("b", String(repeating: "x", count: 600))]),
            archive([folder("1"), folder("2"), folder("3"), folder("4")]),
        ] {
            let error = #expect(throws: AegisError.self) {
                try extract(stream, into: try scratch.directory("out"), options: options)
            }
            #expect(error?.code == "archive-too-large" && error?.kind == .tooLarge)
        }
        #expect(!scratch.exists("out/bomb") && !scratch.exists("out/b") && !scratch.exists("out/4"))
    }

    @Test func aTornStreamLeavesNoHalfFile() throws {
        let scratch = try Scratch()
        let stream = archive([file("whole", "w"), file("half", String(repeating: "h", count: 3000))])
        #expect(throws: AegisError.self) {
            try extract(Array(stream[..<3000]), into: try scratch.directory("out"))
        }
        #expect(try Files.list("\(scratch.path)/out").map(\.name) == ["whole"])
    }

    @Test func diskFullIsSaidAndLeavesNoHalfFile() throws {
        let scratch = try Scratch()
        try Files.makeDirectories("\(scratch.path)/small")
        try Mounts.mount("none", on: "\(scratch.path)/small", type: "tmpfs", data: "size=256k")
        defer { try? Mounts.unmount("\(scratch.path)/small", detach: true) }
        let error = #expect(throws: AegisError.self) {
            try extract(
                archive([file("a", "a"), file("big", String(repeating: "b", count: 400_000))]),
                into: try scratch.directory("small"), step: 65536)
        }
        #expect(error?.code == "disk-full")
        #expect(try Files.list("\(scratch.path)/small").map(\.name) == ["a"])
    }

    @Test func fuzzedArchivesStayInside() throws {
        let scratch = try Scratch()
        _ = try scratch.directory("out")
        var random = SystemRandomNumberGenerator()
        let good = archive([
            folder("a"), file("a/b", "b"), link("a/l", to: "../a"), file("a/l2/x", "x"),
            link("z", to: "a/b", hard: true),
        ])
        for _ in 0..<400 {
            var stream = good
            for _ in 0..<3 {
                let block = Int.random(in: 0..<stream.count / 512, using: &random) * 512
                let at = block + [0, 1, 2, 3, 156, 157, 158, 159, 160][Int.random(in: 0..<9, using: &random)]
                stream[at] = [0x2E, 0x2F, 0x30, 0x31, 0x32, 0x35, 0x61, 0x6C, 0][Int.random(in: 0..<9, using: &random)]
                var header = Array(stream[block..<block + 512])
                TarCodecTests.fix(&header)
                stream.replaceSubrange(block..<block + 512, with: header)
            }
            _ = try? extract(stream, into: try scratch.directory("out"))
            #expect(try Files.list(scratch.path).map(\.name) == ["out"])
        }
    }
}
