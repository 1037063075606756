import AegisIO
import AegisWire

/// A session on its stream: one task reads, another writes what the session has to say.
///
/// On the proxy's loop only, hence `@unchecked Sendable`.
final class HTTP2Link: @unchecked Sendable {
    let stream: FileStream
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

    init(_ stream: FileStream, _ session: HTTP2Session, _ pools: ProxyPools) {
        self.stream = stream
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
            do throws(IOError) { try await stream.waitForBytes() } catch { return nil }
            var buffer = pools.takeBuffer()
            defer { pools.give(&buffer) }
            var count: Int?
            do throws(IOError) { count = try stream.readNow(into: &buffer, atMost: Self.portion) } catch { return nil }
            guard let count else { continue }
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
                do throws(IOError) { try await stream.send(out.readable) } catch { return close() }
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
            if session.produce(into: &out, about: Self.portion) { _ = try? stream.writeNow(out.readable) }
        }
        stream.close()
        news.set()
        room.set()
    }
}
