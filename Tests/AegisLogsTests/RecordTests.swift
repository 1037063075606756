import AegisCore
import AegisIO
import AegisLogs
import AegisSandboxTypes
import AegisTestSupport
import FoundationEssentials
import LinuxSys
import Testing

@Suite struct InstanceLogRecordTests {
    /// What a process wrote, in which chunks, and the records of it. `!` ends the stream, `e` is stderr.
    static let tables: [([String], [String])] = [
        ([], []), (["a\n"], ["o:a"]), (["a\nb\n"], ["o:a", "o:b"]), (["a", "b\n"], ["o:ab"]), (["\n\n"], ["o:", "o:"]),
        (["no newline"], ["o:no newline~"]), (["a\nrest"], ["o:a", "o:rest~"]),
        (["a", "e:x\n", "b\n"], ["e:x", "o:ab"]), (["a", "e:x", "b\n"], ["o:ab", "e:x~"]),
        (["tail", "!"], ["o:tail~"]), (["tail", "!", "late\n"], ["o:tail~"]), (["\r\n"], ["o:\r"]),
        (["prompt> ", "!", "e:done\n"], ["o:prompt> ~", "e:done"]),
    ]

    @Test(arguments: tables.indices)
    func linesComeOutAsTheyWentIn(index: Int) async throws {
        let (chunks, wanted) = Self.tables[index]
        let fixture = try LogFixture()
        let log = try fixture.open()
        for chunk in chunks {
            if chunk == "!" {
                _ = log.finish(main, .stdout)
            } else if chunk.hasPrefix("e:") {
                log.add(String(chunk.dropFirst(2)), main, .stderr)
            } else {
                log.add(chunk)
            }
        }
        #expect(try await log.all().map(\.short) == wanted)
        // The same after the daemon was started again.
        #expect(try await fixture.open().all().map(\.short) == wanted)
    }

    @Test func bytesThatAreNoTextAreBase64() async throws {
        let log = try LogFixture().open()
        log.add([0xFF, 0x00, 0x80, 10])
        log.add(Array("gr\u{FC}n \u{1F600}\n".utf8))
        log.add([0xED, 0xA0, 0x80, 10])
        let records = try await log.all()
        #expect(records.map(\.data) == ["/wCA", nil, "7aCA"])
        #expect(records[1].line == "gr\u{FC}n \u{1F600}" && records[0].line == nil)
    }

    @Test func aLongLineComesInPieces() async throws {
        let fixture = try LogFixture(limits: LogLimits(totalBytes: 64 << 20))
        let log = try fixture.open()
        let size = 10_000_000
        let line = (0..<size).map { UInt8(97 + $0 % 26) }
        var at = 0
        for step in [1, 70_000, 65_536, 3, 999_999, size] {
            let end = min(at + step, size)
            log.add(Array(line[at..<end]))
            at = end
        }
        log.add("\nnext\n")
        let records = try await log.all()
        #expect(records.count == (size + 65535) / 65536 + 1)
        #expect(records.dropLast(2).allSatisfy { $0.partial == true && $0.line?.utf8.count == 65536 })
        #expect(records.suffix(2).allSatisfy { $0.partial == nil } && records.last?.line == "next")
        #expect(Array(records.dropLast().compactMap(\.line).joined().utf8) == line)
        #expect(try await log.rawJoined() == line + Array("\nnext\n".utf8))
    }

    @Test(arguments: [65535, 65536, 65537, 131_072, 131_073])
    func piecesEndAtTheirSize(size: Int) async throws {
        let log = try LogFixture(limits: LogLimits(totalBytes: 8 << 20)).open()
        let line = String(repeating: "x", count: size)
        log.add(line + "\n" + line)
        let lengths = try await log.all().compactMap { $0.line?.utf8.count }
        let one = size <= 65536 ? [size] : size <= 131_072 ? [65536, size - 65536] : [65536, 65536, size - 131_072]
        #expect(lengths == one + one)
    }

