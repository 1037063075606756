package import AegisCore
internal import LinuxSys

/// The rule for the folder where a daemon keeps everything: one user's alone. Who else may write there can take the daemon
/// over; who may read there sees what instances were given.
package enum HomeFolder {
    /// What is in a folder that a daemon has used, or is meant for one; `images` or `logs` alone may be anybody's.
    private static let marks: Set<String> = [
        "aegis.db", "aegisd.lock", "aegisd.log", "aegisd.pid", "aegisd.sock", "node", "aegis-config.yaml",
        "secrets.key", "disks.btrfs", "shims", "probes.json",
    ]

    /// Checks an existing folder and closes it to others (mode 0700).
    ///
    /// - Parameter path: the folder; links to it are followed.
    /// - Returns: what was changed, for people; nil when nothing had to be.
    /// - Throws: `home-unsafe` when it is somebody else's, when others may write in it, or when others may read in it and it
    ///   holds other things than a daemon's: closing it would take those away from them.
    @discardableResult package static func secure(_ path: String) throws(AegisError) -> String? {
        let me = CurrentProcess.effectiveUser
        let folder: FileDescriptor
        let status: FileStatus
        let names: [String]
        do throws(Errno) { folder = try FileDescriptor.open(path, [.readOnly, .directory]) } catch {
            throw unusable(path, error)
        }
        do throws(Errno) {
            status = try folder.status()
            names = try folder.entries().map(\.name)
        } catch { throw unusable(path, error) }
        let mode = "0" + String(status.permissions, radix: 8)
        guard status.user == me else {
            throw refusal(
                "\(path) belongs to uid \(status.user), and the daemon would run as uid \(me)",
                hint: "chown \(me) \(path), or choose another AEGIS_HOME")
        }
        guard status.permissions & 0o022 == 0 else {
            throw refusal(
                "others may write in \(path) (mode \(mode)): they could take the daemon over",
                hint: "look through what is in it, then: chmod 700 \(path)")
        }
        guard status.permissions & 0o077 != 0 else { return nil }
        guard names.isEmpty || !marks.isDisjoint(with: names) else {
            let some = names.sorted().prefix(3).joined(separator: ", ")
            throw refusal(
                "others may read \(path) (mode \(mode)), and nothing in it says that it is a daemon's (it holds \(some))",
                hint: "choose a folder for Aegis alone, or close this one: chmod 700 \(path)")
        }
        do throws(Errno) { try folder.setPermissions(0o700) } catch { throw unusable(path, error) }
        return "\(path) was open to other users (mode \(mode)); its mode is 0700 now"
    }

    /// Checks a folder that others may walk through but not write in, as the one of sockets.
    ///
    /// - Throws: `home-unsafe`.
    package static func checkShared(_ path: String) throws(AegisError) {
        guard let status = try? Files.status(path) else { return }
        let me = CurrentProcess.effectiveUser
        guard status.user == me, status.permissions & 0o022 == 0 else {
            throw refusal(
                "\(path) belongs to uid \(status.user), mode 0\(String(status.permissions, radix: 8)): others could put"
                    + " their own sockets there", hint: "chown \(me) \(path) && chmod go-w \(path)")
        }
    }

    private static func refusal(_ message: String, hint: String) -> AegisError {
        .failed("home-unsafe", message, hint: hint)
    }

    private static func unusable(_ path: String, _ error: Errno) -> AegisError {
        .failed(
            "home-not-usable", "\(path) cannot be used: \(error)",
            hint: "check its rights, or choose another AEGIS_HOME")
    }
}
