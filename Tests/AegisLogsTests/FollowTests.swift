import AegisCore
import AegisIO
import AegisLogs
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

@Suite struct LogFollowTests {
    @Test func manyFollowersGetEverythingInOrder() async throws {
        let fixture = try LogFixture(limits: LogLimits(totalBytes: 64 << 20))
        let log = try fixture.open()
        log.add("0\n1\n2\n")
        let total = 5000
        try await withThrowingTaskGroup(of: [String?].self) { group in
            for _ in 0..<8 {
                group.addTask { try await log.all(LogQuery(follow: true)).map(\.line) }
            }
            group.addTask {
                for number in 3..<total {
                    log.add(number % 2 == 0 ? "\(number)\n" : "\(number)")
                    if number % 2 == 1 { log.add("\n") }
                    if number % 100 == 0 { await Task.yield() }
                }
                log.markEnded()
                return []
            }
            let wanted = (0..<total).map { Optional("\($0)") }
            for try await lines in group where !lines.isEmpty { #expect(lines == wanted) }
        }
    }

    @Test func aSleepingFollowerIsOvertakenAndToldHowMuchItMissed() async throws {
        let fixture = try LogFixture()
        let log = try fixture.open()
        log.add("first\n")
        var iterator = log.records(LogQuery(follow: true)).makeAsyncIterator()
        #expect(try await iterator.next()?.line == "first")
        let line = String(repeating: "z", count: 99) + "\n"
        // The writer never waits: five times what is kept goes by.
        while log.position < 5 << 20 { log.add(line) }
        log.markEnded()
        let gap = try #require(try await iterator.next())
        let missed = try #require(gap.gap)
        #expect(gap.stream == "system" && gap.gapReason == "rotated" && missed % 100 == 0)
        var lines: UInt64 = 0
        while let record = try await iterator.next() {
            #expect(record.line?.utf8.count == 99 && record.gap == nil)
            lines += 1
        }
        #expect(6 + missed + lines * 100 == log.position)
        #expect(log.storedBytes <= 1 << 20)
    }

    @Test func followersEndWithTheLog() async throws {
        for end in ["ended", "closed", "deleted"] {
            let fixture = try LogFixture()
            let log = try fixture.open()
            log.add("open line")
            async let followed = log.all(LogQuery(follow: true))
            log.add(" goes on")
            switch end {
            case "ended": log.markEnded()
            case "closed": log.close()
            default:
                // What was read before the files went is given; the rest is gone with them.
                try log.delete()
                try log.delete()
                #expect(!Files.exists(fixture.path))
            }
            let records = try? await followed.map(\.short)
            if end != "deleted" { #expect(records == ["o:open line goes on~"], "\(end)") }
            #expect(log.add("late").event == nil)
        }
    }

    @Test func aNewRunKeepsFollowersThatCameBefore() async throws {
        let log = try LogFixture().open()
        var iterator = log.records(LogQuery(follow: true)).makeAsyncIterator()
        log.add("one\n")
        #expect(try await iterator.next()?.line == "one")
        log.markEnded()
        let run = LogProcess(run: log.beginRun().run)
        log.add("two\n", run)
        #expect(try await iterator.next()?.line == "two")
        log.markEnded()
        #expect(try await iterator.next() == nil)
    }

    @Test func aCancelledFollowerEnds() async throws {
        let log = try LogFixture().open()
        let seen = Counter()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for try await _ in log.records(LogQuery(follow: true)) { seen.value.add(1, ordering: .relaxed) }
            }
            log.add("x\n")
            while seen.value.load(ordering: .relaxed) == 0 { await Task.yield() }
            group.cancelAll()
            try await group.waitForAll()
        }
        #expect(seen.value.load(ordering: .relaxed) == 1)
    }

    final class Counter: Sendable { let value = Atomic<Int>(0) }

    @Test func readingEndsAlthoughTheWriterGoesOn() async throws {
        let fixture = try LogFixture(limits: LogLimits(totalBytes: 8 << 20))
        let log = try fixture.open()
        log.add("a\nb\n")
        var iterator = log.records().makeAsyncIterator()
        var lines: [String?] = []
        while let record = try await iterator.next() {
            lines.append(record.line)
            log.add("more\n")
        }
        #expect(lines == ["a", "b"])
    }

    @Test func aFloodWithAStalledFollowerKeepsItsPace() async throws {
        let fixture = try LogFixture(limits: LogLimits(totalBytes: 4 << 20))
        let log = try fixture.open()
        log.add("x\n")
        var stalled = log.records(LogQuery(follow: true)).makeAsyncIterator()
        _ = try await stalled.next()
        let descriptors = try Files.list("/proc/self/fd").filter {
            (try? Files.readLink("/proc/self/fd/\($0.name)"))?.hasPrefix(fixture.path) == true
        }
        // The directory and the newest segment; a follower holds nothing.
        #expect(descriptors.count == 2)
        let chunk = [UInt8](repeating: 10, count: 1 << 16)
        for _ in 0..<500 { log.add(chunk) }
        #expect(try fixture.bytesOnDisk <= 4 << 20)
        #expect(try await stalled.next()?.gap != nil)
    }
}
