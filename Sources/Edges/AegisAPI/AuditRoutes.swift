package import AegisAudit
internal import AegisCore
internal import AegisInstances
internal import AegisSandboxTypes
internal import AegisWire

/// The ledger: read it (NDJSON), its head, and a check of all of it.
package struct AuditRoutes: Sendable {
    /// What a follower is told that was too slow for what was dropped from the disk.
    private struct Gap: Encodable, Sendable { var gap: UInt64 }
    private struct Known: Decodable, Sendable {
        var heads: [String]?
        enum CodingKeys: String, CodingKey, CaseIterable { case heads }
        init(from decoder: any Decoder) throws {
            try decoder.refuseUnknownKeys(CodingKeys.self)
            heads = try decoder.container(keyedBy: CodingKeys.self).decodeIfPresent([String].self, forKey: .heads)
        }
    }

    private let audit: AuditService
    private let resolve: AuditNames

    /// Routes over a ledger.
    ///
    /// - Parameters:
    ///   - audit: its calls.
    ///   - resolve: finds the id of what is called by a name.
    package init(_ audit: AuditService, resolve: @escaping AuditNames) {
        self.audit = audit
        self.resolve = resolve
    }

    package var routes: [Route] {
        [
            Route(
                .get, "/v1/audit", "Read the ledger (NDJSON), and follow it",
                query: ["follow", "kinds", "agent", "trace", "since", "tail"]
            ) { [self] context, writer in
                // It tells of everybody's agents.
                try requireRoot(context)
                let filter = try await filter(context)
                let follows = try context.flag("follow")
                var batch = try await audit.tail(try count(context), filter)
                var body = try await writer.stream(200, headers: ["Content-Type": "application/x-ndjson"])
                while true {
                    if batch.lost > 0 { try await body.write(JSONBody.encode(Gap(gap: batch.lost))) }
                    if !batch.lines.isEmpty { try await body.write(batch.lines) }
                    guard follows, !Task.isCancelled else { break }
                    batch = try await audit.next(batch.cursor, filter)
                }
                try await body.finish()
            },
            .json(.get, "/v1/audit/head", "The newest record of the ledger, to be kept elsewhere") { [audit] context in
                try requireRoot(context)
                return audit.head()
            },
            .json(.post, "/v1/audit/verify", "Check every record, signature and seal of the ledger") {
                [audit] context in
                try requireRoot(context)
                let known = try await JSONBody.decode(Known.self, from: context)
                return try await audit.verify(heads: try (known.heads ?? []).map { try LedgerHead(parsing: $0) })
            },
        ]
    }

    private func filter(_ context: RequestContext) async throws(AegisError) -> AuditFilter {
        var filter = AuditFilter()
        if let kinds = context.query["kinds"] { filter.kinds = try AuditKind.words(parsing: kinds) }
        if let agent = context.query["agent"] {
            filter.agent = await resolve(agent, context.caller) ?? agent
        }
        filter.trace = context.query["trace"]
        if let since = context.query["since"] {
            guard let time = Timestamp(parsing: since) else {
                throw .usage("'\(since)' is not a time", hint: "write it as 2026-11-20T10:30:00Z")
            }
            filter.since = time
        }
        return filter
    }

    private func count(_ context: RequestContext) throws(AegisError) -> Int {
        guard let text = context.query["tail"] else { return LedgerReader.tailLimit }
        guard let count = Int(text), (0...LedgerReader.tailLimit).contains(count) else {
            throw .usage("'\(text)' is not a number of records", hint: "give 0 to \(LedgerReader.tailLimit)")
        }
        return count
    }
}
