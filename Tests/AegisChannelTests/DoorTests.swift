import AegisChannel
import AegisTestSupport
import Testing

/// Both ends of a door, joined by queues that deliver in pieces.
struct JoinedDoor {
    var harness = DoorLink(.harness)
    var daemon = DoorLink(.daemon)
    /// What is on its way, and what has arrived and is no whole frame yet.
    var up = ByteQueue()
    var down = ByteQueue()
    var atDaemon = ByteQueue()
    var atHarness = ByteQueue()

    static func move(_ count: Int, from: inout ByteQueue, to: inout ByteQueue) {
        let count = min(count, from.count)
        to.append(from.bytes(at: 0, count: count))
        from.consume(count)
    }

    /// The next event at the daemon, with the bytes of data.
    mutating func nextAtDaemon() throws -> (DoorEvent, [UInt8])? {
        guard let header = try atDaemon.doorFrame() else { return nil }
        let event = try daemon.take(header, in: atDaemon)
        let bytes = atDaemon.bytes(at: Door.headerSize, count: header.length)
        atDaemon.consumeDoorFrame(header)
        return (event, bytes)
    }

    mutating func nextAtHarness() throws -> (DoorEvent, [UInt8])? {
        guard let header = try atHarness.doorFrame() else { return nil }
        let event = try harness.take(header, in: atHarness)
        let bytes = atHarness.bytes(at: Door.headerSize, count: header.length)
        atHarness.consumeDoorFrame(header)
        return (event, bytes)
    }

    /// Everything arrives.
    mutating func settle() throws -> (daemon: [DoorEvent], harness: [DoorEvent]) {
        var events: ([DoorEvent], [DoorEvent]) = ([], [])
        Self.move(.max, from: &up, to: &atDaemon)
        while let (event, _) = try nextAtDaemon() { events.0.append(event) }
        Self.move(.max, from: &down, to: &atHarness)
        while let (event, _) = try nextAtHarness() { events.1.append(event) }
        return events
    }

    mutating func send(_ number: UInt32, _ bytes: [UInt8], up isUp: Bool) {
        if isUp {
            up.append(harness.data(number, count: bytes.count))
            up.append(bytes)
        } else {
            down.append(daemon.data(number, count: bytes.count))
            down.append(bytes)
        }
    }
}

@Suite struct DoorTests {
    /// One direction of one connection of the random test.
    private struct Flow {
        var toSend: [UInt8]
        var sent = 0
        var finished = false
        var received: [UInt8] = []
        var ended = false
        /// Bytes received and not granted again.
        var ungranted = 0
    }
    private struct Talk {
        var up: Flow
        var down: Flow
        var isReset = false
    }

    @Test(arguments: 1...6 as ClosedRange<UInt64>) func whateverTheOrderEveryByteArrivesOnceAndInOrder(seed: UInt64)
        throws
    {
        var random = Mutator(seed: seed)
        var door = JoinedDoor()
        var talks: [UInt32: Talk] = [:]
        var opened = 0
        var turns = 0
        func flow() -> Flow { Flow(toSend: random.bytes(random.below(3) == 0 ? 0 : random.below(40_000))) }
        while opened < 75 || talks.values.contains(where: { !$0.isReset && !($0.up.ended && $0.down.ended) }) {
            turns += 1
            try #require(turns < 400_000, "it hangs: \(door.harness.count) and \(door.daemon.count) are open")
            if opened < 75, random.below(8) == 0, let number = door.harness.open(.port, into: &door.up) {
                opened += 1
                talks[number] = Talk(up: flow(), down: flow())
            }
            if let number = talks.keys.sorted().filter({ talks[$0]?.isReset == false }).randomElement(using: &random),
                var talk = talks[number]
            {
                let isUp = random.below(2) == 0
                step(&talk, number, up: isUp, &door, &random)
                talks[number] = talk
            }
            JoinedDoor.move(random.below(40_000), from: &door.up, to: &door.atDaemon)
            JoinedDoor.move(random.below(40_000), from: &door.down, to: &door.atHarness)
            while let (event, bytes) = try door.nextAtDaemon() { try take(event, bytes, up: true, &talks, &door) }
            while let (event, bytes) = try door.nextAtHarness() { try take(event, bytes, up: false, &talks, &door) }
            #expect(door.daemon.count <= door.harness.count && door.harness.count <= Door.connectionLimit)
        }
        _ = try door.settle()
        #expect(door.harness.count == 0 && door.daemon.count == 0)
        for talk in talks.values where !talk.isReset {
            #expect(talk.up.received == talk.up.toSend && talk.down.received == talk.down.toSend)
        }
    }

