internal import AegisCore
package import AegisInstances
internal import AegisSandboxTypes
internal import AegisWire

/// What programs inside an instance may ask of Aegis: about that instance, and about those that it has started.
package struct GuestRoutes: Sendable {
    private let directory: InstanceDirectory
    /// Routes of the owner's that a parent may use on its children.
    private let shared: [Route]

    /// - Parameters:
    ///   - directory: all instances.
    ///   - shared: routes with an `{id}` in their path.
    package init(_ directory: InstanceDirectory, shared: [Route]) {
        self.directory = directory
        self.shared = shared
    }

    /// Their table.
    package var routes: [Route] { own + children + shared.map(onlyChildren) }

    private var own: [Route] {
        [
            .json(.get, "/v1/self", "This instance") { context in GuestRecord(try await instance(context).info) },
            .json(.post, "/v1/self/keepalive", "Stay awake for a time: {ttl: \"5m\"}; a later one takes its place") {
                context in
                let request = try await JSONBody.decode(KeepaliveRequest.self, from: context)
                return try await instance(context).keepAlive(request)
            },
            .json(.delete, "/v1/self/keepalive", "No longer stay awake") { context in
                try await instance(context).keepAlive(KeepaliveRequest(ttl: TimeSpan(milliseconds: 0)))
            },
        ]
    }

    private var children: [Route] {
        [
            .json(.post, "/v1/instances", "Start an instance that ends with this one", status: 201) { context in
                let request = try await JSONBody.decode(CreateInstance.self, from: context)
                let child = try await directory.spawn(request, from: try instance(context))
                return GuestRecord(await child.info)
            },
            .json(.get, "/v1/instances", "The instances that this one has started") { context in
                let children = try await directory.children(of: instance(context).id)
                return GuestList(items: children.map(GuestRecord.init))
            },
            .json(.get, "/v1/instances/{id}", "One of them") { context in
                GuestRecord(try await child(context).info)
            },
            .json(.post, "/v1/instances/{id}/stop", "Stop it; it can be read until it is removed") { context in
                GuestRecord(try await child(context).stop())
            },
            .json(.delete, "/v1/instances/{id}", "Stop and remove it") { context in
                let child = try child(context)
                await child.delete()
                return ["deleted": child.id]
            },
        ]
    }

    /// The same route, for children of who asks only; it acts with the rights of their owner there.
    private func onlyChildren(_ route: Route) -> Route {
        Route(route.method, route.path, route.summary, query: route.query) { context, writer in
            let child = try child(context)
            var context = context
            context.caller = Caller(uid: child.owner, gid: child.ownerGroup)
            context.parameters["id"] = child.id
            try await route.handler(context, writer)
        }
    }

    /// The instance that asks: known by the door that the request came through.
    private func instance(_ context: RequestContext) throws(AegisError) -> Instance {
        guard case .guest(let id) = context.request.peer else {
            throw AegisError(.denied, "no-credentials", "this is for programs inside instances")
        }
        return try directory.guest(id)
    }

    private func child(_ context: RequestContext) throws(AegisError) -> Instance {
        try directory.child(context.parameter("id"), of: instance(context).id)
    }
}

private struct GuestList: Encodable, Sendable { var items: [GuestRecord] }

/// An instance as it sees itself, and as its parent sees it: nothing of the host's.
private struct GuestRecord: Encodable, Sendable {
    var id: String
    var name: String?
    var state: InstanceState
    var image: String
    var command: [String]
    var grade: Grade?
    var limits: Limits
    var network: String
    var allow: [String]?
    var group: String?
    var grants: [String]?
    var expose: [ExposedPort]
    var idle: IdlePolicy?
    var parent: String?
    var startedAt: Timestamp?
    var exitCode: Int32?
    var stopReason: String?
    var error: RecordedError?

    init(_ info: InstanceInfo) {
        id = info.id
        name = info.name
        state = info.state
        image = info.image
        command = info.command
        grade = info.grade
        limits = info.limits
        network = info.network
        allow = info.allow
        group = info.group
        grants = info.grants
        expose = info.expose
        idle = info.idle
        parent = info.parent
        startedAt = info.startedAt
        exitCode = info.exitCode
        stopReason = info.stopReason
        // Of one that is up it is what the host cannot do just now, as to write on its disk.
        error = info.state == .stopped ? info.error : nil
    }

    private enum CodingKeys: String, CodingKey {
        case id, name, state, image, command, grade, limits, network, allow, group, grants, expose, idle, parent, error
        case startedAt = "started_at"
        case exitCode = "exit_code"
        case stopReason = "stop_reason"
    }
}
