internal import AegisBackends
internal import AegisCore
package import AegisIO
internal import AegisLogs
internal import AegisSandboxTypes
internal import Synchronization

/// Who answers what programs inside instances ask of Aegis; there is nobody until the API is up.
package final class GuestBoard: Sendable {
    /// Serves one connection of a program inside an instance to its end.
    package typealias Serve = @Sendable (_ stream: FileStream, _ instance: String) async -> Void

    private let serve = Mutex<Serve?>(nil)

    package init() {}

    /// From now on connections are served so.
    package func open(_ serve: @escaping Serve) { self.serve.withLock { $0 = serve } }

    /// Serves what comes in at a listener until it is closed; a further connection than `limit` waits for its turn.
    func accept(from listener: Listener, for instance: String, limit: Int) async {
        await withTaskGroup(of: Void.self) { group in
            var open = 0
            while !Task.isCancelled {
                if open == limit {
                    await group.next()
                    open -= 1
                }
                guard let stream = try? await listener.accept() else { break }
                guard let serve = serve.withLock({ $0 }) else {
                    stream.close()
                    continue
                }
                open += 1
                group.addTask { await serve(stream, instance) }
            }
            group.cancelAll()
        }
        listener.close()
    }
}

/// The door of programs inside to Aegis (decision D21): a port of the instance's own loopback, which nothing else reaches. Who
/// comes through it is known by the door; nobody can pass for another instance.
extension Instance {
    /// Connections that are served at once.
    private static var guestConnections: Int { 16 }

    /// Where the guest API is.
    var guestAPI: GuestAPISetting { stored.guestAPI ?? .standard }

    /// Opens the door in a sandbox that was booted or taken over; a failure is told in the instance's log.
    func openGuestDoor(in sandbox: any Sandbox) {
        issueGrants()
        guard let port = guestAPI.port else { return }
        do {
            let listener = try sandbox.listen(port)
            guestDoor = listener
            background("guest-api") { instance in
                await instance.services.guests.accept(
                    from: listener, for: instance.id, limit: Instance.guestConnections)
            }
        } catch {
            note(log.note("no guest API: \(Instance.explain(error).message)"))
        }
    }
}
