internal import CLinux
internal import Glibc

/// A Unix socket that sends datagrams to places in the file system.
package struct DatagramSocket: ~Copyable, Sendable {
    private let descriptor: FileDescriptor

    /// Makes one.
    package init() throws(Errno) { descriptor = try FileDescriptor(checking: al_socket_datagram()) }

    /// Sends one datagram without waiting.
    ///
    /// - Parameters:
    ///   - bytes: what is sent, as one.
    ///   - path: the socket that takes it.
    /// - Throws: `ENOENT` or `ECONNREFUSED` when nobody listens, `EAGAIN` when its queue is full, `EMSGSIZE`.
    package borrowing func send(_ bytes: [UInt8], to path: String) throws(Errno) {
        let raw = descriptor.raw
        let sent = unsafe bytes.withUnsafeBytes { unsafe al_send_to_path(raw, path, $0.baseAddress, $0.count) }
        guard sent >= 0 else { throw Errno.current }
    }
}
