internal import CLinux
internal import Glibc

/// A failed system call's reason, as the kernel numbers it.
package struct Errno: Error, Equatable, Hashable, Sendable, CustomStringConvertible {
    /// The kernel's number, for example 2 for `ENOENT`.
    package let code: Int32

    /// Wraps a number.
    package init(_ code: Int32) { self.code = code }

    /// What the calling thread's last failed call left behind.
    package static var current: Errno { Errno(errno) }

    /// The symbolic name, for example `ENOENT`; `E999` for a number without one.
    package var name: String {
        guard let text = unsafe al_error_name(code) else { return "E\(code)" }
        return unsafe String(cString: text)
    }

    /// The sentence and the name: `No such file or directory (ENOENT)`.
    package var description: String {
        guard let text = unsafe al_error_text(code) else { return "Unknown error (\(name))" }
        return unsafe "\(String(cString: text)) (\(name))"
    }
}

extension Errno {
    package static let notPermitted = Errno(EPERM)
    package static let noSuchFile = Errno(ENOENT)
    package static let noSuchProcess = Errno(ESRCH)
    package static let interrupted = Errno(EINTR)
    package static let ioError = Errno(EIO)
    package static let noSuchDeviceOrAddress = Errno(ENXIO)
    package static let badDescriptor = Errno(EBADF)
    package static let noChild = Errno(ECHILD)
    package static let wouldBlock = Errno(EAGAIN)
    package static let outOfMemory = Errno(ENOMEM)
    package static let accessDenied = Errno(EACCES)
    package static let busy = Errno(EBUSY)
    package static let fileExists = Errno(EEXIST)
    package static let crossDevice = Errno(EXDEV)
    package static let notDirectory = Errno(ENOTDIR)
    package static let isDirectory = Errno(EISDIR)
    package static let invalidArgument = Errno(EINVAL)
    package static let tooManyOpenFiles = Errno(EMFILE)
    package static let tooManyOpenFilesInSystem = Errno(ENFILE)
    package static let fileTooLarge = Errno(EFBIG)
    package static let noSpace = Errno(ENOSPC)
    package static let illegalSeek = Errno(ESPIPE)
    package static let readOnlyFileSystem = Errno(EROFS)
    package static let brokenPipe = Errno(EPIPE)
    package static let nameTooLong = Errno(ENAMETOOLONG)
    package static let notImplemented = Errno(ENOSYS)
    package static let directoryNotEmpty = Errno(ENOTEMPTY)
    package static let tooManyLinks = Errno(ELOOP)
    package static let notSocket = Errno(ENOTSOCK)
    package static let messageTooLong = Errno(EMSGSIZE)
    package static let notSupported = Errno(EOPNOTSUPP)
    package static let addressInUse = Errno(EADDRINUSE)
    package static let noBufferSpace = Errno(ENOBUFS)
    package static let connectionAborted = Errno(ECONNABORTED)
    package static let connectionReset = Errno(ECONNRESET)
    package static let notConnected = Errno(ENOTCONN)
    package static let shutDown = Errno(ESHUTDOWN)
    package static let timedOut = Errno(ETIMEDOUT)
    package static let connectionRefused = Errno(ECONNREFUSED)
    package static let alreadyConnected = Errno(EISCONN)
    package static let alreadyInProgress = Errno(EALREADY)
    package static let inProgress = Errno(EINPROGRESS)
    package static let cancelled = Errno(ECANCELED)
}

/// Turns the kernel's -1 into the error of the calling thread.
@discardableResult
func check(_ result: Int32) throws(Errno) -> Int32 {
    guard result >= 0 else { throw Errno.current }
    return result
}

/// Turns the kernel's -1 into the error of the calling thread.
func check(_ result: Int) throws(Errno) -> Int {
    guard result >= 0 else { throw Errno.current }
    return result
}

/// Repeats a call that a signal interrupted.
@discardableResult
func retrying(_ call: () -> Int32) throws(Errno) -> Int32 {
    while true {
        let result = call()
        if result >= 0 { return result }
        let error = Errno.current
        if error != .interrupted { throw error }
    }
}

/// Repeats a call that a signal interrupted.
func retrying(_ call: () -> Int) throws(Errno) -> Int {
    while true {
        let result = call()
        if result >= 0 { return result }
        let error = Errno.current
        if error != .interrupted { throw error }
    }
}
