internal import LinuxSys

/// Where the daemon of this caller lives (decision D15).
package struct DaemonLocation: Sendable, Equatable {
    /// What `aegis up` starts a daemon for.
    package var home: String
    /// The socket that a daemon of this home listens on.
    package var socket: String
    /// Sockets to try, in order.
    package var candidates: [String]
    package var logFile: String { "\(home)/aegisd.log" }
    package var pidFile: String { "\(home)/aegisd.pid" }

    /// Decides from the caller's environment: a set `AEGIS_HOME` holds its socket itself; without it `~/.aegis` and then
    /// `/run/aegis` are tried, and a new daemon lives in `/var/lib/aegis` for root, in `~/.aegis` for others.
    ///
    /// - Parameters:
    ///   - aegisHome: the value of `AEGIS_HOME`; empty counts as not set. A relative one starts at `workingDirectory`.
    ///   - userHome: the value of `HOME`.
    ///   - user: the effective uid.
    ///   - workingDirectory: absolute.
    package init(aegisHome: String?, userHome: String?, user: UInt32, workingDirectory: String) {
        let name = "aegisd.sock"
        if let aegisHome, !aegisHome.isEmpty {
            home = Files.absolute(aegisHome, from: workingDirectory)
            socket = "\(home)/\(name)"
            candidates = [socket]
            return
        }
        let own = userHome.flatMap { $0.hasPrefix("/") ? "\($0)/.aegis" : nil }
        if user == 0 {
            home = "/var/lib/aegis"
            socket = "/run/aegis/\(name)"
        } else {
            home = own ?? "/tmp/.aegis-\(user)"
            socket = "\(home)/\(name)"
        }
        candidates = (own.map { ["\($0)/\(name)"] } ?? []) + ["/run/aegis/\(name)"]
    }
}
