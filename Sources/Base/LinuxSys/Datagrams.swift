internal import CLinux
internal import Glibc

/// A Unix socket that sends datagrams to places in the file system.
package struct DatagramSocket: ~Copyable, Sendable {
    private let descriptor: FileDescriptor

    /// Makes one.
    ///
    /// - Parameter patience: milliseconds that a datagram may wait until the other side has room for it, at least 1.
    /// - Throws: when no more files can be opened.
    package init(patience: Int32) throws(Errno) {
        descriptor = try FileDescriptor(checking: al_socket_datagram(max(1, patience)))
    }

    /// Sends one datagram. It blocks.
    ///
    /// - Parameters:
    ///   - bytes: what is sent, as one.
    ///   - path: the socket that takes it.
    /// - Throws: `ENOENT` or `ECONNREFUSED` when nobody listens, `EAGAIN` when its queue stays full, `EMSGSIZE`.
    package borrowing func send(_ bytes: [UInt8], to path: String) throws(Errno) {
        let raw = descriptor.raw
        let sent = unsafe bytes.withUnsafeBytes { unsafe al_send_to_path(raw, path, $0.baseAddress, $0.count) }
        guard sent >= 0 else { throw Errno.current }
    }

    /// Sends one datagram that is nothing but an open file. It blocks.
    ///
    /// - Parameters:
    ///   - file: what the other side gets a descriptor of.
    ///   - path: the socket that takes it.
    /// - Throws: as for bytes.
    package borrowing func send(file: borrowing FileDescriptor, to path: String) throws(Errno) {
        guard unsafe al_send_file_to_path(descriptor.raw, path, file.raw) >= 0 else { throw Errno.current }
    }
}

extension FileDescriptor {
    /// A file in memory with this content, which nobody can change any more.
    ///
    /// - Parameters:
    ///   - bytes: the content.
    ///   - name: what it is called in lists of open files.
    /// - Returns: the file.
    /// - Throws: when there is no memory, or no more files can be opened.
    package static func sealed(_ bytes: [UInt8], name: String) throws(Errno) -> FileDescriptor {
        let file = try inMemory(name: name)
        try file.writeAll(bytes[...])
        guard al_seal(file.raw) == 0 else { throw Errno.current }
        return file
    }
}
