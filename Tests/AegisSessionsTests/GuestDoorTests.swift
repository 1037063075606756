import AegisChannel
import AegisIO
import AegisTestSupport
import Synchronization
import Testing

@testable import AegisSessions

/// The daemon's end of a door, without a channel: what it would send is not looked at here.
@Suite struct GuestDoorTests {
    private final class Nobody: SessionSink {
        func output(process: UInt16, _ kind: OutputKind, offset: UInt64, bytes: ArraySlice<UInt8>, end: Bool) {}
        func exited(process: UInt16, _ end: ProcessExited) {}
    }
    private final class Notes: Sendable {
        let texts = Mutex<[String]>([])
    }

    private func door(_ notes: Notes = Notes(), resuming known: ProcessState? = nil) -> GuestDoor {
        GuestDoor(on: HarnessSession(sink: Nobody()), resuming: known) { text in
            notes.texts.withLock { $0.append(text) }
        }
    }

    /// What a harness sends for connections that each send `text`.
    private func frames(_ texts: [String]) -> [UInt8] {
        var link = DoorLink(.harness)
        var queue = ByteQueue()
        for text in texts {
            guard let number = link.open(.port, into: &queue) else { continue }
            queue.append(link.data(number, count: text.utf8.count))
            queue.append(Array(text.utf8))
            link.finish(number, into: &queue)
        }
        return queue.bytes(at: 0, count: queue.count)
    }

    private func text(_ stream: DoorStream?) async throws -> String {
        var buffer = ByteBuffer()
        while let stream, try await stream.read(into: &buffer) > 0 {}
        return String(decoding: buffer.readable, as: UTF8.self)
    }

    @Test(arguments: [1, 3, 7, 1000]) func connectionsComeOutOfTheFramesHoweverTheyAreCut(size: Int) async throws {
        let door = door()
        let bytes = frames(["one", "two", "three"])
        for start in stride(from: 0, to: bytes.count, by: size) {
            let piece = bytes[start..<min(bytes.count, start + size)]
            door.output(.stdout, offset: UInt64(start), bytes: piece)
            // A new connection to the keeper: it comes again.
            door.output(.stdout, offset: UInt64(start), bytes: piece)
        }
        for expected in ["one", "two", "three"] {
            let stream = await door.accept()
            #expect(try await text(stream) == expected)
        }
        door.close()
        #expect(await door.accept() == nil)
    }

    /// A request alone sends nothing: its acknowledgement goes with the answer, or once much waits for one.
    @Test func acknowledgementsGoWithAnswers() async throws {
        let door = door()
        func data(_ count: Int) -> [UInt8] {
            DoorHeader(.data, 1, length: count).encoded + [UInt8](repeating: 7, count: count)
        }
        func isDue() -> Bool { door.state.withLock { $0.isDue } }
        func sent() async -> UInt64? { await door.nextBatch()?.dealt }
        var offset: UInt64 = 0
        func come(_ bytes: [UInt8]) {
            door.output(.stdout, offset: offset, bytes: bytes[...])
            offset += UInt64(bytes.count)
        }
        come(DoorHeader(.open, 1, length: 1).encoded + [0])
        // That a connection is known is said at once.
        #expect(isDue())
        let stream = try #require(await door.accept())
        #expect(await sent() == offset)
        come(data(100))
        #expect(!isDue())
        try await stream.write("answer")
        #expect(isDue())
        #expect(await sent() == offset)
        for _ in 0..<3 {
            come(data(5400))
            #expect(!isDue())
        }
        come(data(400))
        #expect(isDue())
        #expect(await sent() == offset)
        #expect(!isDue())
    }

    @Test func aBreachEndsTheDoorAndWhoeverWaitsInIt() async throws {
        let notes = Notes()
        let door = door(notes)
        var link = DoorLink(.harness)
        var queue = ByteQueue()
        _ = link.open(.port, into: &queue)
        let opening = queue.bytes(at: 0, count: queue.count)
        door.output(.stdout, offset: 0, bytes: opening[...])
        let stream = try #require(await door.accept())
        let reading = Task { try await text(stream) }
        let next = Task { await door.accept() == nil }
        door.output(.stdout, offset: UInt64(opening.count), bytes: [99, 0, 0, 0, 0, 0, 0, 1])
        await #expect(throws: IOError.self) { try await reading.value }
        #expect(await next.value)
        await #expect(throws: IOError.self) { try await stream.write("late") }
        // What comes after it says nothing any more.
        door.output(.stdout, offset: UInt64(opening.count + 8), bytes: opening[...])
        #expect(notes.texts.withLock { $0.count } == 1)
        #expect(notes.texts.withLock { $0.first?.contains("an unknown frame") } == true)
    }

    @Test func whatAnEarlierDaemonServedIsIgnored() async throws {
        let door = door(
            resuming: ProcessState(number: Door.process, stdinTaken: 40, stdoutAcknowledged: 900, stderrAcknowledged: 0)
        )
        var queue = ByteQueue()
        queue.append(DoorHeader(.data, 3, length: 2).encoded + [1, 2] + DoorHeader(.finish, 4, length: 0).encoded)
        queue.append(
            DoorHeader(.open, 9, length: 1).encoded + [0] + DoorHeader(.data, 9, length: 2).encoded + Array("hi".utf8))
        queue.append(DoorHeader(.finish, 9, length: 0).encoded)
        // One that the earlier daemon has dealt with as well: the harness says so before it answers `begin`, and nobody is handed it.
        queue.append(DoorHeader(.open, 10, length: 1).encoded + [0] + DoorHeader(.reset, 10, length: 0).encoded)
        queue.append(DoorHeader(.begun, 0, length: 4).encoded + [0, 0, 0, 10])
        door.output(.stdout, offset: 900, bytes: queue.bytes(at: 0, count: queue.count)[...])
        let stream = await door.accept()
        #expect(try await text(stream) == "hi")
    }

    @Test func waitingEndsWithItsTask() async throws {
        let door = door()
        door.output(.stdout, offset: 0, bytes: DoorHeader(.open, 1, length: 1).encoded[...] + [0])
        let stream = try #require(await door.accept())
        let tasks = [
            Task { try await text(stream) },
            Task {
                _ = await door.accept(); return ""
            },
        ]
        for task in tasks { task.cancel() }
        await #expect(throws: IOError.cancelled) { try await tasks[0].value }
        #expect(try await tasks[1].value == "")
    }

    @Test func aWriterGoesOnWithTheCreditOfItsConnection() async throws {
        let door = door()
        let opening = DoorHeader(.open, 1, length: 1).encoded + [0]
        door.output(.stdout, offset: 0, bytes: opening[...])
        let stream = try #require(await door.accept())
        async let writing: Void = stream.write([UInt8](repeating: 7, count: Door.downWindow + 10)[...])
        let credit = DoorHeader(.credit, 1, length: 4).encoded + [0, 0, 0, 10]
        door.output(.stdout, offset: UInt64(opening.count), bytes: credit[...])
        try await writing
    }
}
