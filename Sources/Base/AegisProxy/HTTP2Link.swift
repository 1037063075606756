package import AegisIO
import AegisWire

/// What an HTTP/2 connection runs over: a socket, or TLS on one.
package struct HTTP2Transport: Sendable {
    /// What is read from and written to.
    package let stream: any ByteStream
    /// The socket under it.
    package let below: FileStream
    /// Sends a few last bytes if that can be done without waiting.
    let sayLast: @Sendable (ArraySlice<UInt8>) -> Void

    /// A socket as it is.
    package init(_ stream: FileStream) {
        self.stream = stream
        below = stream
        sayLast = { _ = try? stream.writeNow($0) }
    }

    /// A stream over a socket.
    ///
    /// - Parameters:
    ///   - stream: what is spoken through.
    ///   - below: the socket.
    ///   - sayLast: sends a few last bytes if that can be done without waiting.
    package init(
        _ stream: any ByteStream, over below: FileStream, sayLast: @escaping @Sendable (ArraySlice<UInt8>) -> Void
    ) {
        self.stream = stream
        self.below = below
        self.sayLast = sayLast
    }
}

/// A session on its stream: one task reads, another writes what the session has to say.
///
/// On the proxy's loop only, hence `@unchecked Sendable`.
final class HTTP2Link: @unchecked Sendable {
    let transport: HTTP2Transport
    /// The socket.
    var below: FileStream { transport.below }
    /// Nothing lies between the session and the socket.
    private let isPlain: Bool
    let session: HTTP2Session
    private let pools: ProxyPools
    private let news = Signal()
    private let room = Signal()
    private(set) var isOver = false
    /// Something has been read.
    private(set) var hasHeard = false
    /// Since when a header section has been incomplete; 0 when none is.
    private(set) var inSectionSince: UInt64 = 0

    /// Frames that may wait for a peer that does not read, before it is not listened to either.
    private static var queueLimit: Int { 512 }
    private static var portion: Int { 64 << 10 }
    private static var streak: Int { 16 }

    init(_ transport: HTTP2Transport, _ session: HTTP2Session, _ pools: ProxyPools) {
        self.transport = transport
        isPlain = transport.stream === transport.below
        self.session = session
        self.pools = pools
    }

    /// The session has something to send.
    func flush() { news.set() }

    /// Hands what comes to the session, until the connection ends.
    ///
    /// - Parameters:
    ///   - now: the time, for `inSectionSince`.
    ///   - check: looks at bytes before the session does; false ends the reading.
    /// - Returns: why the session cannot go on; nil when the peer has gone or the link was closed.
    func read(_ now: () -> UInt64, check: (ArraySlice<UInt8>) -> Bool = { _ in true }) async -> String? {
        var turns = 0
        var isEnd = false
        while !isEnd, !isOver, !Task.isCancelled {
            while session.queued > Self.queueLimit, !isOver, !Task.isCancelled { await room.wait() }
            var buffer = ByteBuffer()
            defer { pools.give(&buffer) }
            guard let count = try? await next(&buffer) else { return nil }
            if count < 0 { continue }
            isEnd = count == 0 || !check(buffer.readable)
            if isEnd { break }
            hasHeard = true
            let problem = session.receive(buffer.readable)
            inSectionSince = session.isInSection ? (inSectionSince == 0 ? now() : inSectionSince) : 0
            flush()
            if let problem { return problem }
            turns += 1
            if turns % Self.streak == 0 { await Task.yield() }
        }
        return nil
    }

    /// Waits for bytes; who waits for a socket has no buffer meanwhile.
    ///
    /// - Returns: how many have come; 0 at the end, less when there are none after all.
    private func next(_ buffer: inout ByteBuffer) async throws(IOError) -> Int {
        guard isPlain else { return try await transport.stream.read(into: &buffer, atMost: Self.portion) }
        try await below.waitForBytes()
        buffer = pools.takeBuffer()
        return try below.readNow(into: &buffer, atMost: Self.portion) ?? -1
    }

    private func send(_ bytes: ArraySlice<UInt8>) async throws(IOError) {
        if isPlain { try await below.send(bytes) } else { try await transport.stream.write(bytes) }
    }

    /// Sends what the session has to say, until both sides are done or the link is closed.
    func write() async {
        var turns = 0
        while !isOver {
            await news.wait()
            if Task.isCancelled { break }
            while !isOver {
                var out = pools.takeBuffer()
                defer { pools.give(&out) }
                guard session.produce(into: &out, about: Self.portion) else { return close() }
                if out.isEmpty { break }
                do throws(IOError) { try await send(out.readable) } catch { return close() }
                room.set()
                turns += 1
                if turns % Self.streak == 0 { await Task.yield() }
            }
            if !session.isAlive { break }
        }
        close()
    }

    /// Closes the connection; what fits into the socket's buffer is said first.
    func close(saying isPolite: Bool = false) {
        guard !isOver else { return }
        isOver = true
        if isPolite {
            var out = ByteBuffer()
            if session.produce(into: &out, about: Self.portion) { transport.sayLast(out.readable) }
        }
        transport.stream.close()
        news.set()
        room.set()
    }
}
