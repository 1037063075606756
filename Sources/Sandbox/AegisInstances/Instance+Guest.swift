internal import AegisChannel
internal import AegisCore
package import AegisIO
internal import AegisLogs
internal import AegisSandboxTypes
internal import AegisSessions
internal import Synchronization

/// Who answers what programs inside instances ask of Aegis; there is nobody until the API is up.
package final class GuestBoard: Sendable {
    /// Serves one connection of a program inside an instance to its end.
    package typealias Serve = @Sendable (_ stream: any ByteStream, _ instance: String) async -> Void

    private let serve = Mutex<Serve?>(nil)

    package init() {}

    /// From now on connections are served so.
    package func open(_ serve: @escaping Serve) { self.serve.withLock { $0 = serve } }

    /// Serves what comes in by a door until it is shut; a further connection than `limit` waits for its turn.
    func accept(from door: GuestDoor, for instance: String, limit: Int) async {
        await withTaskGroup(of: Void.self) { group in
            var open = 0
            while !Task.isCancelled {
                if open == limit {
                    await group.next()
                    open -= 1
                }
                guard let stream = await door.accept() else { break }
                guard let serve = serve.withLock({ $0 }) else {
                    stream.close()
                    continue
                }
                open += 1
                group.addTask {
                    await serve(stream, instance)
                    stream.close()
                }
            }
            group.cancelAll()
        }
    }
}

/// The door of programs inside to Aegis (decision D21): the harness listens inside, and what comes travels over the instance's own
/// channel. Who comes through it is known by the door; nobody can pass for another instance.
extension Instance {
    /// Connections that are served at once.
    private static var guestConnections: Int { 16 }
    /// The door's other way in.
    private static var guestSocket: String { "/run/aegis/api.sock" }

    /// Has a harness open a door on a port.
    static func guestDoor(_ port: UInt16) -> StartProcess {
        .door(port: Array(String(port).utf8), socket: Array(guestSocket.utf8))
    }

    /// Where the guest API is.
    var guestAPI: GuestAPISetting { stored.guestAPI ?? .standard }

    /// How programs inside find it.
    var guestEnvironment: [String: String] {
        guard let port = guestAPI.port else { return [:] }
        let url = "http://127.0.0.1:\(port)"
        return ["AEGIS_GUEST_API": url, "AEGIS_ORCHESTRATOR_URL": url, "AEGIS_GUEST_SOCKET": Self.guestSocket]
    }

    /// Has the door opened in a sandbox of this release, before anything runs in it; nobody waits for that. A failure is told in the
    /// instance's log. One that was kept ready may have a door already: on the usual port.
    func openGuestDoor(on session: HarnessSession, besides known: [ProcessState] = []) {
        if takeGuestDoor(known, on: session) { return }
        guard let port = guestAPI.port else { return }
        let door = makeGuestDoor(on: session)
        session.startDoor(Self.guestDoor(port)) { [weak self] result in
            guard case .failure(let error) = result else { return }
            door.close()
            session.forget(Door.process)
            // The channel ended: so did everything.
            guard let error = error as? ProcessStartError else { return }
            self?.missDoor("not there: \(error.error.message)")
        }
    }

    /// Goes on with the door that an earlier daemon had opened, or has one opened if that did not come to it.
    func adoptGuestDoor(_ known: [ProcessState], on session: HarnessSession) {
        guard !takeGuestDoor(known, on: session), guestAPI.port != nil else { return }
        background("guest-api") { instance in
            guard let version = await session.harnessVersion() else { return }
            guard version >= Door.version else {
                return instance.missDoor("not there until the next start: an earlier release started this sandbox")
            }
            await instance.openGuestDoor(ifStill: session)
        }
    }

    /// Goes on with a door that is there, and shuts what is not wanted, before anything that is started from here on runs.
    ///
    /// - Returns: whether there is one to go on with.
    private func takeGuestDoor(_ known: [ProcessState], on session: HarnessSession) -> Bool {
        let wanted =
            guestAPI == .standard ? [Door.process, Door.earlyProcess] : guestAPI.port == nil ? [] : [Door.process]
        let found = wanted.lazy.compactMap { number in known.first { $0.number == number } }.first
        if let found { _ = makeGuestDoor(on: session, resuming: found) }
        for door in known where door.number >= Door.earlyProcess && door.number != found?.number {
            end(door, on: session)
        }
        return found != nil
    }

    private func openGuestDoor(ifStill session: HarnessSession) {
        if self.session === session { openGuestDoor(on: session) }
    }

    private func makeGuestDoor(on session: HarnessSession, resuming known: ProcessState? = nil) -> GuestDoor {
        let door = GuestDoor(on: session, resuming: known) { [weak self] in self?.noteDoor($0) }
        guestDoor = door
        processes.set(door)
        background("guest-api") { instance in
            async let sent: Void = door.run()
            await instance.services.guests.accept(from: door, for: instance.id, limit: Instance.guestConnections)
            await sent
        }
        return door
    }

    func closeGuestDoor() {
        guestDoor?.close()
        guestDoor = nil
        processes.set(nil)
        doorObstacle.withLock { $0 = nil }
    }

    /// Says in the instance's log, and in its record while this sandbox is there, why nobody inside reaches Aegis.
    private nonisolated func missDoor(_ text: String) {
        doorObstacle.withLock {
            $0 = AegisError(
                .unavailable, "guest-api-missing", "the guest API is \(text)",
                hint: "restart the instance when its programs need it: everything else of it works")
        }
        noteDoor(text)
    }

    private nonisolated func noteDoor(_ text: String) {
        log.note("the guest API: \(text)").map { services.logger.with("instance", id).log($0) }
    }
}
