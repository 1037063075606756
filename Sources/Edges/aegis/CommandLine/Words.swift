package import AegisCore

/// The words of the command line as text.
package enum Words {
    /// Words of a command line as text, exactly: whatever reaches a sandbox is what was typed.
    ///
    /// - Parameter arguments: the words after the program's name.
    /// - Returns: the same words.
    /// - Throws: `invalid-argument` naming the position of a word that is not UTF-8: it could only be handed on changed.
    package static func text(_ arguments: [[UInt8]]) throws(AegisError) -> [String] {
        var words: [String] = []
        for (index, bytes) in arguments.enumerated() {
            guard let word = String(validating: bytes, as: UTF8.self) else {
                throw .usage(
                    "argument \(index + 1) is not UTF-8: '\(shown(bytes))'",
                    hint: "arguments are text; hand other bytes on in a file or on standard input")
            }
            words.append(word)
        }
        return words
    }

    /// Bytes for people: what is not printable ASCII as `\xNN`, long ones cut.
    package static func shown(_ bytes: [UInt8]) -> String {
        let text = bytes.prefix(60).map { byte -> String in
            if (0x20..<0x7f).contains(byte), byte != 0x5c { return String(UnicodeScalar(byte)) }
            let digits = String(byte, radix: 16)
            return "\\x" + (digits.utf8.count == 1 ? "0" : "") + digits
        }
        return text.joined() + (bytes.count > 60 ? "..." : "")
    }
}
