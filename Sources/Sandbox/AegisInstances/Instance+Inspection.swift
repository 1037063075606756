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
        try keep(inspection, stored)
        return inspection
    }

    private func take(_ inspection: Inspection?) {
        self.inspection = inspection
        stored.isInspected = inspection == nil ? nil : true
    }

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

/// What a run is looked into with, for a daemon that comes after a crash while the run goes on: sealed with the store's key, in
/// the record of the run, and gone with the run. The key that opens it opens the secrets themselves, too.
extension Instance {
    private static let (certificateField, keyField) = ("certificate", "key")
    private static let (placeholderField, valueField) = ("placeholder ", "value ")

    /// The row of the table of runs' secrets: beside the one of the values that were injected.
    private nonisolated var inspectionRow: String { "\(id)/inspection" }
    /// Whom the sealed values belong to: this run and no other.
    private nonisolated func inspectionOwner(_ stored: StoredInstance) -> String {
        "\(id)\0\(stored.attempt)\0inspection"
    }

    /// Saves what a start has made, before anything inside can have it.
    ///
    /// - Throws: what the database says.
    nonisolated func keep(_ inspection: Inspection, _ stored: StoredInstance) throws {
        var fields = [
            InjectedSecret(
                name: Self.certificateField, value: Secret(Array(inspection.authority.certificate.utf8))),
            InjectedSecret(name: Self.keyField, value: inspection.authority.privateKey),
        ]
        for secret in inspection.secrets?.all ?? [] {
            fields.append(
                InjectedSecret(
                    name: Self.placeholderField + secret.name, value: Secret(Array(secret.placeholder.description.utf8))
                ))
            fields.append(InjectedSecret(name: Self.valueField + secret.name, value: secret.value))
        }
        try services.store.keepSecrets(
            services.secrets.seal(fields, for: inspectionOwner(stored)), of: inspectionRow)
    }

    /// Finds what an earlier daemon made for the run that goes on. Without it inspected hosts are refused (`inspect-lost`).
    func recallInspection() {
        guard stored.isInspected == true else { return }
        do {
            guard let sealed = try services.store.secrets(of: inspectionRow),
                let fields = services.secrets.unseal(sealed, for: inspectionOwner(stored))
            else { throw AegisError.failed("inspect-lost", "the record of its run does not open") }
            let values = Dictionary(fields.map { ($0.name, $0.value) }) { first, _ in first }
            func text(_ name: String) -> String { String(decoding: values[name]?.reveal() ?? [], as: UTF8.self) }
            guard let key = values[Self.keyField] else { throw AegisError.failed("inspect-lost", "there is no key") }
            let authority: CertificateAuthority
            do throws(TLSError) {
                authority = try CertificateAuthority(certificate: text(Self.certificateField), key: key)
            } catch { throw error.aegisError }
            let byName = Dictionary(grouping: stored.brokeredSecrets, by: \.name)
            let secrets = try byName.keys.sorted().map { name throws(AegisError) in
                guard let placeholder = Placeholder(text(Self.placeholderField + name)),
                    let value = values[Self.valueField + name]
                else { throw AegisError.failed("inspect-lost", "there is no placeholder for '\(name)'") }
                return try BrokeredSecret(byName[name] ?? [], value: value, placeholder: placeholder)
            }
            inspection = Inspection(authority, secrets)
        } catch {
            services.logger.error(
                "what an instance is looked into with is lost", ("instance", id), ("error", "\(error)"))
        }
    }

    /// The run has ended: nobody trusts its authority any more.
    func forgetInspection() {
        // It is kept before the record says so: a start that was cut off in between left one, too.
        let secrets = stored.brokeredSecrets
        let mayHave = (try? NetworkPolicy(stored.network, secrets: secrets).inspects) ?? !secrets.isEmpty
        guard stored.isInspected == true || mayHave else { return }
        stored.isInspected = nil
        inspection = nil
        do { try services.store.keepSecrets(nil, of: inspectionRow) } catch {
            services.logger.error("cannot forget the authority of a run", ("instance", id), ("error", "\(error)"))
        }
    }
}
