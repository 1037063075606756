internal import CLinux

extension FileDescriptor {
    /// The numeric address and the port of the other end of a TCP connection; nil for other sockets.
    package borrowing func peerAddress() throws(Errno) -> (address: String, port: UInt16)? {
        var text = [CChar](repeating: 0, count: Int(AL_ADDRESS_TEXT))
        var port: UInt16 = 0
        let answer = unsafe al_peer_address(raw, &text, &port)
        guard answer >= 0 else { throw .current }
        guard answer == 1 else { return nil }
        return (String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self), port)
    }

    /// Whether a program has the other end of a connection open.
    package borrowing func peerPresence() throws(Errno) -> PeerPresence {
        switch al_peer_left(raw) {
        case AL_PEER_LEFT: .gone
        case AL_PEER_THERE: .there
        case AL_PEER_UNKNOWN: .unknown
        default: throw .current
        }
    }
}

/// What is known of the other end of a connection that sends no more.
package enum PeerPresence: Sendable, Equatable {
    /// A program has it open, and may wait for an answer.
    case there
    /// It is on another host, or behind something that does not tell: it may wait for an answer, or have gone.
    case unknown
    /// Nobody is there any more.
    case gone
}
