internal import AegisClient
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis status`
enum StatusCommand {
    static let command = Command(
        "status", "tell what the daemon is doing",
        details: "Ends with 3 when it is not running.",
        examples: [
            Example("for people", "aegis status"), Example("the ports in use", "aegis status --output json"),
        ]
    ) { invocation, context in
        let report = try await context.client().call(.get, APIClient.Route("status"))
        try await context.show(report, invocation) {
            let status = try report.decoded(StatusReport.self)
            return invocation.quiet ? "\(status.pid)\n" : ServiceText.status(status, now: context.now())
        }
        return 0
    }
}
