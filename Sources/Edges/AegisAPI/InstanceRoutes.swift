internal import AegisCore
package import AegisInstances
package import AegisKits
internal import AegisSandboxTypes
internal import AegisWire

/// Instances: make, look at, steer, remove.
package struct InstanceRoutes: Sendable {
    private let directory: InstanceDirectory
    private let kits: Kits

    /// Routes over a directory, and the kits that instances are made from.
    package init(_ directory: InstanceDirectory, kits: Kits) {
        self.directory = directory
        self.kits = kits
    }

    package var routes: [Route] {
        [
            Route(
                .post, "/v1/instances", "Make an instance and start it; 200: the stopped one of that name was started"
            ) {
                [kits] context, writer in
                let request = try await JSONBody.decode(CreateInstance.self, from: context)
                if request.credentials != nil { try requireSocket(context) }
                let (info, isNew) = try await kits.createOrRestart(request, for: context.caller)
                try await writer.respond(isNew ? 201 : 200, headers: JSONBody.headers, body: try JSONBody.encode(info))
            },
            .json(.get, "/v1/instances", "List instances", query: ["state"]) { [directory] context in
                let state = try context.query["state"].map { try Self.state($0) }
                return Page(items: await directory.list(for: context.caller, state: state))
            },
            .json(.get, "/v1/instances/{id}", "Show an instance") { try await find($0).info },
            .json(.delete, "/v1/instances/{id}", "Stop and remove an instance") { context in
                let instance = try find(context)
                let last = await instance.info
                await instance.delete()
                return last
            },
            verb("start", "Start a stopped instance") { instance, _ in try await instance.start() },
            verb("stop", "Stop an instance") { instance, _ in try await instance.stop() },
            verb("pause", "Freeze an instance", query: ["force"]) { instance, context in
                try await instance.pause(force: context.flag("force"))
            },
            verb("resume", "Thaw an instance") { instance, _ in try await instance.resume() },
            verb("restart", "Stop and start an instance") { instance, _ in try await instance.restart() },
            verb("enable", "Allow an instance to be started") { instance, _ in try await instance.enable() },
            verb("disable", "Stop an instance and refuse starts") { instance, _ in try await instance.disable() },
            .json(.post, "/v1/instances/{id}/network", "Change what it may reach: {mode?, group?, allow?: [\"HOST\"]}")
            {
                context in
                let request = try await JSONBody.decode(NetworkRequest.self, from: context)
                return try await find(context).changeNetwork(request)
            },
            .json(.get, "/v1/instances/{id}/policy", "The last proofs of an instance's network") { context in
                await (try find(context)).policyReport()
            },
            .json(.post, "/v1/instances/{id}/expose", "Expose a port, or change how: {spec: \"8000:80:http,ui\"}") {
                [directory] context in
                let request = try await JSONBody.decode(ExposeRequest.self, from: context)
                return try await directory.expose(context.parameter("id"), request.spec, for: context.caller)
            },
            .json(.delete, "/v1/instances/{id}/expose/{port}", "Expose a port no longer") { [directory] context in
                let text = context.parameter("port")
                guard let port = UInt16(text), port > 0 else {
                    throw AegisError.usage("'\(text)' is not a port", hint: "name the guest's port, 1 to 65535")
                }
                return try await directory.unexpose(context.parameter("id"), port, for: context.caller)
            },
            .json(.post, "/v1/instances/{id}/idle", "Change when it sleeps: {pause?, stop?, cpu?, reclaim?, standby?}")
            {
                context in
                let policy = try await JSONBody.decode(IdlePolicy.self, from: context)
                return try await find(context).setIdlePolicy(policy)
            },
            .json(.post, "/v1/instances/{id}/keepalive", "Keep it awake for a time: {ttl: \"5m\"}; 0s ends that") {
                context in
                let request = try await JSONBody.decode(KeepaliveRequest.self, from: context)
                return try await find(context).keepAlive(request)
            },
            .json(.post, "/v1/instances/prune", "Remove stopped instances: {stopped_older_than?: \"7d\"}") {
                [directory] context in
                let request = try await JSONBody.decode(PruneRequest.self, from: context)
                let limit = Timestamp.now().milliseconds - request.stoppedOlderThan.milliseconds
                let deleted = await directory.prune(
                    stoppedBefore: Timestamp(milliseconds: limit), for: context.caller)
                return ["deleted": deleted]
            },
        ]
    }

    private func verb(
        _ name: String, _ summary: String, query: [String] = [],
        _ call: @escaping @Sendable (Instance, RequestContext) async throws -> InstanceInfo
    ) -> Route {
        .json(.post, "/v1/instances/{id}/\(name)", summary, query: query) { context in
            try await call(find(context), context)
        }
    }

    private func find(_ context: RequestContext) throws(AegisError) -> Instance {
        try directory.find(context.parameter("id"), for: context.caller)
    }

    private static func state(_ text: String) throws(AegisError) -> InstanceState {
        guard let state = InstanceState(rawValue: text) else {
            let known = InstanceState.allCases.map(\.rawValue)
            throw .usage(
                "'\(text)' is not a state",
                hint: nearest(text, in: known).map { "did you mean '\($0)'?" }
                    ?? "states: \(known.joined(separator: ", "))")
        }
        return state
    }
}

/// Which instances to remove: those that have been stopped for at least that long.
private struct PruneRequest: Decodable, Sendable {
    var stoppedOlderThan: TimeSpan

    enum CodingKeys: String, CodingKey, CaseIterable { case stoppedOlderThan = "stopped_older_than" }

    init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        let c = try decoder.container(keyedBy: CodingKeys.self)
        stoppedOlderThan = try c.decodeIfPresent(TimeSpan.self, forKey: .stoppedOlderThan) ?? .seconds(7 * 86_400)
    }
}
