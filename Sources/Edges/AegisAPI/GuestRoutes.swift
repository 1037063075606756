internal import AegisCore
package import AegisInstances
internal import AegisSandboxTypes
internal import AegisWire

/// What programs inside an instance may ask of Aegis, of that instance alone.
package struct GuestRoutes: Sendable {
    private let directory: InstanceDirectory

    package init(_ directory: InstanceDirectory) { self.directory = directory }

    package var routes: [Route] {
        [
            .json(.get, "/v1/self", "This instance") { [directory] context in
                GuestRecord(try await Self.instance(context, directory).info)
            },
            .json(.post, "/v1/self/keepalive", "Stay awake for a time: {ttl: \"5m\"}; a later one takes its place") {
                [directory] context in
                let request = try await JSONBody.decode(KeepaliveRequest.self, from: context)
                return try await Self.instance(context, directory).keepAlive(request)
            },
            .json(.delete, "/v1/self/keepalive", "No longer stay awake") { [directory] context in
                try await Self.instance(context, directory).keepAlive(KeepaliveRequest(ttl: TimeSpan(milliseconds: 0)))
            },
        ]
    }

    /// The instance that asks: known by the door that the request came through.
    private static func instance(_ context: RequestContext, _ directory: InstanceDirectory) throws(AegisError)
        -> Instance
    {
        guard case .guest(let id) = context.request.peer else {
            throw AegisError(.denied, "no-credentials", "this is for programs inside instances")
        }
        return try directory.guest(id)
    }
}

/// An instance as it sees itself: nothing of the host's.
private struct GuestRecord: Encodable, Sendable {
    var id: String
    var name: String?
    var state: InstanceState
    var image: String
    var command: [String]
    var grade: Grade?
    var limits: Limits
    var network: String
    var expose: [ExposedPort]
    var idle: IdlePolicy?
    var parent: String?
    var startedAt: Timestamp?

    init(_ info: InstanceInfo) {
        id = info.id
        name = info.name
        state = info.state
        image = info.image
        command = info.command
        grade = info.grade
        limits = info.limits
        network = info.network
        expose = info.expose
        idle = info.idle
        parent = info.parent
        startedAt = info.startedAt
    }

    private enum CodingKeys: String, CodingKey {
        case id, name, state, image, command, grade, limits, network, expose, idle, parent
        case startedAt = "started_at"
    }
}
