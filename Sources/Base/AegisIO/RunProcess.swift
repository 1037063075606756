package import LinuxSys

/// How a finished program ended, and what it wrote.
package typealias ProcessOutput = (status: ExitStatus, stdout: [UInt8], stderr: [UInt8])

/// Runs a program to its end, feeds it `input` and collects what it writes.
///
/// It does not wait for grandchildren that hold the output open: what the program itself wrote is complete when it ends.
///
/// - Parameters:
///   - spec: its output descriptors are replaced by pipes, and its input too when `input` is not empty.
///   - input: everything it can read from its standard input.
///   - outputLimit: the most that it may write to either output, in bytes; more ends it with `EFBIG`.
///   - deadline: how long it may run; then it is killed (its whole group when it has a session of its own).
///   - loop: who watches it.
/// - Returns: how it ended and what it wrote.
/// - Throws: `IOError` of kind `.timeout`, `.cancelled` or `.system`. Afterwards the process is gone.
package func runProcess(
    _ spec: ProcessSpec, input: [UInt8] = [], outputLimit: Int = 1 << 20, deadline: Duration = .seconds(60),
    on loop: EventLoop
) async throws -> ProcessOutput {
    var spec = spec
    spec.stdout = .pipe
    spec.stderr = .pipe
    if !input.isEmpty { spec.stdin = .pipe }
    let child =
        spec.cgroups.isEmpty
        ? try ChildProcess.spawn(spec, on: loop) : try await ChildProcess.spawnInBackground(spec, on: loop)
    let killsGroup = spec.newSession
    do {
        return try await withDeadline(deadline, clock: loop.clock) {
            try await Collector(child: child, limit: outputLimit).collect(feeding: input)
        }
    } catch {
        if killsGroup { child.signalGroup(9) }
        await child.teardown([])
        throw error
    }
}

/// Moves bytes to and from a child until it has ended.
private struct Collector: Sendable {
    let child: ChildProcess
    let limit: Int

    private enum Part: Sendable {
        case fed
        case stdout([UInt8])
        case stderr([UInt8])
        case ended(ExitStatus)
    }

    func collect(feeding input: [UInt8]) async throws -> ProcessOutput {
        try await withThrowingTaskGroup(of: Part.self) { group in
            group.addTask { await feed(input) }
            group.addTask { .stdout(try await gather(child.stdout, "standard output")) }
            group.addTask { .stderr(try await gather(child.stderr, "standard error")) }
            group.addTask { .ended(try await child.wait()) }
            var output: ProcessOutput = (.exited(0), [], [])
            while let part = try await group.next() {
                switch part {
                case .fed: break
                case .stdout(let bytes): output.stdout = bytes
                case .stderr(let bytes): output.stderr = bytes
                case .ended(let status):
                    output.status = status
                    // Readers take what is in the pipes and stop, even when a grandchild keeps them open.
                    group.cancelAll()
                }
            }
            return output
        }
    }

    /// A program may end, or close its input, without reading all of it: that is its right.
    private func feed(_ input: [UInt8]) async -> Part {
        guard let stdin = child.stdin else { return .fed }
        do throws(IOError) { try await stdin.write(input) } catch {}
        stdin.close()
        return .fed
    }

    private func gather(_ stream: FileStream?, _ name: String) async throws(IOError) -> [UInt8] {
        guard let stream else { return [] }
        defer { stream.close() }
        var buffer = ByteBuffer()
        while buffer.readableBytes <= limit {
            let count: Int?
            do throws(IOError) { count = try await stream.read(into: &buffer) } catch {
                guard error.kind == .cancelled else { throw error }
                count = try stream.readNow(into: &buffer)
            }
            if count == 0 || count == nil { return buffer.takeAll() }
        }
        throw .system(.fileTooLarge, "\(name) of process \(child.pid) is larger than \(limit) bytes")
    }
}
