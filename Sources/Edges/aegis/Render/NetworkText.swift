internal import AegisCore
package import AegisSandboxTypes

/// Events and proofs of networks as text.
package enum NetworkText {
    /// One event, a line.
    package static func event(_ event: EventRecord) -> String {
        var parts = [event.time.description, event.type]
        if let instance = event.instance { parts.append(event.name ?? instance) }
        parts.append(event.message)
        if let reason = event.reason { parts.append("(\(reason))") }
        if event.count > 1 { parts.append("x\(event.count)") }
        return Plain.text(parts.joined(separator: "  ")) + "\n"
    }

    /// What `aegis group list` prints.
    package static func groups(_ groups: [NetworkGroup]) -> String {
        guard !groups.isEmpty else { return "No groups with running members\n" }
        var table = Table(["NAME", "SUBNET", "OWNER", "MEMBERS"])
        for group in groups {
            table.add([
                group.name, group.subnet, owner(group), group.members.map(\.name).joined(separator: ","),
            ])
        }
        return table.text
    }

    /// What `aegis group info` prints.
    package static func group(_ group: NetworkGroup) -> String {
        var fields = Fields()
        fields.add("Group", group.name)
        fields.add("Owner", owner(group))
        fields.add("Subnet", group.subnet)
        fields.add("Gateway", group.gateway)
        var table = Table(["MEMBER", "ID", "ADDRESS"])
        for member in group.members { table.add([member.name, member.id, member.address]) }
        return fields.text + "\n" + table.text
    }

    private static func owner(_ group: NetworkGroup) -> String { group.owner == 0 ? "root" : "uid \(group.owner)" }

    /// What `aegis doctor --policy` prints.
    package static func policy(_ report: PolicyReport) -> String {
        var fields = Fields()
        fields.add("Instance", report.instance)
        fields.add("Network", ([report.network] + (report.allow ?? [])).joined(separator: " "))
        fields.add("Group", report.group)
        fields.add("Refused", "\(report.denials) attempts; dropped by the kernel, probes included: \(report.dropped)")
        var text = fields.text
        guard let last = report.proofs.first else {
            return text + "\n  No proof: it has no network, or is not running.\n"
        }
        text += "\n"
        for proof in report.proofs {
            let passed = proof.attempts.count { $0.passed }
            text +=
                "  \(proof.passed ? "ok    " : "FAILED")  \(proof.time)  \(proof.cause.rawValue): "
                + "\(passed) of \(proof.attempts.count) as they have to be, in \(tenths(proof.took)) ms\n"
        }
        text += "\nThe last one:\n"
        for one in last.attempts {
            let counted = one.counted.map { ", counted as \($0)" } ?? ""
            let line = "\(one.what): \(one.outcome)\(counted)"
            text += "  \(one.passed ? "ok    " : "FAILED")  \(Plain.text(line))\n"
        }
        return text
    }

    private static func tenths(_ number: Double) -> String { "\((number * 10).rounded() / 10)" }
}