    /// Sends a piece, finishes, grants, or (rarely) breaks off.
    private func step(
        _ talk: inout Talk, _ number: UInt32, up: Bool, _ door: inout JoinedDoor, _ random: inout Mutator
    ) {
        if random.below(3000) == 0 {
            talk.isReset = true
            if up { door.harness.reset(number, into: &door.up) } else { door.daemon.reset(number, into: &door.down) }
            return
        }
        let path = up ? \Talk.up : \Talk.down
        let room = up ? door.harness.room(number) : door.daemon.room(number)
        let rest = talk[keyPath: path].toSend.count - talk[keyPath: path].sent
        if let room, rest > 0 {
            let count = min(rest, min(room, 1 + random.below(20_000)))
            let from = talk[keyPath: path].sent
            // A daemon that has not heard of the connection has no room in it.
            if count > 0 { door.send(number, Array(talk[keyPath: path].toSend[from..<from + count]), up: up) }
            talk[keyPath: path].sent += count
        } else if rest == 0, !talk[keyPath: path].finished, room != nil {
            talk[keyPath: path].finished = true
            if up { door.harness.finish(number, into: &door.up) } else { door.daemon.finish(number, into: &door.down) }
        }
        // What was received is granted at some time, by its receiver.
        guard random.below(2) == 0 else { return }
        if up {
            door.harness.grant(number, talk.down.ungranted, into: &door.up)
            talk.down.ungranted = 0
        } else {
            door.daemon.grant(number, talk.up.ungranted, into: &door.down)
            talk.up.ungranted = 0
        }
    }

    private func take(
        _ event: DoorEvent, _ bytes: [UInt8], up: Bool, _ talks: inout [UInt32: Talk], _ door: inout JoinedDoor
    ) throws {
        let path = up ? \Talk.up : \Talk.down
        switch event {
        case .data(let number):
            talks[number]?[keyPath: path].received += bytes
            talks[number]?[keyPath: path].ungranted += bytes.count
        case .finished(let number):
            #expect(talks[number]?[keyPath: path].ended == false)
            talks[number]?[keyPath: path].ended = true
        case .reset(let number): talks[number]?.isReset = true
        case .none, .opened, .credit, .begin: break
        }
    }

    @Test func oneThatDoesNotReadHoldsUpNobodyElse() throws {
        var door = JoinedDoor()
        let slow = try #require(door.harness.open(.port, into: &door.up))
        let quick = try #require(door.harness.open(.socket, into: &door.up))
        _ = try door.settle()
        while let room = door.daemon.room(slow), room > 0 {
            door.send(slow, [UInt8](repeating: 1, count: room), up: false)
        }
        for _ in 0..<100 {
            let room = try #require(door.daemon.room(quick))
            #expect(room > 0)
            door.send(quick, [UInt8](repeating: 2, count: room), up: false)
            #expect(try door.settle().harness.contains(.data(quick)))
            door.harness.grant(quick, room, into: &door.up)
            _ = try door.settle()
        }
        #expect(door.daemon.room(slow) == 0)
    }

