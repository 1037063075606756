import CHarness

/// Text as bytes: no `String` here, whose tables would cost more than all the rest.
func bytes(_ text: StaticString) -> [UInt8] { text.withUTF8Buffer { unsafe Array($0) } }

/// A number in decimal.
func bytes(_ number: Int) -> [UInt8] {
    var rest = number.magnitude
    var out: [UInt8] = []
    repeat {
        out.insert(UInt8(0x30 + rest % 10), at: 0)
        rest /= 10
    } while rest > 0
    return number < 0 ? [0x2d] + out : out
}

/// What an errno means.
func errorText(_ code: Int) -> [UInt8] {
    guard let text = unsafe ah_error_text(Int32(truncatingIfNeeded: code)) else { return bytes(code) }
    return unsafe bytes(at: text)
}

/// A text of C.
func bytes(at text: UnsafePointer<CChar>) -> [UInt8] {
    var out: [UInt8] = []
    var at = 0
    while unsafe text[at] != 0 {
        out.append(unsafe UInt8(bitPattern: text[at]))
        at += 1
    }
    return out
}

/// A line on stderr, with the name of the program before it.
func log(_ text: [UInt8]) {
    let line = bytes("aegis-harness: ") + text + [0x0a]
    unsafe ah_log(line, line.count)
}

/// For C: with a NUL at the end. Callers have refused texts that contain one.
func terminated(_ text: [UInt8]) -> [UInt8] { text + [0] }

/// For C: texts one after the other, each with a NUL at its end.
func blob(_ texts: [[UInt8]]) -> [UInt8] {
    var out: [UInt8] = []
    for text in texts {
        out += text
        out.append(0)
    }
    // Never empty, so that C always gets a valid pointer.
    if out.isEmpty { out.append(0) }
    return out
}

/// Whether one of the texts contains a NUL, which no program could be given.
func haveNUL(_ texts: [[UInt8]]) -> Bool { texts.contains { $0.contains(0) } }

/// The value of `name` in an environment.
func value(of name: StaticString, in environment: [[UInt8]]) -> [UInt8]? {
    let prefix = bytes(name) + [0x3d]
    for entry in environment where entry.starts(with: prefix) { return Array(entry[prefix.count...]) }
    return nil
}

/// Errnos that decide something here.
enum Code {
    static let notPermitted = 1
    static let noEntry = 2
    static let io = 5
    static let execFormat = 8
    static let noChild = 10
    static let again = 11
    static let noMemory = 12
    static let noAccess = 13
    static let exists = 17
    static let notDirectory = 20
    static let isDirectory = 21
    static let invalid = 22
    static let tableFull = 23
    static let tooManyFiles = 24
    static let loop = 40
    static let timedOut = 110
}

/// The build that `--version` and `hello` tell.
let buildText = bytes("aegis-harness 1.0.0")
