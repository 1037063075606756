package import AegisChannel
package import AegisCore

/// A process that could not be started, with the exit code that shells use for it.
package struct ProcessStartError: Error, Sendable, Equatable {
    /// The error that users see.
    package var error: AegisError
    /// 127 not found, 126 not executable, 125 anything else.
    package var exitCode: Int32

    package init(_ failure: ProcessFailed) {
        let text = String(decoding: failure.text, as: UTF8.self)
        switch failure.reason {
        case .notFound:
            exitCode = 127
            error = .notFound(
                "command-not-found", text, hint: "the command must exist inside the image; check its name and PATH")
        case .notExecutable:
            exitCode = 126
            error = AegisError(
                .denied, "command-not-executable", text,
                hint: "check the file's mode, its interpreter line and its architecture")
        case .unknownUser:
            exitCode = 125
            error = .usage(text, hint: "the user must exist in the image's /etc/passwd, or be given as a number")
        case .badDirectory:
            exitCode = 125
            error = .usage(text, hint: "give an existing directory with --workdir")
        case .limit:
            exitCode = 125
            error = .conflict("process-limit", text, hint: "raise --pids or end some of the running processes")
        case .other:
            exitCode = 125
            error = .failed("start-failed", text)
        }
    }
}
