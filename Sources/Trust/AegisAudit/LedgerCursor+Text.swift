extension LedgerCursor: CustomStringConvertible {
    /// `SEGMENT:OFFSET:SEQ`: what a client gives back to go on where it was.
    package var description: String { "\(segment):\(offset):\(seq)" }

    /// Reads a place as `description` writes it; nil for anything else.
    package init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 3, parts.allSatisfy({ (1...20).contains($0.utf8.count) }),
            parts.allSatisfy({ $0.utf8.allSatisfy { (48...57).contains($0) } }), let segment = UInt64(parts[0]),
            let offset = UInt64(parts[1]), let seq = UInt64(parts[2]), offset <= UInt64(Int64.max)
        else { return nil }
        self.init(segment: segment, offset: offset, seq: seq)
    }
}
