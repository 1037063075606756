package import AegisCore

/// The rule for names of secrets: they become environment variables.
package enum SecretName {
    /// The word that stands for every secret where a list of names is asked for.
    package static let all = "*"

    /// Checks `[A-Za-z_][A-Za-z0-9_]{0,127}`.
    ///
    /// - Throws: `invalid-argument` with the rule.
    package static func validate(_ name: String) throws(AegisError) {
        let bytes = Array(name.utf8)
        let letter: (UInt8) -> Bool = { (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x5f }
        guard let first = bytes.first, letter(first), bytes.count <= 128,
            bytes.allSatisfy({ letter($0) || (0x30...0x39).contains($0) })
        else {
            throw .usage(
                "'\(name)' is not a valid secret name",
                hint: "it becomes an environment variable: 1 to 128 of A-Z, a-z, 0-9 and _, not starting with a digit")
        }
    }
}
