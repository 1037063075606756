internal import AegisJSON

/// The beginning of a call's arguments as the ledger has it: what looks like a secret is masked, and what is one always.
///
/// It is a help for who reads, and no promise: a password in a sentence looks like any other word.
struct InputPreview {
    /// Masks the values of known secrets; so many bytes of the result are wanted, at least.
    typealias Mask = @Sendable (_ bytes: [UInt8], _ wanted: Int) -> [UInt8]

    /// What stands for a value.
    static let marker = "•••"
    /// The most bytes of a text that are looked at: a secret may be as long as the store takes, and begin in what is shown.
    static let window = 80 << 10
    private let length: Int
    private let mask: Mask?
    /// How much may still be shown; what is beyond is not worth looking at.
    private var room: Int

    private init(_ length: Int, _ mask: Mask?) {
        (self.length, self.mask) = (length, mask)
        // A value takes less room than its mask where it is short.
        room = length * 2
    }

    /// The first bytes of arguments as compact JSON.
    ///
    /// - Parameters:
    ///   - input: the arguments.
    ///   - length: how many bytes.
    ///   - mask: masks the values of known secrets; nil where there are none.
    /// - Returns: at most so many bytes.
    static func text(_ input: JSONValue, atMost length: Int, mask: Mask?) -> String {
        var preview = InputPreview(length, mask)
        return utf8Prefix(String(decoding: preview.shown(input).compact, as: UTF8.self), length)
    }

    private mutating func shown(_ value: JSONValue) -> JSONValue {
        switch value {
        case .null, .bool, .number:
            room -= 4
            return value
        case .string(let text): return .string(shown(text))
        case .array(let elements):
            var list: [JSONValue] = []
            var isNamed = false
            for element in elements {
                guard room > 0 else { break }
                // As in ["--password", "hunter2"].
                let hides = isNamed && element.text != nil
                list.append(hides ? hidden() : shown(element))
                isNamed = !hides && (element.text.map(Self.isSecretFlag) ?? false)
            }
            return .array(list)
        case .object(let fields):
            var list: [JSONValue.Field] = []
            for field in fields {
                guard room > 0 else { break }
                // The name may be a known secret's value, too.
                let name = shown(field.name)
                list.append(
                    .init(name, SecretWords.isName(field.name.utf8) ? concealed(field.value) : shown(field.value)))
            }
            return .object(list)
        }
    }

    /// A value under a name that says that it is secret: numbers and switches are none (`max_tokens`).
    private mutating func concealed(_ value: JSONValue) -> JSONValue {
        switch value {
        case .null, .bool, .number: return shown(value)
        case .string, .array, .object: return hidden()
        }
    }

    private mutating func hidden() -> JSONValue {
        room -= Self.marker.utf8.count
        return .string(Self.marker)
    }

    private mutating func shown(_ text: String) -> String {
        // Most texts are short, and nothing is announced without one of these two.
        if mask == nil, text.utf8.count <= length, !text.utf8.contains(where: { $0 == 0x3a || $0 == 0x3d }) {
            room -= text.utf8.count + 4
            return text
        }
        let wanted = length * 2
        let bytes = mask.map { $0(Array(text.utf8.prefix(Self.window)), wanted) } ?? Array(text.utf8.prefix(wanted + 4))
        // What is cut off by the window's end is cut off again here, between two characters.
        let shown = utf8Prefix(SecretWords.masked(utf8Prefix(String(decoding: bytes, as: UTF8.self), wanted)), length)
        room -= shown.utf8.count + 4
        return shown
    }

    /// Whether a word is a flag after which a secret comes.
    private static func isSecretFlag(_ word: String) -> Bool {
        word.hasPrefix("-") && !word.contains("=") && !word.contains(" ") && SecretWords.isName(word.utf8)
    }
}

/// How secrets are announced: names of fields, flags, variables and headers.
enum SecretWords {
    private static let words = [
        "password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey", "privatekey", "authorization",
        "credential", "cookie",
    ].map { Array($0.utf8) }

