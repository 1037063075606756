package import AegisIO
internal import Synchronization

/// Makes TLS streams of clients' connections.
package final class TLSServer: Sendable {
    /// Says which certificate a client gets, by the server that it asked for (nil when it did not say).
    package typealias Chooser = @Sendable (String?) throws(TLSError) -> TLSLeaf

    private let settings: TLSSettings

    /// A server for TLS 1.2 and 1.3.
    ///
    /// - Parameter protocols: what it speaks inside, the first one liked best. A client that names others only is refused;
    ///   one that names none is served.
    /// - Throws: `tls-failed` when the library cannot be set up.
    package init(protocols: [String] = []) throws(TLSError) { settings = try TLSSettings(serving: protocols) }

    /// Does the server's part of the handshake.
    ///
    /// - Parameters:
    ///   - stream: the client's; it stays the caller's when this fails.
    ///   - early: what was read from it already.
    ///   - leaf: the certificate to show.
    /// - Returns: the stream inside.
    /// - Throws: why there is none, `client-refused-certificate` among others.
    package func accept(
        _ stream: any ByteStream, early: ByteBuffer = ByteBuffer(), leaf: Chooser
    ) async throws(TLSError) -> TLSStream {
        let hello = try await greet(stream, early: early)
        return try await hello.accept(leaf(hello.serverName))
    }

    /// Reads what a client begins TLS with, and answers nothing yet.
    ///
    /// - Parameters:
    ///   - stream: the client's; it stays the caller's when this fails, or when the hello is not accepted.
    ///   - early: what was read from it already.
    /// - Returns: what the client wants.
    /// - Throws: why it cannot be had.
    package func greet(_ stream: any ByteStream, early: ByteBuffer = ByteBuffer()) async throws(TLSError) -> TLSHello {
        var session = try TLSSession(serving: settings)
        var early = early
        try session.feed(&early)
        guard try await shake(&session, over: stream) == .wantsLeaf else {
            throw TLSError(.failed, "the handshake asked for no certificate")
        }
        return TLSHello(session, over: stream)
    }
}

/// A client that has begun TLS and waits for the server's answer.
package final class TLSHello: Sendable {
    /// The server that it asks for; nil when it does not say.
    package let serverName: String?
    /// What it offers to speak inside, the first one liked best; empty when it offers nothing.
    package let protocols: [String]
    private let session: Mutex<TLSSession?>
    private let stream: any ByteStream

    init(_ session: consuming TLSSession, over stream: any ByteStream) {
        serverName = session.wantedName
        protocols = session.offered
        self.stream = stream
        self.session = Mutex(session)
    }

    /// Does the rest of the server's part; once only.
    ///
    /// - Parameters:
    ///   - leaf: the certificate to show.
    ///   - speaking: what is spoken inside with this client; nil leaves it at what the server speaks.
    /// - Returns: the stream inside.
    /// - Throws: why there is none, `client-refused-certificate` among others.
    package func accept(_ leaf: TLSLeaf, speaking: [String]? = nil) async throws(TLSError) -> TLSStream {
        guard var session = session.withLock({ $0.take() }) else {
            throw TLSError(.failed, "the hello was accepted before")
        }
        session.use(leaf)
        if let speaking { try session.speak(speaking) }
        guard try await shake(&session, over: stream) == .done else {
            throw TLSError(.failed, "the handshake asked for another certificate")
        }
        return TLSStream(session, over: stream)
    }
}

/// Makes TLS streams of connections to servers.
package final class TLSClient: Sendable {
    private let settings: TLSSettings

    /// A client for TLS 1.2 and 1.3 that checks certificates and their names.
    ///
    /// - Parameters:
    ///   - authorities: certificates in PEM that are trusted; nil trusts those that the system trusts.
    ///   - besideSystem: whether those that the system trusts count as well.
    ///   - protocols: what it offers to speak inside.
    /// - Throws: `tls-failed` when there is nothing to trust.
    package init(
        authorities: [UInt8]? = nil, besideSystem: Bool = false, protocols: [String] = []
    ) throws(TLSError) {
        settings = try TLSSettings(
            trusting: authorities, andSystem: besideSystem || authorities == nil, protocols)
    }

    /// Does the client's part of the handshake.
    ///
    /// - Parameters:
    ///   - stream: the server's; it stays the caller's when this fails.
    ///   - host: the name or numeric address that its certificate must be for.
    ///   - speaking: what is offered to this server; nil leaves it at what the client offers.
    /// - Returns: the stream inside.
    /// - Throws: why there is none: what is wrong with the certificate, the server's alert.
    package func connect(_ stream: any ByteStream, host: String, speaking: [String]? = nil) async throws(TLSError)
        -> TLSStream
    {
        var session = try TLSSession(asking: host, isAddress: isNumericAddress(host), settings)
        if let speaking { try session.speak(speaking) }
        guard try await shake(&session, over: stream) == .done else {
            throw TLSError(.failed, "a client shows no certificate")
        }
        return TLSStream(session, over: stream)
    }
}

/// Moves bytes until both sides have agreed, a certificate is wanted, or one side has refused.
private func shake(_ session: inout TLSSession, over stream: any ByteStream) async throws(TLSError) -> TLSSession.Step {
    var bytes = ByteBuffer()
    while true {
        let step: TLSSession.Step
        do throws(TLSError) { step = try session.shake() } catch {
            // The peer is told why.
            session.takeOutgoing(into: &bytes)
            if !bytes.isEmpty { try? await stream.write(bytes.readable) }
            throw error
        }
        if step == .wantsLeaf { return step }
        session.takeOutgoing(into: &bytes)
        let count: Int
        do throws(IOError) {
            if !bytes.isEmpty { try await stream.write(bytes.readable) }
            bytes.removeAll()
            if step == .done { return step }
            count = try await stream.read(into: &bytes, atMost: 32 << 10)
        } catch { throw TLSError(error, host: session.host) }
        if count == 0 { session.feedEnd() } else { try session.feed(&bytes) }
    }
}
