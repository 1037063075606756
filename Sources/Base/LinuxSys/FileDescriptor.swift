internal import CLinux
internal import Glibc

/// An open file of this process, owned: it closes itself exactly once.
///
/// Its `deinit` may run on any thread. A descriptor that an event loop watches belongs to the loop's stream, which takes
/// it out of the loop before it closes.
package struct FileDescriptor: ~Copyable, Sendable {
    /// The kernel's number; borrowed by whoever reads it, valid as long as this value lives.
    package let raw: Int32

    /// Takes ownership of an open descriptor.
    package init(owning raw: Int32) { self.raw = raw }

    /// Takes ownership of what a call returned, or throws the thread's error when it is negative.
    package init(checking raw: Int32) throws(Errno) {
        guard raw >= 0 else { throw Errno.current }
        self.raw = raw
    }

    deinit { _ = Glibc.close(raw) }

    /// Reads once into `buffer`, from its start.
    ///
    /// - Returns: how many bytes came, 0 at the end.
    /// - Throws: the kernel's error, `EAGAIN` included; an interrupted call is repeated.
    package borrowing func read(into buffer: inout [UInt8]) throws(Errno) -> Int {
        let raw = raw
        return try retrying {
            unsafe buffer.withUnsafeMutableBytes { unsafe Glibc.read(raw, $0.baseAddress, $0.count) }
        }
    }

    /// Reads once into raw memory; the memory must be valid for the whole call.
    package borrowing func read(into memory: UnsafeMutableRawBufferPointer) throws(Errno) -> Int {
        let raw = raw
        return try retrying { unsafe Glibc.read(raw, memory.baseAddress, memory.count) }
    }

    /// Writes once.
    ///
    /// - Returns: how many bytes the kernel took, which may be fewer than given.
    package borrowing func write(_ bytes: ArraySlice<UInt8>) throws(Errno) -> Int {
        let raw = raw
        return try retrying { unsafe bytes.withUnsafeBytes { unsafe Glibc.write(raw, $0.baseAddress, $0.count) } }
    }

    /// Writes everything, in as many calls as it takes; for blocking descriptors and files.
    package borrowing func writeAll(_ bytes: ArraySlice<UInt8>) throws(Errno) {
        var rest = bytes
        while !rest.isEmpty { rest = rest.dropFirst(try write(rest)) }
    }

    /// Reads at a position of a file, without moving its offset.
    package borrowing func read(at offset: UInt64, into buffer: inout [UInt8]) throws(Errno) -> Int {
        let raw = raw
        return try retrying {
            unsafe buffer.withUnsafeMutableBytes { unsafe pread(raw, $0.baseAddress, $0.count, off_t(offset)) }
        }
    }

    /// Writes at a position of a file, without moving its offset.
    package borrowing func write(_ bytes: ArraySlice<UInt8>, at offset: UInt64) throws(Errno) -> Int {
        let raw = raw
        return try retrying {
            unsafe bytes.withUnsafeBytes { unsafe pwrite(raw, $0.baseAddress, $0.count, off_t(offset)) }
        }
    }

    /// A second number for the same open file, close-on-exec, never one of 0, 1, 2.
    package borrowing func duplicate() throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: al_duplicate(raw))
    }

    /// A new number for a descriptor that somebody else owns.
    package static func duplicating(_ raw: Int32) throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: al_duplicate(raw))
    }

    /// Closes now and reports what `close` said; `deinit` would drop it.
    package consuming func close() throws(Errno) {
        let result = Glibc.close(take())
        // The descriptor is gone even when a signal interrupted the call.
        if result < 0, Errno.current != .interrupted { throw Errno.current }
    }

    /// Gives up ownership: the caller must close the number.
    package consuming func take() -> Int32 {
        let number = raw
        discard self
        return number
    }

    /// Sets or clears `O_NONBLOCK`, which every holder of the same open file then sees.
    package borrowing func setNonblocking(_ on: Bool) throws(Errno) { try check(al_set_nonblocking(raw, on ? 1 : 0)) }

    /// Whether `O_NONBLOCK` is set on the open file.
    package borrowing func isNonblocking() throws(Errno) -> Bool { try check(al_status_flags(raw)) & O_NONBLOCK != 0 }

    /// Sets or clears close-on-exec; every descriptor made here has it.
    package borrowing func setCloseOnExec(_ on: Bool) throws(Errno) {
        try check(al_set_close_on_exec(raw, on ? 1 : 0))
    }

    /// How the file was opened.
    package borrowing func access() throws(Errno) -> AccessMode {
        switch try check(al_status_flags(raw)) & O_ACCMODE {
        case O_RDONLY: .readOnly
        case O_WRONLY: .writeOnly
        default: .readWrite
        }
    }

    /// Whether this is a terminal.
    package borrowing func isTerminal() -> Bool { isatty(raw) == 1 }

    /// Whether it could be read (or written) without waiting.
    package borrowing func isReady(forWriting: Bool) -> Bool {
        al_is_ready(raw, forWriting ? UInt32(AL_READY_WRITE) : UInt32(AL_READY_READ)) == 1
    }
}

/// What an open file may be used for.
package enum AccessMode: Sendable { case readOnly, writeOnly, readWrite }

/// Two descriptors made by one call; each side can be taken once, what is left closes itself.
package struct DescriptorPair: ~Copyable, Sendable {
    private var ends: (Int32, Int32)

    init(owning first: Int32, _ second: Int32) { ends = (first, second) }

    deinit {
        if ends.0 >= 0 { _ = Glibc.close(ends.0) }
        if ends.1 >= 0 { _ = Glibc.close(ends.1) }
    }

    /// A pipe: the first end reads what is written to the second. Both block and close on exec.
    package static func pipe() throws(Errno) -> DescriptorPair {
        var ends: [Int32] = [-1, -1]
        try check(unsafe al_pipe(&ends))
        return DescriptorPair(owning: ends[0], ends[1])
    }

    /// Two connected Unix stream sockets, close-on-exec.
    package static func sockets(nonblocking: Bool = false) throws(Errno) -> DescriptorPair {
        var ends: [Int32] = [-1, -1]
        try check(unsafe al_socket_pair(&ends, nonblocking ? 1 : 0))
        return DescriptorPair(owning: ends[0], ends[1])
    }

    /// The first end (of a pipe: the reading one). A second call is a programmer's error and traps.
    package mutating func takeFirst() -> FileDescriptor {
        precondition(ends.0 >= 0, "the first end was taken already")
        defer { ends.0 = -1 }
        return FileDescriptor(owning: ends.0)
    }

    /// The second end (of a pipe: the writing one). A second call is a programmer's error and traps.
    package mutating func takeSecond() -> FileDescriptor {
        precondition(ends.1 >= 0, "the second end was taken already")
        defer { ends.1 = -1 }
        return FileDescriptor(owning: ends.1)
    }
}
