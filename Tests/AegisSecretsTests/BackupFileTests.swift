import AegisCore
import AegisSecrets
import Foundation
import LinuxSys
import Testing

@Suite struct BackupFileTests {
    let scratch: Scratch
    init() throws { scratch = try Scratch() }

    private func write(_ content: [UInt8], schema: UInt32 = 3, to name: String = "b") throws -> BackupHeader {
        let header = BackupHeader(
            writer: "aegis 7.8", created: Timestamp(milliseconds: 1234), schema: schema,
            contentBytes: UInt64(content.count))
        let file = try FileDescriptor.open(scratch.file(name), [.readWrite, .create, .exclusive])
        var writer = try BackupWriter(file, header, passphrase: secret("open sesame"))
        // In uneven portions, which the file does not show.
        var rest = content[...]
        while !rest.isEmpty {
            try writer.append(rest.prefix(50_001))
            rest = rest.dropFirst(50_001)
        }
        try writer.finish()
        return header
    }

    private func read(_ name: String = "b", _ words: String = "open sesame", schema: Int = 3) throws(AegisError) -> (
        BackupHeader, [UInt8]
    ) {
        var reader = try BackupReader(scratch.file(name), newestSchema: schema, passphrase: secret(words))
        var all: [UInt8] = []
        while true {
            let piece = try reader.read(atMost: 10_000)
            if piece.isEmpty { break }
            all += piece
        }
        let header = reader.header
        try reader.finish()
        return (header, all)
    }

    private func code(_ name: String = "b", _ words: String = "open sesame", schema: Int = 3) -> String {
        do {
            _ = try read(name, words, schema: schema)
            return "none"
        } catch { return error.code }
    }

    /// The sizes at which a piece begins or ends.
    @Test(arguments: [0, 1, 65535, 65536, 65537, 131072, 200_000]) func whatWasWrittenIsRead(_ count: Int) throws {
        let content = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let header = try write(content)
        let (found, bytes) = try read()
        #expect(found == header && bytes == content)
        #expect(!(try Data(contentsOf: URL(fileURLWithPath: scratch.file("b")))).contains(Data("sesame".utf8)))
    }

    @Test func everyChangeAndEveryCutIsSeen() throws {
        _ = try write((0..<150_000).map { UInt8(truncatingIfNeeded: $0) })
        let whole = try Data(contentsOf: URL(fileURLWithPath: scratch.file("b")))
        func check(_ data: Data, _ expected: Set<String>, _ what: String) throws {
            try data.write(to: URL(fileURLWithPath: scratch.file("c")))
            let found = code("c")
            #expect(expected.contains(found), "\(what): \(found)")
        }
        for cut in [9, 12, 20, 60, 150, 193, 200, 65_800, 131_500, whole.count - 17, whole.count - 1] {
            try check(whole.prefix(cut), ["backup-truncated"], "cut at \(cut)")
        }
        try check(whole + [0], ["backup-damaged"], "one byte more")
        try check(Data("SQLite format 3".utf8), ["backup-foreign"], "something else")
        // Of the header each byte is covered, of the content one in each piece.
        for at in [12, 15, 25, 30, 40, 60, 80, 100, 120, 150] {
            var data = whole
            data[at] ^= 1
            try check(data, ["backup-damaged"], "byte \(at)")
        }
        for at in [whole.count - 1, whole.count - 70_000, whole.count - 140_000] {
            var data = whole
            data[at] ^= 0x80
            try check(data, ["backup-damaged"], "byte \(at)")
        }
        // Two pieces that changed places.
        var swapped = whole
        let start = whole.count - 150_000 - 3 * 17
        let piece = 65_536 + 17
        swapped.replaceSubrange(
            start..<start + 2 * piece, with: whole[start + piece..<start + 2 * piece] + whole[start..<start + piece])
        try check(swapped, ["backup-damaged"], "swapped")
        try check(whole, ["none"], "as it was")
    }

    @Test func anotherPassphraseOpensNothing() throws {
        _ = try write([1, 2, 3])
        #expect(code("b", "open sesamE") == "backup-passphrase")
        #expect(code("b", "open sesame ") == "backup-passphrase")
        #expect(code("none") == "backup-unreadable")
    }

    /// A header whose sums are right and whose key is not: somebody changed it who does not know the passphrase.
    @Test func aHeaderOfSomebodyElseIsRefused() throws {
        _ = try write(Array("old".utf8), to: "one")
        _ = try write(Array("new".utf8), to: "two")
        let one = try Data(contentsOf: URL(fileURLWithPath: scratch.file("one")))
        let two = try Data(contentsOf: URL(fileURLWithPath: scratch.file("two")))
        // The head of one before the content of the other.
        try (one.dropLast(20) + two.suffix(20)).write(to: URL(fileURLWithPath: scratch.file("mixed")))
        #expect(code("mixed") == "backup-damaged")
    }

    @Test func whatIsNewerIsRefusedByName() throws {
        _ = try write([1], schema: 9)
        do {
            _ = try read()
            Issue.record("a newer database was taken")
        } catch { #expect(error.code == "backup-newer" && error.message.contains("aegis 7.8"), "\(error)") }
        var data = try Data(contentsOf: URL(fileURLWithPath: scratch.file("b")))
        data[8] = 2
        // What follows may be anything in another version.
        try data.prefix(30).write(to: URL(fileURLWithPath: scratch.file("form")))
        do {
            _ = try read("form")
            Issue.record("a newer form was taken")
        } catch { #expect(error.code == "backup-newer" && error.message.contains("aegis 7.8"), "\(error)") }
    }
}
