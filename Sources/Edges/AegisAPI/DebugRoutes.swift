internal import AegisCore
package import AegisInstances
internal import AegisSessions
internal import AegisWire

/// What passes inside, for those who look for a fault.
package struct DebugRoutes: Sendable {
    private struct Gap: Encodable, Sendable { var gap: UInt64 }

    private let directory: InstanceDirectory

    /// Routes over a directory.
    package init(_ directory: InstanceDirectory) { self.directory = directory }

    package var routes: [Route] {
        [
            Route(
                .get, "/v1/instances/{id}/channel",
                "The messages between daemon and harness from now on (NDJSON), without bytes and values"
            ) { [directory] context, writer in
                // As everything of an instance: for its owner and for root.
                let tap = try directory.find(context.parameter("id"), for: context.caller).tap
                let watcher = try tap.watch()
                defer { tap.leave(watcher) }
                var body = try await writer.stream(200, headers: ["Content-Type": "application/x-ndjson"])
                while let items = await watcher.next() {
                    for item in items {
                        switch item {
                        case .message(let record): try await body.write(JSONBody.encode(record))
                        case .gap(let count): try await body.write(JSONBody.encode(Gap(gap: count)))
                        }
                    }
                }
                try await body.finish()
            }
        ]
    }
}
