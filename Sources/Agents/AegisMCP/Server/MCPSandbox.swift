internal import AegisConfig
package import AegisCore
internal import AegisSandboxTypes

/// What a server that is started here runs in (decision D14): an instance, closed unless its entry says otherwise; or the host, for
/// who writes the daemon's configuration, as another user.
package struct MCPSandbox: Sendable, Hashable {
    package var image: String?
    package var isolation: String?
    /// `none`, `allow`, or `host` for a server at the host.
    package var networkMode = "none"
    package var networkGroup: String?
    package var networkAllow: [String] = []
    /// `SRC:DST[:rw]`
    package var mounts: [String] = []
    package var environment: [String: String] = [:]
    /// Names of secrets, which become variables.
    package var secrets: [String] = []
    package var workdir: String?
    /// Whom it runs as, inside, or at the host.
    package var user: String?
    package var memory: ByteSize?
    package var cpus: Double?
    package var pids: Int?
    package var isHost = false
    /// Keys that the entry has.
    var given: [String] = []

    /// The base image, and nothing else.
    package init() {}

    init(from reader: ConfigReader) {
        image = reader.readIfPresent("image")
        isolation = reader.readIfPresent("isolation")
        (networkMode, networkGroup, networkAllow) = reader.section("network") { network in
            let mode = network.read("mode", default: "none") { (mode: String) in
                ["none", "allow", "host"].contains(mode) ? nil : "must be none, allow, or host for a server at the host"
            }
            let group: String? = network.readIfPresent("group")
            return (mode, group, network.readList("allow", of: String.self))
        }
        mounts = reader.readList("mounts", of: String.self) { text in
            do throws(AegisError) {
                let mount = try MountSpec(parsing: text)
                try mount.validateTarget()
                return mount.source.hasPrefix("/") ? nil : "must have an absolute source, as in /srv/data:/data"
            } catch { return [error.message, error.hint].compactMap(\.self).joined(separator: "; ") }
        }
        let variables = reader.readMap("env", of: String.self)
        environment = Dictionary(variables.map { ($0.key, $0.value) }) { first, _ in first }
        secrets = reader.readList("secrets", of: String.self)
        workdir = reader.readIfPresent("workdir")
        user = reader.readIfPresent("user")
        let limits = reader.section("limits") { limits in
            Limits(
                cpus: limits.readIfPresent("cpus") { Self.wrong(Limits(cpus: $0)) },
                memory: limits.readIfPresent("memory") { Self.wrong(Limits(memory: $0)) },
                pids: limits.readIfPresent("pids") { Self.wrong(Limits(pids: $0)) })
        }
        (cpus, memory, pids) = (limits.cpus, limits.memory, limits.pids)
        isHost = reader.read("host", default: false)
        let words: [(String, Bool)] = [
            ("image", image != nil), ("isolation", isolation != nil), ("mounts", !mounts.isEmpty),
            ("env", !environment.isEmpty), ("secrets", !secrets.isEmpty), ("workdir", workdir != nil),
            ("user", user != nil), ("host", isHost),
            ("network", networkMode != "none" || networkGroup != nil || !networkAllow.isEmpty),
            ("limits", limits != Limits()),
        ]
        given = words.filter(\.1).map(\.0)
    }

    /// What is wrong with the one limit that is set; nil when nothing is.
    private static func wrong(_ limits: Limits) -> String? {
        do throws(AegisError) { try limits.validate() } catch {
            return "is out of range: \(error.hint ?? error.message)"
        }
        return nil
    }

    /// At the host there is no sandbox to describe, and root is nobody that a server runs as.
    func check(_ name: String, _ reader: ConfigReader) {
        guard isHost else {
            if networkMode == "host" {
                reader.report("'network.mode: host' is for servers at the host, and '\(name)' runs in an instance")
            }
            return
        }
        if networkMode == "allow" || networkGroup != nil || !networkAllow.isEmpty {
            reader.report(
                "the MCP server '\(name)' at the host has no network, or the host's with 'network: { mode: host }'")
        }
        if user == nil || user == "root" || user == "0" {
            reader.report("the MCP server '\(name)' with 'host: true' needs 'user', and it cannot be root")
        }
        for text in mounts {
            if let mount = try? MountSpec(parsing: text), mount.source != mount.target {
                reader.report("'\(text)': at the host a folder is where it is, as in /srv/data:/srv/data")
            }
        }
        for key in given
        where !["host", "network", "user", "env", "secrets", "workdir", "mounts", "limits"].contains(key) {
            reader.report("'\(key)' is for servers in instances, and '\(name)' runs at the host")
        }
    }
}
