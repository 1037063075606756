import AegisWire
import Testing

@testable import AegisHTTPClient

@Suite struct TransferMachineTests {
    private static let limits = ClientTimeouts(
        connect: .seconds(1), firstByte: .seconds(2), idle: .seconds(3), total: .seconds(10))
    private static let second: UInt64 = 1_000_000_000

    private func machine(maximum: Int = 1 << 20) -> TransferMachine {
        var machine = TransferMachine(maximumBody: maximum)
        for line in ["HTTP/1.1 200 OK\r\n", "A: b\r\n", "\r\n"] { _ = machine.line(Array(line.utf8)) }
        return machine
    }

    private func same<T: Equatable>(_ found: T, _ expected: T, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(found == expected, sourceLocation: sourceLocation)
    }

    @Test func eachPhaseHasItsLimitAndTheWholeOneOverAll() {
        var times = TransferTimes(Self.limits, now: 0)
        #expect(times.next == (.connect, Self.second))
        times.enter(.waiting, now: Self.second / 2)
        #expect(times.next == (.firstByte, 5 * Self.second / 2))
        times.enter(.receiving, now: 2 * Self.second)
        #expect(times.passed(now: 5 * Self.second - 1) == nil)
        #expect(times.passed(now: 5 * Self.second) == .idle)
        // Its reader's slowness is not the server's.
        times.enter(.paused, now: 4 * Self.second)
        #expect(times.passed(now: 10 * Self.second - 1) == nil)
        #expect(times.passed(now: 10 * Self.second) == .total)
        times.enter(.receiving, now: 9 * Self.second)
        #expect(times.next == (.total, 10 * Self.second))
    }

    @Test func anAgeIsNoOverflow() {
        let long = ClientTimeouts(
            connect: .seconds(Int64.max), firstByte: .seconds(1), idle: .seconds(1), total: .seconds(Int64.max))
        #expect(TransferTimes(long, now: .max - 5).next.at == .max)
    }

    @Test func interimAnswersAndTrailersAreNotTheHead() {
        var reader = HeadReader()
        var heads: [ClientResponseHead] = []
        for line in [
            "HTTP/1.1 103 Early Hints\r\n", "Link: x\r\n", "\r\n", "HTTP/2 204 \r\n", "x-a:  b \r\n", " folded\r\n",
            "x-a: c\r\n",
            "nonsense\r\n", "bad name: x\r\n", "\r\n", "trailer: t\r\n", "\r\n",
        ] {
            if case .head(let head) = reader.take(Array(line.utf8)) { heads.append(head) }
        }
        #expect(heads == [ClientResponseHead(status: 204, headers: heads.first?.headers ?? [:], isHTTP2: true)])
        #expect(heads.first?.headers.all("x-a") == ["b", "c"])
        #expect(heads.first?.headers.contains("link") == false)
    }

    @Test(arguments: [
        "HTTP/1.1 99 x\r\n", "HTTP/1.1\r\n", "HTTP/1.1 2000 x\r\n", "\r\n", "A: b\r\n", "HTTP/1.1 abc\r\n",
    ])
    func whatIsNoHeadFails(_ line: String) {
        var reader = HeadReader()
        guard case .failed = reader.take(Array(line.utf8)) else { return #expect(Bool(false), "\(line)") }
    }

    @Test func headersAreBounded() {
        var reader = HeadReader()
        _ = reader.take(Array("HTTP/1.1 200 OK\r\n".utf8))
        var taken = 0
        while case .more = reader.take(Array("a: b\r\n".utf8)) { taken += 1 }
        #expect(taken == HeadReader.maximumFields)
        var large = HeadReader()
        _ = large.take(Array("HTTP/1.1 200 OK\r\n".utf8))
        let line = Array("a: \(String(repeating: "x", count: 60_000))\r\n".utf8)
        var lines = 0
        while case .more = large.take(line) { lines += 1 }
        #expect(lines == 4)
    }

    @Test func aSlowReaderStopsTheSenderAndResumesItOnce() {
        var machine = machine()
        let room = [UInt8](repeating: 1, count: TransferMachine.room)
        same(machine.body(room), .taken)
        same(machine.body([2]), .later)
        let early = machine.resume()
        #expect(machine.isPaused && !early)
        same(machine.take(), .bytes(room))
        same(machine.take(), .nothingYet)
        let resumed = [machine.resume(), machine.resume()]
        #expect(resumed == [true, false])
        same(machine.body([2]), .taken)
        machine.finish(.success(()))
        same(machine.take(), .bytes([2]))
        same(machine.take(), .end)
    }

    @Test func bytesBeyondTheLimitStopItAndTheReasonIsOurs() {
        var machine = machine(maximum: 3)
        same(machine.body([1, 2, 3]), .taken)
        same(machine.body([4]), .stop)
        machine.finish(.failure(HTTPClientError(.cut, "curl's words")))
        same(machine.take(), .bytes([1, 2, 3]))
        guard case .failed(let error) = machine.take() else { return #expect(Bool(false)) }
        #expect(error.kind == .tooLarge)
    }

    @Test func anEndWithoutAnAnswerIsNone() {
        var machine = TransferMachine(maximumBody: 1)
        machine.finish(.success(()))
        guard case .failed(let error) = machine.take() else { return #expect(Bool(false)) }
        #expect(error.kind == .cut)
        // Only the first end counts.
        machine.finish(.failure(.cancelled))
        same(machine.take(), .failed(error))
    }
}
