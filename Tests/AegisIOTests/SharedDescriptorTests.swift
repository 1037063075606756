import AegisIO
import AegisTestSupport
import Glibc
import LinuxSys
import Testing

/// Descriptors that other programs hold too: their open files must never become non-blocking.
@Suite struct SharedDescriptorTests {
    /// A terminal's two sides.
    private func openTerminal() throws -> (master: Int32, slave: Int32) {
        var master: Int32 = -1
        var slave: Int32 = -1
        try #require(unsafe openpty(&master, &slave, nil, nil, nil) == 0)
        return (master, slave)
    }

    @Test func terminalKeepsItsFlags() async throws {
        let (master, slave) = try openTerminal()
        let theirs = FileDescriptor(owning: slave)
        try await onLoop { loop in
            let other = try FileStream(FileDescriptor(owning: master), on: loop)
            let input = try FileStream.sharing(slave, writing: false, on: loop)
            let output = try FileStream.sharing(slave, writing: true, on: loop)
            async let line: [UInt8] = {
                var buffer = ByteBuffer()
                _ = try await input.read(into: &buffer)
                return buffer.takeAll()
            }()
            await settle()
            try await other.write("typed\n")
            #expect(try await line == Array("typed\n".utf8))
            try await output.write("shown")
            var buffer = ByteBuffer()
            while buffer.firstOffset(of: UInt8(ascii: "n")) == nil { _ = try await other.read(into: &buffer) }
            input.close()
            output.close()
        }
        #expect(try theirs.isNonblocking() == false)
    }

    @Test func terminalMasterReadsItsEndWhenTheSlaveIsClosed() async throws {
        let (master, slave) = try openTerminal()
        try await onLoop { loop in
            let other = try FileStream(FileDescriptor(owning: master), on: loop)
            async let all = other.readAll(limit: 100)
            await settle()
            close(slave)
            #expect(try await all == [])
        }
    }

    @Test func pipeKeepsItsFlagsAndItsReader() async throws {
        var pipe = try DescriptorPair.pipe()
        let write = pipe.takeSecond()
        let read = pipe.takeFirst()
        let (rawRead, rawWrite) = (read.raw, write.raw)
        try await onLoop { loop in
            let output = try FileStream.sharing(rawWrite, writing: true, on: loop)
            let input = try FileStream.sharing(rawRead, writing: false, on: loop)
            let sent = pattern(1 << 20)
            async let writing: Void = {
                try await output.write(sent)
                output.close()
            }()
            var buffer = ByteBuffer()
            while buffer.readableBytes < sent.count { _ = try await input.read(into: &buffer) }
            #expect(buffer.takeAll() == sent)
            try await writing
        }
        #expect(try read.isNonblocking() == false)
        #expect(try write.isNonblocking() == false)
    }

    @Test func socketKeepsItsFlags() async throws {
        var pair = try DescriptorPair.sockets()
        let theirs = pair.takeFirst()
        let number = theirs.raw
        let mine = pair.takeSecond()
        let peer = mine.take()
        try await onLoop { loop in
            let stream = try FileStream.sharing(number, writing: true, on: loop)
            let other = try FileStream(FileDescriptor(owning: peer), on: loop)
            async let read: [UInt8] = {
                var buffer = ByteBuffer()
                _ = try await stream.read(into: &buffer)
                return buffer.takeAll()
            }()
            await settle()
            try await other.write("hello")
            #expect(try await read == Array("hello".utf8))
        }
        #expect(try theirs.isNonblocking() == false)
    }

    /// A pipe whose reader has gone cannot be opened a second time; writing must still say what is wrong.
    @Test func brokenPipeIsReported() async throws {
        var pipe = try DescriptorPair.pipe()
        let write = pipe.takeSecond()
        try pipe.takeFirst().close()
        let number = write.raw
        try await onLoop { loop in
            let output = try FileStream.sharing(number, writing: true, on: loop)
            let error = await #expect(throws: IOError.self) { try await output.write("x") }
            #expect(error?.errno == .brokenPipe)
        }
        #expect(try write.isNonblocking() == false)
    }

    @Test func regularFileKeepsItsOffset() async throws {
        let directory = try TemporaryDirectory()
        let file = try FileDescriptor.open(directory.path("out"), [.readWrite, .create])
        try file.writeAll(Array("one ".utf8)[...])
        let number = file.raw
        try await onLoop { loop in
            let output = try FileStream.sharing(number, writing: true, on: loop)
            try await output.write(Array(repeating: UInt8(ascii: "x"), count: 3000))
        }
        try file.writeAll(Array(" two".utf8)[...])
        let all = try Files.read(directory.path("out"), limit: 10_000)
        #expect(all.count == 3008 && all.starts(with: "one xxx".utf8) && all.suffix(4).elementsEqual(" two".utf8))
    }
}
