import AegisCore
import AegisSandboxTypes
import Testing

@testable import AegisClient

@Suite struct LogTextTests {
    private func record(
        _ line: String?, stream: String = "stdout", source: String = "server", partial: Bool = false,
        data: String? = nil,
        exec: String? = nil
    ) -> LogRecord {
        var record = LogRecord(ts: Timestamp(milliseconds: 0), stream: stream, source: source)
        record.line = line
        record.data = data
        record.execID = exec
        if partial { record.partial = true }
        return record
    }

    private func text(_ records: [LogRecord], coloured: Bool = false) -> (out: String, err: String) {
        var log = LogText(coloured: coloured)
        var (out, err): ([UInt8], [UInt8]) = ([], [])
        for record in records {
            let piece = log.piece(of: record)
            if piece.target == .stdout { out += piece.bytes } else { err += piece.bytes }
        }
        return (String(decoding: out, as: UTF8.self), String(decoding: err, as: UTF8.self))
    }

    @Test func linesGoWhereTheyWereWritten() {
        let text = text([record("a"), record("b", stream: "stderr"), record("")])
        #expect(text.out == "a\n\n" && text.err == "b\n")
    }

    @Test func piecesOfALongLineAreJoinedAndALastLineStaysOpen() {
        #expect(
            text([record("ab", partial: true), record("cd", partial: true), record("e"), record("x", partial: true)])
                .out == "abcde\nx")
    }

    @Test func bytesThatAreNoTextComeBackExactly() {
        var log = LogText(coloured: false)
        let bytes: [UInt8] = [0xff, 0, 0x80]
        #expect(log.piece(of: record(nil, data: Base64.encode(bytes))).bytes == bytes + [10])
    }

    @Test func aTenMegabyteLineInPiecesIsOneLine() {
        var log = LogText(coloured: false)
        let piece = String(repeating: "x", count: 65536)
        var count = 0
        for _ in 0..<160 { count += log.piece(of: record(piece, partial: true)).bytes.count }
        #expect(count == 160 * 65536)
        #expect(log.piece(of: record("")).bytes == [10])
    }

    @Test func execAndSystemLinesAreMarkedOncePerLine() {
        let records = [
            record("ls", source: "exec", partial: true, exec: "x-1"), record(" done", source: "exec", exec: "x-1"),
            record("started", stream: "system", source: "system"),
        ]
        #expect(text(records).out == "[exec] ls done\n" && text(records).err == "[system] started\n")
        #expect(text(records, coloured: true).out == "\u{1b}[36m[exec]\u{1b}[0m ls done\n")
    }

    @Test func anotherSourceNeverContinuesAnOpenLine() {
        let records = [record("prompt> ", partial: true), record("hi", source: "exec", exec: "x-1"), record("more")]
        #expect(text(records).out == "prompt> \n[exec] hi\nmore\n")
    }

    @Test(
        arguments: [
            ("rotated", ": the log was rotated meanwhile"),
            ("not-written", ": they could not be written to the log, as on a full disk"),
            ("damaged", ": the log is damaged there"), (nil, ""), ("something new", ""),
        ] as [(String?, String)]) func aGapIsSaidOnStderrWithItsReason(_ reason: String?, _ words: String)
    {
        var gap = record(nil)
        gap.gap = 4096
        gap.gapReason = reason
        let text = text([record("a", partial: true), gap, record("b")])
        #expect(text.out == "ab\n" && text.err == "[4096 bytes are missing\(words)]\n")
    }

    @Test func whereBothTargetsAreOneNoSourceRunsIntoAnothersLine() {
        var gap = record(nil)
        gap.gap = 7
        let records = [
            record("prompt> ", partial: true), record("oops", stream: "stderr", partial: true),
            record("warned", stream: "stderr", source: "exec", exec: "x-1"), record("more", partial: true), gap,
            record("and", partial: true), record("started", stream: "system", source: "system"), record("b"),
        ]
        var log = LogText(coloured: false, merged: true)
        let bytes = records.flatMap { log.piece(of: $0).bytes }
        #expect(
            String(decoding: bytes, as: UTF8.self)
                == "prompt> oops\n[exec] warned\nmore\n[7 bytes are missing]\nand\n[system] started\nb\n")
    }
}
