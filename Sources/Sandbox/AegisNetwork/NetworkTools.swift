internal import AegisCore
package import AegisIO
package import AegisSandboxTypes
internal import LinuxSys

/// What networks of instances need of the host beside the daemon itself: two programs, and a kernel that takes the rules.
package enum NetworkTools {
    /// Where programs are looked for.
    static let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    /// Each program with its Debian package.
    private static let programs = [("nsenter", "util-linux"), ("nft", "nftables")]

    /// Where `nsenter` is.
    ///
    /// - Throws: `network-unavailable` naming the first program that is missing, and its package.
    static func nsenter() throws(AegisError) -> String {
        var first: String?
        for (name, package) in programs {
            guard let found = Files.findExecutable(name, path: path) else {
                throw AegisError(
                    .unavailable, "network-unavailable", "\(name) is missing: there are no networks without it",
                    hint: "apt install \(package)")
            }
            first = first ?? found
        }
        return first ?? "nsenter"
    }

    /// Looks whether it is all there. The kernel is asked with the rules themselves, which it checks and does not load.
    package static func findings(node: String, on loop: EventLoop) async -> [DoctorCheck] {
        var findings = programs.map { name, package in
            Files.findExecutable(name, path: path).map { DoctorCheck(name, "ok", $0) }
                ?? DoctorCheck(
                    name, "failed", "\(name) is missing: networks (--allow, --group, grants) will not work",
                    hint: "apt install \(package)")
        }
        guard let nft = Files.findExecutable("nft", path: path), CurrentProcess.effectiveUser == 0 else {
            return findings
        }
        findings.append(await rules(nft, node, loop))
        return findings
    }

    private static func rules(_ nft: String, _ node: String, _ loop: EventLoop) async -> DoctorCheck {
        let spec = ProcessSpec(
            executable: nft, arguments: ["nft", "--check", "-f", "-"], environment: ["PATH=\(path)"],
            workingDirectory: "/", newSession: true)
        let reason: String
        do {
            let output = try await runProcess(
                spec, input: Array((GatewayRules.text(node: node) + ProofTrap.rules(node)).utf8),
                deadline: .seconds(20), on: loop)
            if output.status.isSuccess {
                return DoctorCheck("netfilter", "ok", "the kernel takes the rules of networks")
            }
            let words = String(decoding: output.stderr.prefix(400), as: UTF8.self).split(separator: "\n").first ?? ""
            reason = "nft says: \(words)"
        } catch { reason = "nft cannot be run: \(error)" }
        return DoctorCheck(
            "netfilter", "failed", "the kernel does not take the rules of networks: \(reason)",
            hint: hint(for: reason))
    }

    static func hint(for reason: String) -> String {
        reason.contains("Operation not permitted")
            ? "the daemon needs CAP_NET_ADMIN and CAP_NET_BIND_SERVICE, as deploy/aegis-sandbox.service has them"
            : "the kernel needs nf_tables with inet and bridge tables, nat, log and fib (modules nft_*)"
    }
}