    @Test func everyStreamOfEveryProcessHasItsOwnLines() async throws {
        let log = try LogFixture().open()
        let run = log.beginRun().run
        let server = LogProcess(run: run)
        let first = LogProcess(run: run, execID: "x-1")
        let second = LogProcess(run: run, execID: "x-2")
        log.add("se", server)
        log.add("ex1", first)
        log.add("ex2", second, .stderr)
        log.add("rver\n", server)
        log.add("!\n", second, .stderr)
        log.add("!\n", first)
        _ = log.note("instance says\nso")
        let records = try await log.all()
        #expect(records.map(\.line) == ["server", "ex2!", "ex1!", "instance says", "so"])
        #expect(records.map(\.source) == ["server", "exec", "exec", "system", "system"])
        #expect(records.map(\.execID) == [nil, "x-2", "x-1", nil, nil])
        #expect(records.map(\.stream) == ["stdout", "stderr", "stdout", "system", "system"])
        #expect(log.processes == [server, first, second])
    }

    @Test func aNewRunClosesTheOpenLinesOfTheLast() async throws {
        let log = try LogFixture().open()
        let first = LogProcess(run: log.beginRun().run)
        log.add("unfinished", first)
        let second = LogProcess(run: log.beginRun().run)
        log.add("next\n", second)
        #expect(try await log.all().map(\.short) == ["o:unfinished~", "o:next"])
        #expect(first.run == 1 && second.run == 2 && log.processes == [second])
        #expect(log.savedOffset(first, .stdout) == 0 && log.savedOffset(second, .stdout) == 5)
    }

    @Test func theNDJSONFormIsThatOfTheRecords() async throws {
        let log = try LogFixture().open()
        let exec = LogProcess(run: 0, execID: "x-0123456789abcdef")
        log.add("plain\nwith \"quotes\" and \\ and \u{7F}\ttab\r\u{1} \u{2028}\n")
        log.add([0xC3, 0x28, 10, 0xC3, 10], exec, .stderr)
        log.add("gr\u{FC}n \u{1F600}\n", exec)
        _ = log.note("note")
        log.add("open")
        var lines = log.lines()
        var text: [UInt8] = []
        while let piece = try await lines.next() { text += piece }
        #expect(text.last == 10)
        let decoded = try text.split(separator: 10).map { try JSONDecoder().decode(LogRecord.self, from: Data($0)) }
        #expect(try await decoded == log.all() && decoded.count == 7)
        let first = try #require(String(decoding: text, as: UTF8.self).split(separator: "\n").first)
        #expect(first == #"{"ts":"2023-11-14T22:13:20.000Z","stream":"stdout","source":"server","line":"plain"}"#)
    }

    @Test(
        arguments: [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ])
    func base64FollowsTheStandard(plain: String, text: String) {
        #expect(Base64.encode(Array(plain.utf8)) == text)
        #expect(Base64.decode(text) == Array(plain.utf8))
    }

    @Test(arguments: ["Zg=", "Zg", "Z===", "Zm9v!A==", "=m9v"])
    func base64RefusesOtherText(text: String) { #expect(Base64.decode(text) == nil) }

    @Test func sinceTakesTimesAndSpans() throws {
        let now = try #require(Timestamp(parsing: "2026-11-20T10:00:00Z"))
        #expect(try LogQuery.since(parsing: "10m", now: now).description == "2026-11-20T09:50:00.000Z")
        #expect(
            try LogQuery.since(parsing: "2026-11-20T01:00:00+01:00", now: now).description == "2026-11-20T00:00:00.000Z"
        )
        let error = #expect(throws: AegisError.self) { try LogQuery.since(parsing: "yesterday", now: now) }
        #expect(error?.message.contains("yesterday") == true && error?.kind == .usage)
    }
}

