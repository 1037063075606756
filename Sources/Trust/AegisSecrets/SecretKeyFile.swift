internal import AegisCore
internal import LinuxSys

/// The file that holds the store's key: 32 bytes, mode 0600, owned by the daemon's user.
struct SecretKeyFile {
    let path: String

    /// Reads the key; nil when there is no file. Anything unusual about the file is an error, never repaired.
    func load() throws(AegisError) -> SecretKey? {
        let file: FileDescriptor
        do {
            file = try FileDescriptor.open(path, [.readOnly, .noFollow, .nonblocking, .noTerminal])
        } catch {
            switch error {
            case .noSuchFile: return nil
            case .tooManyLinks: throw unusable("it is a symbolic link", hint: "put the file itself there")
            default: throw unreadable(error)
            }
        }
        do {
            try check(try file.status())
            // One byte more than a key, so that a longer file shows.
            var bytes = [UInt8](repeating: 0, count: SecretKey.count + 1)
            defer { SecretKey.wipe(&bytes) }
            let count = try file.read(into: &bytes)
            guard count == SecretKey.count else { throw wrongSize(count > SecretKey.count ? nil : count) }
            bytes.removeLast()
            return try SecretKey(taking: &bytes)
        } catch let error as Errno {
            throw unreadable(error)
        } catch let error as AegisError {
            throw error
        } catch {
            throw .failed("internal-error", "\(error)")
        }
    }

    /// Makes a new key and its file; both are synced when this returns. An existing file is never replaced.
    func create() throws(AegisError) -> SecretKey {
        let key = try SecretKey()
        let (directory, name) = Files.split(path)
        do {
            let folder = try FileDescriptor.open(directory, [.readOnly, .directory])
            let temporary = ".\(name).\(try Random.hex(bytes: 8))"
            let file = try folder.open(temporary, [.writeOnly, .create, .exclusive, .noFollow], mode: 0o600)
            do {
                try file.setPermissions(0o600)
                var bytes = try unsafe key.withBytes { unsafe Array($0) }
                defer { SecretKey.wipe(&bytes) }
                try file.writeAll(bytes[...])
                try file.sync()
                try folder.rename(temporary, as: name, .noReplace)
            } catch {
                try? folder.removeFile(temporary)
                throw error
            }
            try folder.sync()
            return key
        } catch let error as AegisError {
            throw error
        } catch {
            throw .failed(
                "secret-key-not-written", "the key file \(path) cannot be made: \(error)",
                hint: "check that the folder exists, is writable and has room")
        }
    }

    private func check(_ status: FileStatus) throws(AegisError) {
        guard status.type == .regular else {
            throw unusable("it is not a regular file", hint: "put the key file there")
        }
        let user = CurrentProcess.effectiveUser
        guard status.user == user else {
            throw unusable("it belongs to uid \(status.user), not to uid \(user)", hint: "chown \(user) \(path)")
        }
        guard status.permissions & 0o7177 == 0 else {
            let mode = String(status.permissions, radix: 8)
            throw unusable(
                "its mode is 0\(mode): others may read or change it",
                hint: "if nobody had access to it, chmod 600 \(path); else set every secret again under a new key")
        }
    }

    private func wrongSize(_ count: Int?) -> AegisError {
        let size = count.map { "\($0) bytes" } ?? "more than \(SecretKey.count) bytes"
        return unusable("it has \(size), a key has \(SecretKey.count)", hint: "restore it from a backup")
    }

    private func unusable(_ why: String, hint: String) -> AegisError {
        .failed("secret-key-invalid", "the key file \(path) is not used: \(why)", hint: hint)
    }

    private func unreadable(_ error: Errno) -> AegisError {
        .failed("secret-key-invalid", "the key file \(path) cannot be read: \(error)")
    }
}
