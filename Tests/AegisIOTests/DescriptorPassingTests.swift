import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct DescriptorPassingTests {
    private func taken(_ received: ReceivedDescriptors, _ index: Int, on loop: EventLoop) throws -> FileStream {
        guard let descriptor = received.take(index) else { throw IOError.closed }
        return try FileStream(descriptor, on: loop)
    }

    @Test func descriptorsTravelWithBytes() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            var pipe = try DescriptorPair.pipe()
            let write = pipe.takeSecond()
            let read = pipe.takeFirst()
            try await a.sendDescriptors([read.raw, write.raw], with: Array("two".utf8))
            var buffer = ByteBuffer()
            let (count, received) = try await b.receiveDescriptors(into: &buffer, atMost: 4)
            #expect(count == 3 && buffer.takeAll() == Array("two".utf8) && received.count == 2)
            let reader = try taken(received, 0, on: loop)
            let writer = try taken(received, 1, on: loop)
            #expect(throws: IOError.self) { try taken(received, 1, on: loop) }
            #expect(throws: IOError.self) { try taken(received, 2, on: loop) }
            try read.close()
            try write.close()
            try await writer.write("through")
            writer.close()
            #expect(try await reader.readAll(limit: 100) == Array("through".utf8))
        }
    }

    @Test func tooManyDescriptorsAreRefusedAndClosed() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            var pipe = try DescriptorPair.pipe()
            let reader = try FileStream(pipe.takeFirst(), on: loop)
            let write = pipe.takeSecond()
            try await a.sendDescriptors([write.raw, write.raw, write.raw], with: [1])
            try write.close()
            var buffer = ByteBuffer()
            let error = await #expect(throws: IOError.self) {
                try await b.receiveDescriptors(into: &buffer, atMost: 1)
            }
            #expect(error?.errno == .messageTooLong)
            // Every copy is closed: the pipe is at its end.
            #expect(try await reader.readAll(limit: 1) == [])
        }
    }

    @Test func descriptorsNobodyTakesAreClosed() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            var pipe = try DescriptorPair.pipe()
            let reader = try FileStream(pipe.takeFirst(), on: loop)
            let write = pipe.takeSecond()
            try await a.sendDescriptors([write.raw], with: [1])
            try write.close()
            var buffer = ByteBuffer()
            _ = try await b.receiveDescriptors(into: &buffer, atMost: 1)
            #expect(try await reader.readAll(limit: 1) == [])
        }
    }

    @Test func peerCredentialsAreOurs() async throws {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            defer { keep(b) }
            let peer = try a.peerCredentials()
            #expect(peer.pid == CurrentProcess.pid && peer.user == CurrentProcess.user)
        }
    }
}
