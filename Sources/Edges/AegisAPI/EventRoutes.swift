internal import AegisCore
package import AegisInstances
internal import AegisSandboxTypes
internal import AegisWire

/// What happens to the caller's instances, as NDJSON.
package struct EventRoutes: Sendable {
    private let directory: InstanceDirectory

    /// Routes over a directory.
    package init(_ directory: InstanceDirectory) { self.directory = directory }

    package var routes: [Route] {
        [
            Route(
                .get, "/v1/events", "What happened of late (NDJSON), and follow it",
                query: ["follow", "instance", "after"]
            ) { [directory] context, writer in
                let instance = try context.query["instance"].map { try directory.find($0, for: context.caller).id }
                let follows = try context.flag("follow")
                var seen = try context.query["after"].map { try Self.number($0) } ?? 0
                var body = try await writer.stream(200, headers: ["Content-Type": "application/x-ndjson"])
                while true {
                    let (events, last) = directory.events.events(after: seen, for: context.caller, instance: instance)
                    for event in events { try await body.write(JSONBody.encode(event)) }
                    seen = last
                    guard follows, !Task.isCancelled else { break }
                    await directory.events.wait(after: seen)
                }
                try await body.finish()
            }
        ]
    }

    private static func number(_ text: String) throws(AegisError) -> UInt64 {
        guard let number = UInt64(text) else {
            throw .usage("'\(text)' is not the number of an event", hint: "give the 'number' of the last one seen")
        }
        return number
    }
}
