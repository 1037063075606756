import AegisChannel
import AegisCore
import AegisIO
import AegisSessions
import AegisTestSupport
import Foundation
import Testing

/// Looking at a channel: both directions, nothing secret, nothing unbounded.
@Suite struct ChannelTapTests {
    /// Takes what a session reports, and does nothing with it.
    private final class Deaf: SessionSink {
        func output(process: UInt16, _ kind: OutputKind, offset: UInt64, bytes: ArraySlice<UInt8>, end: Bool) {}
        func exited(process: UInt16, _ end: ProcessExited) {}
    }

    private func frame(_ type: FrameType, flags: UInt8 = 0, _ stream: UInt16, _ payload: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        FrameHeader(type, flags: flags, stream: stream, length: payload.count).encode(into: &bytes)
        return bytes + payload
    }

    private func json(_ record: ChannelRecord) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        var copy = record
        copy.at = Timestamp(milliseconds: 0)
        return String(decoding: try encoder.encode(copy), as: UTF8.self)
            .replacingOccurrences(of: "\"at\":\"1970-01-01T00:00:00.000Z\",", with: "")
    }

    /// Lets a harness say `said` to a session that does `body`, and gives what a watcher saw.
    private func seen(_ said: [UInt8], tap: ChannelTap, _ body: (HarnessSession) async throws -> Void) async throws
        -> [String]
    {
        let watcher = try tap.watch()
        let session = HarnessSession(sink: Deaf(), tap: tap)
        try await body(session)
        let (near, far) = (BytePipe(), BytePipe())
        try await near.write(said[...])
        try near.closeWrite()
        _ = try? await session.run(on: Duplex(input: near, output: far), known: [])
        tap.end()
        var lines: [String] = []
        while let items = await watcher.next() {
            for item in items {
                switch item {
                case .message(let record): lines.append(try json(record))
                case .gap(let count): lines.append("gap \(count)")
                }
            }
        }
        return lines
    }

    @Test func messagesOfBothSidesAreShownInTheirOrder() async throws {
        let tap = ChannelTap()
        let said =
            frame(.hello, 0, Hello(build: Array("b1".utf8)).encoded())
            + frame(.stdout, flags: 1, 1, Acknowledgement(offset: 40).encoded() + Array("secret output".utf8))
            + frame(.exited, 1, ProcessExited(code: 3, signal: 0, stdoutBytes: 53, stderrBytes: 0).encoded())
        let lines = try await seen(said, tap: tap) { session in
            session.signal(1, 15, group: true)
            session.resize(2, columns: 80, rows: 24)
            session.acknowledge(1, .stdout, upTo: 40)
            session.shutdown(graceMilliseconds: 500)
        }
        #expect(
            lines == [
                #"{"from":"daemon","group":true,"method":"signal","process":1,"signal":15}"#,
                #"{"columns":80,"from":"daemon","method":"resize","process":2,"rows":24}"#,
                #"{"from":"daemon","method":"ack","offset":40,"process":1,"stream":"stdout"}"#,
                #"{"from":"daemon","grace_ms":500,"method":"shutdown","stays":false}"#,
                #"{"build":"b1","from":"harness","method":"hello","quirks":0,"version":3}"#,
                #"{"bytes":13,"end":true,"from":"harness","method":"stdout","offset":40,"process":1}"#,
                #"{"code":3,"from":"harness","method":"exited","process":1,"signal":0,"stderr_bytes":0,"stdout_bytes":53}"#,
            ])
    }

    @Test func valuesAreHidden() async throws {
        let tap = ChannelTap()
        tap.setMask { bytes in
            Array(String(decoding: bytes, as: UTF8.self).replacingOccurrences(of: "hunter2", with: "***").utf8)
        }
        let message = StartProcess(
            kind: .task, arguments: [Array("sh".utf8), Array("-c hunter2".utf8), Array(repeating: 0x61, count: 5000)],
            environment: [Array("PASSWORD=hunter2".utf8), Array("PLAIN=word".utf8)], directory: Array("/w".utf8))
        let failed = ProcessFailed(reason: .notFound, errno: 2, text: Array("no hunter2 here".utf8))
        let watcher = try tap.watch()
        let session = HarnessSession(sink: Deaf(), tap: tap)
        let (near, far) = (BytePipe(), BytePipe())
        try await near.write(frame(.failed, 1, failed.encoded())[...])
        async let started: UInt32? = try? session.start(1, message)
        // The start is asked for before it is answered.
        var first: [ChannelWatcher.Item] = []
        while first.isEmpty { first = await watcher.next() ?? [] }
        try near.closeWrite()
        _ = try? await session.run(on: Duplex(input: near, output: far), known: [])
        _ = await started
        let all = first + (await watcher.next() ?? [])
        let text = try all.map { item in
            if case .message(let record) = item { return try json(record) }
            return "gap"
        }.joined(separator: "\n")
        #expect(!text.contains("hunter2") && !text.contains("word"), "\(text)")
        #expect(text.contains(#""method":"runTask""#) && text.contains(#""PASSWORD=***","PLAIN=***""#), "\(text)")
        #expect(text.contains(#""text":"no *** here""#) && text.contains("… 5000 bytes"), "\(text)")

        // Nobody knows what the run was given: every text may be it.
        let lost = ChannelTap()
        lost.setMask { _ in nil }
        let lines = try await seen(frame(.failed, 1, failed.encoded()), tap: lost) { _ in }
        #expect(
            lines == [#"{"errno":2,"from":"harness","method":"failed","process":1,"reason":"notFound","text":"***"}"#])
    }

    @Test func aSlowReaderLosesMessagesAndIsToldHowMany() async throws {
        let tap = ChannelTap()
        let watcher = try tap.watch()
        let session = HarnessSession(sink: Deaf(), tap: tap)
        for number in 0..<3000 { session.signal(UInt16(number + 1), 1, group: false) }
        let items = try #require(await watcher.next())
        #expect(items.count == 1025 && items.last == .gap(3000 - 1024))
        session.signal(9, 2, group: false)
        let later = try #require(await watcher.next())
        guard case .message(let record)? = later.first, later.count == 1 else {
            Issue.record("\(later)")
            return
        }
        #expect(record.process == 9)
        // Long ones are bounded by their size.
        let long = StartProcess(
            kind: .exec, arguments: Array(repeating: Array(repeating: 0x61, count: 900), count: 60), environment: [],
            directory: [])
        let starts = (0..<60).map { number in
            Task { try? await session.start(UInt16(number), long) }
        }
        try await withDeadline(.seconds(180)) {
            var count = 0
            var gap: UInt64 = 0
            while count + Int(gap) < 60 {
                for item in await watcher.next() ?? [] {
                    if case .gap(let more) = item { gap += more } else { count += 1 }
                }
            }
        }
        tap.end()
        #expect(await watcher.next() == nil)
        // The channel ends: nobody waits for a start any more.
        let (near, far) = (BytePipe(), BytePipe())
        try near.closeWrite()
        far.close()
        _ = try? await session.run(on: Duplex(input: near, output: far), known: [])
        for start in starts { #expect(await start.value == nil) }
    }

    @Test func onlySoManyMayLookAndWhoLeavesMakesRoom() throws {
        let tap = ChannelTap()
        let watchers = try (0..<ChannelTap.watcherLimit).map { _ in try tap.watch() }
        #expect(throws: AegisError.self) { try tap.watch() }
        tap.leave(watchers[0])
        _ = try tap.watch()
    }
}

/// Two pipes as one stream.
private final class Duplex: ByteStream {
    private let input: BytePipe
    private let output: BytePipe
    init(input: BytePipe, output: BytePipe) {
        self.input = input
        self.output = output
    }
    func read(into buffer: inout ByteBuffer, atMost limit: Int) async throws(IOError) -> Int {
        try await input.read(into: &buffer, atMost: limit)
    }
    func write(_ bytes: ArraySlice<UInt8>) async throws(IOError) { try await output.write(bytes) }
    func closeWrite() throws(IOError) { try output.closeWrite() }
    func close() {
        input.close()
        output.close()
    }
}
