import AegisCapabilities
import AegisCore
import AegisTestSupport
import Synchronization

extension Mutator {
    mutating func chance(_ one: Int, in many: Int) -> Bool { Int.random(in: 0..<many, using: &self) < one }
    mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
    mutating func some<T>(_ choices: [T], _ range: ClosedRange<Int>) -> [T] {
        (0..<number(range)).map { _ in pick(choices) }
    }
}

/// A time of day that stands still until a test moves it.
final class StillTime: Sendable {
    private let milliseconds = Mutex<Int64>(1_000_000)
    var now: Timestamp { Timestamp(milliseconds: milliseconds.withLock { $0 }) }
    func advance(seconds: Double) { milliseconds.withLock { $0 += Int64(seconds * 1000) } }
}

/// Keeps what a book tells; can be told to fail.
final class RecordingJournal: GrantJournal {
    struct State {
        var events: [GrantEvent] = []
        var actions: [Action?] = []
        var denials: [(HolderID, Denial)] = []
        var isBroken = false
    }
    let state = Mutex(State())
    var events: [GrantEvent] { state.withLock { $0.events } }
    var denials: [(HolderID, Denial)] { state.withLock { $0.denials } }
    func breakDown(_ broken: Bool = true) { state.withLock { $0.isBroken = broken } }

    func record(_ event: GrantEvent, action: Action?) throws(AegisError) {
        let isBroken = state.withLock { state in
            if !state.isBroken {
                state.events.append(event)
                state.actions.append(action)
            }
            return state.isBroken
        }
        if isBroken { throw .failed("disk-full", "the ledger's disk is full", hint: "make room") }
    }
    func denied(_ action: Action, by holder: HolderID, _ denial: Denial, at time: Timestamp) {
        state.withLock { $0.denials.append((holder, denial)) }
    }
}

func capability(_ text: String) throws -> Capability { try Capability(parsing: text) }
func spec(_ text: String) throws -> GrantSpec { try GrantSpec(parsing: text) }
func specs(_ texts: String...) throws -> [GrantSpec] { try texts.map { try GrantSpec(parsing: $0) } }

/// A text that has no value: tests write their inputs themselves.
struct BadInput: Error { var text: String }

/// Reads `tool: x`, `file_read: /a`, `network: host:80 by tool`, `exec: git (/usr/bin/git)`, `secret: ...` as an action.
func action(_ text: String) throws -> Action {
    guard let colon = text.firstIndex(of: ":") else { throw BadInput(text: text) }
    let kind = String(text[..<colon])
    let value = String(text[text.index(after: colon)...].drop { $0 == " " })
    switch kind {
    case "tool": return .tool(value)
    case "file_read": return .fileRead(try path(value))
    case "file_write": return .fileWrite(try path(value))
    case "network": return try connection(value)
    case "exec":
        let parts = value.split(separator: " ")
        let resolved = parts.count > 1 ? String(parts[1].dropFirst().dropLast()) : value
        return .exec(program: String(parts[0]), resolved: try path(resolved))
    case "spawn": return .spawn(agent: value)
    case "model": return .model(value)
    case "memory": return .memory(scope: value)
    case "message": return .message(to: value)
    case "secret": return try secretUse(value)
    default: throw BadInput(text: text)
    }
}

func path(_ text: String) throws -> CanonicalPath {
    guard let path = CanonicalPath(text) else { throw BadInput(text: text) }
    return path
}

private func connection(_ value: String) throws -> Action {
    let parts = value.split(separator: " ").map(String.init)
    guard let colon = parts[0].lastIndex(of: ":"), let port = UInt16(parts[0][parts[0].index(after: colon)...]),
        let destination = Destination(host: String(parts[0][..<colon]), port: port)
    else { throw BadInput(text: value) }
    return .connect(destination, tool: parts.count == 3 ? parts[2] : nil)
}

/// `NAME@HOST/PATH HEADER METHOD`
private func secretUse(_ value: String) throws -> Action {
    let parts = value.split(separator: " ").map(String.init)
    guard parts.count == 3, let at = parts[0].firstIndex(of: "@") else { throw BadInput(text: value) }
    let rest = String(parts[0][parts[0].index(after: at)...])
    let host = String(rest.prefix { $0 != "/" })
    guard let name = HostName(host) else { throw BadInput(text: value) }
    return .secret(
        SecretUse(
            name: String(parts[0][..<at]), host: name, path: String(rest.dropFirst(host.count)), header: parts[1],
            method: parts[2]))
}
