import AegisIO
import LinuxSys

/// Runs commands and measures them by the monotonic clock of this process.
struct Runner: Sendable {
    let loop: EventLoop
    let environment: [String]

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    /// Milliseconds from spawn to exit of a command that must succeed.
    ///
    /// - Parameters:
    ///   - arguments: the program and its arguments.
    ///   - namespaces: descriptors of namespaces that the command starts in.
    ///   - cgroups: `cgroup.procs` files that it enters before.
    ///   - user: whom it runs as there.
    /// - Returns: milliseconds.
    /// - Throws: `Failure` when the command does not succeed.
    func time(
        _ arguments: [String], namespaces: [Int32] = [], cgroups: [String] = [], user: UserIdentity? = nil
    ) async throws -> Double {
        var spec = ProcessSpec(executable: arguments[0], arguments: arguments, environment: environment)
        spec.namespaces = namespaces
        spec.cgroups = cgroups
        spec.user = user
        let start = SystemTime.monotonic
        let output = try await runProcess(spec, outputLimit: 8 << 20, deadline: .seconds(600), on: loop)
        let elapsed = Double(SystemTime.monotonic - start) / 1e6
        try check(arguments, output)
        return elapsed
    }

    /// The standard output of a command that must succeed.
    @discardableResult
    func output(_ arguments: [String]) async throws -> String {
        let spec = ProcessSpec(executable: arguments[0], arguments: arguments, environment: environment)
        let output = try await runProcess(spec, outputLimit: 8 << 20, deadline: .seconds(600), on: loop)
        try check(arguments, output)
        return String(decoding: output.stdout, as: UTF8.self)
    }

    /// Milliseconds of a command whose output is thrown away by the kernel.
    func drain(_ arguments: [String]) async throws -> Double {
        let spec = ProcessSpec(
            executable: arguments[0], arguments: arguments, environment: environment, stderr: .inherit)
        let start = SystemTime.monotonic
        let status = try await ChildProcess.spawn(spec, on: loop).wait()
        let elapsed = Double(SystemTime.monotonic - start) / 1e6
        guard status.shellCode == 0 else {
            throw Failure(description: "\(arguments.joined(separator: " ")) ended with \(status.shellCode)")
        }
        return elapsed
    }

    private func check(_ arguments: [String], _ output: ProcessOutput) throws {
        guard output.status.shellCode == 0 else {
            throw Failure(
                description: "\(arguments.joined(separator: " ")) ended with \(output.status.shellCode): "
                    + String(decoding: output.stderr.suffix(600), as: UTF8.self))
        }
    }
}

/// One of those that are compared.
struct Contestant: Sendable {
    var name: String
    var run: @Sendable () async throws -> Double
}

/// Runs contestants one after the other in rounds, so that what disturbs the machine disturbs all of them alike.
func rounds(_ count: Int, _ contestants: [Contestant]) async throws -> [String: Samples] {
    var samples: [String: Samples] = [:]
    for round in 0...count {
        for contestant in contestants {
            let value = try await contestant.run()
            // The first round warms caches.
            if round > 0 { samples[contestant.name, default: Samples()].add(value) }
        }
    }
    return samples
}
