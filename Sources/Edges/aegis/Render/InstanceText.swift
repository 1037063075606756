package import AegisCore
package import AegisSandboxTypes

/// Instances as text.
package enum InstanceText {
    /// The list, or a sentence when there is none.
    package static func list(_ instances: [InstanceInfo], now: Timestamp) -> String {
        guard !instances.isEmpty else { return "No instances\n" }
        var table = Table(["ID", "NAME", "STATE", "GRADE", "IMAGE", "COMMAND", "CREATED"])
        for one in instances {
            table.add([
                one.id, one.name ?? "-", state(one), one.grade?.rawValue ?? "-", Plain.cut(one.image, to: 32),
                Plain.cut(Plain.command(one.command), to: 36),
                Plain.age(now.milliseconds - one.createdAt.milliseconds) + " ago",
            ])
        }
        return table.text
    }

    /// `running`, `stopped (3)`, `stopped (lost)`, with `disabled` where it is.
    static func state(_ one: InstanceInfo) -> String {
        var text = one.state.rawValue
        if one.state == .stopped {
            if let code = one.exitCode {
                text += " (\(code))"
            } else if let reason = one.stopReason {
                text += " (\(reason))"
            }
        }
        return one.enabled ? text : text + ", disabled"
    }

    /// Everything about one.
    package static func info(_ one: InstanceInfo) -> String {
        var fields = Fields()
        fields.add("ID", one.id)
        fields.add("Name", one.name)
        fields.add("State", state(one))
        fields.add("Image", one.image)
        fields.add("Command", Plain.command(one.command))
        fields.add("Backend", one.backend)
        fields.add("Grade", one.grade?.rawValue)
        if let detail = one.gradeDetail {
            fields.add(
                "Runtime",
                ([detail.runtime, detail.version] + [detail.platform].compactMap { $0 }).joined(separator: " "))
            for warning in detail.warnings { fields.add("Warning", warning) }
            for (backend, reason) in detail.notChosen.sorted(by: { $0.key < $1.key }) {
                fields.add("Not \(backend)", reason)
            }
        }
        fields.add("Workspace", one.workspace)
        for mount in one.mounts {
            fields.add("Mount", "\(mount.source) -> \(mount.target)\(mount.readOnly ? "" : " (rw)")")
        }
        fields.add("Files", one.filePolicy)
        fields.add("Network", ([one.network] + (one.allow ?? [])).joined(separator: " "))
        fields.add("Group", one.group)
        fields.add("Parent", one.parent)
        for grant in one.grants ?? [] { fields.add("Grant", grant) }
        for port in one.expose { fields.add("Port", Self.port(port)) }
        if let idle = one.idle { fields.add("Sleeps", sleep(idle)) }
        if let standby = one.standby {
            fields.add("Standby", standby.rawValue + (one.standbyObstacle.map { " (\(Plain.text($0)))" } ?? ""))
        }
        if let reclaimed = one.reclaimed {
            fields.add("Reclaimed", "\(Plain.size(reclaimed.before)) down to \(Plain.size(reclaimed.after))")
        }
        if one.connections > 0 { fields.add("Connections", String(one.connections)) }
        fields.add("Secrets", one.secrets.joined(separator: ", "))
        fields.add("Limits", limits(one.limits))
        fields.add(
            "Labels", one.labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " "))
        fields.add("Owner", String(one.owner))
        fields.add("Created", one.createdAt.description)
        fields.add("Started", one.startedAt?.description)
        fields.add("Last active", one.lastActiveAt?.description)
        fields.add("Stopped", one.stoppedAt?.description)
        fields.add("Exit code", one.exitCode.map(String.init))
        fields.add("Stop reason", one.oomKilled ? "out of memory" : one.stopReason)
        if let error = one.error {
            fields.add("Error", "\(error.message) (\(error.code))")
            fields.add("Hint", error.hint)
        }
        return fields.text
    }

    /// Where a port is reached, and what it is.
    static func port(_ port: ExposedPort) -> String {
        var words = [port.spec.portProtocol.rawValue]
        if port.spec.ui { words.append("ui") }
        if port.spec.wake != .connect { words.append("wake=\(port.spec.wake.rawValue)") }
        if let cooldown = port.spec.cooldown { words.append("cooldown=\(cooldown)") }
        if let wait = port.spec.wait { words.append("wait=\(wait)") }
        if port.spec.ready != .tcp { words.append("ready=\(port.spec.ready)") }
        let place = port.url ?? port.error.map { "not served: \($0.message)" } ?? "not served"
        return "\(place) -> \(port.guestPort) (\(words.joined(separator: ", ")))"
    }

    private static func sleep(_ idle: IdlePolicy) -> String {
        func span(_ span: TimeSpan?, _ word: String) -> String? {
            span.flatMap { $0.milliseconds == 0 ? nil : "\(word) when unused for \($0)" }
        }
        let words = [
            span(idle.pause, "pauses"), span(idle.stop, "stops"), idle.cpu.map { "used above \($0)% of a processor" },
            idle.reclaim.map { $0 == .any ? "memory reclaimed (any)" : "memory reclaimed" },
            idle.standby == true ? "then kept on standby" : nil,
        ].compactMap(\.self)
        return words.isEmpty ? "never" : words.joined(separator: ", ")
    }

    /// Those that are set, as `cpus 1.5, memory 512Mi`.
    static func limits(_ limits: Limits) -> String {
        var words: [String] = []
        if let cpus = limits.cpus { words.append("cpus \(cpus)") }
        if let memory = limits.memory { words.append("memory \(memory)") }
        if let disk = limits.disk { words.append("disk \(disk)") }
        if let pids = limits.pids { words.append("pids \(pids)") }
        if let timeout = limits.timeout { words.append("timeout \(timeout)") }
        if let grace = limits.grace { words.append("grace \(grace)") }
        return words.joined(separator: ", ")
    }
}
