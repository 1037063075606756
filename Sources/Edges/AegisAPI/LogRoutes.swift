internal import AegisCore
package import AegisInstances
internal import AegisLogs
internal import AegisSandboxTypes
internal import AegisWire

/// The stored log of an instance, as NDJSON.
package struct LogRoutes: Sendable {
    private let directory: InstanceDirectory

    /// Routes over a directory.
    package init(_ directory: InstanceDirectory) { self.directory = directory }

    package var routes: [Route] {
        [
            Route(
                .get, "/v1/instances/{id}/logs", "Read the log (NDJSON), and follow it",
                query: ["follow", "since", "tail", "exec_id"]
            ) { context, writer in
                let instance = try directory.find(context.parameter("id"), for: context.caller)
                let since = try context.query["since"].map { try LogQuery.since(parsing: $0, now: .now()) }
                let tail = try context.query["tail"].map { try Self.count($0) }
                let execID = context.query["exec_id"]
                let query = LogQuery(since: since, tail: tail, follow: try context.flag("follow"))
                var body = try await writer.stream(200, headers: ["Content-Type": "application/x-ndjson"])
                if let execID {
                    var records = instance.log.records(query).makeAsyncIterator()
                    while let record = try await records.next() {
                        if record.execID == execID { try await body.write(JSONBody.encode(record)) }
                    }
                } else {
                    var lines = instance.log.lines(query)
                    while let bytes = try await lines.next() { try await body.write(bytes) }
                }
                try await body.finish()
            }
        ]
    }

    private static func count(_ text: String) throws(AegisError) -> Int {
        guard let count = Int(text), count >= 0 else {
            throw .usage("'\(text)' is not a number of lines", hint: "give 0 or more")
        }
        return count
    }
}
