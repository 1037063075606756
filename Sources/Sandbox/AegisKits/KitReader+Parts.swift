internal import AegisCapabilities
internal import AegisConfig
internal import AegisCore
internal import AegisSandboxTypes

/// The parts of a manifest's `spec`.
extension KitReader {
    private static let mostFiles = 64

    func ports(_ reader: ConfigReader) -> [String]? {
        let ports = reader.readList("expose", of: String.self) { text in
            Self.problem { () throws(AegisError) in _ = try ExposeSpec(parsing: text) }
        }
        if let wrong = Self.problem({ () throws(AegisError) in _ = try ExposeSpec.list(ports) }),
            ports.allSatisfy({ (try? ExposeSpec(parsing: $0)) != nil })
        {
            reader.report("expose \(wrong)")
        }
        return ports.isEmpty ? nil : ports
    }

    /// Files of the kit with their targets.
    func files(_ reader: ConfigReader, _ key: String, isAbsolute: Bool) -> [KitFile]? {
        let files = reader.sections(key) { file in
            let from = file.require("from", placeholder: KitManifest.file) { path in
                guard Self.isInside(path) else { return "must be a path within the kit, without '..'" }
                return exists(path) ? nil : "names nothing in the kit"
            }
            let to =
                if isAbsolute {
                    file.require("to", placeholder: "/kit", check: Self.target)
                } else {
                    file.read("to", default: ".") {
                        Self.isInside($0) ? nil : "must be a path within the workspace, without '..'"
                    }
                }
            return KitFile(from: from, to: to)
        }
        if files.count > Self.mostFiles {
            reader.report("\(key) has \(files.count) entries, at most \(Self.mostFiles)")
        }
        if isAbsolute, Set(files.map(\.to)).count != files.count {
            reader.report("\(key) has two entries of one target")
        }
        return files.isEmpty ? nil : files
    }

    private static func target(_ path: String) -> String? {
        if let wrong = problem({ () throws(AegisError) in
            guard path.hasPrefix("/") else { throw .usage("it is not absolute") }
            try MountSpec(source: "/", target: path).validateTarget()
        }) {
            return wrong
        }
        return path == "/workspace" || path.hasPrefix("/workspace/")
            ? "is in the workspace: what goes there stands under 'workspace'" : nil
    }

    static func isInside(_ path: String) -> Bool {
        !path.isEmpty && !path.hasPrefix("/") && !path.utf8.contains(0) && path.utf8.count <= 1024
            && !path.split(separator: "/").contains("..")
    }

    func secrets(_ reader: ConfigReader) -> [KitSecret]? {
        let secrets = reader.sections("secrets") { secret in
            KitSecret(
                name: secret.require("name", placeholder: "SECRET") {
                    Self.isVariable($0) ? nil : "must be a name of an environment variable"
                },
                description: secret.readIfPresent("description"), optional: secret.read("optional", default: false))
        }
        return secrets.isEmpty ? nil : secrets
    }

    func idle(_ reader: ConfigReader) -> IdlePolicy {
        let policy = IdlePolicy(
            pause: reader.readIfPresent("pause"), stop: reader.readIfPresent("stop"),
            cpu: reader.readIfPresent("cpu"),
            reclaim: reader.readIfPresent("reclaim", as: String.self) { text in
                Self.problem { () throws(AegisError) in _ = try IdlePolicy.Reclaim(parsing: text) }
            }.flatMap { IdlePolicy.Reclaim(rawValue: $0) },
            standby: reader.readIfPresent("standby"))
        if let wrong = Self.problem({ () throws(AegisError) in try policy.validate() }) {
            reader.report("idle \(wrong)")
        }
        return policy
    }

    func limits(_ reader: ConfigReader) -> AegisSandboxTypes.Limits {
        let limits = AegisSandboxTypes.Limits(
            cpus: reader.readIfPresent("cpus"), memory: reader.readIfPresent("memory"),
            disk: reader.readIfPresent("disk"), pids: reader.readIfPresent("pids"),
            timeout: reader.readIfPresent("timeout"), grace: reader.readIfPresent("grace"))
        if let wrong = Self.problem({ () throws(AegisError) in try limits.validate() }) {
            reader.report("limits \(wrong)")
        }
        return limits
    }

