internal import AegisConfig
internal import AegisCore
internal import AegisInstances
internal import AegisSandboxTypes

/// `network`: where the HTTP API listens, and how instances' networks are watched.
struct NetworkSection: ConfigSection {
    static let key = "network"
    var bind: String
    var port: Int
    var routerPort: Int
    var hosts: [String]
    var openMetrics: Bool
    var token: Secret<String>?
    /// How long the network of one instance goes without a proof, on average.
    var proofInterval: TimeSpan

    init(from reader: ConfigReader) {
        bind = reader.read("bind", default: "127.0.0.1") {
            $0 == "127.0.0.1" || $0 == "::1" || $0 == "localhost"
                ? nil : "must be a loopback address: an address beyond it needs TLS, which this release does not have"
        }
        port = reader.read("port", default: 8080) { (0...65535).contains($0) ? nil : "must be 0 to 65535" }
        routerPort = reader.read("router_port", default: 8099) {
            (0...65535).contains($0) ? nil : "must be 0 to 65535"
        }
        hosts = reader.readList("hosts", of: String.self)
        openMetrics = reader.read("open_metrics", default: false)
        token = reader.readSecret("token")
        proofInterval = reader.read("proof_interval", default: TimeSpan(milliseconds: 300_000)) {
            (1000...3_600_000).contains($0.milliseconds) ? nil : "must be 1s to 1h"
        }
    }
}

/// `runtime`: which isolation is taken.
struct RuntimeSection: ConfigSection {
    static let key = "runtime"
    /// What this release can isolate with.
    static let isolations = ["auto", "runsc", "runc", "crun"]
    var isolation: String
    var minIsolation: String
    var pullPolicy: String

    init(from reader: ConfigReader) {
        isolation = reader.read("default_isolation", default: "auto") { word in
            guard !Self.isolations.contains(word) else { return nil }
            let near = nearest(word, in: Self.isolations).map { " (did you mean '\($0)'?)" } ?? ""
            return "must be one of \(Self.isolations.joined(separator: ", "))\(near)"
        }
        minIsolation = reader.read("min_isolation", default: "namespaces") {
            Grade(rawValue: $0) == nil
                ? "must be one of \(Grade.allCases.reversed().map(\.rawValue).joined(separator: ", "))" : nil
        }
        pullPolicy = reader.read("image_pull_policy", default: "if-not-present") {
            ["always", "if-not-present", "never"].contains($0) ? nil : "must be always, if-not-present or never"
        }
    }
}

/// `instances`: bounds and defaults of instances.
struct InstancesSection: ConfigSection {
    static let key = "instances"
    var max: Int
    var limits: Limits
    var logLimit: ByteSize
    var diskReserve: ByteSize?
    /// How long the instance of a `run` whose client was lost waits for it.
    var clientPatience: TimeSpan
    /// How long an instance that a port can wake is unused before it pauses, and before it stops; 0 = never.
    var idlePause: TimeSpan
    var idleStop: TimeSpan
    /// Sandboxes that are kept ready, what they may use together, and what must stay free on the machine beside them.
    var warm: [WarmWish]
    var warmMemory: ByteSize?
    var warmReserve: ByteSize?

    init(from reader: ConfigReader) {
        max = reader.read("max", default: 500) { (1...100_000).contains($0) ? nil : "must be 1 to 100000" }
        limits = reader.section("limits") { section in
            Limits(
                cpus: section.readIfPresent("cpus") { Self.wrong(Limits(cpus: $0)) },
                memory: section.readIfPresent("memory") { Self.wrong(Limits(memory: $0)) },
                disk: section.readIfPresent("disk") { Self.wrong(Limits(disk: $0)) },
                pids: section.readIfPresent("pids") { Self.wrong(Limits(pids: $0)) })
        }
        logLimit = reader.read("log_limit", default: ByteSize(64 << 20)) {
            $0.bytes >= 1 << 20 ? nil : "must be at least 1Mi"
        }
        diskReserve = reader.readIfPresent("disk_reserve")
        idlePause = reader.read("idle_pause", default: TimeSpan(milliseconds: 60_000), check: Self.idle)
        idleStop = reader.read("idle_stop", default: TimeSpan(milliseconds: 1_200_000), check: Self.idle)
        warm = Self.warm(reader)
        warmMemory = reader.readIfPresent("warm_memory")
        warmReserve = reader.readIfPresent("warm_reserve")
        clientPatience = reader.read("client_patience", default: TimeSpan(milliseconds: 30_000)) {
            (1000...3_600_000).contains($0.milliseconds) ? nil : "must be 1s to 1h"
        }
    }

    /// A number alone is that of the base image.
    private static func warm(_ reader: ConfigReader) -> [WarmWish] {
        let read = reader.readMap("warm", of: Int.self, single: "base", default: [("base", 1)]) { image, count in
            do throws(AegisError) { _ = try wish(image, count) } catch {
                return [error.message, error.hint].compactMap(\.self).joined(separator: "; ")
            }
            return nil
        }
        return read.compactMap { try? wish($0.key, $0.value) }
    }

    private static func wish(_ image: String, _ count: Int) throws(AegisError) -> WarmWish {
        try WarmWish(image, count: count, isolations: RuntimeSection.isolations)
    }

    /// What is wrong with the one limit that is set; nil when nothing is.
    private static func wrong(_ limits: Limits) -> String? {
        do throws(AegisError) { try limits.validate() } catch {
            return "is out of range: \(error.hint ?? error.message)"
        }
        return nil
    }

    private static func idle(_ span: TimeSpan) -> String? {
        let bad = IdlePolicy(pause: span)
        do throws(AegisError) { try bad.validate() } catch { return "must be 100ms to 30d, or 0s for never" }
        return nil
    }
}

/// `images`: how long bringing an image may take.
struct ImagesSection: ConfigSection {
    static let key = "images"
    var pullTimeout: TimeSpan
    /// How long a download may make no progress.
    var stallTimeout: TimeSpan

    init(from reader: ConfigReader) {
        pullTimeout = reader.read("pull_timeout", default: TimeSpan(milliseconds: 3_600_000)) {
            (1000...86_400_000).contains($0.milliseconds) ? nil : "must be 1s to 24h"
        }
        stallTimeout = reader.read("stall_timeout", default: TimeSpan(milliseconds: 60_000)) {
            (1000...3_600_000).contains($0.milliseconds) ? nil : "must be 1s to 1h"
        }
    }
}

/// One entry of `registries`.
struct RegistrySection: ConfigSection {
    static let key = "registries"
    var name: String
    var insecure: Bool
    var authFile: String?

    init(from reader: ConfigReader) {
        name = reader.require("name", placeholder: "")
        insecure = reader.read("insecure", default: false)
        authFile = reader.readIfPresent("auth_file")
    }
}
