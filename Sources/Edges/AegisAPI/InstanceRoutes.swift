internal import AegisCore
package import AegisInstances
internal import AegisSandboxTypes
internal import AegisWire

/// Instances: make, look at, steer, remove.
package struct InstanceRoutes: Sendable {
    private let directory: InstanceDirectory

    /// Routes over a directory.
    package init(_ directory: InstanceDirectory) { self.directory = directory }

    package var routes: [Route] {
        [
            Route(
                .post, "/v1/instances", "Make an instance and start it; 200: the stopped one of that name was started"
            ) {
                [directory] context, writer in
                let request = try await JSONBody.decode(CreateInstance.self, from: context)
                let (info, isNew) = try await directory.createOrRestart(request, for: context.caller)
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
            verb("stop", "Stop an instance") { instance, _ in await instance.stop() },
            verb("pause", "Freeze an instance", query: ["force"]) { instance, context in
                try await instance.pause(force: context.flag("force"))
            },
            verb("resume", "Thaw an instance") { instance, _ in try await instance.resume() },
            verb("restart", "Stop and start an instance") { instance, _ in try await instance.restart() },
            verb("enable", "Allow an instance to be started") { instance, _ in try await instance.enable() },
            verb("disable", "Stop an instance and refuse starts") { instance, _ in try await instance.disable() },
            .json(.post, "/v1/instances/prune", "Remove stopped instances", query: ["stopped_older_than"]) {
                [directory] context in
                let age = try TimeSpan(parsing: context.query["stopped_older_than"] ?? "7d")
                let limit = Timestamp(milliseconds: Timestamp.now().milliseconds - age.milliseconds)
                return ["pruned": await directory.prune(stoppedBefore: limit, for: context.caller)]
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
