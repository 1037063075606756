package import AegisCore
internal import AegisIO
internal import AegisTools
internal import Synchronization

/// Agents wait for the tools of a server that has never been asked for them; later ones find them kept.
extension MCPPlane: LateTools {
    /// How long an agent's turn waits. A server may take longer to start: its tools are there in a later step then.
    private static var patience: Duration { .seconds(60) }

    package var areExpected: Bool {
        links.withLock { $0.map(\.name) }.contains { !isListed($0) }
    }

    package func missing(
        for user: UInt32, mayCall: @escaping @Sendable (String) -> Bool
    ) async -> [(prefix: String, error: AegisError)] {
        let wanted = links.withLock { $0 }.filter { name, link in
            link.section.serves(user: user) && !isListed(name) && mayCall("mcp.\(name).")
        }
        return await withTaskGroup(of: (String, AegisError)?.self) { group in
            for (name, _) in wanted {
                group.addTask { await self.problem(of: name).map { ("mcp.\(name).", $0) } }
            }
            var missing: [(prefix: String, error: AegisError)] = []
            for await case let (prefix, error)? in group { missing.append((prefix, error)) }
            return missing
        }
    }

    /// Has a server list its tools.
    ///
    /// - Returns: why it has not; nil when it has.
    private func problem(of name: String) async -> AegisError? {
        // Whoever came first has waited. It is asked again, and nobody waits for that.
        if let known = firstProblem(of: name) {
            list(name)
            return known
        }
        do {
            try await withDeadline(Self.patience, clock: clock) { try await self.refresh(name) }
            return nil
        } catch var error as AegisError {
            Self.hideRemarks(in: &error)
            return error
        } catch {
            if !Task.isCancelled { setLate(name) }
            return Self.late(name)
        }
    }

    private func firstProblem(of name: String) -> AegisError? {
        if isLate(name) { return Self.late(name) }
        guard var error = links.withLock({ $0.first { $0.name == name }?.link.standing.lastError }) else { return nil }
        Self.hideRemarks(in: &error)
        return error
    }

    private static func late(_ name: String) -> AegisError {
        MCPFault.unavailable(name, "it has not said yet what its tools are")
    }
}
