internal import AegisCore
package import AegisInstances
internal import AegisSandboxTypes
internal import AegisWire

/// What happens to the caller's instances, as NDJSON.
package struct EventRoutes: Sendable {
    private let directory: InstanceDirectory
    private let ledger: LedgerEvents

    /// Routes over a directory of instances, and a ledger of everything.
    package init(_ directory: InstanceDirectory, ledger: LedgerEvents) {
        self.directory = directory
        self.ledger = ledger
    }

    package var routes: [Route] {
        [
            Route(
                .get, "/v1/events",
                "What happened to instances of late (NDJSON), and follow it; everything with types, agent or SSE",
                query: ["follow", "instance", "after", "types", "agent", "tail"]
            ) { [directory, ledger] context, writer in
                if EventStreamWriter.isWanted(context.request) { return try await ledger.serve(context, writer) }
                if ["types", "agent", "tail"].contains(where: { context.query[$0] != nil }) {
                    return try await ledger.serveLines(context, writer)
                }
                let instance = try context.query["instance"].map { try directory.find($0, for: context.caller).id }
                let follows = try context.flag("follow")
                var seen = try context.query["after"].map { try Self.number($0) } ?? 0
                var lines = try await LineStreamWriter(writer, clock: ledger.clock)
                while true {
                    let (events, last) = directory.events.events(after: seen, for: context.caller, instance: instance)
                    for event in events { try await lines.send(try JSONBody.encode(event)) }
                    seen = last
                    guard follows, !Task.isCancelled else { break }
                    await directory.events.wait(after: seen)
                }
                try await lines.finish()
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
