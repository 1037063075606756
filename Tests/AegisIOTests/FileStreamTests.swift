import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct FileStreamTests {
    @Test(arguments: ["tcp", "unix"])
    func echoesOverASocket(_ kind: String) async throws {
        let directory = try TemporaryDirectory()
        try await onLoop { loop in
            let path = directory.path("s")
            let listener =
                kind == "tcp"
                ? try Listener.tcp(address: "127.0.0.1", port: 0, on: loop) : try Listener.unix(path: path, on: loop)
            async let server: Void = echo(listener.accept())
            let client =
                kind == "tcp"
                ? try await Connect.tcp(host: "localhost", port: listener.localPort(), on: loop)
                : try await Connect.unix(path: path, on: loop)
            let sent = pattern(300_000)
            async let received = client.readAll(limit: 400_000)
            try await client.write(sent)
            try client.closeWrite()
            #expect(try await received == sent)
            try await server
        }
    }

    /// So many bytes may move.
    private final class Budget: StreamMeter {
        let left: Shared<Int>
        let overruns = Shared(0)
        init(_ bytes: Int) { left = Shared(bytes) }
        func take(_ wanted: Int) -> Int {
            var given = 0
            left.change { left in
                given = min(wanted, left)
                left -= given
            }
            return given
        }
        func giveBack(_ count: Int) { left.change { $0 += count } }
        func overrun() -> IOError {
            overruns.change { $0 += 1 }
            return .closed
        }
    }

    /// In both directions together, by reads, writes and pipes, to the byte; the end is no byte.
    @Test func aMeterEndsAStreamAtItsLimit() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            let budget = Budget(100)
            a.setMeter(budget)
            try await a.write(pattern(30))
            var bytes = ByteBuffer()
            #expect(try await b.read(into: &bytes, atMost: 64) == 30)
            try await b.write(pattern(50))
            #expect(try await a.read(into: &bytes, atMost: 40) == 40 && budget.left.value == 30)
            let pipe = try SplicePipe()
            #expect(try a.splice(into: pipe, atMost: 1 << 20) == 10)
            #expect(try a.splice(from: pipe, count: 10) == 10 && budget.left.value == 10)
            #expect(await kind { try await a.write(pattern(11)) } == .closed)
            #expect(budget.left.value == 0 && budget.overruns.value == 1)
            #expect(try await b.read(into: &bytes, atMost: 64) == 20)
            #expect(try a.readNow(into: &bytes) == nil)
            try b.closeWrite()
            #expect(try await a.readAll(limit: 10).isEmpty && budget.overruns.value == 1)
        }
    }

    @Test func aMeterThatIsUsedUpReadsNoMore() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            let budget = Budget(5)
            a.setMeter(budget)
            try await b.write(pattern(6))
            var bytes = ByteBuffer()
            #expect(try await a.read(into: &bytes, atMost: 64) == 5)
            #expect(await kind { try await a.readNext(into: &bytes, atMost: 64) } == .closed)
            #expect(budget.overruns.value == 1)
        }
    }

    @Test func readsEndOfStreamAfterHalfCloseAndStillWrites() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            try await a.write("ask")
            try a.closeWrite()
            #expect(try await b.readAll(limit: 10) == Array("ask".utf8))
            try await b.write("answer")
            b.close()
            #expect(try await a.readAll(limit: 10) == Array("answer".utf8))
        }
    }

    @Test func writerWaitsWhileTheReaderStalls() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            let done = Shared(false)
            let sent = pattern(8 << 20)
            async let writing: Void = {
                try await a.write(sent)
                done.change { $0 = true }
                a.close()
            }()
            await settle()
            #expect(done.value == false)
            #expect(try await b.readAll(limit: 9 << 20) == sent)
            try await writing
            #expect(done.value)
        }
    }

    @Test func oneReaderAndOneWriterAtOnce() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            let sent = pattern(2 << 20)
            async let there: Void = {
                try await a.write(sent)
                try a.closeWrite()
            }()
            async let back: Void = {
                try await b.write(sent)
                try b.closeWrite()
            }()
            async let atA = a.readAll(limit: 3 << 20)
            async let atB = b.readAll(limit: 3 << 20)
            #expect(try await atA == sent)
            #expect(try await atB == sent)
            _ = try await (there, back)
        }
    }

    @Test func cancelledReadEndsOnceAndTakesNothing() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            let reading = Task(executorPreference: loop) {
                var buffer = ByteBuffer()
                return try await b.read(into: &buffer)
            }
            await settle()
            reading.cancel()
            #expect(await kind { try await reading.value } == .cancelled)
            // The stream goes on afterwards.
            try await a.write("x")
            var buffer = ByteBuffer()
            #expect(try await b.read(into: &buffer) == 1)
        }
    }

    @Test func readOfATaskThatWasCancelledBeforeTakesNothing() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            try await a.write("x")
            let reading = Task(executorPreference: loop) {
                var buffer = ByteBuffer()
                return try await b.read(into: &buffer)
            }
            reading.cancel()
            #expect(await kind { try await reading.value } == .cancelled)
            var buffer = ByteBuffer()
            #expect(try b.readNow(into: &buffer) == 1)
        }
    }

    @Test func cancelledWriteEnds() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            let writing = Task(executorPreference: loop) { try await a.write(pattern(8 << 20)) }
            await settle()
            writing.cancel()
            #expect(await kind { try await writing.value } == .cancelled)
            keep(b)
        }
    }

    /// Cancels from another thread at every point of a wait's registration.
    @Test func cancellationFromAnotherThreadNeverHangsOrResumesTwice() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            defer { keep(a) }
            for round in 0..<400 {
                let reading = Task(executorPreference: loop) {
                    var buffer = ByteBuffer()
                    return try await b.read(into: &buffer)
                }
                for _ in 0..<(round % 4) { await Task.yield() }
                // On the default pool, while this loop runs the reader.
                await Task.detached { reading.cancel() }.value
                #expect(await kind { try await reading.value } == .cancelled)
            }
        }
    }

    @Test func closeFromAnotherThreadEndsAWaitingReadAndWrite() async throws {
        try await onLoop { loop in
            for _ in 0..<100 {
                let (a, b) = try socketStreams(on: loop)
                async let reading = kind {
                    var buffer = ByteBuffer()
                    return try await a.read(into: &buffer)
                }
                async let writing = kind { try await a.write(pattern(4 << 20)) }
                await settle()
                await Task.detached { a.close() }.value
                #expect(await reading == .closed)
                #expect(await writing == .closed)
                a.close()
                keep(b)
            }
        }
    }

    /// A stale event or a late call must never reach the stream that got the same descriptor number.
    @Test func reusedNumbersDoNotMixStreams() async throws {
        try await onLoop { loop in
            for round in 0..<300 {
                let (a, b) = try socketStreams(on: loop)
                async let reading = kind {
                    var buffer = ByteBuffer()
                    return try await b.read(into: &buffer)
                }
                await settle()
                try await a.write("stale")
                b.close()
                let (c, d) = try socketStreams(on: loop)
                async let fresh: [UInt8] = {
                    var buffer = ByteBuffer()
                    _ = try await d.read(into: &buffer)
                    return buffer.takeAll()
                }()
                await settle()
                try await c.write("\(round)")
                #expect(String(bytes: try await fresh) == "\(round)")
                #expect([nil, .closed].contains(await reading))
                a.close()
            }
        }
    }

    @Test func secondReaderIsRefused() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            async let first = kind {
                var buffer = ByteBuffer()
                return try await b.read(into: &buffer)
            }
            await settle()
            var buffer = ByteBuffer()
            let error = await #expect(throws: IOError.self) { try await b.read(into: &buffer) }
            #expect(error?.errno == .busy)
            try await a.write("x")
            #expect(await first == nil)
        }
    }

    @Test func lostPeerIsClosed() async throws {
        try await onLoop { loop in
            let (reader, writer) = try pipeStreams(on: loop)
            reader.close()
            let error = await #expect(throws: IOError.self) { try await writer.write("x") }
            #expect(error?.kind == .closed && error?.errno == .brokenPipe)
        }
    }

    @Test func regularFileReadsAndWrites() async throws {
        let directory = try TemporaryDirectory()
        try await onLoop { loop in
            let content = pattern(700_000)
            let path = directory.path("file")
            let out = try FileStream(FileDescriptor.open(path, [.writeOnly, .create]), on: loop)
            try await out.write(content)
            try out.closeWrite()
            let file = try FileStream(FileDescriptor.open(path), on: loop)
            #expect(try await file.readAll(limit: 1 << 20) == content)
        }
    }

    @Test func worksFromTasksOutsideTheLoop() async throws {
        let loop = try EventLoop.startThread(name: "outside")
        defer { loop.stop() }
        let (a, b) = try socketStreams(on: loop)
        let sent = pattern(3 << 20)
        async let writing: Void = {
            try await a.write(sent)
            a.close()
        }()
        #expect(try await b.readAll(limit: 4 << 20) == sent)
        try await writing
    }

    @Test func releasingAStreamClosesItsDescriptor() async throws {
        try await onLoop { loop in
            let (reader, writer) = try pipeStreams(on: loop)
            do {
                let last = writer
                try await last.write("z")
            }
            _ = consume writer
            #expect(try await reader.readAll(limit: 10) == [UInt8(ascii: "z")])
        }
    }

    @Test func busyStreamsLetTimersRun() async throws {
        try await onLoop { loop in
            let zero = try FileStream(FileDescriptor.open("/dev/zero"), on: loop)
            let fired = Shared(false)
            async let timer: Void = {
                try await loop.clock.sleep(for: .milliseconds(1))
                fired.change { $0 = true }
            }()
            var buffer = ByteBuffer()
            // Without standing back this would never end.
            while !fired.value {
                _ = try await zero.read(into: &buffer, atMost: 4096)
                buffer.removeAll()
            }
            try await timer
        }
    }

    @Test func readAllRefusesMoreThanItsLimit() async throws {
        try await onLoop { loop in
            let zero = try FileStream(FileDescriptor.open("/dev/zero"), on: loop)
            let error = await #expect(throws: IOError.self) { try await zero.readAll(limit: 100_000) }
            #expect(error?.errno == .fileTooLarge)
        }
    }
}
