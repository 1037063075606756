internal import AegisClient
internal import AegisCore
internal import AegisSandboxTypes
internal import AegisWire
internal import LinuxSys

/// `aegis doctor`
enum DoctorCommand {
    static let command = Command(
        "doctor", "prove which isolation works here, and say why the rest does not",
        details: """
            The daemon starts a real sandbox in each backend. Without a daemon only what can be seen from outside is told.
            Who runs the node is also told what each MCP server of its configuration reaches, and whether it answers.
            Ends with 0 when at least one backend works and no check failed, else with 1 (3: no daemon).
            With --policy it shows instead how the network of an instance was proved: what was tried in it, not by the
            instance, and what came of that; 1 when the last proof failed.
            """,
        options: [Option("policy", .value("X"), "the last proofs of an instance's network", completion: .instances)],
        examples: [
            Example("all of it", "aegis doctor"), Example("for programs", "aegis doctor --output json"),
            Example("one network", "aegis doctor --policy worker"),
        ],
        run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let client: APIClient
        do throws(AegisError) { client = try await context.client() } catch {
            guard error.kind == .daemonNotRunning, invocation.output == .text else { throw error }
            if !invocation.quiet { try await context.console.print(ServiceText.checks(fromOutside(context.caller))) }
            throw error
        }
        if let instance = invocation["policy"] { return try await policy(instance, client, invocation, context) }
        let answer = try await client.call(.get, APIClient.Route("doctor"))
        let report = try answer.decoded(DoctorReport.self)
        try await context.show(answer, invocation) { invocation.quiet ? "" : ServiceText.doctor(report) }
        let works = report.backends.contains(where: \.available) && !report.checks.contains { $0.status == "failed" }
        return works ? 0 : 1
    }

    private static func policy(
        _ instance: String, _ client: APIClient, _ invocation: Invocation, _ context: Context
    ) async throws -> Int32 {
        guard !instance.isEmpty else { throw AegisError.usage("--policy needs an instance", hint: "give its name") }
        let answer = try await client.call(.get, APIClient.Route("instances", instance, "policy"))
        let report = try answer.decoded(PolicyReport.self)
        try await context.show(answer, invocation) { invocation.quiet ? "" : NetworkText.policy(report) }
        return report.proofs.first?.passed == false ? 1 : 0
    }

    /// Whether the programs that a daemon needs can be found.
    private static func fromOutside(_ caller: Caller) -> [DoctorCheck] {
        let path = (caller.variable("PATH") ?? "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
        let programs = [
            ("runc", "isolation by namespaces", "runc"), ("runsc", "isolation by a kernel in user space", "runsc"),
            ("skopeo", "pulling images", "skopeo"), ("mmdebstrap", "building the base image", "mmdebstrap"),
            ("mkfs.btrfs", "limits of the writable layer (--disk)", "btrfs-progs"),
            ("nft", "networks of instances", "nftables"), ("nsenter", "networks of instances", "util-linux"),
        ]
        return programs.map { name, purpose, package in
            if let place = Files.findExecutable(name, path: path) { return DoctorCheck(name, "ok", place) }
            return DoctorCheck(
                name, "warning", "not found; needed for \(purpose)", hint: "install the package '\(package)'")
        }
    }
}
