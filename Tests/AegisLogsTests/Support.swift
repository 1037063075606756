import AegisCore
import AegisIO
import AegisLogs
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Synchronization

/// A clock that stands still until a test moves it.
final class Hands: Sendable {
    private let milliseconds = Atomic<Int64>(1_700_000_000_000)
    var time: Timestamp { Timestamp(milliseconds: milliseconds.load(ordering: .relaxed)) }
    func advance(_ by: Int64) { milliseconds.add(by, ordering: .relaxed) }
}

/// A log in a directory of its own.
final class LogFixture: Sendable {
    let directory: TemporaryDirectory
    let hands = Hands()
    let limits: LogLimits
    var path: String { directory.path("log") }
    init(limits: LogLimits = LogLimits(totalBytes: 1 << 20)) throws {
        directory = try TemporaryDirectory()
        self.limits = limits
    }
    func open(_ path: String? = nil) throws -> InstanceLog {
        // The log holds the fixture, and so its directory.
        try InstanceLog(path: path ?? self.path, limits: limits) { self.hands.time }
    }
    var bytesOnDisk: UInt64 {
        get throws { try Files.list(path).reduce(0) { try $0 + Files.status("\(path)/\($1.name)").size } }
    }
    /// Files of it that this process, which runs other tests beside, has open.
    var openFiles: Int {
        get throws {
            try Files.list("/proc/self/fd").count {
                (try? Files.readLink("/proc/self/fd/\($0.name)"))?.hasPrefix(directory.path) == true
            }
        }
    }
}

extension InstanceLog {
    /// Appends at the stream's own end.
    @discardableResult
    func add(_ bytes: [UInt8], _ process: LogProcess = main, _ stream: LogStream = .stdout) -> LogSaved {
        append(bytes.span, of: process, stream, at: savedOffset(process, stream))
    }
    @discardableResult
    func add(_ text: String, _ process: LogProcess = main, _ stream: LogStream = .stdout) -> LogSaved {
        add(Array(text.utf8), process, stream)
    }
    func all(_ query: LogQuery = LogQuery()) async throws -> [LogRecord] {
        var found: [LogRecord] = []
        for try await record in records(query) { found.append(record) }
        return found
    }
    func raw(_ process: LogProcess = main, _ stream: LogStream = .stdout, from offset: UInt64 = 0) async throws
        -> [RawOutput]
    {
        var reader = rawBytes(of: process, stream, from: offset)
        var found: [RawOutput] = []
        while let output = try await reader.next() { found.append(output) }
        return found
    }
    func rawJoined(_ process: LogProcess = main, _ stream: LogStream = .stdout, from offset: UInt64 = 0) async throws
        -> [UInt8]
    {
        try await raw(process, stream, from: offset).flatMap { output -> [UInt8] in
            if case .bytes(let bytes, _) = output { bytes } else { [] }
        }
    }
}

let main = LogProcess(run: 0)

extension LogRecord {
    /// `o`/`e`/`s`, the text (or `#` and base64, or `gap N`), and `~` for a piece.
    var short: String {
        let body = gap.map { "gap \($0)" } ?? line ?? "#" + (data ?? "nothing")
        let letters = ["stdout": "o", "stderr": "e", "system": "s"]
        return "\(letters[stream] ?? "?"):\(body)\(partial == true ? "~" : "")"
    }
}

/// The helper program beside this test program.
func helper() throws -> String {
    let own = try Files.readLink("/proc/self/exe")
    return Files.split(own).directory + "/SandboxTestHelper"
}
