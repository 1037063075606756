internal import AegisBackends
internal import AegisBroker
internal import AegisCapabilities
internal import AegisCore
internal import AegisFiles
internal import AegisNetwork
internal import AegisSandboxTypes
internal import AegisSecrets
internal import AegisTLS
internal import LinuxSys

extension StoredInstance {
    /// The secrets whose values become variables.
    var plainSecrets: [String] { info.secrets.filter { !$0.contains("@") } }

    /// Where secrets may be used whose values stay outside.
    var brokeredSecrets: [SecretBinding] {
        info.secrets.compactMap { text in
            if case .brokered(let binding)? = try? SecretArgument(parsing: text) { binding } else { nil }
        }
    }
}

/// What an instance needs for its TLS to be looked into (decision D19).
extension Instance {
    /// Where programs look for whom to trust; also the file that is put in place.
    static let trustFile = "/etc/ssl/certs/ca-certificates.crt"
    /// The variables by which programs with stores of their own are told.
    static let trustVariables = [
        "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
    ]

    private nonisolated var trustPath: String { "\(services.home)/trust/\(id).pem" }

    /// Makes authority and placeholders for the start under way; nil when nothing is looked into.
    nonisolated func prepareInspection(_ stored: StoredInstance) async throws -> Inspection? {
        guard try NetworkPolicy(stored.network, secrets: stored.brokeredSecrets).inspects else {
            await take(nil)
            return nil
        }
        let byName = Dictionary(grouping: stored.brokeredSecrets, by: \.name)
        let secrets = try byName.keys.sorted().map { name in
            try BrokeredSecret(byName[name] ?? [], value: services.secrets.value(of: name))
        }
        let inspection = try Inspection(for: stored.info.name ?? id, secrets)
        await take(inspection)
        return inspection
    }

    private func take(_ inspection: Inspection?) { self.inspection = inspection }

    /// The image's store with the instance's authority in it, to be mounted where programs look for it.
    nonisolated func trustMount(_ inspection: Inspection, layers: [String]) throws -> BootMount {
        var bundle = UserLookup(layers: layers).file(String(Self.trustFile.dropFirst()), limit: 4 << 20) ?? []
        if let last = bundle.last, last != UInt8(ascii: "\n") { bundle.append(UInt8(ascii: "\n")) }
        bundle += Array(inspection.authority.certificate.utf8)
        try Files.makeDirectories(Files.split(trustPath).directory, mode: 0o700)
        try Files.writeAtomically(trustPath, bundle, mode: 0o644, synced: false)
        return BootMount(
            source: SharedDescriptor(try FileDescriptor.open(trustPath, [.pathOnly])), target: Self.trustFile,
            readOnly: true, isDirectory: false, ownership: .managed)
    }

    /// Removes the file that was mounted.
    nonisolated func removeTrust() { try? Files.removeFile(trustPath) }

    /// The variables that brokered secrets and the authority add.
    var inspectionEnvironment: [(name: String, value: String)] {
        guard let inspection else { return [] }
        return Self.trustVariables.map { ($0, Self.trustFile) } + (inspection.secrets?.environment ?? [])
    }
}
