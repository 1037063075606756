package import AegisCore

/// Where a record stands.
package struct AuditReceipt: Sendable {
    package var sequence: UInt64
    /// A receipt.
    package init(sequence: UInt64) { self.sequence = sequence }
}

/// Where events are recorded.
package protocol AuditTrail: Sendable {
    /// Saves an event: it survives `kill -9` when this returns.
    ///
    /// - Returns: where it stands.
    /// - Throws: when it cannot be saved; whoever wants an effect must not have it then.
    @discardableResult func record(_ event: AuditEvent) throws(AegisError) -> AuditReceipt
}
