internal import AegisAgents
internal import AegisCore
internal import AegisInstances
internal import AegisJSON
internal import AegisTools
internal import AegisWire

/// The agent plane's routes (decision D18): the same calls as the methods of JSON-RPC.
package struct AgentRoutes: Sendable {
    let service: AgentService

    /// Serves agents.
    package init(_ service: AgentService) { self.service = service }

    /// All routes.
    package var routes: [Route] {
        manifests + processes + messages + grants + tools + goalRoutes + approvalRoutes + budgetRoutes
    }

    static func body(_ context: RequestContext, _ known: [String]) async throws -> RPCParameters {
        let bytes = try await context.request.body.collect(upTo: JSONBody.limit)
        let value: JSONValue
        do throws(JSONError) {
            value = bytes.isEmpty ? .object([]) : try JSONValue(parsing: bytes, duplicates: .refuse)
        } catch { throw AegisError(.usage, "invalid-json", "\(error)", hint: "send one JSON object") }
        return try RPCParameters(value, known: known)
    }

    private static let sourceFields = ["manifest", "manifest_path", "name"]

    private static func source(
        _ service: AgentService, _ body: RPCParameters, _ context: RequestContext
    ) async throws -> AgentService.Source {
        try await service.source(
            text: body.optionalText("manifest"), path: body.optionalText("manifest_path"),
            name: body.optionalText("name"), context.caller)
    }

    static func page(_ items: [JSONValue]) -> JSONValue { ["items": .array(items), "next": .null] }

    private var manifests: [Route] {
        [
            .json(
                .post, "/v1/agents",
                "Deploy a manifest: {manifest | manifest_path}; with both, the path says where the text is from",
                query: ["validate"]
            ) {
                [service] context in
                let body = try await Self.body(context, ["manifest", "manifest_path"])
                let source = try await service.source(
                    text: body.optionalText("manifest"), path: body.optionalText("manifest_path"), name: nil,
                    context.caller)
                return try await service.deploy(source, context.caller, onlyValidate: try context.flag("validate"))
            },
            .json(.get, "/v1/agents", "List deployed manifests") { [service] context in
                Self.page(try service.deployed(context.caller))
            },
            .json(.get, "/v1/agents/{name}", "Show a deployed manifest") { [service] context in
                try service.deployed(context.parameter("name"), context.caller)
            },
            .json(.delete, "/v1/agents/{name}", "Forget a deployed manifest; its live agents go on") {
                [service] context in
                try service.manifests.delete(context.parameter("name"), owner: context.caller.uid)
                return JSONValue.object([.init("deleted", .string(context.parameter("name")))])
            },
        ]
    }

    private var processes: [Route] {
        [
            Route(
                .post, "/v1/processes",
                "Spawn an agent: {manifest | manifest_path | name, message?}; with a message it runs and goes, stream as below",
                query: ["stream"]
            ) { [service] context, writer in
                let body = try await Self.body(context, Self.sourceFields + ["message"])
                let source = try await Self.source(service, body, context)
                let (streams, caller) = (try context.flag("stream"), context.caller)
                guard let message = try body.optionalText("message") else {
                    guard !streams else {
                        throw AegisError.usage(
                            "there is no answer to stream", hint: "give a message, or leave 'stream' out")
                    }
                    let process = try await service.spawn(source, caller)
                    return try await AnswerStream.respond(writer, try await service.info(process), status: 201)
                }
                guard streams else {
                    return try await AnswerStream.respond(
                        writer, try await service.spawnAndRun(source, message, caller), status: 201)
                }
                let trace = await service.directory.newTrace()
                try await AnswerStream(service, trace).serve(writer) {
                    try await service.spawnAndRun(source, message, trace: trace, caller)
                }
            },
            .json(.get, "/v1/processes", "List live agents") { [service] context in
                Self.page(try await service.list(context.caller))
            },
            .json(.get, "/v1/processes/{id}", "Show a live agent") { [service] context in
                try await service.info(try service.find(context.parameter("id"), context.caller))
            },
            .json(.delete, "/v1/processes/{id}", "Stop an agent, and all that it has spawned") { [service] context in
                let process = try service.find(context.parameter("id"), context.caller)
                try await service.directory.stop(process.id)
                return JSONValue.object([.init("stopped", .string(process.id))])
            },
        ]
    }

    private var messages: [Route] {
        [
            Route(
                .post, "/v1/processes/{id}/messages",
                "Give an agent a message: {message}; with stream its answer while it is written (NDJSON), then the result",
                query: ["wait", "stream"]
            ) { [service] context, writer in
                let body = try await Self.body(context, ["message"])
                let (id, message) = (context.parameter("id"), try body.text("message"))
                guard try context.flag("stream") else {
                    return try await AnswerStream.respond(
                        writer,
                        try await service.run(id, message, wait: try context.flag("wait"), context.caller))
                }
                let (caller, trace) = (context.caller, await service.directory.newTrace())
                try await AnswerStream(service, trace).serve(writer) {
                    try await service.run(id, message, wait: true, trace: trace, caller)
                }
            },
            Route(
                .get, "/v1/processes/{id}/messages/{trace}",
                "What came of a message; with stream what comes of it, from now on (NDJSON), then the result",
                query: ["wait", "stream"]
            ) { [service] context, writer in
                let (id, trace, caller) = (context.parameter("id"), context.parameter("trace"), context.caller)
                guard try context.flag("stream") else {
                    return try await AnswerStream.respond(
                        writer, try await service.reply(id, trace, wait: try context.flag("wait"), caller))
                }
                // Only what answers a message of an agent of theirs is told: traces may be guessed.
                let isOwn = try await service.isUnderWay(trace, of: id, caller)
                try await AnswerStream(service, isOwn ? trace : nil).serve(writer) {
                    try await service.reply(id, trace, wait: true, caller)
                }
            },
            Route(
                .get, "/v1/processes/{id}/events",
                "The steps of an agent (NDJSON, or server-sent events), and follow them; with deltas also what it says meanwhile",
                query: ["follow", "after", "deltas"]
            ) { [service] context, writer in try await service.serveSteps(context, writer) },
        ]
    }

    static func number(_ text: String) throws(AegisError) -> Int {
        guard let number = Int(text), number >= 0, number < .max else {
            throw .usage("'\(text)' is not the number of a step", hint: "give the 'seq' of the last one seen")
        }
        return number
    }

    private var grants: [Route] {
        [
            .json(.get, "/v1/processes/{id}/grants", "What an agent may do, and what it used of it") {
                [service] context in
                Self.page(try await service.grants(context.parameter("id"), context.caller))
            },
            .json(.delete, "/v1/processes/{id}/grants", "Take back all that an agent may do") { [service] context in
                try await service.revoke(context.parameter("id"), nil, context.caller)
            },
            .json(.delete, "/v1/processes/{id}/grants/{grant}", "Take back a grant and what was derived from it") {
                [service] context in
                try await service.revoke(context.parameter("id"), context.parameter("grant"), context.caller)
            },
        ]
    }

    private var tools: [Route] {
        [
            .json(.get, "/v1/tools", "List tools; with an agent those that it may call", query: ["agent"]) {
                [service] context in
                Self.page(try await service.tools(context.query["agent"], context.caller))
            },
            .json(.post, "/v1/processes/{id}/tools/{name}", "Call a tool as an agent: its input is the body") {
                [service] context in
                let bytes = try await context.request.body.collect(upTo: JSONBody.limit)
                let input: JSONValue
                do throws(JSONError) {
                    input = bytes.isEmpty ? .object([]) : try JSONValue(parsing: bytes, duplicates: .refuse)
                } catch { throw AegisError(.usage, "invalid-json", "\(error)", hint: "send one JSON object") }
                let reply = try await service.invoke(
                    context.parameter("name"), input, as: context.parameter("id"), context.caller)
                guard !reply.isError else { throw AgentService.error(of: reply) }
                return JSONValue.object([.init("result", reply.value)])
            },
        ]
    }
}
