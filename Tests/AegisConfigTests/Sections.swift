import AegisConfig
import AegisCore

enum Mode: String, ConfigWord { case auto, runc, runsc, qemu }

struct Network: ConfigSection, Equatable {
    static let key = "network"
    var bind: String
    var port: Int
    var token: String?
    var origins: [String]
    var certificate: String?

    init(from reader: ConfigReader) {
        bind = reader.read("bind", default: "127.0.0.1")
        port = reader.read("port", default: 8080) { (0...65535).contains($0) ? nil : "must be 0 to 65535" }
        _ = reader.read("router_port", default: 8099)
        token = reader.readSecret("token")?.reveal()
        origins = reader.readList("hosts")
        certificate = reader.sectionIfPresent("tls") { $0.require("cert_path", placeholder: "") }
    }
}

struct Runtime: ConfigSection, Equatable {
    static let key = "runtime"
    var isolation: Mode
    var socket: String
    var registry: String

    init(from reader: ConfigReader) {
        isolation = reader.read("default_isolation", default: .auto)
        socket = reader.read(
            "container_socket_path", default: "/var/run/docker.sock", aliases: ["docker_socket_path"],
            variables: ["CONTAINER_HOST", "DOCKER_HOST"])
        registry = reader.read("runtime_registry_path", default: "runtime-registry.yaml")
    }
}

struct Instances: ConfigSection, Equatable {
    static let key = "instances"
    var idle: TimeSpan
    var disk: ByteSize
    var warm: [String: Int]
    var enabled: Bool
    var share: Double

    init(from reader: ConfigReader) {
        idle = reader.read("idle_pause", default: .seconds(60))
        disk = reader.read("disk_reserve", default: ByteSize(2 << 30))
        warm = Dictionary(reader.readMap("warm", of: Int.self).map { ($0.key, $0.value) }) { first, _ in first }
        enabled = reader.read("enabled", default: true)
        share = reader.read("share", default: 0.5)
    }
}

struct Provider: ConfigSection, Equatable {
    static let key = "llm_providers"
    var name: String
    var key: String?
    var models: [String]
    var fallback: [String: [String]]
    var limits: [String: Int]

    init(from reader: ConfigReader) {
        name = reader.require("name", placeholder: "")
        key = reader.readSecret("api_key")?.reveal()
        models = reader.sections("models") { $0.require("alias", placeholder: "") }
        fallback = Dictionary(reader.readMapOfLists("fallback", of: String.self).map { ($0.key, $0.value) }) { a, _ in a
        }
        let named = reader.namedSections("limits") { _, limit in limit.read("max", default: 1) }
        limits = Dictionary(named.map { ($0.key, $0.value) }) { a, _ in a }
    }
}

/// Everything read from one text, as the composition root would.
struct Everything {
    var network: Network
    var runtime: Runtime
    var instances: Instances
    var providers: [Provider]
    var entries: [ConfigEntry]
    var name: String?

    init(
        _ text: String, environment: [String: String] = [:], flags: [ConfigFlag] = [], secrets: [String: String]? = nil
    ) throws(AegisError) {
        let file = ConfigFile(name: "aegis-config.yaml", bytes: Array(text.utf8))
        let config = try Configuration(file: file, environment: environment, flags: flags)
        if let secrets {
            config.useSecrets { name throws(AegisError) in
                guard let value = secrets[name] else {
                    throw .notFound("secret-not-found", "there is no secret '\(name)'")
                }
                return Secret(value)
            }
        }
        network = config.section(Network.self)
        runtime = config.section(Runtime.self)
        instances = config.section(Instances.self)
        providers = config.list(Provider.self)
        name = config.name
        try config.finish()
        entries = config.entries
    }
}

/// The message of the error that `text` must cause.
func problems(
    _ text: String, environment: [String: String] = [:], flags: [ConfigFlag] = [], secrets: [String: String]? = nil
) -> String {
    do throws(AegisError) {
        _ = try Everything(text, environment: environment, flags: flags, secrets: secrets)
        return "no problem"
    } catch {
        return error.code == "invalid-config" && error.kind == .usage ? error.message : "\(error)"
    }
}
