import AegisCore
import AegisIO
import AegisLogs
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

@Suite struct LogDurabilityTests {
    private func segment(_ path: String) throws -> String { "\(path)/\(try #require(try Files.list(path).last).name)" }

    @Test func aLogTornAtAnyByteGoesOnExactly() async throws {
        let fixture = try LogFixture()
        let log = try fixture.open()
        let exec = LogProcess(run: 0, execID: "x-1")
        let chunks = ["first line\nsec", "ond\n", "\u{FC}\n", "tail without end"]
        var ends = [(0, 0, 0)]
        var total = 0
        for (index, chunk) in chunks.enumerated() {
            log.add(chunk)
            log.add("e\(index)\n", exec, .stderr)
            total += chunk.utf8.count
            ends.append((Int(try fixture.bytesOnDisk), total, 3 * (index + 1)))
        }
        let whole = Array(chunks.joined().utf8)
        let file = try Files.read(try segment(fixture.path), limit: 1 << 20)
        for cut in 40...file.count {
            let path = fixture.directory.path("cut")
            try Files.makeDirectories(path)
            try Files.writeAtomically("\(path)/0000000000000001.log", Array(file[..<cut]))
            let torn = try fixture.open(path)
            let saved = Int(torn.savedOffset(main, .stdout))
            let savedExec = Int(torn.savedOffset(exec, .stderr))
            let complete = try #require(ends.last { $0.0 <= cut })
            #expect(saved >= complete.1 && savedExec >= complete.2, "cut at \(cut)")
            #expect(try await torn.rawJoined() == Array(whole[..<saved]), "cut at \(cut)")
            // The keeper sends again from there, as if it had sent everything twice.
            _ = torn.append(whole.span, of: main, .stdout, at: 0)
            #expect(try await torn.rawJoined() == whole && torn.savedOffset(main, .stdout) == UInt64(whole.count))
            #expect(try await fixture.open(path).rawJoined() == whole)
            try Files.removeTree(path)
        }
    }

