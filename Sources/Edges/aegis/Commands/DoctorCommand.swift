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
            Ends with 0 when at least one backend works and no check failed, else with 1 (3: no daemon).
            """,
        examples: [Example("all of it", "aegis doctor"), Example("for programs", "aegis doctor --output json")],
        run: run)

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let client: APIClient
        do throws(AegisError) { client = try await context.client() } catch {
            guard error.kind == .daemonNotRunning, invocation.output == .text else { throw error }
            if !invocation.quiet { try await context.console.print(ServiceText.checks(fromOutside(context.caller))) }
            throw error
        }
        let answer = try await client.call(.get, APIClient.Route("doctor"))
        let report = try answer.decoded(DoctorReport.self)
        try await context.show(answer, invocation) { invocation.quiet ? "" : ServiceText.doctor(report) }
        let works = report.backends.contains(where: \.available) && !report.checks.contains { $0.status == "failed" }
        return works ? 0 : 1
    }

    /// Whether the programs that a daemon needs can be found.
    private static func fromOutside(_ caller: Caller) -> [DoctorCheck] {
        let path = (caller.variable("PATH") ?? "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
        let programs = [
            ("runc", "isolation by namespaces", "runc"), ("runsc", "isolation by a kernel in user space", "runsc"),
            ("skopeo", "pulling images", "skopeo"), ("mmdebstrap", "building the base image", "mmdebstrap"),
        ]
        return programs.map { name, purpose, package in
            if let place = Files.findExecutable(name, path: path) { return DoctorCheck(name, "ok", place) }
            return DoctorCheck(
                name, "warning", "not found; needed for \(purpose)", hint: "install the package '\(package)'")
        }
    }
}
