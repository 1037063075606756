package import AegisCore
package import AegisIO
package import AegisSandboxTypes

/// Why a router needs an instance running; wake rules tell the two apart.
package enum RouteReason: Sendable, Hashable {
    /// A connection, whatever it is going to say.
    case connection
    /// A whole request.
    case request
}

/// One count on an instance, which keeps it awake; given back when the last reference goes.
package protocol RouteHold: AnyObject, Sendable {
    /// Whether the instance ran already when it was asked for.
    var wasRunning: Bool { get }

    /// Whether the instance runs now: it may have been paused or stopped in spite of the hold. Then it takes a new one to
    /// wake it.
    var isAwake: Bool { get }

    /// The number of the instance's present sandbox: a server that was ready in an earlier one has to become so anew.
    var life: UInt64 { get }

    /// Connects to a port inside.
    ///
    /// - Throws: `port-closed` when nothing listens (yet), `port-timeout`; anything else means that the instance is gone.
    func dial(_ port: UInt16, deadline: Duration) async throws -> FileStream
}

extension RouteHold {
    package var isAwake: Bool { true }
    package var life: UInt64 { 0 }
}

/// What a router knows about instances: all of its counting and waking goes through here (decision D25).
package protocol RouteSource: Sendable {
    /// Counts the caller and returns when the instance runs; starts or resumes it where the port's wake rule allows that.
    ///
    /// - Parameters:
    ///   - instance: the id.
    ///   - port: the guest's port that is asked for.
    ///   - why: what was heard from the client.
    ///   - deadline: how long waking may take.
    /// - Returns: the hold.
    /// - Throws: an `AegisError` that tells the client why the instance does not run.
    func hold(_ instance: String, port: UInt16, why: RouteReason, deadline: Duration) async throws -> any RouteHold

    /// Every port that is to be served, in a lasting order.
    func exposures() async -> [Exposure]

    /// Calls `body` after every change of `exposures`, on any thread, as long as the router runs.
    ///
    /// - Returns: what ends that.
    func onChange(_ body: @escaping @Sendable () -> Void) -> @Sendable () -> Void

    /// The router listens on the public port of an exposure.
    func didBind(_ instance: String, guestPort: UInt16, publicPort: UInt16) async

    /// The router cannot listen on the public port of an exposure; it tries again from time to time.
    func bindFailed(_ instance: String, guestPort: UInt16, _ error: AegisError) async
}

/// What a router allows, beside the limits of its relay.
package struct RouterLimits: Sendable, Equatable {
    /// Connections and requests that wait for one port at the same time.
    package var waiting = 1024
    /// Connections to tcp ports at the same time, on all ports together.
    package var streams = 8192
    /// How long a running instance may take to listen on a port.
    package var runningTime = Duration.seconds(10)
    /// One attempt to connect.
    package var dialTime = Duration.seconds(2)
    /// Requests that a server gets at once of those that have waited for it, and when it gets as many again; it gets more as
    /// it answers them.
    package var admitted = 4
    package var admissionTime = Duration.milliseconds(10)
    /// A browser is shown the loading page when a port takes longer than that to be ready.
    package var pageTime = Duration.milliseconds(50)
    /// How long an instance stays held after the last request, so that requests that follow one another find it.
    package var holdTime = Duration.milliseconds(500)
    /// The same after a loading page, until it has refreshed itself.
    package var pageHoldTime = Duration.seconds(5)
    /// How long the cause of a failed wake is kept for the browser that looks at the loading page.
    package var failureTime = Duration.seconds(10)
    /// How often a public port that somebody else has taken is tried again.
    package var bindRetry = Duration.seconds(5)

    /// The limits that Aegis uses unless told otherwise.
    package init() {}
}