    /// Whether a name announces a secret: `api_key`, `X-Auth-Token`, `DB_PASSWORD`.
    static func isName(_ name: some Collection<UInt8>) -> Bool {
        // Every call of a tool comes through here: the shortest of the words has five letters.
        guard (5...128).contains(name.count) else { return false }
        var letters: [UInt8] = []
        letters.reserveCapacity(name.count)
        for byte in name {
            switch byte {
            case 65...90: letters.append(byte | 32)
            case 97...122, 48...57: letters.append(byte)
            default: break
            }
        }
        for start in letters.indices.dropLast(4) {
            switch letters[start] {
            // What the words begin with: a, c, p, s, t.
            case 0x61, 0x63, 0x70, 0x73, 0x74:
                if words.contains(where: { letters[start...].starts(with: $0) }) { return true }
            default: continue
            }
        }
        return false
    }

    /// Masks what follows such a name in a text (`TOKEN=...`, `--api-key=...`, `"password": "..."`, `Authorization: Bearer ...`) and
    /// who asks in an address (`https://user:password@host`).
    static func masked(_ text: String) -> String {
        let bytes = Array(text.utf8)
        var out: [UInt8] = []
        var (at, copied) = (0, 0)
        while at < bytes.count {
            guard isWord(bytes[at]) else {
                at += 1
                continue
            }
            let start = at
            while at < bytes.count, isWord(bytes[at]) { at += 1 }
            // What comes after a word is looked at first: most words have nothing to say.
            let begin = assigned(bytes, after: at)
            guard
                let value = begin.flatMap({ isName(bytes[start..<at]) ? value(bytes, from: $0) : nil })
                    ?? userinfo(bytes, after: at)
            else { continue }
            out += bytes[copied..<value.lowerBound] + InputPreview.marker.utf8
            (at, copied) = (value.upperBound, value.upperBound)
        }
        return copied == 0 ? text : String(decoding: out + bytes[copied...], as: UTF8.self)
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || byte == 0x5f
            || byte == 0x2d
    }

    /// Where the value begins that a name is given: behind `=` or `:`, with a quote before it that ends the name, as in JSON, and
    /// blanks around it.
    private static func assigned(_ bytes: [UInt8], after end: Int) -> Int? {
        var at = end
        if at < bytes.count, isQuote(bytes[at]) { at += 1 }
        skipBlanks(bytes, &at)
        guard at < bytes.count, bytes[at] == 0x3d || bytes[at] == 0x3a else { return nil }
        at += 1
        skipBlanks(bytes, &at)
        return at
    }

    private static func isQuote(_ byte: UInt8) -> Bool { byte == 0x22 || byte == 0x27 }

    private static func skipBlanks(_ bytes: [UInt8], _ at: inout Int) {
        while at < bytes.count, bytes[at] == 0x20 { at += 1 }
    }

    /// The value that begins there, in quotes or a word; of a header with its scheme.
    private static func value(_ bytes: [UInt8], from begin: Int) -> Range<Int>? {
        var at = begin
        let quote = at < bytes.count && isQuote(bytes[at]) ? bytes[at] : nil
        if quote != nil { at += 1 }
        let start = at
        func isInside(_ byte: UInt8) -> Bool {
            if let quote { return byte != quote }
            return ![0x20, 0x0a, 0x09, 0x22, 0x27, 0x3b, 0x26].contains(byte)
        }
        func word() { while at < bytes.count, isInside(bytes[at]) { at += 1 } }
        word()
        let scheme = String(decoding: bytes[start..<at], as: UTF8.self).lowercased()
        if ["bearer", "basic", "token"].contains(scheme), at < bytes.count, bytes[at] == 0x20 {
            at += 1
            word()
        }
        return at > start ? start..<at : nil
    }

    /// Name and password of an address whose scheme ends here.
    private static func userinfo(_ bytes: [UInt8], after end: Int) -> Range<Int>? {
        guard end + 3 < bytes.count, bytes[end] == 0x3a, bytes[end + 1] == 0x2f, bytes[end + 2] == 0x2f else {
            return nil
        }
        let start = end + 3
        let rest = bytes[start...].prefix { ![0x2f, 0x20, 0x0a, 0x22, 0x27].contains($0) }
        guard let mark = rest.lastIndex(of: 0x40), rest[..<mark].contains(0x3a) else { return nil }
        return start..<mark
    }
}
