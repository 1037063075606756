internal import LinuxSys

extension FileStream {
    /// The process's standard input as a stream; see `sharing`.
    package static func standardInput(on loop: EventLoop) throws(IOError) -> FileStream {
        try sharing(0, writing: false, on: loop)
    }

    /// The process's standard output as a stream; see `sharing`.
    package static func standardOutput(on loop: EventLoop) throws(IOError) -> FileStream {
        try sharing(1, writing: true, on: loop)
    }

    /// The process's standard error as a stream; see `sharing`.
    package static func standardError(on loop: EventLoop) throws(IOError) -> FileStream {
        try sharing(2, writing: true, on: loop)
    }

    /// A stream over a descriptor that others share, which never sees `O_NONBLOCK` for it.
    ///
    /// The flag belongs to the open file, not to the descriptor: set on an inherited terminal it would outlive this process
    /// and make the user's shell fail with EAGAIN. So a terminal or pipe is opened a second time through `/proc`; a socket is
    /// used with per-call flags; where neither works, each call is preceded by `poll`. A regular file keeps its offset.
    ///
    /// Closing the stream leaves the descriptor itself open.
    package static func sharing(_ number: Int32, writing: Bool, on loop: EventLoop) throws(IOError) -> FileStream {
        do throws(Errno) {
            let copy = try FileDescriptor.duplicating(number)
            if copy.isSocket() { return try wrapped(copy, .socket, on: loop) }
            let type = try copy.status().type
            guard type == .characterDevice || type == .fifo else { return try wrapped(copy, .polled, on: loop) }
            let flags: OpenFlags = [writing ? .writeOnly : .readOnly, .nonblocking, .noTerminal]
            guard let own = try? FileDescriptor.open("/proc/self/fd/\(number)", flags) else {
                return try wrapped(copy, .polled, on: loop)
            }
            return try wrapped(own, .nonblocking, on: loop)
        } catch { throw .system(error, "sharing descriptor \(number)") }
    }

    private static func wrapped(_ descriptor: consuming FileDescriptor, _ method: Method, on loop: EventLoop)
        throws(Errno) -> FileStream
    {
        do throws(IOError) { return try FileStream(shared: descriptor, method: method, on: loop) } catch {
            throw error.errno ?? .invalidArgument
        }
    }
}

/// The descriptors 0, 1 and 2 of this process.
package enum StandardDescriptors {
    /// Opens `/dev/null` for those of them with which this program was started closed: whatever it opens next would get
    /// their numbers, and be taken for standard input or written to as standard output. Called before anything else.
    package static func fill() {
        for number: Int32 in 0...2 {
            do throws(Errno) { _ = try FileDescriptor.duplicating(number) } catch {
                // The lowest free number is given, and those below it are open.
                guard let null = try? FileDescriptor.open("/dev/null", .readWrite) else { return }
                try? null.setCloseOnExec(false)
                _ = null.take()
            }
        }
    }
}