    @Test func aDamagedRecordEndsTheLogThere() async throws {
        let fixture = try LogFixture()
        let log = try fixture.open()
        var ends: [Int] = []
        for number in 0..<5 {
            log.add("line \(number)\n")
            ends.append(Int(try fixture.bytesOnDisk))
        }
        let file = try Files.read(try segment(fixture.path), limit: 1 << 20)
        for at in ends[2]..<ends[3] {
            let path = fixture.directory.path("bad")
            try Files.makeDirectories(path)
            var bad = file
            bad[at] ^= 0x55
            try Files.writeAtomically("\(path)/0000000000000001.log", bad)
            let damaged = try fixture.open(path)
            #expect(
                try await damaged.all().compactMap(\.line) == ["line 0", "line 1", "line 2"],
                "byte \(at - ends[2])")
            #expect(damaged.savedOffset(main, .stdout) == 21)
            try Files.removeTree(path)
        }
    }

    @Test func damageInTheMiddleIsAGapNotTheEnd() async throws {
        let fixture = try LogFixture()
        let log = try fixture.open()
        let line = String(repeating: "x", count: 99) + "\n"
        for _ in 0..<2500 { log.add(line) }
        let names = try Files.list(fixture.path)
        #expect(names.count >= 3)
        let victim = "\(fixture.path)/\(names[1].name)"
        var bytes = try Files.read(victim, limit: 1 << 20)
        bytes[bytes.count / 2] ^= 1
        try Files.writeAtomically(victim, bytes)
        let records = try await log.all()
        let gap = try #require(records.compactMap(\.gap).first)
        #expect(gap % 100 == 0 && gap > 0 && records.compactMap(\.line).count * 100 + Int(gap) == 250_000)
    }

    @Test func killedWhileAppendingNothingIsLostOrDoubled() async throws {
        let fixture = try LogFixture(limits: LogLimits(totalBytes: 64 << 20))
        try await onLoop { loop in
            var acknowledged: UInt64 = 0
            var checked: UInt64 = 0
            for round in 0..<5 {
                let child = try ChildProcess.spawn(
                    ProcessSpec(
                        executable: try helper(), arguments: ["helper", "log-append", fixture.path], stdout: .pipe),
                    on: loop)
                let stdout = try #require(child.stdout)
                var buffer = ByteBuffer()
                var told: [UInt8] = []
                while told.count < 8 * 100 * (round + 1) {
                    guard try await stdout.read(into: &buffer, atMost: 4096) > 0 else { break }
                    told += buffer.takeAll()
                }
                child.signal(9)
                _ = try await child.wait()
                while try await stdout.read(into: &buffer, atMost: 65536) > 0 { told += buffer.takeAll() }
                let last = told[(told.count / 8 * 8 - 8)..<(told.count / 8 * 8)]
                let told64 = last.reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
                #expect(told64 > acknowledged, "round \(round)")
                acknowledged = told64
                let log = try fixture.open()
                let process = LogProcess(run: 1)
                let saved = log.savedOffset(process, .stdout)
                #expect(saved >= acknowledged)
                // What earlier rounds have checked is the same file.
                let bytes = try await log.rawJoined(process, from: checked)
                #expect(bytes.count == Int(saved - checked))
                let wrong = bytes.indices.first { bytes[$0] != Self.byte(checked + UInt64($0)) }
                #expect(wrong == nil)
                checked = saved
                log.close()
            }
        }
    }

    /// The same as in the helper.
    private static func byte(_ offset: UInt64) -> UInt8 {
        offset % 61 == 60 ? 10 : UInt8(truncatingIfNeeded: offset &* 2_654_435_761 >> 7)
    }

    @Test func whatIsSentAgainIsNotStoredAgain() async throws {
        let log = try LogFixture().open()
        let bytes = Array("0123456789".utf8)
        #expect(log.append(bytes.span, of: main, .stdout, at: 0).offset == 10)
        #expect(log.append(bytes.span, of: main, .stdout, at: 0).offset == 10)
        #expect(log.append(bytes.span, of: main, .stdout, at: 5).offset == 15)
        #expect(try await log.rawJoined() == Array("012345678956789".utf8))
    }

    @Test func whatIsMissingIsAGap() async throws {
        let log = try LogFixture().open()
        log.add("ab")
        let saved = log.append(Array("xy\n".utf8).span, of: main, .stdout, at: 100)
        #expect(saved.offset == 103 && saved.event == nil)
        #expect(try await log.all().map(\.short) == ["o:ab~", "o:gap 98", "o:xy"])
        #expect(
            try await log.raw() == [
                .bytes(Array("ab".utf8), offset: 0), .gap(98), .bytes(Array("xy\n".utf8), offset: 100),
            ])
    }

    @Test func rawBytesBeginAtAnyOffset() async throws {
        let fixture = try LogFixture()
        let log = try fixture.open()
        let whole = Array(repeatElement(UInt8(65), count: 10_000)).indices.map { UInt8(truncatingIfNeeded: $0) }
        for at in stride(from: 0, to: 10_000, by: 777) {
            log.add(Array(whole[at..<min(at + 777, 10_000)]))
            log.add("noise\n", LogProcess(run: 0, execID: "x-9"))
        }
        let again = try fixture.open()
        for from in [0, 1, 776, 777, 778, 5000, 9999, 10_000] {
            #expect(try await again.rawJoined(from: UInt64(from)) == Array(whole[from...]), "from \(from)")
        }
        var reader = again.rawBytes(of: main, .stdout, from: 9_999)
        #expect(try await reader.next() == .bytes([whole[9999]], offset: 9999))
        #expect(try await reader.next() == nil)
        again.add("more")
        #expect(try await reader.next() == .bytes(Array("more".utf8), offset: 10_000))
    }

    @Test func rotationKeepsTheBoundAndTheOffsets() async throws {
        let fixture = try LogFixture()
        let log = try fixture.open()
        let idle = LogProcess(run: 0, execID: "x-idle")
        log.add("waits", idle, .stderr)
        let gone = LogProcess(run: 0, execID: "x-gone")
        log.add("done\n", gone)
        _ = log.finish(gone, .stdout)
        var lines = 0
        while log.position < 10 << 20 {
            log.add("line \(lines) " + String(repeating: "y", count: lines % 3000) + "\n")
            lines += 1
            #expect(log.storedBytes <= 1 << 20)
        }
        #expect(try fixture.bytesOnDisk <= 1 << 20)
        let records = try await log.all()
        #expect(records.last?.line?.hasPrefix("line \(lines - 1) ") == true)
        #expect(try await log.all(LogQuery(tail: 1)).map(\.line) == [records.last?.line])
        let again = try fixture.open()
        #expect(again.savedOffset(idle, .stderr) == 5 && again.savedOffset(gone, .stdout) == 5)
        #expect(again.savedOffset(main, .stdout) == log.savedOffset(main, .stdout))
        #expect(again.position == log.position)
        let raw = try await again.raw(from: 0)
        guard case .gap(let gap) = raw.first else { Issue.record("no gap: \(raw.count)"); return }
        #expect(gap + UInt64(try await again.rawJoined().count) == again.savedOffset(main, .stdout))
    }

    @Test func aGibibyteStaysWithinTheBound() async throws {
        let fixture = try LogFixture()
        try await onLoop { loop in
            let result = try await runProcess(
                ProcessSpec(executable: try helper(), arguments: ["helper", "log-flood", fixture.path, "16384"]),
                input: [], outputLimit: 1000, deadline: .seconds(60), on: loop)
            let numbers = String(decoding: result.stdout, as: UTF8.self).split { $0 == " " || $0 == "\n" }.compactMap {
                UInt64($0)
            }
            try #require(numbers.count == 3 && result.status.isSuccess)
            #expect(numbers[1] <= 64 << 20 && numbers[1] > 48 << 20)
            #expect(numbers[2] < 48 << 10, "resident KiB")
        }
        #expect(try fixture.bytesOnDisk <= 64 << 20)
    }

    @Test func aFullDiskIsToldOnceAndTheLogRecovers() async throws {
        let fixture = try LogFixture(limits: LogLimits(totalBytes: 64 << 20))
        let place = fixture.directory.path("small")
        try Files.makeDirectories(place)
        try Mounts.mount("none", on: place, type: "tmpfs", data: "size=1m")
        defer { try? Mounts.unmount(place, detach: true) }
        let log = try fixture.open("\(place)/log")
        log.add("before\n")
        try FileDescriptor.open("\(place)/filler", [.writeOnly, .create]).writeAll(
            [UInt8](repeating: 1, count: 900 << 10)[...])
        let chunk = [UInt8](repeating: 120, count: 65_535) + [10]
        var events: [LogEvent] = []
        for _ in 0..<10 { if let event = log.add(chunk).event { events.append(event) } }
        #expect(events.count == 1)
        guard case .failing(let error) = events.first else { Issue.record("\(events)"); return }
        #expect(error.code == "log-disk-full" && log.obstacle == error)
        // The workload is never stopped for it: everything counts as taken.
        #expect(log.savedOffset(main, .stdout) == 7 + 10 * 65_536)
        let stored = try await log.all().filter { $0.line?.first == "x" }.count
        try Files.removeFile("\(place)/filler")
        let lost = UInt64((10 - stored) * 65_536)
        #expect(log.add("after\n").event == .recovered(lostBytes: lost))
        #expect(log.add("and on\n").event == nil && log.obstacle == nil)
        let short = try await log.all().map(\.short).filter { !$0.contains("xxx") }
        #expect(short == ["o:before", "o:gap \(lost)", "o:after", "o:and on"])
        let again = try fixture.open("\(place)/log")
        #expect(again.savedOffset(main, .stdout) == 7 + 10 * 65_536 + 6 + 7)
        let gaps = try await again.all().filter { $0.gap != nil }
        #expect(gaps.map(\.gap) == [lost] && gaps.first?.gapReason == "not-written")
        again.close()
        log.close()
    }

    @Test func whatWasLostAtTheEndOfARunIsToldInTheNext() async throws {
        let fixture = try LogFixture()
        let place = fixture.directory.path("small")
        try Files.makeDirectories(place)
        try Mounts.mount("none", on: place, type: "tmpfs", data: "size=1m")
        defer { try? Mounts.unmount(place, detach: true) }
        let log = try fixture.open("\(place)/log")
        log.add("before\n")
        // Every block of the disk, and then the rest of the log's last one.
        try? FileDescriptor.open("\(place)/filler", [.writeOnly, .create]).writeAll(
            [UInt8](repeating: 1, count: 1 << 20)[...])
        while log.add("z\n").event == nil {}
        // The end has no room: neither the count of what is missing nor the end itself.
        #expect(log.finish(main, .stdout).event == nil)
        #expect(try await log.all().allSatisfy { $0.gap == nil } && log.obstacle != nil)
        try Files.removeFile("\(place)/filler")
        let next = LogProcess(run: log.beginRun().run)
        #expect(try await log.all().compactMap(\.gap) == [2])
        #expect(log.add("on\n", next).event == .recovered(lostBytes: 2) && log.obstacle == nil)
        log.close()
    }

    @Test func aLogOfANewerVersionIsRefused() throws {
        let fixture = try LogFixture()
        try fixture.open().add("x\n")
        let path = try segment(fixture.path)
        var bytes = try Files.read(path, limit: 1 << 20)
        bytes[8] = 9
        try Files.writeAtomically(path, bytes)
        let error = #expect(throws: AegisError.self) { try fixture.open() }
        #expect(error?.code == "log-version" && error?.message.contains("9") == true)
    }

    @Test func aSegmentThatWasNeverFinishedIsIgnored() async throws {
        let fixture = try LogFixture()
        try fixture.open().add("kept\n")
        try Files.writeAtomically("\(fixture.path)/0000000000000002.log.new", [1, 2, 3])
        try Files.writeAtomically("\(fixture.path)/0000000000000003.log", [])
        let log = try fixture.open()
        #expect(try await log.all().map(\.line) == ["kept"] && log.savedOffset(main, .stdout) == 5)
        #expect(try Files.list(fixture.path).count == 1)
    }

    @Test func aThousandExecsLeaveNoTrace() async throws {
        let fixture = try LogFixture()
        let log = try fixture.open()
        for number in 0..<1000 {
            let exec = LogProcess(run: 0, execID: "x-\(number)")
            log.add("output\n", exec)
            _ = log.finish(exec, .stdout)
            _ = log.forget(exec)
        }
        #expect(log.processes.isEmpty)
        #expect(try fixture.openFiles < 50)
        #expect(try fixture.open().processes.isEmpty)
    }

    @Test func masksNeverBreakTheOffsets() async throws {
        let fixture = try LogFixture()
        let secret = "hunter2"
        let output = Array("a hunter2 b hunhunter2hunt\nlast hun".utf8)
        for step in 1...output.count {
            let path = fixture.directory.path("m\(step)")
            var sent = 0
            while sent < output.count {
                // A new daemon each time: what the mask held back was not saved, so it comes again.
                let log = try fixture.open(path)
                log.setMask { Stars(secret: Array(secret.utf8)) }
                sent = Int(log.savedOffset(main, .stdout))
                let end = min(sent + step + secret.utf8.count, output.count)
                let saved = log.append(output[sent..<end].span, of: main, .stdout, at: UInt64(sent))
                #expect(saved.offset <= UInt64(end) && saved.offset == log.savedOffset(main, .stdout))
                if end == output.count {
                    #expect(log.finish(main, .stdout).offset == UInt64(output.count))
                    sent = end
                }
                log.close()
            }
            let text = try await String(decoding: fixture.open(path).rawJoined(), as: UTF8.self)
            #expect(text == "a ******* b hun*******hunt\nlast hun", "step \(step)")
        }
    }

    /// Puts stars for one secret, and holds back what may become it.
    struct Stars: LogMask {
        let secret: [UInt8]
        var held: [UInt8] = []
        init(secret: [UInt8]) { self.secret = secret }
        mutating func push(_ bytes: Span<UInt8>, into out: inout [UInt8]) -> Int {
            for index in bytes.indices {
                held.append(bytes[index])
                while !secret.starts(with: held) { out.append(held.removeFirst()) }
                if held == secret {
                    out += [UInt8](repeating: 42, count: secret.count)
                    held = []
                }
            }
            return held.count
        }
        mutating func flush(into out: inout [UInt8]) {
            out += held
            held = []
        }
    }
}
