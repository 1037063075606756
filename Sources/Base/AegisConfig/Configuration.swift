package import AegisCore

/// A part of the daemon's configuration, declared by the target that it configures (decision D24).
package protocol ConfigSection {
    /// Its key under `spec`.
    static var key: String { get }
    /// Reads every key that the section knows, each time; problems are collected by the reader.
    init(from reader: ConfigReader)
}

/// A text file of configuration that somebody else has read.
package struct ConfigFile: Sendable {
    /// The name that messages show.
    package let name: String
    /// Its content.
    package let bytes: [UInt8]
    /// Makes a file from its name and content.
    package init(name: String, bytes: [UInt8]) {
        self.name = name
        self.bytes = bytes
    }
}

/// A flag of the command line that sets a key.
package struct ConfigFlag: Sendable {
    /// The flag as the user typed it: `--port`.
    package let name: String
    /// The key that it sets, without `spec`: `network.port`.
    package let path: String
    /// The text that it sets it to.
    package let value: String
    /// Makes a flag.
    package init(name: String, path: String, value: String) {
        self.name = name
        self.path = path
        self.value = value
    }
}

/// The daemon's configuration: `aegis-config.yaml`, overridden by variables, overridden by flags.
///
/// The composition root asks for each section once and then calls `finish`, which throws everything that is wrong at once:
///
/// ```swift
/// let config = try Configuration(file: file, environment: environment, flags: flags)
/// let network = config.section(NetworkConfig.self)
/// let servers = config.list(MCPServerConfig.self)
/// try config.finish()
/// ```
package final class Configuration {
    /// The `apiVersion` that this program reads.
    package static let apiVersion = "100monkeys.ai/v1"

    private let session: ConfigSession
    private let root: ConfigReader
    private let spec: ConfigReader
    /// `metadata.name`, when there is one.
    package let name: String?

    /// Parses the file and checks its envelope.
    ///
    /// - Parameters:
    ///   - file: the configuration file; nil when there is none, which is fine.
    ///   - environment: all variables of the process.
    ///   - flags: what the command line sets.
    /// - Throws: `invalid-config` when the file is not YAML or not of this shape.
    package init(file: ConfigFile?, environment: [String: String], flags: [ConfigFlag] = []) throws(AegisError) {
        session = ConfigSession(environment: environment, flags: flags, overrides: true, quotesValues: true)
        let node: ConfigNode?
        do {
            node = try file.flatMap { file throws(ConfigErrors) in try YAML.parse(file.bytes, file: file.name) }
        } catch {
            throw error.aegisError
        }
        let envelope = ConfigSession(environment: environment, flags: [], overrides: false, quotesValues: true)
        root = ConfigReader(node, path: "", prefix: "", session: envelope)
        _ = root.read("apiVersion", default: Self.apiVersion) {
            $0 == Self.apiVersion ? nil : "must be \(Self.apiVersion)"
        }
        _ = root.read("kind", default: "NodeConfig") { $0 == "NodeConfig" ? nil : "must be NodeConfig" }
        name = root.section("metadata") { metadata in
            _ = metadata.readIfPresent("version", as: String.self)
            _ = metadata.readMap("labels", of: String.self)
            return metadata.readIfPresent("name")
        }
        spec = ConfigReader(root.fileEntry("spec")?.value, path: "", prefix: "spec.", session: session)
        root.finish()
        session.problems += envelope.problems
    }

    /// Lets `secret:NAME` be used by the sections that are asked for from here on.
    package func useSecrets(_ resolve: @escaping (String) throws(AegisError) -> Secret<String>) {
        session.substitution = Substitution(environment: session.substitution.environment) { name in
            try resolve(name).reveal()
        }
    }

    /// Reads a section that is a map; without one in the file it is made of defaults and overrides.
    package func section<S: ConfigSection>(_ type: S.Type) -> S {
        session.sections.insert(S.key)
        return spec.section(S.key) { S(from: $0) }
    }

    /// Reads a section that is a list of maps.
    package func list<S: ConfigSection>(_ type: S.Type) -> [S] {
        session.sections.insert(S.key)
        return spec.sections(S.key) { S(from: $0) }
    }

    /// Throws what is wrong in what was read so far, for a value that is needed before the others.
    package func check() throws(AegisError) {
        guard session.problems.isEmpty else { throw ConfigErrors(session.problems).aegisError }
    }

    /// Throws everything that is wrong, unknown sections and variables included. Call it once, after every section was read.
    package func finish() throws(AegisError) {
        spec.finish()
        for flag in session.flags.values.sorted(by: { $0.path < $1.path }) {
            session.report(.flag(flag.name), "it sets \(flag.path), which no section reads")
        }
        session.reportUnknownVariables()
        try check()
    }

    /// Every value in force with its origin, by path, secrets masked.
    package var entries: [ConfigEntry] { session.entries.sorted { $0.path < $1.path } }
}

/// Reads any strict YAML document (a manifest, a kit, a registry) with the same readers.
package enum ConfigDocument {
    /// Parses a file and hands its top map to `body`.
    ///
    /// - Parameters:
    ///   - file: name and content.
    ///   - environment: what `${VAR}` and `env:VAR` may name; variables override no key here.
    ///   - quotesValues: whether messages may show values; false for a file that its reader might not be allowed to see.
    ///   - substitutes: whether `${VAR}` and `env:VAR` are replaced; else they are text as any other.
    ///   - limits: what parsing may cost.
    ///   - body: reads every key that the document may have.
    /// - Returns: what `body` made.
    /// - Throws: `invalid-config` with all problems.
    package static func read<T>(
        _ file: ConfigFile, environment: [String: String] = [:], quotesValues: Bool = true,
        substitutes: Bool = true, limits: YAMLLimits = YAMLLimits(), _ body: (ConfigReader) -> T
    ) throws(AegisError) -> T {
        let session = ConfigSession(environment: environment, flags: [], overrides: false, quotesValues: quotesValues)
        session.substitution.isOn = substitutes
        let node: ConfigNode?
        do {
            node = try YAML.parse(file.bytes, file: file.name, limits: limits, quotesValues: quotesValues)
        } catch {
            throw error.aegisError
        }
        let reader = ConfigReader(node, path: "", prefix: "", session: session)
        let result = body(reader)
        reader.finish()
        guard session.problems.isEmpty else { throw ConfigErrors(session.problems).aegisError }
        return result
    }
}
