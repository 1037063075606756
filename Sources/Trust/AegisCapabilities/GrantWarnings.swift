extension GrantSpec {
    /// What an operator should know before giving these grants (decision D31): files that give more away than they seem to, and
    /// limits that another grant of the same list makes moot, or that nothing counts towards.
    package static func warnings(_ specs: [GrantSpec]) -> [String] {
        specs.enumerated().flatMap { index, spec in
            let text = "'\(shown(spec.capability.description))'"
            var warnings = spec.capability.sensitive.map { "\(text) \($0)" }
            let isLimited = spec.limits != .none || spec.lifetime != nil
            let other = specs.enumerated().first { other, wide in
                other != index && wide.limits == .none && wide.lifetime == nil
                    && wide.capability.covers(spec.capability)
            }
            if isLimited, let wide = other?.element {
                warnings.append(
                    "\(text) has limits, but '\(shown(wide.capability.description))' allows the same without any")
            }
            if let limits = spec.idleLimits {
                warnings.append(
                    "\(text) has \(limits), but only \(Self.usersOfModels.joined(separator: ", ")) use models for their caller"
                )
            }
            return warnings
        }
    }

    /// The tools that may use models: children do, and where a provider makes the vectors of memory so does that.
    private static let usersOfModels = ["spawn_agent", "spawn_agents", "memory_store", "memory_query"]

    /// Limits of tokens and money on a tool that uses no model, and so never comes near them.
    private var idleLimits: String? {
        guard case .tool(let name?) = capability, !Self.usersOfModels.contains(name) else { return nil }
        let fields = [LimitField.maxTokens, .maxUSD].filter { $0.text(self) != nil }.map(\.rawValue)
        return fields.isEmpty ? nil : fields.joined(separator: " and ")
    }
}

extension Capability {
    /// What a file grant holds that it perhaps should not.
    fileprivate var sensitive: [String] {
        guard case .fileRead(let pattern) = self else {
            guard case .fileWrite(let pattern) = self else { return [] }
            return Self.sensitive(pattern, verb: "lets be written")
        }
        return Self.sensitive(pattern, verb: "lets be read")
    }

    private static func sensitive(_ pattern: PathPattern, verb: String) -> [String] {
        if pattern.tree?.count == 0 { return ["\(verb) every file of the host"] }
        // The home that the pattern is in, if it is in one, stands for every home.
        let root = pattern.root.description.split(separator: "/")
        let home = root.count > 1 && root[0] == "home" ? "/home/\(root[1])" : "/home/user"
        let startFiles = [".bashrc", ".bash_profile", ".profile", ".zshrc", ".zshenv", ".config/fish/config.fish"]
        let places: [(String, [String])] = [
            ("/etc", ["/etc/passwd", "/etc/shadow", "/etc/ssl/private/key.pem"]),
            ("crontabs", ["/etc/crontab", "/etc/cron.d/job", "/var/spool/cron/crontabs/root"]),
            ("~/.ssh", [home, "/root"].flatMap { ["\($0)/.ssh/authorized_keys", "\($0)/.ssh/id_ed25519"] }),
            ("shell start files", [home, "/root"].flatMap { base in startFiles.map { "\(base)/\($0)" } }),
        ]
        return places.compactMap { name, samples in
            samples.contains { CanonicalPath($0).map(pattern.matches) ?? false } ? "\(verb) what is in \(name)" : nil
        }
    }
}
