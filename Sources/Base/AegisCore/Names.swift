/// The rule for names of instances, groups, volumes, images of our own and kits (they become host names).
package enum Names {
    /// Checks `[a-z]([a-z0-9-]{0,38}[a-z0-9])?` and that the name has not the form of an instance id.
    ///
    /// - Throws: `invalid-argument` with a name that would be valid.
    package static func validate(_ name: String, what: String) throws(AegisError) {
        let s = Array(name.utf8)
        let letters: (UInt8) -> Bool = { (97...122).contains($0) }
        let inner: (UInt8) -> Bool = { letters($0) || (48...57).contains($0) || $0 == 45 }
        guard let first = s.first, let last = s.last, s.count <= 40, letters(first), last != 45, s.allSatisfy(inner)
        else {
            throw .usage(
                "'\(name)' is not a valid \(what) name",
                hint: "use 1 to 40 of a-z, 0-9 and -, starting with a letter and not ending with -\(suggestion(name))")
        }
        guard !isInstanceID(name) else {
            throw .usage("'\(name)' has the form of an instance id", hint: "choose another \(what) name")
        }
    }

    /// Whether a text has the form of an instance id: `i-` and 16 hexadecimal digits.
    package static func isInstanceID(_ text: String) -> Bool {
        let s = Array(text.utf8)
        return s.count == 18 && s[0] == 105 && s[1] == 45
            && s.dropFirst(2).allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    }

    private static func suggestion(_ name: String) -> String {
        var out = ""
        for character in name.lowercased() {
            if character.isASCII, character.isLetter || character.isNumber {
                out.append(character)
            } else if !out.isEmpty, !out.hasSuffix("-") {
                out.append("-")
            }
        }
        out = String(out.drop { !$0.isLetter }.prefix(40))
        while out.hasSuffix("-") { out.removeLast() }
        return out.isEmpty ? "" : ", for example '\(out)'"
    }
}

/// Random identifiers, from a generator that tests can replace.
package enum Identifiers {
    /// A new instance id: `i-` and 16 hexadecimal digits.
    package static func instance(using random: inout some RandomNumberGenerator) -> String {
        "i-" + hex(random.next() as UInt64, digits: 16)
    }
    /// A new exec id: `x-` and 16 hexadecimal digits.
    package static func exec(using random: inout some RandomNumberGenerator) -> String {
        "x-" + hex(random.next() as UInt64, digits: 16)
    }
    /// A node id: 8 hexadecimal digits.
    package static func node(using random: inout some RandomNumberGenerator) -> String {
        hex(UInt64(truncatingIfNeeded: random.next() as UInt64) >> 32, digits: 8)
    }
    private static func hex(_ value: UInt64, digits: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: max(0, digits - text.count)) + text
    }
}