    @Test func thereAreNotMoreThanThereMayBe() throws {
        var door = JoinedDoor()
        for _ in 0..<Door.connectionLimit { #expect(door.harness.open(.port, into: &door.up) != nil) }
        #expect(door.harness.open(.port, into: &door.up) == nil)
        _ = try door.settle()
        door.daemon.reset(5, into: &door.down)
        _ = try door.settle()
        #expect(door.harness.open(.port, into: &door.up) == 65)
        #expect(try door.settle().daemon == [.opened(65)])
    }

    @Test func anotherDaemonEndsWhatItDoesNotKnowAndServesTheRest() throws {
        var door = JoinedDoor()
        let known = try #require(door.harness.open(.port, into: &door.up))
        _ = try door.settle()
        door.daemon.grant(known, 0, into: &door.down)
        _ = try door.settle()
        door.send(known, [1, 2, 3], up: true)
        // The daemon dies; of this one it has not said that it knows it, so it is told again.
        let late = try #require(door.harness.open(.port, into: &door.up))
        door.send(late, [4], up: true)
        door.daemon = DoorLink(.daemon, resumes: true)
        door.daemon.begin(into: &door.down)
        JoinedDoor.move(.max, from: &door.down, to: &door.atHarness)
        #expect(try door.nextAtHarness()?.0 == .begin)
        #expect(door.harness.restart(into: &door.up) == [known])
        #expect(try door.settle().daemon == [.none, .opened(late), .data(late), .none, .none])
        #expect(door.harness.isOpen(late) && !door.harness.isOpen(known))
        // From here on it is a breach to speak of what never was.
        door.atDaemon.append(DoorHeader(.finish, 77, length: 0).encoded)
        #expect(throws: DoorBreach("a frame of a connection that was never opened")) { try door.nextAtDaemon() }
    }

    /// What a daemon does not take from a harness, after connection 1 was opened and finished by the program.
    static let breaches: [(String, [UInt8])] = [
        ("an unknown frame", [7, 0, 0, 0, 0, 0, 0, 1]), ("an unknown frame", [3, 1, 0, 0, 0, 0, 0, 1]),
        ("a frame of a wrong length", [3, 0, 0, 0, 0, 0, 0, 1]),
        ("a frame of a wrong length", [3, 0, 0x40, 1, 0, 0, 0, 1]),
        ("a frame of a wrong length", [6, 0, 0, 3, 0, 0, 0, 1]),
        ("a frame of the other side", [0, 0, 0, 0, 0, 0, 0, 0]),
        ("a frame of the other side", [2, 0, 0, 1, 0, 0, 0, 2, 9]),
        ("a connection's number was used before", [2, 0, 0, 1, 0, 0, 0, 1, 0]),
        ("a beginning that nobody asked for", [1, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9]),
        ("a frame of a connection that was never opened", [5, 0, 0, 0, 0, 0, 0, 2]),
        ("a frame of a connection that was never opened", [5, 0, 0, 0, 0, 0, 0, 0]),
        ("bytes after the last one", [3, 0, 0, 1, 0, 0, 0, 1, 9]),
        ("bytes after the last one", [4, 0, 0, 0, 0, 0, 0, 1]),
        ("too large a window", [6, 0, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]),
    ]

    @Test(arguments: breaches) func aBreachIsNamed(reason: String, bytes: [UInt8]) throws {
        var door = JoinedDoor()
        _ = door.harness.open(.port, into: &door.up)
        door.harness.finish(1, into: &door.up)
        _ = try door.settle()
        door.atDaemon.append(bytes)
        do {
            _ = try door.nextAtDaemon()
            Issue.record("taken")
        } catch let error as DoorBreach {
            #expect(String(decoding: error.text, as: UTF8.self) == reason)
        }
    }

    @Test func moreThanTheWindowIsABreach() throws {
        var door = JoinedDoor()
        _ = door.harness.open(.port, into: &door.up)
        door.send(1, [UInt8](repeating: 0, count: Door.firstWindow), up: true)
        _ = try door.settle()
        door.send(1, [0], up: true)
        #expect(throws: DoorBreach("more bytes than the window allows")) { try door.settle() }
    }

    /// Damaged frames are refused or are valid ones; nothing traps, and nothing grows beyond its limits.
    @Test(arguments: 1...10 as ClosedRange<UInt64>) func damageDoesNoHarm(seed: UInt64) throws {
        var random = Mutator(seed: seed)
        var door = JoinedDoor()
        for _ in 0..<20 { _ = door.harness.open(.port, into: &door.up) }
        for number in 1...20 as ClosedRange<UInt32> {
            door.send(number, random.bytes(1 + random.below(300)), up: true)
            if random.below(2) == 0 { door.harness.finish(number, into: &door.up) }
            door.harness.grant(number, random.below(1000), into: &door.up)
            if random.below(3) == 0 { door.harness.reset(number, into: &door.up) }
        }
        let valid = door.up.bytes(at: 0, count: door.up.count)
        for _ in 0..<50 {
            for side in [DoorLink.Side.daemon, .harness] {
                var link = DoorLink(side, resumes: random.below(2) == 0)
                var queue = ByteQueue()
                queue.append(random.mutate(valid))
                do throws(DoorBreach) {
                    while let header = try queue.doorFrame() {
                        _ = try link.take(header, in: queue)
                        queue.consumeDoorFrame(header)
                    }
                } catch { #expect(!error.text.isEmpty) }
                #expect(link.count <= Door.connectionLimit)
            }
        }
    }

    @Test func whatIsSentIsWholeFrames() {
        var link = DoorLink(.harness)
        var queue = ByteQueue()
        for _ in 0..<3 { _ = link.open(.port, into: &queue) }
        #expect(queue.doorFrames(atMost: 100) == 27)
        #expect(queue.doorFrames(atMost: 26) == 18)
        #expect(queue.doorFrames(atMost: 8) == 0)
    }
}
