internal import AegisCore
internal import AegisLogs
internal import AegisSandboxTypes
internal import AegisSecrets
internal import AegisSessions

/// The secrets of the live run: hidden in the stored log, also by a daemon that did not give them (decision D20).
extension Instance {
    /// Whom the sealed values belong to: this run and no other.
    private var secretsOwner: String { "\(id)\0\(stored.attempt)" }

    /// From here on hides these values in the streams that begin.
    func hide(_ secrets: RunSecrets) {
        runSecrets = secrets
        tap.setMask { secrets.masked($0) }
        if stored.plainSecrets.isEmpty {
            log.setMask(nil)
        } else {
            log.setMask { () -> (any LogMask)? in SecretLogMask(secrets) }
        }
    }

    /// Hides values, and saves them sealed, before a process gets them.
    ///
    /// - Throws: what the database says; the process must not start then.
    func keep(_ secrets: [InjectedSecret]) throws {
        guard !stored.plainSecrets.isEmpty else { return }
        // Also when there are none: what is missing later is known to be lost.
        guard runSecrets.add(secrets) || runSecrets.values.isEmpty else { return }
        try services.store.keepSecrets(services.secrets.seal(runSecrets.values, for: secretsOwner), of: id)
    }

    /// Finds the values of a run that an earlier daemon started. Without them nothing of its output is stored.
    ///
    /// - Parameter launched: whether its command has them.
    func recallSecrets(launched: Bool) {
        let secrets = RunSecrets()
        defer { hide(secrets) }
        guard !stored.plainSecrets.isEmpty else { return }
        do {
            let sealed = try services.store.secrets(of: id)
            if let values = sealed.flatMap({ services.secrets.unseal($0, for: secretsOwner) }) {
                _ = secrets.add(values)
                return
            }
            if sealed == nil, !launched { return }
        } catch {
            services.logger.error("a record cannot be read", ("instance", id), ("error", "\(error)"))
        }
        secrets.lose()
        services.logger.error("the secrets of a run are not known: its output is not stored", ("instance", id))
    }

    /// The run has ended: nobody holds its values any more.
    func forgetSecrets() {
        forgetInspection()
        guard !stored.plainSecrets.isEmpty else { return }
        do { try services.store.keepSecrets(nil, of: id) } catch {
            services.logger.error("cannot forget the secrets of a run", ("instance", id), ("error", "\(error)"))
        }
    }
}
