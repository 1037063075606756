package import AegisSandboxTypes

/// Kits as text.
package enum KitText {
    /// What `aegis kit list` prints.
    package static func list(_ kits: [KitInfo]) -> String {
        guard !kits.isEmpty else { return "No kits\n" }
        var table = Table(["NAME", "VERSION", "STATUS", "USED BY", "DESCRIPTION"])
        for kit in kits {
            table.add([
                kit.name, kit.version, kit.status, kit.usedBy.isEmpty ? "-" : kit.usedBy.joined(separator: ","),
                kit.problem ?? kit.description ?? "",
            ])
        }
        return table.text
    }

    /// What `aegis kit info` prints.
    package static func info(_ kit: KitInfo) -> String {
        var fields = Fields()
        fields.add("Kit", "\(kit.name)@\(kit.version)")
        fields.add("Description", kit.description)
        fields.add("Status", kit.problem.map { "\(kit.status): \($0)" } ?? kit.status)
        fields.add("Digest", kit.digest)
        fields.add("Size", Plain.size(kit.size))
        fields.add("Used by", kit.usedBy.joined(separator: ", "))
        if let spec = kit.spec { add(spec, to: &fields) }
        return fields.text
    }

    private static func add(_ spec: KitSpec, to fields: inout Fields) {
        fields.add("Image", spec.image)
        fields.add("Command", spec.command?.joined(separator: " "))
        fields.add("User", spec.user)
        for port in spec.expose ?? [] { fields.add("Exposes", port) }
        for secret in spec.secrets ?? [] {
            fields.add(
                "Secret",
                secret.name + (secret.optional ? ", optional" : "") + (secret.description.map { ": \($0)" } ?? ""))
        }
        fields.add("Group", spec.network?.group)
        for place in spec.network?.allow ?? [] { fields.add("May reach", place) }
        for file in spec.files ?? [] { fields.add("File", "\(file.from) as \(file.to), read-only") }
        for file in spec.workspace ?? [] { fields.add("Workspace", "\(file.from) as \(file.to)") }
        for hook in spec.hooks?.before ?? [] { fields.add("Before", hook.command.joined(separator: " ")) }
        for hook in spec.hooks?.after ?? [] { fields.add("After", hook.command.joined(separator: " ")) }
        if let health = spec.health {
            fields.add("Healthy", health.path.map { "GET \($0)" } ?? health.exec?.joined(separator: " "))
        }
        fields.add("Path", spec.routing?.path.map { "\($0) on the router's port" })
        for (side, set) in [("Request", spec.routing?.headers?.request), ("Response", spec.routing?.headers?.response)]
        {
            for (name, value) in (set ?? [:]).sorted(by: { $0.key < $1.key }) {
                fields.add("\(side) gets", "\(name): \(value)")
            }
        }
        fields.add("Idle", idle(spec))
        fields.add("Limits", limits(spec))
        fields.add("Isolation", spec.minIsolation.map { "at least \($0)" })
        for grant in spec.grants ?? [] { fields.add("Grant", grant) }
        for tool in spec.tools ?? [] {
            fields.add("Tools", server(tool))
        }
    }

    private static func server(_ tool: KitTool) -> String {
        [
            "mcp.\(tool.name).*" + (tool.description.map { ": \($0)" } ?? ""), tool.command.joined(separator: " "),
            tool.secrets.map { "with \($0.joined(separator: ", "))" } ?? "",
        ].filter { !$0.isEmpty }.joined(separator: "; ")
    }

    private static func idle(_ spec: KitSpec) -> String {
        [
            spec.idle?.pause.map { "pause after \($0)" }, spec.idle?.stop.map { "stop after \($0)" },
            spec.idle?.cpu.map { "used above \($0) % of a processor" },
        ].compactMap { $0 }.joined(separator: ", ")
    }

    private static func limits(_ spec: KitSpec) -> String {
        [
            spec.limits?.cpus.map { "\($0) processors" }, spec.limits?.memory.map { "\($0) memory" },
            spec.limits?.disk.map { "\($0) disk" }, spec.limits?.pids.map { "\($0) processes" },
            spec.limits?.timeout.map { "\($0)" }, spec.limits?.grace.map { "\($0) to stop" },
        ].compactMap { $0 }.joined(separator: ", ")
    }
}
