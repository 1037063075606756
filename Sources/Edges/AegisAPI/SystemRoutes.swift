internal import AegisCore
package import AegisInstances
package import AegisSandboxTypes
internal import AegisWire

/// What the daemon says of itself. The composition root supplies the facts.
package struct SystemFacts: Sendable {
    package var status: @Sendable () async -> StatusReport
    package var doctor: @Sendable (_ fresh: Bool) async -> DoctorReport
    /// What is missing before requests can be served, by dependency; empty = ready.
    package var missing: @Sendable () async -> [String: String]
    /// The configuration in force with origins; secrets masked.
    package var configuration: @Sendable () -> ConfigurationReport
    /// Begins a graceful end of the daemon.
    package var shutdown: @Sendable (_ keepingInstances: Bool) -> Void

    package init(
        status: @escaping @Sendable () async -> StatusReport, doctor: @escaping @Sendable (Bool) async -> DoctorReport,
        missing: @escaping @Sendable () async -> [String: String],
        configuration: @escaping @Sendable () -> ConfigurationReport,
        shutdown: @escaping @Sendable (Bool) -> Void
    ) {
        self.status = status
        self.doctor = doctor
        self.missing = missing
        self.configuration = configuration
        self.shutdown = shutdown
    }
}

/// Health, status, doctor, metrics, configuration and the end of the daemon.
package struct SystemRoutes: Sendable {
    private struct Health: Encodable, Sendable {
        var status: String
        var missing: [String: String]
    }

    private let facts: SystemFacts
    private let directory: InstanceDirectory
    private let agents: AgentService
    private let servers: MCPRoutes

    /// Routes over the daemon's facts.
    package init(_ facts: SystemFacts, directory: InstanceDirectory, agents: AgentService, servers: MCPRoutes) {
        self.facts = facts
        self.directory = directory
        self.agents = agents
        self.servers = servers
    }

    package var routes: [Route] {
        [
            Route(.get, "/health/live", "Is the daemon alive?", isOpen: true) { _, writer in
                try await writer.respond(
                    200, headers: JSONBody.headers, body: JSONBody.encode(Health(status: "live", missing: [:])))
            },
            Route(.get, "/health/ready", "Can the daemon serve?", isOpen: true) { [facts] _, writer in
                let missing = await facts.missing()
                let health = Health(status: missing.isEmpty ? "ready" : "not-ready", missing: missing)
                try await writer.respond(
                    missing.isEmpty ? 200 : 503, headers: JSONBody.headers, body: JSONBody.encode(health))
            },
            Route(.get, "/metrics", "Counters in Prometheus's text format") { [directory] _, writer in
                try await writer.respond(
                    200, headers: ["Content-Type": "text/plain; version=0.0.4"],
                    body: Array(Self.metrics(await directory.counts()).utf8))
            },
            .json(.get, "/v1/status", "Version, ports, backends") { [facts] _ in await facts.status() },
            .json(.get, "/v1/doctor", "What works here and why the rest does not", query: ["fresh"]) {
                [facts, agents, servers] context in
                async let asked = servers.findings(for: context.caller)
                var report = await facts.doctor(try context.flag("fresh"))
                report.checks += await asked
                report.checks += await agents.findings(for: context.caller, seesAll: context.isAdministrator)
                return report
            },
            Route(
                .get, "/v1/config", "The configuration in force, with origins; format=json or yaml (the default)",
                query: ["format"]
            ) { [facts] context, writer in
                try requireRoot(context)
                let report = facts.configuration()
                switch context.query["format"] {
                case "json"?: try await writer.respond(200, headers: JSONBody.headers, body: JSONBody.encode(report))
                case nil, "yaml"?:
                    try await writer.respond(
                        200, headers: ["Content-Type": "application/yaml"], body: Array(report.text.utf8))
                case let other?:
                    throw AegisError.usage("query parameter 'format' cannot be '\(other)'", hint: "use json or yaml")
                }
            },
            .json(
                .post, "/v1/shutdown", "Stop all instances and end the daemon; keep=1 leaves them running",
                query: ["keep"]
            ) {
                [facts] context in
                try requireRoot(context)
                facts.shutdown(try context.flag("keep"))
                return ["status": "stopping"]
            },
        ]
    }

    /// The routes that are there, as a minimal OpenAPI document.
    package static func description(of routes: [Route]) -> Route {
        var paths: [String: [String: [String: String]]] = [:]
        for route in routes {
            paths[route.path, default: [:]][route.method.rawValue.lowercased()] = ["summary": route.summary]
        }
        struct Document: Encodable, Sendable {
            var openapi = "3.1.0"
            var info = ["title": "Aegis", "version": Build.version]
            var paths: [String: [String: [String: String]]]
        }
        let document = Document(paths: paths)
        return .json(.get, "/v1/openapi.json", "This list") { _ in document }
    }

    private static func metrics(_ counts: [String: Int]) -> String {
        var text = "# HELP aegis_instances Instances by state.\n# TYPE aegis_instances gauge\n"
        for state in InstanceState.allCases {
            text += "aegis_instances{state=\"\(state.rawValue)\"} \(counts[state.rawValue] ?? 0)\n"
        }
        return text
    }
}
