import AegisCore
import AegisIO
import AegisProxy
import AegisSandboxTypes
import AegisWire

/// Brings an instance and the server in it to the point where connections are answered.
///
/// Running is not listening: an instance is asked until its port answers. Where readiness is a path, it is asked for once in
/// the life of a sandbox: a server that has been ready is only dialled.
/// (A class: as a struct, it makes the optimiser of Swift 6.3.1 crash where coroutines that use it are split.)
final class RouteOpening: Sendable {
    /// What is being done, for people who wait.
    enum Progress: Sendable {
        case waking
        case listening
    }

    let exposure: Exposure
    let source: any RouteSource
    let loop: EventLoop
    let limits: RouterLimits
    /// The sandbox in which the server is known to have been ready; nil while there is none.
    let readyLife: UInt64?

    init(
        exposure: Exposure, source: any RouteSource, loop: EventLoop, limits: RouterLimits, readyLife: UInt64? = nil
    ) {
        self.readyLife = readyLife
        self.exposure = exposure
        self.source = source
        self.loop = loop
        self.limits = limits
    }

    private static var shortestPause: Duration { .milliseconds(2) }
    private static var longestPause: Duration { .milliseconds(50) }

    /// Holds the instance and connects to its port.
    ///
    /// - Parameters:
    ///   - why: what was heard from the client.
    ///   - kept: a connection that the caller has, if it leads to the server of this hold: there is nothing to find out then.
    ///   - progress: told when the instance runs.
    /// - Returns: the hold, and a connection on this router's loop.
    /// - Throws: an `AegisError`: the cause of a failed wake, `port-not-ready`, or `CancellationError`.
    func open(
        _ why: RouteReason, kept: (any RouteHold) -> FileStream? = { _ in nil },
        progress: (Progress, any RouteHold) -> Void = { _, _ in }
    ) async throws -> (hold: any RouteHold, stream: FileStream) {
        let latest = loop.clock.now.advanced(by: exposure.wakeLimit)
        var hold = try await take(why, until: latest)
        progress(.listening, hold)
        if let stream = kept(hold) { return (hold, stream) }
        var end = self.end(of: hold, latest)
        var pause = Self.shortestPause
        while true {
            let failure: any Error
            do {
                if readyLife != hold.life, case .http(let path) = exposure.readiness {
                    try await probe(path, hold, until: end)
                }
                return (hold, try await dial(hold, until: end))
            } catch { failure = error }
            if failure is CancellationError || Task.isCancelled { throw CancellationError() }
            guard loop.clock.now < end else { throw notReady(failure, hold.wasRunning) }
            try await loop.clock.sleep(for: pause)
            pause = min(pause * 2, Self.longestPause)
            if !Self.mayListenLater(failure) || !hold.isAwake {
                // The instance ended, or was paused by force, under the hold: nobody begins to listen there. Asking anew starts
                // or wakes it again, or says why not.
                hold = try await take(why, until: latest)
                progress(.listening, hold)
                end = self.end(of: hold, latest)
            }
        }
    }

    /// One that ran already has less time: its server had some before.
    private func end(of hold: any RouteHold, _ latest: LoopClock.Instant) -> LoopClock.Instant {
        hold.wasRunning ? min(latest, loop.clock.now.advanced(by: runningTime)) : latest
    }

    private var runningTime: Duration { exposure.runningLimit ?? limits.runningTime }

    private func take(_ why: RouteReason, until end: LoopClock.Instant) async throws -> any RouteHold {
        let left = loop.clock.now.duration(to: end)
        guard left > .zero else { throw timeout("\(label) was not awake within \(exposure.wakeLimit)") }
        return try await source.hold(exposure.instance, port: exposure.guestPort, why: why, deadline: left)
    }

    /// One attempt to connect.
    func dial(_ hold: any RouteHold, until end: LoopClock.Instant) async throws -> FileStream {
        let left = max(.milliseconds(1), min(limits.dialTime, loop.clock.now.duration(to: end)))
        return try await hold.dial(exposure.guestPort, deadline: left).moved(to: loop)
    }

    /// Connects to a port that has answered before.
    ///
    /// A server that is slow to take connections has the kernel drop what finds no room. The kernel tries again after a
    /// second; asking anew is quicker.
    func join(_ hold: any RouteHold, within time: Duration) async throws -> FileStream {
        let end = loop.clock.now.advanced(by: time)
        var patience = Self.longestPause
        while true {
            do { return try await dial(hold, until: min(end, loop.clock.now.advanced(by: patience))) } catch {
                guard (error as? AegisError)?.code == "port-timeout", loop.clock.now < end else { throw error }
            }
            patience = patience * 2
        }
    }

    /// One GET of the readiness path.
    private func probe(_ path: String, _ hold: any RouteHold, until end: LoopClock.Instant) async throws {
        let stream = try await dial(hold, until: end)
        defer { stream.close() }
        let target = try HTTPTarget(parsing: path)
        let status = try await withDeadline(limits.dialTime, clock: loop.clock) {
            let connection = HTTPClientConnection(stream)
            return try await connection.send(HTTPRequestHead(.get, target)).head.status
        }
        guard (200..<400).contains(status) else {
            throw AegisError(.unavailable, "port-closed", "GET \(path) was answered with \(status)")
        }
    }

    /// Whether an attempt failed in a way that a server which is still starting makes likely.
    private static func mayListenLater(_ error: any Error) -> Bool {
        switch error {
        case let error as AegisError: error.code == "port-closed" || error.code == "port-timeout"
        case is IOError, is HTTPError: true
        default: false
        }
    }

    private var label: String { exposure.name ?? exposure.instance }

    private func notReady(_ failure: any Error, _ wasRunning: Bool) -> AegisError {
        let time = wasRunning ? min(runningTime, exposure.wakeLimit) : exposure.wakeLimit
        let cause = (failure as? AegisError)?.message ?? String(describing: failure)
        return timeout("port \(exposure.guestPort) of \(label) was not ready within \(time): \(cause)")
    }

    private func timeout(_ message: String) -> AegisError {
        AegisError(
            .timeout, "port-not-ready", message,
            hint: "see 'aegis logs \(label)'; servers must listen on 127.0.0.1, ::1 or all addresses inside")
    }
}
