import AegisChannel
import AegisTestSupport
import Testing

@Suite struct TarTests {
    private func decode(_ bytes: [UInt8]) throws -> [TarDecoder.Step] {
        var decoder = TarDecoder()
        var steps: [TarDecoder.Step] = []
        for at in stride(from: 0, to: bytes.count, by: Tar.block) {
            let step = try decoder.take(Array(bytes[at..<min(bytes.count, at + Tar.block)]))
            if step != .more { steps.append(step) }
        }
        return steps
    }

    static let entries: [TarEntry] = [
        TarEntry(
            path: Array("a".utf8), kind: .file, size: 3, mode: 0o644, uid: 1000, gid: 1000, modified: 1_700_000_000),
        TarEntry(path: [UInt8](repeating: 0x61, count: 100), kind: .directory, mode: 0o4755),
        TarEntry(path: [UInt8](repeating: 0x61, count: 101), kind: .directory, mode: 0o755),
        TarEntry(
            path: [UInt8](repeating: 0xff, count: 4000), kind: .symlink, link: [UInt8](repeating: 0x2f, count: 3000),
            mode: 0o777),
        TarEntry(path: Array("big".utf8), kind: .file, size: 1 << 40, mode: 0, uid: 4_000_000_000, gid: 2_097_152),
        TarEntry(path: Array("late".utf8), kind: .file, mode: 0o600, modified: 1 << 40),
        TarEntry(path: Array("h".utf8), kind: .hardLink, link: Array("a".utf8), mode: 0o644),
        // Lengths at which a pax record's own length gets another digit.
        TarEntry(path: [UInt8](repeating: 0x62, count: 991), kind: .file, mode: 0o644),
        TarEntry(path: [UInt8](repeating: 0x62, count: 990), kind: .file, mode: 0o644),
    ]

    @Test(arguments: entries) func headersRoundTrip(entry: TarEntry) throws {
        let bytes = entry.encoded()
        #expect(bytes.count % Tar.block == 0)
        #expect(try decode(bytes + Tar.end) == [.entry(entry), .end])
    }

    @Test func anyDamagedHeaderIsRefusedOrReadsAsSomething() throws {
        var generator = Mutator(seed: 11)
        let good = Self.entries[3].encoded() + Self.entries[0].encoded()
        var refused = 0
        for _ in 0..<1500 {
            var bytes = good
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
            }
            // Whatever comes: no trap, and no more memory than an extended header may have.
            if (try? decode(bytes)) == nil { refused += 1 }
        }
        #expect(refused > 400)
    }

    @Test func extendedHeadersHaveALimit() throws {
        var decoder = TarDecoder()
        var entry = TarEntry(path: Array("x".utf8), kind: .file, size: UInt64(Tar.extendedLimit) + 1, mode: 0)
        var header = entry.encoded()
        // 'x' in place of '0' makes the checksum 72 more.
        header[156] = 0x78
        let sum = header.indices.reduce(0) { $0 + (148..<156 ~= $1 ? 0x20 : Int(header[$1])) }
        let text = String(sum, radix: 8)
        let digits = Array((String(repeating: "0", count: 6 - text.count) + text).utf8)
        header.replaceSubrange(148..<154, with: digits)
        #expect(throws: TarError.tooLong) { try decoder.take(header) }
        entry.size = 0
        #expect(Tar.padding(0) == 0 && Tar.padding(1) == 511 && Tar.padding(512) == 0)
    }
}

@Suite struct AccountsTests {
    static let passwd = Array(
        """
        root:x:0:0:root:/root:/bin/sh
        broken line
        app:x:1000:1001:App:/home/app:/bin/sh
        big:x:4294967295:5::/:/bin/sh
        0:x:77:77::/zero:/bin/sh
        nohome:x:1002:1002:::
        """.utf8)
    static let group = Array("root:x:0:\nwheel:x:10:root,app\napp:x:1001:\nvideo:x:44:app\nodd:x:y:app\n".utf8)

    static let cases: [(String, Account)] = [
        ("", Account(uid: 0, gid: 0, groups: [10], home: Array("/root".utf8))),
        ("root", Account(uid: 0, gid: 0, groups: [10], home: Array("/root".utf8))),
        ("0", Account(uid: 0, gid: 0, groups: [10], home: Array("/root".utf8))),
        ("app", Account(uid: 1000, gid: 1001, groups: [10, 44], home: Array("/home/app".utf8))),
        ("1000", Account(uid: 1000, gid: 1001, groups: [10, 44], home: Array("/home/app".utf8))),
        ("app:video", Account(uid: 1000, gid: 44, groups: [], home: Array("/home/app".utf8))),
        ("app:", Account(uid: 1000, gid: 1001, groups: [10, 44], home: Array("/home/app".utf8))),
        ("54321", Account(uid: 54321, gid: 0, groups: [], home: Array("/".utf8))),
        ("54321:999", Account(uid: 54321, gid: 999, groups: [], home: Array("/".utf8))),
        ("nohome", Account(uid: 1002, gid: 1002, groups: [], home: Array("/".utf8))),
    ]

    @Test(arguments: cases) func usersAreFound(spec: String, account: Account) throws {
        #expect(try Accounts.resolve(Array(spec.utf8), passwd: Self.passwd, group: Self.group) == account)
    }

    @Test(arguments: [
        ("nobody", AccountError.noUser), ("app:nobody", .noGroup), ("a:b:c", .malformed), ("4294967295", .noUser),
        ("99999999999", .noUser), ("big", .noUser), ("app:4294967295", .noGroup),
    ])
    func whatIsNotThereIsAnError(spec: String, error: AccountError) {
        #expect(throws: error) { try Accounts.resolve(Array(spec.utf8), passwd: Self.passwd, group: Self.group) }
    }

    @Test func rootNeedsNoFiles() throws {
        #expect(try Accounts.resolve([], passwd: [], group: []) == Account(uid: 0, gid: 0, groups: [], home: [0x2f]))
    }
}
