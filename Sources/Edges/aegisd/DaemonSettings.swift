internal import AegisBackends
internal import AegisConfig
internal import AegisCore
internal import AegisInference
internal import AegisMCP
internal import AegisSandboxTypes
internal import AegisSecrets
internal import AegisStore
internal import LinuxSys

/// The configuration in force: the file, overridden by variables, overridden by flags.
struct DaemonSettings: Sendable {
    /// The file that was read, absolute; nil when there is none.
    let file: String?
    let database: DatabaseSection
    let network: NetworkSection
    let runtime: RuntimeSection
    let instances: InstancesSection
    let images: ImagesSection
    let registries: [RegistrySection]
    let agents: AgentsSection
    let providers: [ProviderSection]
    let selection: SelectionSection
    let mcpServers: [MCPServerSection]
    let audit: AuditSection
    let tls: TLSSection
    let memory: MemorySection
    let webSearch: WebSearchSection
    /// What TCP clients of the API must show.
    let token: Secret<String>
    /// Every value with its origin, secrets masked.
    let shown: ConfigurationReport

    init(options: DaemonOptions, home: DaemonHome) throws {
        try self.init(
            options: options, homePath: home.path,
            secret: { name, url throws(AegisError) in try Self.secret(name, url, home.path) },
            ownToken: { try Self.ownToken(home) })
    }

    /// What a daemon that is started now would use; nothing is made or changed.
    ///
    /// - Throws: `invalid-config`, as a start would.
    static func report(options: DaemonOptions) throws -> ConfigurationReport {
        // Secrets are shown by their names: the store stays closed.
        try DaemonSettings(
            options: options, homePath: try DaemonHome.place().path, secret: { _, _ in Secret("") },
            ownToken: { Secret("") }
        ).shown
    }

    private init(
        options: DaemonOptions, homePath: String,
        secret: @escaping (String, DatabaseURL) throws(AegisError) -> Secret<String>,
        ownToken: () throws -> Secret<String>
    ) throws {
        let file = try Self.file(options, homePath)
        self.file = try file.map { Files.absolute($0.name, from: try Files.readLink("/proc/self/cwd")) }
        let environment = ProcessEnvironment.all
        let configuration = try Configuration(
            file: file, environment: environment,
            flags: options.settings.map { ConfigFlag(name: $0.flag, path: $0.path, value: $0.value) })
        database = configuration.section(DatabaseSection.self)
        let records = database.url
        configuration.useSecrets { name throws(AegisError) in try secret(name, records) }
        network = configuration.section(NetworkSection.self)
        runtime = configuration.section(RuntimeSection.self)
        instances = configuration.section(InstancesSection.self)
        images = configuration.section(ImagesSection.self)
        audit = configuration.section(AuditSection.self)
        tls = configuration.section(TLSSection.self)
        registries = configuration.list(RegistrySection.self)
        agents = configuration.section(AgentsSection.self)
        providers = configuration.list(ProviderSection.self)
        selection = configuration.section(SelectionSection.self)
        memory = configuration.section(MemorySection.self)
        webSearch = configuration.section(WebSearchSection.self)
        mcpServers = configuration.list(MCPServerSection.self)
        try configuration.finish()
        token = try network.token ?? ownToken()
        let machine = MachineDefaults(totalMemory: CgroupManager.machineMemory ?? 0)
        shown = ConfigurationReport(
            values: machine.complete(
                configuration.entries.map { .init(key: $0.path, value: $0.value, origin: "\($0.origin)") },
                home: homePath))
    }

    /// A named file must be there; the one in the home may be missing.
    static func file(_ options: DaemonOptions, _ home: String) throws(AegisError) -> ConfigFile? {
        let named = options.config ?? environmentValue("AEGIS_CONFIG")
        let path = named ?? "\(home)/aegis-config.yaml"
        guard named != nil || Files.exists(path) else { return nil }
        do { return ConfigFile(name: path, bytes: try Files.read(path, limit: 1 << 20)) } catch {
            throw .usage("the configuration '\(path)' cannot be read: \(error)", hint: "check --config or AEGIS_CONFIG")
        }
    }

    /// A secret of the store, which is opened for it: the daemon's own is not there yet.
    private static func secret(_ name: String, _ url: DatabaseURL, _ home: String) throws(AegisError) -> Secret<String>
    {
        guard url.problem == nil else { throw .usage("spec.database.url is wrong") }
        do {
            let place = try RecordsPlace(url, home: home)
            let database = try DaemonServices.openDatabase(place.file)
            defer { database.close() }
            let store = try SecretStore(database: database, keyFile: "\(home)/\(Backup.key)")
            return Secret(String(decoding: try store.value(of: name).reveal(), as: UTF8.self))
        } catch { throw error as? AegisError ?? .failed("internal-error", "\(error)") }
    }

    /// The token that the daemon makes at its first start (decision D26).
    private static func ownToken(_ home: DaemonHome) throws -> Secret<String> {
        if let bytes = try? Files.read(home.token, limit: 4096), !bytes.isEmpty {
            return Secret(String(decoding: bytes.prefix { $0 > 32 }, as: UTF8.self))
        }
        let token = try Random.hex(bytes: 32)
        try Files.writeAtomically(home.token, Array((token + "\n").utf8), mode: 0o600, synced: true)
        return Secret(token)
    }
}

/// The environment of this process, read once.
enum ProcessEnvironment {
    static let all: [String: String] = {
        var values: [String: String] = [:]
        for entry in CurrentProcess.environment {
            guard let equals = entry.firstIndex(of: "=") else { continue }
            values[String(entry[..<equals])] = String(entry[entry.index(after: equals)...])
        }
        return values
    }()
}
