/// What one image may cost.
package struct ImageLimits: Sendable, Equatable {
    /// Bytes of one compressed layer.
    package var blobBytes: Int64 = 16 << 30
    /// Bytes of one layer's uncompressed stream, and of its files.
    package var layerBytes: Int64 = 32 << 30
    /// Entries of one layer.
    package var entries: Int64 = 2_000_000
    /// How long a pull may take.
    package var pullTime: Duration = .seconds(3600)
    /// How long a registry may send nothing: to a question, and in a download.
    package var stallTime: Duration = .seconds(60)
    /// Pulls at a time; others wait in order.
    package var pulls = 4
    /// Layers of one pull that are unpacked at a time.
    package var unpacks = 2
    /// Names that may wait for a pull.
    package var waiting = 1024

    /// The documented defaults.
    package init() {}
}

/// Where images come from and how registries are spoken to.
package struct ImageSettings: Sendable {
    /// The registry of names that have none (`registries.default`).
    package var defaultRegistry = ImageReference.conventionalRegistry
    /// `HOST[:PORT]` of registries that may be spoken to without TLS; loopback always may.
    package var insecureRegistries: Set<String> = []
    /// The credentials file, in the form of `auth.json`; nil looks in the usual places.
    package var authFile: String?
    /// The program that talks to registries; nil looks for `skopeo` in `PATH`.
    package var fetchProgram: String?
    /// Certificates (PEM) of authorities that registries' certificates may come from, beside the system's.
    package var authorities: [UInt8]?
    /// How often a download is tried again after a failure of the network.
    package var retries = 2
    /// The platform that images are chosen for.
    package var platform = Platform.host
    package var limits = ImageLimits()
    /// The environment in which settings of the system are looked up.
    package var environment: [String: String] = [:]

    /// The documented defaults, with the environment of the daemon.
    package init(environment: [String: String] = [:]) { self.environment = environment }

    /// Where credentials may be, in the order in which they are looked for.
    var authFiles: [String] {
        if let authFile { return [authFile] }
        if let named = environment["REGISTRY_AUTH_FILE"], !named.isEmpty { return [named] }
        var places: [String] = []
        if let run = environment["XDG_RUNTIME_DIR"] { places.append("\(run)/containers/auth.json") }
        places.append("/run/containers/0/auth.json")
        if let home = environment["HOME"] {
            places += ["\(home)/.config/containers/auth.json", "\(home)/.docker/config.json"]
        }
        return places
    }

    /// Whether the file was asked for by name, so that its absence is an error.
    var authFileIsNamed: Bool { authFile != nil || environment["REGISTRY_AUTH_FILE"].map { !$0.isEmpty } ?? false }

    /// Whether a registry's certificate is checked.
    func verifiesTLS(_ reference: RegistryReference) -> Bool {
        !reference.isLoopback && !insecureRegistries.contains(reference.registry)
    }
}
