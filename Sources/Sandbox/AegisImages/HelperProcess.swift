import AegisCore
import AegisIO
import LinuxSys

/// The program whose `UnpackHelper.main` runs the confined roles, and the words before a role's name.
package struct HelperProgram: Sendable {
    /// The absolute path of the program, in the product `aegisd`.
    package var executable: String
    /// What comes before the role: in the product `--helper unpack`.
    package var arguments: [String]

    /// Names a program.
    package init(executable: String, arguments: [String] = ["--helper", "unpack"]) {
        self.executable = executable
        self.arguments = arguments
    }

    /// What a role's process is started with.
    func spec(_ role: [String], environment: [String] = []) -> ProcessSpec {
        var spec = ProcessSpec(
            executable: executable, arguments: [executable] + arguments + role,
            environment: ["LC_ALL=C.UTF-8"] + environment)
        spec.newSession = true
        spec.parentDeathSignal = 9
        // Rather a pull than the daemon or a workload, when memory runs out.
        spec.outOfMemoryScore = 500
        return spec
    }
}

/// One confined child and its report.
struct HelperProcess: Sendable {
    private let child: ChildProcess
    private let report: FileStream

    /// What a role left behind.
    struct Result: Sendable {
        var records: [HelperRecord]
        var status: ExitStatus

        /// The failure that it reported.
        var failure: (code: String, message: String)? {
            for case .failure(let code, let message) in records { return (code, message) }
            return nil
        }
        /// The record of a good end; nil when there is none or the exit status says otherwise.
        var done: (digest: Digest?, bytes: Int64, entries: Int64)? {
            guard status == .exited(0) else { return nil }
            for case .done(let digest, let bytes, let entries) in records { return (digest, bytes, entries) }
            return nil
        }
    }

    /// Starts a role whose report goes to a new pipe.
    init(_ spec: ProcessSpec, directory: Int32? = nil, on loop: EventLoop) async throws {
        var pipe = try DescriptorPair.pipe()
        let readEnd = pipe.takeFirst()
        let writeEnd = pipe.takeSecond()
        var spec = spec
        spec.extraDescriptors.append((Confinement.report, writeEnd.raw))
        if let directory { spec.extraDescriptors.append((Confinement.directory, directory)) }
        report = try FileStream(readEnd, on: loop)
        child = try await ChildProcess.spawnInBackground(spec, on: loop)
        // The child has its own; the report ends when the child does.
        try writeEnd.close()
    }

    /// The streams of the standard descriptors that are pipes.
    var input: FileStream? { child.stdin }
    var output: FileStream? { child.stdout }
    var errors: FileStream? { child.stderr }

    /// Reads the report to its end and waits for the process.
    func finish() async throws -> Result {
        var reader = ReportReader()
        var buffer = ByteBuffer()
        while try await report.read(into: &buffer, atMost: 64 << 10) > 0 {
            try reader.take(buffer.readable)
            buffer.removeAll()
        }
        return Result(records: reader.records, status: try await child.wait())
    }

    /// Ends the process; nothing of it is left when this returns.
    func end() async {
        report.close()
        child.stdin?.close()
        child.stdout?.close()
        child.stderr?.close()
        if child.exitStatus == nil { _ = await child.teardown([.signalGroup(9, allow: .seconds(10))]) }
    }
}

/// Reads a stream to its end.
///
/// - Parameters:
///   - stream: what to read; nil is empty.
///   - limit: bytes that are kept.
///   - keepingEnd: whether the last bytes are kept and the first dropped; otherwise more is an error.
/// - Returns: the bytes.
/// - Throws: `invalid-manifest` when there is more than `limit`, and what reading throws.
func readAll(_ stream: FileStream?, limit: Int, keepingEnd: Bool = false) async throws -> [UInt8] {
    guard let stream else { return [] }
    var buffer = ByteBuffer()
    while try await stream.read(into: &buffer, atMost: 64 << 10) > 0 {
        guard buffer.readableBytes > limit else { continue }
        guard keepingEnd else {
            throw AegisError(.tooLarge, "invalid-manifest", "an answer is longer than \(limit) bytes")
        }
        buffer.consume(buffer.readableBytes - limit)
    }
    return buffer.takeAll()
}
