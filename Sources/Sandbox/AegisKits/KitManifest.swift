internal import AegisCapabilities
internal import AegisConfig
package import AegisCore
internal import AegisImages
package import AegisSandboxTypes

/// What `kit.yaml` says.
package struct KitManifest: Sendable, Equatable {
    /// The file's name in a kit.
    package static let file = "kit.yaml"
    /// The `apiVersion` that this release reads.
    package static let apiVersion = "aegis/v1"
    /// The longest manifest, in bytes.
    package static let limit = 256 << 10

    package var name: String
    package var version: KitVersion
    package var description: String?
    package var spec: KitSpec

    /// Reads a manifest, strictly.
    ///
    /// - Parameters:
    ///   - bytes: the file.
    ///   - exists: whether the kit has a file or folder of that path.
    /// - Throws: `invalid-config` with everything that is wrong, each with its line and column.
    package init(_ bytes: [UInt8], exists: @escaping (String) -> Bool) throws(AegisError) {
        let file = ConfigFile(name: Self.file, bytes: bytes)
        let read = try ConfigDocument.read(file, substitutes: false) { KitReader(exists: exists).manifest($0) }
        guard let read else { throw .failed("internal", "a kit without a version was read") }
        self = read
    }

    init(name: String, version: KitVersion, description: String?, spec: KitSpec) {
        self.name = name
        self.version = version
        self.description = description
        self.spec = spec
    }
}

/// Reads the keys of a manifest.
struct KitReader {
    let exists: (String) -> Bool

    func manifest(_ reader: ConfigReader) -> KitManifest? {
        _ = reader.require("apiVersion", placeholder: KitManifest.apiVersion) {
            $0 == KitManifest.apiVersion ? nil : "must be \(KitManifest.apiVersion), the form that this release reads"
        }
        _ = reader.require("kind", placeholder: "Kit") { $0 == "Kit" ? nil : "must be Kit" }
        let (name, version, description) = reader.section("metadata") { metadata in
            let name = metadata.require("name", placeholder: "kit") { name in
                Self.problem { () throws(AegisError) in try Names.validate(name, what: "kit") }
            }
            let version = metadata.require("version", placeholder: "0.0.0") {
                KitVersion($0) == nil ? "must be MAJOR.MINOR.PATCH, as in 1.0.0" : nil
            }
            let description: String? = metadata.readIfPresent("description") {
                $0.utf8.count <= 1000 ? nil : "must be at most 1000 bytes"
            }
            return (name, version, description)
        }
        let spec = reader.section("spec") { self.spec($0) }
        return KitVersion(version).map {
            KitManifest(name: name, version: $0, description: description, spec: spec)
        }
    }

    /// What is wrong with a value, as a checker says it.
    static func problem(_ check: () throws(AegisError) -> Void) -> String? {
        do {
            try check()
            return nil
        } catch { return "is wrong: \(error.message)" + (error.hint.map { "; \($0)" } ?? "") }
    }

    private func spec(_ reader: ConfigReader) -> KitSpec {
        var spec = KitSpec()
        spec.image = reader.readIfPresent("image", check: Self.image)
        spec.command = list(reader, "command")
        spec.env = environment(reader, "env")
        spec.workdir = reader.readIfPresent("workdir", check: Self.absolute)
        spec.user = reader.readIfPresent("user", check: Self.user)
        spec.expose = ports(reader)
        spec.workspace = files(reader, "workspace", isAbsolute: false)
        spec.files = files(reader, "files", isAbsolute: true)
        spec.secrets = secrets(reader)
        spec.idle = reader.sectionIfPresent("idle") { self.idle($0) }
        spec.hooks = reader.sectionIfPresent("hooks") { hooks in
            KitHooks(before: self.commands(hooks, "before"), after: self.commands(hooks, "after"))
        }
        spec.health = health(reader)
        routing(reader, &spec)
        spec.network = reader.sectionIfPresent("network") { self.network($0) }
        spec.limits = reader.sectionIfPresent("limits") { self.limits($0) }
        spec.minIsolation = reader.readIfPresent("min_isolation") { grade in
            Self.problem { () throws(AegisError) in _ = try Grade(parsing: grade) }
        }
        if let wrong = Self.idleHealth(spec) { reader.report(wrong) }
        spec.grants = nonEmpty(
            reader.readList("grants", of: String.self) { text in
                do throws(CapabilityError) {
                    let spec = try GrantSpec(parsing: text)
                    return spec.capability.kind == .spawn ? nil : "is not granted to instances; spawn can be"
                } catch { return "is wrong: \(error)" }
            })
        spec.tools = tools(reader, declared: (spec.secrets ?? []).map(\.name))
        return spec
    }

    // MARK: Small checks

    private static func image(_ text: String) -> String? {
        problem { () throws(AegisError) in _ = try ImageReference(parsing: text) }
    }

    static func user(_ text: String) -> String? {
        guard !text.isEmpty else { return "must not be empty: leave it out for the image's own" }
        return problem { () throws(AegisError) in _ = try ImageUser(parsing: text) }
    }

    /// A path that nobody would ever ask for.
    private static func idleHealth(_ spec: KitSpec) -> String? {
        guard spec.health?.path != nil, !(spec.expose ?? []).contains(where: isHTTP) else { return nil }
        return "health has a path, and 'expose' no http port to ask it on; expose one, or give health an 'exec'"
    }

    private static func isHTTP(_ text: String) -> Bool {
        (try? ExposeSpec(parsing: text))?.portProtocol == .http
    }

    static func absolute(_ path: String) -> String? {
        path.hasPrefix("/") && !path.utf8.contains(0) ? nil : "must be an absolute path inside"
    }

    private func nonEmpty<T>(_ list: [T]) -> [T]? { list.isEmpty ? nil : list }

    private func list(_ reader: ConfigReader, _ key: String) -> [String]? {
        nonEmpty(reader.readList(key, of: String.self) { $0.utf8.contains(0) ? "must not hold a NUL byte" : nil })
    }

    private func environment(_ reader: ConfigReader, _ key: String) -> [String: String]? {
        let pairs = reader.readMap(key, of: String.self) {
            $1.utf8.contains(0) ? "'\($0)' must not hold a NUL byte" : nil
        }
        for (name, _) in pairs where !Self.isVariable(name) {
            reader.report("\(key): '\(name)' is not a name of an environment variable")
        }
        let all = Dictionary(pairs.map { ($0.key, $0.value) }) { $1 }
        return all.isEmpty ? nil : all
    }

    static func isVariable(_ name: String) -> Bool {
        guard let first = name.utf8.first, !(48...57).contains(first) else { return false }
        return name.utf8.allSatisfy {
            (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 95
        }
    }
}
