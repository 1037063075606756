import AegisCore
import AegisFiles
import AegisLogs
import Glibc
import LinuxSys

/// Programs that the tests of the sandbox floor start in order to kill them, or to be another user.
@main struct SandboxTestHelper {
    static func main() async {
        let arguments = Array(CommandLine.arguments.dropFirst())
        do {
            switch arguments.first {
            case "log-append": try appendForEver(to: arguments[1])
            case "log-flood": try flood(arguments[1], chunks: Int(arguments[2]) ?? 1)
            case "open": exit(OpenHelper.main())
            case "log-tail": try await tail(arguments[1], count: Int(arguments[2]) ?? 1)
            case "swap": try swap(arguments[2], arguments[3], in: arguments[1])
            default: exit(2)
            }
        } catch {
            try? FileDescriptor.duplicating(2).writeAll(Array("\(error)\n".utf8)[...])
            exit(1)
        }
    }

    /// Lets two names change places for ever, as somebody does who wants to lead another program astray.
    private static func swap(_ a: String, _ b: String, in folder: String) throws {
        let folder = try FileDescriptor.open(folder, [.readOnly, .directory])
        try FileDescriptor.duplicating(1).writeAll(Array("ready\n".utf8)[...])
        while true { try folder.rename(a, as: b, .exchange) }
    }

    /// Appends a known stream to a log, going on where it ends, and tells each saved offset on stdout.
    private static func appendForEver(to path: String) throws {
        let log = try InstanceLog(path: path, limits: LogLimits(totalBytes: 64 << 20))
        let process = LogProcess(run: max(log.run, 1))
        if log.run == 0 { _ = log.beginRun() }
        let out = try FileDescriptor.duplicating(1)
        var offset = log.savedOffset(process, .stdout)
        var size = 1
        while true {
            size = size * 7 % 9973 + 1
            let chunk = (0..<size).map { Self.byte(offset + UInt64($0)) }
            offset = log.append(chunk.span, of: process, .stdout, at: offset).offset
            try out.writeAll((0..<8).map { UInt8(truncatingIfNeeded: offset >> (8 * UInt64($0))) }[...])
        }
    }

    /// The same as in the test that checks it.
    private static func byte(_ offset: UInt64) -> UInt8 {
        offset % 61 == 60 ? 10 : UInt8(truncatingIfNeeded: offset &* 2_654_435_761 >> 7)
    }

    /// Appends chunks of 64 KiB; prints nanoseconds per chunk, the most bytes on disk and the resident memory in KiB.
    private static func flood(_ path: String, chunks: Int) throws {
        let log = try InstanceLog(path: path)
        let process = LogProcess(run: log.beginRun().run)
        let line = Array("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n".utf8)
        let chunk = Array(repeatElement(line, count: 1024).joined())
        var offset: UInt64 = 0
        var most: UInt64 = 0
        let start = SystemTime.monotonic
        for _ in 0..<chunks {
            offset = log.append(chunk.span, of: process, .stdout, at: offset).offset
            most = max(most, log.storedBytes)
        }
        let each = (SystemTime.monotonic - start) / UInt64(chunks)
        let text = String(decoding: try Files.read("/proc/self/statm", limit: 1000), as: UTF8.self)
        let resident = (Int(text.split(separator: " ")[1]) ?? 0) * 4
        try FileDescriptor.duplicating(1).writeAll(Array("\(each) \(most) \(resident)\n".utf8)[...])
    }

    /// Reads the last lines of a log; prints how many there were and the bytes that were read for them.
    private static func tail(_ path: String, count: Int) async throws {
        let log = try InstanceLog(path: path)
        let before = try bytesRead()
        var found = 0
        for try await _ in log.records(LogQuery(tail: count)) { found += 1 }
        let read = try bytesRead() - before
        try FileDescriptor.duplicating(1).writeAll(Array("\(found) \(read)\n".utf8)[...])
    }

    /// Bytes that this process has read by system calls so far.
    private static func bytesRead() throws -> Int {
        let text = String(decoding: try Files.read("/proc/self/io", limit: 4096), as: UTF8.self)
        let line = text.split(separator: "\n").first { $0.hasPrefix("rchar:") }
        return line.flatMap { Int($0.dropFirst(7)) } ?? 0
    }
}
