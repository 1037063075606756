import AegisIO
import Foundation
import LinuxSys

/// Runs commands and measures them by the wall clock of this process.
struct Runner: Sendable {
    let loop: EventLoop
    let environment: [String]

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    /// Milliseconds from spawn to exit of a command that must succeed.
    ///
    /// - Parameter namespaces: descriptors of namespaces that the command starts in.
    func time(_ arguments: [String], namespaces: [Int32] = [], expect: Int32 = 0) async throws -> Double {
        let (elapsed, output) = try await measure(arguments, namespaces: namespaces)
        guard output.status.shellCode == expect else {
            throw Failure(
                description: "\(arguments.joined(separator: " ")) ended with \(output.status.shellCode): "
                    + String(decoding: output.stderr.suffix(600), as: UTF8.self))
        }
        return elapsed
    }

    /// The standard output of a command that must succeed.
    @discardableResult
    func output(_ arguments: [String]) async throws -> String {
        let (_, output) = try await measure(arguments, namespaces: [])
        guard output.status.shellCode == 0 else {
            throw Failure(
                description: "\(arguments.joined(separator: " ")) ended with \(output.status.shellCode): "
                    + String(decoding: output.stderr.suffix(600), as: UTF8.self))
        }
        return String(decoding: output.stdout, as: UTF8.self)
    }

    private func measure(_ arguments: [String], namespaces: [Int32]) async throws -> (Double, ProcessOutput) {
        var spec = ProcessSpec(executable: arguments[0], arguments: arguments, environment: environment)
        spec.namespaces = namespaces
        let start = SystemTime.monotonic
        let output = try await runProcess(spec, outputLimit: 8 << 20, deadline: .seconds(300), on: loop)
        return (Double(SystemTime.monotonic - start) / 1e6, output)
    }

    /// Runs commands one after the other in rounds, so that what disturbs the machine disturbs all of them alike.
    func rounds(_ count: Int, _ commands: [(name: String, run: @Sendable () async throws -> Double)]) async throws
        -> [String: Samples]
    {
        var samples: [String: Samples] = [:]
        for round in 0..<(count + 1) {
            for command in commands {
                let value = try await command.run()
                // The first round warms caches.
                if round > 0 { samples[command.name, default: Samples()].add(value) }
            }
        }
        return samples
    }
}
