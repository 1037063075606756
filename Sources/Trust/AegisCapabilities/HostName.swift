/// The name of a host in canonical form: lower case, no final dot.
package struct HostName: Hashable, Sendable, CustomStringConvertible {
    /// The name.
    package let description: String
    /// Hashes of the last n labels, for n from 0: an index finds candidates by them.
    let suffixHashes: [UInt64]

    /// Takes a name as a resolver or a client gives it: upper case and one final dot are brought into form.
    ///
    /// - Returns: nil when it is no name of a host; numeric addresses are none.
    package init?(_ text: String) {
        var text = text
        if text.utf8.last == 0x2e { text.removeLast() }
        try? self.init(parsing: text)
    }

    /// Reads a name strictly.
    ///
    /// - Throws: where it is none, and the nearest that is one.
    init(parsing text: String) throws(ValueProblem) {
        let bytes = text.utf8.map(Letters.lowered)
        guard !bytes.isEmpty else { throw ValueProblem(0, "a host is missing") }
        guard bytes.count <= 253 else { throw ValueProblem(253, "a host name has at most 253 bytes") }
        var offset = 0
        let labels = bytes.split(separator: 0x2e, omittingEmptySubsequences: false)
        for (index, label) in labels.enumerated() {
            if let problem = Self.problem(of: label, isLast: index == labels.count - 1) {
                throw ValueProblem(offset + problem.0, problem.1, nearest: Self.repaired(labels))
            }
            offset += label.count + 1
        }
        description = String(decoding: bytes, as: UTF8.self)
        var hash = PathHash()
        var hashes = [hash.value]
        for (index, byte) in bytes.reversed().enumerated() {
            if byte == 0x2e { hashes.append(hash.value) }
            hash.add(byte)
            if index == bytes.count - 1 { hashes.append(hash.value) }
        }
        suffixHashes = hashes
    }

    private static func problem(of label: ArraySlice<UInt8>, isLast: Bool) -> (Int, String)? {
        guard let first = label.first, let last = label.last else {
            return (0, isLast ? "a host name does not end with '.'" : "there is nothing between two dots")
        }
        guard label.count <= 63 else { return (63, "a part of a host name has at most 63 bytes") }
        for (index, byte) in label.enumerated() where !(Letters.isAlphanumeric(byte) || byte == 0x2d || byte == 0x5f) {
            if byte >= 0x80 { return (index, "write names with other letters than a-z in their 'xn--' form") }
            return (index, "'\(shown(String(Unicode.Scalar(byte))))' is not a character of host names")
        }
        guard first != 0x2d, last != 0x2d else { return (0, "a part of a host name does not start or end with '-'") }
        let isNumber =
            label.allSatisfy(Letters.isDigit)
            || label.starts(with: [0x30, 0x78]) && label.dropFirst(2).allSatisfy(Letters.isHex)
        return isLast && isNumber ? (0, "this is neither a host name nor an address") : nil
    }

    private static func repaired(_ labels: [ArraySlice<UInt8>]) -> String? {
        let kept = labels.filter { !$0.isEmpty }
        guard !kept.isEmpty, kept.count < labels.count else { return nil }
        for (index, label) in kept.enumerated() where problem(of: label, isLast: index == kept.count - 1) != nil {
            return nil
        }
        return String(decoding: Array(kept.joined(separator: [0x2e])), as: UTF8.self)
    }

    /// How many labels it has.
    var labelCount: Int { suffixHashes.count - 1 }

    /// Whether this name lies below a domain; the domain itself does not.
    package func isBelow(_ domain: HostName) -> Bool {
        labelCount > domain.labelCount && suffixHashes[domain.labelCount] == domain.suffixHashes[domain.labelCount]
            && description.utf8.dropLast(domain.description.utf8.count).last == 0x2e
            && description.utf8.suffix(domain.description.utf8.count).elementsEqual(domain.description.utf8)
    }

    /// Whether it means the machine that asks, whatever a resolver says.
    package var isLocalhost: Bool { description == "localhost" || description.hasSuffix(".localhost") }

    package static func == (a: HostName, b: HostName) -> Bool { a.description == b.description }
    package func hash(into hasher: inout Hasher) { hasher.combine(description) }
}

extension HostName {
    /// The name that the proofs of a network's policy ask for, which nobody else has a use for. The grant of it is Aegis's
    /// own: an instance with a network holds it, and no denial names it.
    package static let ofProofs: HostName = {
        guard let name = HostName("control.aegis.invalid") else { preconditionFailure("every test reads this name") }
        return name
    }()
}
