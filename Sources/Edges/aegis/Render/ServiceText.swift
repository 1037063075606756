package import AegisCore
package import AegisSandboxTypes

/// The daemon, its backends, images and secrets as text.
package enum ServiceText {
    /// What `aegis status` prints.
    package static func status(_ report: StatusReport, now: Timestamp) -> String {
        var fields = Fields()
        let age = Plain.age(now.milliseconds - report.startedAt.milliseconds)
        fields.add("Daemon", "aegisd \(report.version), pid \(report.pid), up \(age)")
        fields.add("Node", report.node)
        fields.add("Home", report.home)
        if let database = report.database { fields.add("Database", database) }
        fields.add("Socket", report.socket)
        for (name, address) in report.ports.sorted(by: { $0.key < $1.key }) { fields.add("Port \(name)", address) }
        let order = ["running", "paused", "starting", "stopping", "stopped"]
        let counts = report.instances.filter { $0.value > 0 }
            .sorted { (order.firstIndex(of: $0.key) ?? .max, $0.key) < (order.firstIndex(of: $1.key) ?? .max, $1.key) }
        fields.add(
            "Instances", counts.isEmpty ? "none" : counts.map { "\($0.value) \($0.key)" }.joined(separator: ", "))
        for warm in report.warm ?? [] { fields.add("Warm", Self.warm(warm)) }
        if let standby = report.standby {
            fields.add(
                "Standby",
                "\(standby.ready) of \(standby.ready + standby.waiting) ready, \(Plain.size(standby.memoryBytes))")
        }
        return fields.text + (report.backends.isEmpty ? "" : "\n" + backends(report.backends))
    }

    /// What is kept ready of one image.
    private static func warm(_ report: WarmReport) -> String {
        let limits = report.limits.map(InstanceText.limits) ?? ""
        let name =
            Plain.text(report.image) + (report.isolation.map { " on \(Plain.text($0))" } ?? "")
            + (limits.isEmpty ? "" : " with \(Plain.text(limits))")
        let text =
            "\(report.ready) of \(report.wanted) ready, \(name), \(Plain.size(report.memoryBytes)); "
            + "\(report.claimed) claimed, \(report.refills) made"
        return text + (report.obstacle.map { " (\(Plain.text($0)))" } ?? "")
    }

    /// Where an instance is served, a line each, with what has to be said of it.
    package static func serving(_ ports: [ExposedPort]) -> [String] {
        ports.flatMap { port -> [String] in
            let line =
                port.url.map { "Serving port \(port.guestPort) on \($0)\n" }
                ?? "Port \(port.guestPort) is not served\(port.error.map { ": \($0.message)" } ?? "")\n"
            return [Plain.text(line.dropLast().description) + "\n"]
                + (port.warning.map { ["aegis: \(Plain.text($0))\n"] } ?? [])
        }
    }

    /// What `aegis doctor` prints.
    package static func doctor(_ report: DoctorReport) -> String {
        var fields = Fields()
        fields.add("Version", report.version)
        fields.add("Kernel", report.kernel)
        fields.add("Isolation", report.auto.map { "auto takes \($0)" } ?? "none available")
        var text = fields.text + "\n" + backends(report.backends)
        for backend in report.backends {
            for warning in backend.detail?.warnings ?? [] {
                text += "  \(Plain.text("\(backend.backend): \(warning)"))\n"
            }
            if let hint = backend.hint, !backend.available {
                text += "  \(Plain.text("\(backend.backend): \(hint)"))\n"
            }
        }
        return report.checks.isEmpty ? text : text + "\n" + checks(report.checks)
    }

    /// Findings, one a line, with their hints below.
    package static func checks(_ checks: [DoctorCheck]) -> String {
        let width = checks.map(\.name.count).max() ?? 0
        return checks.map { check in
            let pad = String(repeating: " ", count: width - check.name.count + 2)
            let status = check.status + String(repeating: " ", count: max(0, 7 - check.status.count))
            let hint = check.hint.map { "\n  \(String(repeating: " ", count: 9))\(Plain.text($0))" } ?? ""
            return "  \(status)  \(Plain.text(check.name))\(pad)\(Plain.text(check.detail))\(hint)\n"
        }.joined()
    }

    /// What `aegis backup` and `aegis restore` print.
    package static func backup(_ report: BackupReport, isRestored: Bool) -> String {
        func count(_ number: Int, _ word: String) -> String { "\(number) \(word)\(number == 1 ? "" : "s")" }
        var parts = [count(report.instances, "instance"), count(report.secrets, "secret")]
        if let file = report.configuration { parts.append("configuration \(Plain.text(file))") }
        let size = Plain.size(report.size)
        let file = Plain.text(report.file)
        var text =
            isRestored
            ? "restored from \(file), written by \(Plain.text(report.writer)) at \(report.createdAt): "
            : "\(file) (\(size)): "
        text += parts.joined(separator: ", ") + "\n"
        if let folder = report.replaced { text += "what was there before: \(Plain.text(folder))\n" }
        if !isRestored { text += "not in it: images, writable layers, logs, files of workspaces\n" }
        return text
    }

    /// What `aegis image pull` prints: name, id and size.
    package static func image(_ image: ImageInfo) -> String {
        "\(Plain.text(image.reference)) \(image.id) (\(Plain.size(image.size)))"
    }

    /// What `aegis image build` prints: whether anything was built, and whether that made a difference.
    ///
    /// - Parameters:
    ///   - image: what the name stands for now.
    ///   - previous: the id that it stood for before.
    ///   - fresh: whether it was to be built again.
    ///   - now: for the age.
    /// - Returns: the text, lines with their newlines.
    package static func built(_ image: ImageInfo, previous: String?, fresh: Bool, now: Timestamp) -> String {
        let name = Plain.text(image.reference)
        if fresh, previous == image.id { return "\(Self.image(image))\n  unchanged: the packages are the same\n" }
        if fresh, let previous { return "\(Self.image(image))\n  before: \(Plain.text(previous))\n" }
        guard previous != nil else { return Self.image(image) + "\n" }
        let age = Plain.age(now.milliseconds - image.createdAt.milliseconds)
        return """
            \(Self.image(image))
              '\(name)' is here already, built \(age) ago: nothing was done
              hint: aegis image build \(name) --fresh builds it again, with the packages of today

            """
    }

    private static func backends(_ reports: [BackendReport]) -> String {
        var table = Table(["BACKEND", "GRADE", "STARTS IN", "RESULT"])
        for report in reports {
            let latency = report.latencyMs.map { "\(($0 * 10).rounded() / 10) ms" }
            table.add([
                report.backend, report.grade?.rawValue ?? "-", latency ?? "-",
                report.available ? "works" : report.reason ?? "not available",
            ])
        }
        return table.text
    }

    /// What `aegis image list` prints.
    package static func images(_ images: [ImageInfo], now: Timestamp) -> String {
        guard !images.isEmpty else { return "No images\n" }
        var table = Table(["REFERENCE", "ID", "SIZE", "LAYERS", "IN USE", "CREATED"])
        for image in images {
            let digest = image.id.hasPrefix("sha256:") ? String(image.id.dropFirst(7).prefix(12)) : image.id
            table.add([
                image.reference, digest, Plain.size(image.size), String(image.layers), image.inUse ? "yes" : "no",
                Plain.age(now.milliseconds - image.createdAt.milliseconds) + " ago",
            ])
        }
        return table.text
    }

    /// What `aegis workspace list` prints.
    package static func workspaces(_ workspaces: [NamedWorkspace], now: Timestamp) -> String {
        guard !workspaces.isEmpty else { return "No named workspaces\n" }
        var table = Table(["NAME", "SIZE", "OWNER", "LAST USED", "USED BY"])
        for workspace in workspaces {
            table.add([
                workspace.name, (workspace.isWholeSize ? "" : "over ") + Plain.size(workspace.size),
                workspace.owner == 0 ? "root" : "uid \(workspace.owner)",
                Plain.age(now.milliseconds - workspace.usedAt.milliseconds) + " ago",
                workspace.usedBy.isEmpty ? "-" : workspace.usedBy.joined(separator: ","),
            ])
        }
        return table.text
    }

    /// What `aegis secret list` prints.
    package static func secrets(_ secrets: [SecretInfo], now: Timestamp) -> String {
        guard !secrets.isEmpty else { return "No secrets\n" }
        var table = Table(["NAME", "CREATED", "UPDATED"])
        for secret in secrets {
            table.add([
                secret.name, Plain.age(now.milliseconds - secret.createdAt.milliseconds) + " ago",
                Plain.age(now.milliseconds - secret.updatedAt.milliseconds) + " ago",
            ])
        }
        return table.text
    }
}
