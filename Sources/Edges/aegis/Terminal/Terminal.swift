internal import CLinux
package import LinuxSys

/// The caller's terminal.
package enum Terminal {
    /// Whether a descriptor is a terminal.
    package static func isTerminal(_ descriptor: Int32) -> Bool { al_tty_is(descriptor) == 1 }

    /// Rows and columns; nil when the descriptor is no terminal or does not know.
    package static func size(_ descriptor: Int32) -> (rows: UInt16, columns: UInt16)? {
        var rows: UInt16 = 0
        var columns: UInt16 = 0
        guard unsafe al_tty_size(descriptor, &rows, &columns) == 0, rows > 0, columns > 0 else { return nil }
        return (rows, columns)
    }

    /// The size of the first standard stream that is a terminal.
    package static var ofThisProcess: (rows: UInt16, columns: UInt16)? { size(1) ?? size(0) ?? size(2) }

    /// Puts a terminal into raw mode: every key goes through as it is, ^C included.
    ///
    /// From now on it is put back at `restore`, at exit, and before a fatal signal (SIGSEGV, SIGABRT, SIGTRAP, ...)
    /// ends this process.
    package static func makeRaw(_ descriptor: Int32) throws(Errno) {
        guard al_tty_raw(descriptor) == 0 else { throw Errno.current }
    }

    /// Stops showing what is typed, for secrets; restored like raw mode.
    package static func hideInput(_ descriptor: Int32) throws(Errno) {
        guard al_tty_hide(descriptor) == 0 else { throw Errno.current }
    }

    /// The whole screen for a program: raw mode, a screen of its own, no cursor. All of it is undone as raw mode is.
    ///
    /// - Returns: what to write to the terminal.
    package static func takeScreen(_ descriptor: Int32) throws(Errno) -> String {
        let leave = Array("\u{1b}[0m\u{1b}[?25h\u{1b}[?1049l".utf8CString.dropLast())
        // SAFETY: read during the call, and copied.
        unsafe leave.withUnsafeBufferPointer { bytes in
            if let start = bytes.baseAddress { unsafe al_tty_farewell(start, Int32(bytes.count)) }
        }
        try makeRaw(descriptor)
        return "\u{1b}[?1049h\u{1b}[?25l\u{1b}[2J"
    }

    /// Puts the terminal back as it was found; does nothing when it was not changed.
    package static func restore() { al_tty_restore() }
}