@Suite struct LogTailTests {
    /// Random output of several processes, so that tails begin in every possible place.
    static func fill(_ log: InstanceLog, _ hands: Hands, seed: UInt64, events: Int, sizes: [Int]) {
        var random = Mutator(seed: seed)
        let processes = [main, LogProcess(run: 0, execID: "x-1"), LogProcess(run: 0, execID: "x-2")]
        for event in 0..<events {
            hands.advance(Int64.random(in: 0...3, using: &random))
            let process = processes[Int.random(in: 0..<3, using: &random)]
            let stream: LogStream = Bool.random(using: &random) ? .stdout : .stderr
            if event % 97 == 96 {
                _ = log.finish(process, stream)
                _ = log.forget(process)
                continue
            }
            let size = sizes[Int.random(in: 0..<sizes.count, using: &random)]
            let text = (0..<size).map { _ in
                Int.random(in: 0..<40, using: &random) == 0 ? 10 : UInt8.random(in: 97...122, using: &random)
            }
            log.add(size > 50_000 ? text.map { $0 == 10 ? 46 : $0 } : text, process, stream)
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func aTailIsTheEndOfTheWhole(seed: UInt64) async throws {
        let fixture = try LogFixture(limits: LogLimits(totalBytes: 16 << 20))
        let log = try fixture.open()
        Self.fill(
            log, fixture.hands, seed: seed, events: 300, sizes: [0, 1, 5, 5, 40, 40, 300, 300, 300, 3000, 3000, 70_000])
        let whole = try await log.all()
        #expect(whole.count > 500)
        for count in [0, 1, 2, 3, 7, 50, 300, whole.count - 1, whole.count, whole.count + 5] {
            let tail = try await log.all(LogQuery(tail: count))
            #expect(tail == Array(whole.suffix(count)), "tail \(count) of \(whole.count)")
        }
    }

    @Test(arguments: [4, 5] as [UInt64])
    func sinceIsTheLaterPartOfTheWhole(seed: UInt64) async throws {
        let fixture = try LogFixture(limits: LogLimits(totalBytes: 16 << 20))
        let log = try fixture.open()
        Self.fill(log, fixture.hands, seed: seed, events: 400, sizes: [1, 40, 300, 3000])
        let whole = try await log.all()
        let first = try #require(whole.first?.ts.milliseconds)
        let last = try #require(whole.last?.ts.milliseconds)
        for time in [first - 5, first, first + 1, (first + last) / 2, last - 1, last, last + 1] {
            let since = Timestamp(milliseconds: time)
            let wanted = whole.filter { $0.ts >= since }
            #expect(try await log.all(LogQuery(since: since)) == wanted, "since \(time - first)")
            #expect(try await log.all(LogQuery(since: since, tail: 10)) == Array(wanted.suffix(10)))
        }
    }

    @Test func theTailOfAHugeLogReadsOnlyItsEnd() async throws {
        let fixture = try LogFixture(limits: LogLimits(totalBytes: 64 << 20))
        let log = try fixture.open()
        let chunk = Array(repeatElement(Array("a line of some forty bytes, more or less\n".utf8), count: 1500).joined())
        for _ in 0..<600 { log.add(chunk) }
        try await onLoop { loop in
            let result = try await runProcess(
                ProcessSpec(executable: try helper(), arguments: ["helper", "log-tail", fixture.path, "10"]),
                input: [], outputLimit: 1000, deadline: .seconds(60), on: loop)
            let numbers = String(decoding: result.stdout, as: UTF8.self).split { $0 == " " || $0 == "\n" }
            #expect(numbers.first == "10")
            let read = try #require(numbers.last.flatMap { Int($0) })
            #expect(read < 1 << 20, "bytes read for ten lines")
        }
    }

    @Test func aTailThatFollowsGoesOnWithoutHole() async throws {
        let log = try LogFixture().open()
        log.add("1\n2\n3\nhal")
        var iterator = log.records(LogQuery(tail: 2, follow: true)).makeAsyncIterator()
        #expect(try await iterator.next()?.line == "2")
        #expect(try await iterator.next()?.line == "3")
        log.add("f\n")
        #expect(try await iterator.next()?.line == "half")
        log.markEnded()
        #expect(try await iterator.next() == nil)
    }
}
