internal import LinuxSys

/// Unix socket paths of any length.
enum UnixPath {
    /// Calls `body` with an address for the path; a path that is too long for the kernel goes through the directory's
    /// descriptor, `/proc/self/fd/N/name`.
    static func with<R>(_ path: String, _ body: (SocketAddress, String) throws(Errno) -> R) throws(Errno) -> R {
        if let address = SocketAddress(unix: path) { return try body(address, path) }
        guard !path.isEmpty else { throw .invalidArgument }
        let (directory, name) = Files.split(path)
        let parent = try FileDescriptor.open(directory, [.pathOnly, .directory])
        let short = "/proc/self/fd/\(parent.raw)/\(name)"
        guard let address = SocketAddress(unix: short) else { throw .nameTooLong }
        let result = try body(address, short)
        // Keeps the descriptor open until the kernel has used the path.
        _ = consume parent
        return result
    }
}
