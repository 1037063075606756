package import AegisClient
package import AegisCore

/// Exit codes of commands that mirror the process's (decision D35).
package enum Outcome {
    /// What follows from how the process ended, with what is to be said on stderr.
    package static func of(_ exit: StreamExit) -> (code: Int32, message: AegisError?) {
        if let error = exit.error { return (exit.code == 0 ? code(of: error) : exit.code, error) }
        switch exit.reason {
        case "timeout":
            return (
                124, AegisError(.timeout, "timeout", "the command was stopped: its time was up", hint: "see --timeout")
            )
        case "oom":
            let error = AegisError(
                .failed, "out-of-memory", "the command was killed: its memory limit was reached", hint: "see --memory")
            return (exit.code, error)
        case "daemon-stopped":
            let error = AegisError(
                .unavailable, "daemon-stopped", "the daemon was stopped, and the command with it",
                hint: "start the daemon again with 'aegis up'")
            return (exit.code, error)
        default: return (exit.code, nil)
        }
    }

    /// The exit code of a failure of Aegis under `run`, `exec` and `attach`: 2 for words that are wrong whatever there is, 125
    /// for words that are right and name what is not there, or not of that kind.
    package static func code(of error: AegisError) -> Int32 {
        switch error.code {
        case "command-not-found": 127
        case "command-not-executable": 126
        case "timeout": 124
        case "not-a-directory", "not-a-file", "mount-mismatch": 125
        default: error.kind == .usage ? 2 : 125
        }
    }
}