    // MARK: Commands

    func commands(_ reader: ConfigReader, _ key: String) -> [KitCommand] {
        reader.sections(key) { command in
            KitCommand(
                command: self.command(command, "run"), user: command.readIfPresent("user", check: Self.user),
                timeout: command.read("timeout", default: TimeSpan(milliseconds: 60_000), check: Self.patience))
        }
    }

    private func command(_ reader: ConfigReader, _ key: String) -> [String] {
        let words = reader.readList(key, of: String.self) {
            $0.utf8.contains(0) ? "must not hold a NUL byte" : nil
        }
        if words.first?.isEmpty ?? true { reader.report("'\(key)' must be a list: the program, then its arguments") }
        return words
    }

    private static func patience(_ span: TimeSpan) -> String? {
        (1...3_600_000).contains(span.milliseconds) ? nil : "must be 1ms to 1h"
    }

    func health(_ reader: ConfigReader) -> KitHealth? {
        reader.sectionIfPresent("health") { health in
            let path: String? = health.readIfPresent("path", check: Self.ready)
            let exec = health.readList("exec", of: String.self)
            if (path == nil) == exec.isEmpty { health.report("health has either 'path' or 'exec'") }
            return KitHealth(
                path: path, exec: exec.isEmpty ? nil : exec,
                interval: health.read("interval", default: TimeSpan(milliseconds: 250), check: Self.patience),
                timeout: health.read("timeout", default: TimeSpan(milliseconds: 30_000), check: Self.patience))
        }
    }

    static func ready(_ path: String) -> String? {
        problem { () throws(AegisError) in
            guard path.hasPrefix("/") else { throw .usage("it does not begin with /") }
            _ = try ExposeSpec(parsing: "80:http,ready=\(path)")
        }
    }

    // MARK: Outside

    func network(_ reader: ConfigReader) -> KitNetwork {
        KitNetwork(
            group: reader.readIfPresent("group") { group in
                Self.problem { () throws(AegisError) in try Names.validate(group, what: "group") }
            },
            allow: reader.readList("allow", of: String.self) { text in
                do throws(CapabilityError) {
                    guard case .network(let place) = try Capability(parsing: "network: \(text)") else {
                        return "is not a place in a network"
                    }
                    return place.target == .any ? "opens everything: name the places, a user may open more" : nil
                } catch { return "is wrong: \(error)" }
            })
    }

    func tools(_ reader: ConfigReader, declared: [String]) -> [KitTool]? {
        let tools = reader.sections("tools") { tool in
            let secrets = tool.readList("secrets", of: String.self) {
                declared.contains($0) ? nil : "is no secret of this kit"
            }
            return KitTool(
                name: tool.require("name", placeholder: "tool", check: Self.server),
                description: tool.readIfPresent("description"), command: self.command(tool, "command"),
                env: self.variables(tool), secrets: secrets.isEmpty ? nil : secrets,
                timeout: tool.readIfPresent("timeout") {
                    (1000...3_600_000).contains($0.milliseconds) ? nil : "must be 1s to 1h"
                })
        }
        if Set(tools.map(\.name)).count != tools.count { reader.report("tools has two entries of one name") }
        return tools.isEmpty ? nil : tools
    }

    /// Grants name its tools `mcp.NAME.TOOL`: the rule is that of servers in the configuration.
    private static func server(_ name: String) -> String? {
        let isPlain = name.utf8.allSatisfy {
            (48...57).contains($0) || (97...122).contains($0) || $0 == 45
        }
        return isPlain && (1...24).contains(name.utf8.count) && name.utf8.first != 45
            ? nil : "must be 1 to 24 of a-z, 0-9 and '-'"
    }

    private func variables(_ reader: ConfigReader) -> [String: String]? {
        let all = Dictionary(reader.readMap("env", of: String.self).map { ($0.key, $0.value) }) { $1 }
        for name in all.keys where !Self.isVariable(name) {
            reader.report("env: '\(name)' is not a name of an environment variable")
        }
        return all.isEmpty ? nil : all
    }
}
