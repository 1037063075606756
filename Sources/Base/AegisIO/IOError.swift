package import LinuxSys

/// Why an I/O operation did not do what was asked.
package struct IOError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The families that callers tell apart.
    package enum Kind: Sendable, Equatable {
        /// This side closed the stream, or the peer is gone (then `errno` is `EPIPE` or `ECONNRESET`).
        case closed
        /// The task was cancelled.
        case cancelled
        /// A deadline passed.
        case timeout
        /// The kernel refused; `errno` says why.
        case system
    }

    package var kind: Kind
    /// The kernel's reason, where there is one.
    package var errno: Errno?
    /// What was being done, with the value at fault.
    package var message: String

    /// Makes an error from its parts.
    package init(_ kind: Kind, errno: Errno? = nil, _ message: String) {
        self.kind = kind
        self.errno = errno
        self.message = message
    }

    /// The kernel's error while doing `what`; a lost peer becomes `.closed`.
    package static func system(_ errno: Errno, _ what: String) -> IOError {
        let lost = errno == .brokenPipe || errno == .connectionReset
        return IOError(lost ? .closed : .system, errno: errno, "\(what): \(errno)")
    }

    /// The stream was closed here.
    package static let closed = IOError(.closed, "the stream is closed")
    /// The task was cancelled.
    package static let cancelled = IOError(.cancelled, "cancelled")
    /// A deadline passed.
    package static let timeout = IOError(.timeout, "the deadline passed")

    package var description: String { message }
}
