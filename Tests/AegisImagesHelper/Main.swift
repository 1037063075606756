import AegisIO
import AegisImages
import Glibc

/// The helper roles as a program of their own, for the tests of AegisImages; and a process that pulls, to be killed.
@main
enum Main {
    static func main() {
        let arguments = Array(CommandLine.arguments.dropFirst())
        guard let first = arguments.first, first.hasPrefix("test-"), arguments.count >= 2 else {
            exit(UnpackHelper.main(arguments))
        }
        do {
            try EventLoop.runMain { @Sendable loop in try await pull(arguments, on: loop) }
        } catch {
            print(error)
            exit(1)
        }
    }

    /// `test-pull ROOT REFERENCE` and `test-base ROOT`: bring one image into a store and print what came of it.
    private static func pull(_ arguments: [String], on loop: EventLoop) async throws {
        let helper = HelperProgram(executable: CommandLine.arguments[0], arguments: [])
        var settings = ImageSettings(environment: ["PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"])
        settings.retries = 0
        let store = try ImageStore(root: arguments[1], helper: helper, settings: settings, loop: loop)
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                await store.run()
                return false
            }
            group.addTask {
                let progress: @Sendable (ImageProgress) -> Void = { print($0) }
                let image =
                    try await arguments[0] == "test-base"
                    ? store.buildBase(progress: progress)
                    : store.ensure(try ImageReference(parsing: arguments[2]), policy: .always, progress: progress)
                if arguments.count > 3, let count = Int(arguments[3]) {
                    let start = loop.clock.now
                    for _ in 0..<count { _ = try await store.ensure(try ImageReference(parsing: arguments[2])) }
                    print("again:", start.duration(to: loop.clock.now) / count)
                }
                print(image.digest, image.layers.map(\.digest).joined(separator: " "))
                return true
            }
            while let done = try await group.next(), !done {}
            group.cancelAll()
        }
    }
}
