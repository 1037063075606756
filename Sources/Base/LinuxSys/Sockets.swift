internal import CLinux
internal import Glibc

/// Where a stream socket listens or connects to.
package struct SocketAddress: Sendable {
    fileprivate var raw: al_address

    /// A numeric IPv4 or IPv6 address; nil when the text is neither. Names are never looked up.
    package init?(ip text: String, port: UInt16) {
        var raw = al_address()
        guard unsafe al_address_ip(&raw, text, port) == 1 else { return nil }
        self.raw = raw
    }

    /// A path in the file system; nil when it is empty or longer than the 107 bytes that the kernel takes.
    package init?(unix path: String) {
        var raw = al_address()
        guard unsafe al_address_unix(&raw, path) == 1 else { return nil }
        self.raw = raw
    }

    /// Whether this is an IPv6 address.
    package var isIPv6: Bool { unsafe withUnsafePointer(to: raw) { unsafe al_address_family($0) } == AF_INET6 }
    /// Whether this is an IPv4 or IPv6 address.
    package var isIP: Bool { unsafe withUnsafePointer(to: raw) { unsafe al_address_family($0) } != AF_UNIX }

    fileprivate var family: Int32 { unsafe withUnsafePointer(to: raw) { unsafe al_address_family($0) } }
}

/// Who is at the other end of a Unix socket, as the kernel noted when it connected.
package struct PeerCredentials: Sendable, Equatable {
    package var pid: Int32
    package var user: UInt32
    package var group: UInt32
}

/// Which direction of a connection to end.
package enum ShutdownDirection: Sendable {
    case read, write, both
    var raw: Int32 {
        switch self {
        case .read: Int32(SHUT_RD)
        case .write: Int32(SHUT_WR)
        case .both: Int32(SHUT_RDWR)
        }
    }
}

extension FileDescriptor {
    /// A stream socket for an address: non-blocking, close-on-exec; for IPv6 without the IPv4 part.
    package static func streamSocket(for address: SocketAddress) throws(Errno) -> FileDescriptor {
        let socket = try FileDescriptor(checking: al_socket_stream(address.family))
        if address.isIPv6 { try check(al_set_v6_only(socket.raw)) }
        return socket
    }

    /// Binds; TCP addresses are reusable right after an earlier listener has gone.
    package borrowing func bind(to address: SocketAddress) throws(Errno) {
        if address.isIP { try check(al_set_reuse_address(raw)) }
        let raw = raw
        try check(unsafe withUnsafePointer(to: address.raw) { unsafe al_bind(raw, $0) })
    }

    /// Starts to listen.
    package borrowing func listen(backlog: Int32) throws(Errno) { try check(Glibc.listen(raw, backlog)) }

    /// Starts to connect; `EINPROGRESS` means that writability will tell.
    package borrowing func connect(to address: SocketAddress) throws(Errno) {
        let raw = raw
        try check(unsafe withUnsafePointer(to: address.raw) { unsafe al_connect(raw, $0) })
    }

    /// How a connection attempt ended; nil when it is established.
    package borrowing func connectionError() -> Errno? {
        let code = al_socket_error(raw)
        return code == 0 ? nil : Errno(code)
    }

    /// Takes one waiting connection, non-blocking and close-on-exec.
    package borrowing func accept() throws(Errno) -> FileDescriptor { try FileDescriptor(checking: al_accept(raw)) }

    /// The TCP port that this socket is bound to.
    package borrowing func localPort() throws(Errno) -> UInt16 { UInt16(try check(al_local_port(raw))) }

    /// Small writes leave at once.
    package borrowing func setNoDelay() throws(Errno) { try check(al_set_no_delay(raw)) }

    /// Ends one direction of a connection for everybody who holds it.
    package borrowing func shutdown(_ direction: ShutdownDirection) throws(Errno) {
        try check(Glibc.shutdown(raw, direction.raw))
    }

    /// Whether this is a socket.
    package borrowing func isSocket() -> Bool { al_is_socket(raw) == 1 }

    /// Who connected (Unix sockets).
    package borrowing func peerCredentials() throws(Errno) -> PeerCredentials {
        var peer = PeerCredentials(pid: 0, user: 0, group: 0)
        try check(unsafe al_peer_credentials(raw, &peer.pid, &peer.user, &peer.group))
        return peer
    }

    /// Receives once from a socket without ever waiting.
    package borrowing func receive(into memory: UnsafeMutableRawBufferPointer) throws(Errno) -> Int {
        let raw = raw
        return try retrying { unsafe al_receive(raw, memory.baseAddress, memory.count) }
    }

    /// Sends once over a socket without ever waiting or raising SIGPIPE.
    package borrowing func send(_ bytes: ArraySlice<UInt8>) throws(Errno) -> Int {
        let raw = raw
        return try retrying { unsafe bytes.withUnsafeBytes { unsafe al_send(raw, $0.baseAddress, $0.count) } }
    }

    /// Sends bytes (at least one) with copies of descriptors (1 to 64) over a Unix socket; never waits.
    ///
    /// - Returns: how many bytes went; the descriptors went with the first.
    package borrowing func send(_ bytes: ArraySlice<UInt8>, descriptors: [Int32]) throws(Errno) -> Int {
        let raw = raw
        return try retrying {
            unsafe bytes.withUnsafeBytes {
                unsafe al_send_descriptors(raw, $0.baseAddress, $0.count, descriptors, descriptors.count)
            }
        }
    }

    /// Receives bytes, and the descriptors sent with them, from a Unix socket; never waits.
    ///
    /// - Parameters:
    ///   - memory: where the bytes go.
    ///   - limit: more descriptors than this (at most 64) fail with `EMSGSIZE`, and none stays open.
    /// - Returns: how many bytes came, 0 at the end of the stream, and the descriptors, close-on-exec.
    /// - Throws: the error of the system call.
    package borrowing func receive(
        into memory: UnsafeMutableRawBufferPointer, descriptorLimit limit: Int
    ) throws(Errno) -> (count: Int, descriptors: ReceivedDescriptors) {
        let raw = raw
        var numbers = [Int32](repeating: -1, count: min(max(limit, 0), Int(AL_MAX_DESCRIPTORS)))
        var count = numbers.count
        let got = try retrying {
            unsafe numbers.withUnsafeMutableBufferPointer {
                unsafe al_receive_descriptors(raw, memory.baseAddress, memory.count, $0.baseAddress, &count)
            }
        }
        return (got, ReceivedDescriptors(owning: numbers.prefix(count)))
    }
}
