import AegisChannel
import AegisIO
import Synchronization

/// One connection to a keeper: the frames of the channel for whoever holds it, with an eye on those that concern the sandbox
/// itself and a side door for the driver's own frames.
///
/// Writers hand over whole frames, one or more per call: the driver's own frames go between two calls.
final class KeeperLink: ByteStream {
    private struct Inbound {
        /// Bytes that came with the handshake and were not handed out yet.
        var early: [UInt8]
        var scanner: FrameScanner
    }
    private let stream: FileStream
    private let inbound: Mutex<Inbound>
    private let outbound = TurnLock()
    private let onFrame: @Sendable (FrameHeader, [UInt8]) -> Void
    /// Set when the connection ended, from either side.
    let gone = Settlement<Bool>()

    /// Takes a connection over.
    ///
    /// - Parameters:
    ///   - stream: the connection, with the handshake done.
    ///   - early: bytes that followed the handshake.
    ///   - onFrame: gets `ended` frames, once each, on the reader's task.
    init(
        _ stream: FileStream, early: [UInt8], onFrame: @escaping @Sendable (FrameHeader, [UInt8]) -> Void
    ) {
        self.stream = stream
        self.onFrame = onFrame
        inbound = Mutex(Inbound(early: early, scanner: FrameScanner([.ended])))
    }

    func read(into buffer: inout ByteBuffer, atMost limit: Int) async throws(IOError) -> Int {
        let early = inbound.withLock { inbound -> [UInt8] in
            let part = Array(inbound.early.prefix(limit))
            inbound.early.removeFirst(part.count)
            return part
        }
        var count = early.count
        if early.isEmpty {
            do throws(IOError) { count = try await stream.read(into: &buffer, atMost: limit) } catch {
                if error.kind == .closed { gone.settle(true) }
                throw error
            }
        } else {
            buffer.append(early)
        }
        guard count > 0 else {
            gone.settle(true)
            return 0
        }
        let fresh = buffer.readable.suffix(count)
        var found: [(FrameHeader, [UInt8])] = []
        let broken = inbound.withLock { inbound -> Bool in
            do throws(ChannelError) {
                try inbound.scanner.scan(fresh) { found.append(($0, $1)) }
                return false
            } catch { return true }
        }
        for (header, payload) in found { onFrame(header, payload) }
        // A keeper does not send nonsense; what does is not to be talked to any longer.
        if broken { close() }
        return count
    }

    func write(_ bytes: ArraySlice<UInt8>) async throws(IOError) {
        try await outbound.run { () async throws(IOError) in try await stream.write(bytes) }
    }

    func closeWrite() throws(IOError) { try stream.closeWrite() }

    func close() {
        stream.close()
        gone.settle(true)
    }
}

/// The first words with a keeper, before the frames of the channel flow.
struct KeeperHandshake: ~Copyable {
    let stream: FileStream
    private var buffer = ByteBuffer()

    init(_ stream: FileStream) { self.stream = stream }

    /// Sends a frame.
    func send(_ type: FrameType, _ payload: [UInt8] = []) async throws(IOError) {
        try await stream.write(frame(type, payload))
    }

    /// The next frame; nil when the keeper hung up.
    mutating func next() async throws -> (header: FrameHeader, payload: [UInt8])? {
        guard try await stream.fill(&buffer, to: Channel.headerSize) else { return nil }
        let b = buffer
        let header = try FrameHeader((b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]))
        buffer.consume(Channel.headerSize)
        guard try await stream.fill(&buffer, to: Int(header.length)) else { return nil }
        return (header, buffer.take(Int(header.length)))
    }

    /// What came beyond the last frame.
    mutating func leftover() -> [UInt8] { buffer.takeAll() }
}
