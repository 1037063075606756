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

    /// Whether the other end of a TCP connection is a socket of this host that no program has open any more; false also
    /// when it is elsewhere.
    package borrowing func peerHasLeft() throws(Errno) -> Bool {
        let answer = al_peer_left(raw)
        guard answer >= 0 else { throw .current }
        return answer == 1
    }
}
