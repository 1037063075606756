import AegisCore
import AegisIO
import AegisJSON
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisAudit

/// The journal's native protocol, read by a program that knows nothing of ours.
@Suite struct JournalTests {
    /// Takes so many entries, in datagrams or in sealed files, and prints their fields and how they came.
    private static let journal = """
        import array, fcntl, json, os, socket, struct, sys
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1] + '~'); os.rename(sys.argv[1] + '~', sys.argv[1])
        def fields(data):
            found = {}
            while data:
                line, data = data.split(b'\\n', 1)
                if b'=' in line: name, value = line.split(b'=', 1)
                else:
                    (count,) = struct.unpack('<Q', data[:8]); name, value, end, data = line, data[8:8 + count], data[8 + count:9 + count], data[9 + count:]
                    assert end == b'\\n' and len(value) == count
                assert name.isascii() and name.decode().replace('_', 'A').isalnum() and name.upper() == name and name[:1] != b'_'
                found[name.decode()] = value.decode()
            return found
        for _ in range(int(sys.argv[2])):
            data, control, _, _ = s.recvmsg(1 << 20, socket.CMSG_SPACE(16))
            how = 'datagram'
            for level, kind, raw in control:
                fds = array.array('i'); fds.frombytes(raw); how = 'file'
                assert data == b'' and fcntl.fcntl(fds[0], 1034) & 15 == 15, 'not sealed'
                os.lseek(fds[0], 0, 0)
                data = os.fdopen(fds[0], 'rb').read()
            print(json.dumps({'how': how, 'fields': fields(data)}))
        """

    private struct Entry: Decodable {
        var how: String
        var fields: [String: String]
    }

    /// Runs a body with a journal that takes so many entries.
    private func entries(_ count: Int, _ body: @escaping @Sendable (_ socket: String) throws -> Void) async throws
        -> [Entry]
    {
        let folder = try TemporaryDirectory()
        let socket = folder.path("socket")
        let answer = try await onLoop { loop in
            async let journal = runTool("python3", ["-c", Self.journal, socket, "\(count)"], on: loop)
            try await withDeadline(.seconds(60)) {
                while !Files.exists(socket) { try await Task.sleep(for: .milliseconds(5)) }
            }
            try await BlockingPool.shared.run { try body(socket) }
            return try await journal
        }
        try #require(answer.code == 0, "\(answer.error)")
        return try answer.out.split(separator: "\n").map { try JSONValue(parsing: $0.utf8).decode(Entry.self) }
    }

    @Test func recordsArriveAsTheyAre() async throws {
        let fixture = try Fixture()
        let ledger = try fixture.open()
        try ledger.record(
            AuditEvent(.refused, agent: "i-1", trace: "t-9", ("what", "two\nlines = \u{e4}\u{0} MESSAGE=x\n")))
        try ledger.record(AuditEvent(.done, ("number", 7)))
        ledger.close()
        let lines = try fixture.lines()
        let found = try await entries(lines.count + 1) { socket in
            let sink = JournalSink(node: "00c0ffee", path: socket, patience: 60_000)
            #expect(sink.isThere && !JournalSink(node: "n", path: socket + "x").isThere)
            try sink.take(try fixture.bytes())
            try sink.tell(ledger.head)
        }
        #expect(found.dropLast().map { $0.fields["MESSAGE"] } == lines)
        #expect(
            found.dropLast().compactMap { $0.fields["AEGIS_AUDIT_SEQ"].flatMap(Int.init) } == Array(1...lines.count))
        let refused = try #require(found.first { $0.fields["AEGIS_AUDIT_KIND"] == "thing_refused" }?.fields)
        #expect(
            refused["AEGIS_AGENT"] == "i-1" && refused["AEGIS_TRACE"] == "t-9" && refused["AEGIS_NODE"] == "00c0ffee")
        let done = try #require(found.first { $0.fields["AEGIS_AUDIT_KIND"] == "thing_done" }?.fields)
        #expect(done["AEGIS_AGENT"] == nil && done["SYSLOG_IDENTIFIER"] == "aegis-audit")
        #expect(found.last?.fields["AEGIS_AUDIT_HEAD"] == ledger.head.description)
        #expect(found.allSatisfy { $0.how == "datagram" })
    }

    @Test func whatIsTooLongGoesAsASealedFile() async throws {
        // Beyond what any socket takes at once.
        let line = Array(#"{"kind":"thing_done","seq":1,"text":"\#(String(repeating: "x", count: 4 << 20))"}"#.utf8)
        let found = try await entries(2) { socket in
            let sink = JournalSink(node: "n", path: socket, patience: 60_000)
            try sink.take(line + [10] + Array(#"{"kind":"thing_done","seq":2}"#.utf8) + [10])
        }
        #expect(found.map(\.how) == ["file", "datagram"])
        #expect(found.first?.fields["MESSAGE"]?.utf8.count == line.count)
    }

    /// A journal whose queue is full is waited for: none of a burst is lost.
    @Test func aBurstIsTakenWhole() async throws {
        let count = 3000
        let found = try await entries(count) { socket in
            var lines: [UInt8] = []
            for number in 1...count { lines += Array("{\"kind\":\"thing_done\",\"seq\":\(number)}\n".utf8) }
            try JournalSink(node: "n", path: socket, patience: 60_000).take(lines)
        }
        #expect(found.map { $0.fields["AEGIS_AUDIT_SEQ"] } == (1...count).map { "\($0)" })
    }

    @Test func nobodyThereAndNobodyWhoReadsAreErrors() async throws {
        let folder = try TemporaryDirectory()
        let line = Array("{\"kind\":\"thing_done\",\"seq\":1}\n".utf8)
        let gone = JournalSink(node: "n", path: folder.path("socket"))
        #expect(throws: Errno.noSuchFile) { try gone.take(line) }
        try await onLoop { loop in
            let made = try await runTool(
                "python3",
                [
                    "-c", "import socket, sys; socket.socket(socket.AF_UNIX, 2).bind(sys.argv[1])",
                    folder.path("socket"),
                ],
                on: loop)
            #expect(made.code == 0, "\(made.error)")
        }
        #expect(throws: Errno.connectionRefused) { try gone.take(line) }
        let long = JournalSink(node: "n", path: "/" + String(repeating: "x", count: JournalSink.longestPath))
        #expect(throws: Errno.nameTooLong) { try long.take(line) }
    }
}
