internal import CLinux

extension FileDescriptor {
    /// Moves bytes into a pipe, or out of one, without copying them into this process; never waits.
    ///
    /// - Parameters:
    ///   - target: where to; one of the two must be a pipe, and a socket must have `O_NONBLOCK`.
    ///   - count: the most bytes to move.
    /// - Returns: how many bytes moved; 0 at the end of what is read from.
    /// - Throws: `EAGAIN` when one side is not ready, or the kernel's error.
    package borrowing func splice(to target: borrowing FileDescriptor, atMost count: Int) throws(Errno) -> Int {
        let raw = raw
        let other = target.raw
        return try retrying { al_splice(raw, other, count) }
    }

    /// Makes the next close reset the connection: the peer learns that it did not end well, and what was not sent is lost.
    package borrowing func setResetOnClose() throws(Errno) { try check(al_set_reset_on_close(raw)) }

    /// Bytes that were sent and that the peer's kernel has not taken yet.
    package borrowing func unacknowledged() throws(Errno) -> Int { Int(try check(al_unacknowledged(raw))) }

    /// Lets the kernel ask a silent peer whether it is still there; times in seconds.
    package borrowing func setKeepAlive(idle: Int32, interval: Int32, count: Int32) throws(Errno) {
        try check(al_set_keep_alive(raw, idle, interval, count))
    }
}

extension DescriptorPair {
    /// A pipe whose ends do not block, made to move bytes through it.
    ///
    /// - Parameter room: bytes that should fit; the kernel may give less.
    /// - Returns: the reading end first.
    /// - Throws: the kernel's error.
    package static func relayPipe(room: Int32) throws(Errno) -> DescriptorPair {
        var ends: [Int32] = [-1, -1]
        try check(unsafe al_relay_pipe(&ends, room))
        return DescriptorPair(owning: ends[0], ends[1])
    }
}
