internal import AegisIO
internal import COpenSSL

/// One TLS session of OpenSSL, between bytes of the peer and bytes of ours; it waits for nothing.
///
/// It belongs to one `TLSStream`, whose lock is around every call: that is what makes it `@unchecked Sendable`.
@safe
struct TLSSession: ~Copyable, @unchecked Sendable {
    /// How far a call got.
    enum Step: Equatable {
        case done
        /// Nothing can go on until the peer has sent more.
        case wantsBytes
        /// The server needs a certificate to show.
        case wantsLeaf
        /// The peer sends no more.
        case ended
    }

    /// SAFETY: made in `init`, freed in `deinit`, and used in between only.
    private let raw: OpaquePointer
    /// Whom a client asked for; nil on the server's side.
    let host: String?
    private let settings: TLSSettings

    init(serving settings: TLSSettings) throws(TLSError) {
        var problem = al_tls_problem()
        guard let raw = unsafe al_tls_server_session(settings.raw, &problem) else {
            throw TLSError(TLSProblem(problem), host: nil)
        }
        unsafe self.raw = raw
        self.settings = settings
        host = nil
    }

    init(asking host: String, isAddress: Bool, _ settings: TLSSettings) throws(TLSError) {
        var problem = al_tls_problem()
        guard let raw = unsafe al_tls_client_session(settings.raw, host, isAddress ? 1 : 0, &problem) else {
            throw TLSError(TLSProblem(problem), host: host)
        }
        unsafe self.raw = raw
        self.settings = settings
        self.host = host
    }

    deinit { unsafe al_tls_session_free(raw) }

    private func step(_ status: Int32, _ problem: al_tls_problem) throws(TLSError) -> Step {
        switch Int(status) {
        case AL_TLS_DONE: return .done
        case AL_TLS_WANTS_BYTES: return .wantsBytes
        case AL_TLS_WANTS_LEAF: return .wantsLeaf
        case AL_TLS_PEER_ENDED: return .ended
        default: throw TLSError(TLSProblem(problem), host: host)
        }
    }

    // MARK: The handshake

    mutating func shake() throws(TLSError) -> Step {
        var problem = al_tls_problem()
        let status = unsafe al_tls_session_shake(raw, &problem)
        return try step(status, problem)
    }

    /// The server that a client asked for.
    var wantedName: String? { unsafe al_tls_session_wanted_name(raw).map { unsafe String(cString: $0) } }

    mutating func use(_ leaf: TLSLeaf) { unsafe al_tls_session_use(raw, leaf.raw) }

    /// What a client offers to speak, the first one liked best.
    var offered: [String] {
        var count = 0
        guard let list = unsafe al_tls_session_offered(raw, &count) else { return [] }
        return TLSSettings.names(unsafe Array(UnsafeBufferPointer(start: list, count: count)))
    }

    /// These are spoken here, whatever the settings say.
    mutating func speak(_ protocols: [String]) throws(TLSError) {
        let list = try TLSSettings.wire(protocols)
        guard unsafe al_tls_session_speak(raw, list, list.count) != 0 else {
            throw TLSError(.failed, "too many protocols for one session")
        }
    }

    /// What both agreed to speak.
    var applicationProtocol: String? {
        var count = 0
        guard let bytes = unsafe al_tls_session_protocol(raw, &count), count > 0 else { return nil }
        return unsafe String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
    }

    var version: String { unsafe al_tls_session_version(raw).map { unsafe String(cString: $0) } ?? "" }

    // MARK: Bytes of the peer

    /// Takes all bytes of a buffer.
    mutating func feed(_ bytes: inout ByteBuffer) throws(TLSError) {
        let raw = unsafe raw
        let taken = unsafe bytes.withUnsafeReadable { unsafe al_tls_session_feed(raw, $0.baseAddress, $0.count) }
        guard taken != 0 else { throw TLSError(.failed, "there is no memory for the peer's bytes") }
        bytes.removeAll()
    }

    /// Notes that no more will come.
    mutating func feedEnd() { unsafe al_tls_session_feed_end(raw) }

    /// Appends what must be sent to the peer.
    mutating func takeOutgoing(into buffer: inout ByteBuffer) {
        let raw = unsafe raw
        while true {
            let waiting = unsafe al_tls_session_waiting(raw)
            guard waiting > 0 else { return }
            let count = unsafe buffer.fill(atMost: waiting) {
                unsafe al_tls_session_take(raw, $0.baseAddress, $0.count)
            }
            if count == 0 { return }
        }
    }

    // MARK: Bytes inside

    /// Appends what the peer said, up to a limit.
    mutating func read(into buffer: inout ByteBuffer, atMost limit: Int) throws(TLSError) -> (Step, Int) {
        let raw = unsafe raw
        var problem = al_tls_problem()
        var status: Int32 = 0
        var total = 0
        while total < limit {
            let count = unsafe buffer.fill(atMost: min(limit - total, 16 << 10)) { room in
                var count = 0
                status = unsafe al_tls_session_read(raw, room.baseAddress, room.count, &count, &problem)
                return count
            }
            total += count
            if Int(status) != AL_TLS_DONE { break }
        }
        // What was said before a fault counts first; the fault comes again.
        return total > 0 ? (.done, total) : (try step(status, problem), 0)
    }

    mutating func write(_ bytes: ArraySlice<UInt8>) throws(TLSError) {
        let raw = unsafe raw
        var problem = al_tls_problem()
        let status = unsafe bytes.withUnsafeBytes {
            unsafe al_tls_session_write(raw, $0.baseAddress, $0.count, &problem)
        }
        guard try step(status, problem) == .done else { throw TLSError(.failed, "TLS takes no bytes now") }
    }

    /// Says that nothing more comes.
    mutating func end() { unsafe al_tls_session_end(raw) }
}
