internal import AegisAPI
internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisImages
internal import Glibc
internal import LinuxSys

/// `aegisd`: the daemon, and the confined helpers that it starts of itself.
@main
enum Main {
    static func main() {
        StandardDescriptors.fill()
        // A helper parses hostile input or acts as another user: it must not load anything of the daemon.
        let arguments = CommandLine.arguments
        if arguments.count >= 3, arguments[1] == "--helper" {
            exit(helper(arguments[2], Array(arguments.dropFirst(3))))
        }
        exit(run(arguments))
    }

    private static func helper(_ name: String, _ arguments: [String]) -> Int32 {
        switch name {
        case "unpack": return UnpackHelper.main(arguments)
        case "open": return OpenHelper.main()
        case "mcp": return HostServerHelper.main(arguments)
        default:
            say("aegisd: no helper '\(name)'")
            return 2
        }
    }

    private static func run(_ arguments: [String]) -> Int32 {
        let readiness = Readiness()
        do {
            if arguments.count >= 2, arguments[1] == "--audit" {
                return answer { try AuditProgram(Array(arguments.dropFirst(2))).run() }
            }
            guard let options = try DaemonOptions(arguments: Array(arguments.dropFirst())) else { return 0 }
            if options.showsConfiguration { return answer { try DaemonSettings.report(options: options) } }
            if let file = options.backup { return answer { try Backup(options).write(to: file) } }
            if let file = options.restore { return answer { try Restore(options).run(from: file) } }
            let home = try DaemonHome.open(options)
            // A start that failed leaves no mark either; the lock says that the marks are ours.
            defer { home.removeMarks() }
            try EventLoop.runMain { loop in
                try await Daemon.run(options: options, home: home, loop: loop, readiness: readiness)
            }
            return 0
        } catch let error as AegisError {
            readiness.fail(error)
            return error.kind.exitCode
        } catch {
            readiness.fail(.failed("internal-error", "\(error)"))
            return 1
        }
    }
}

extension Main {
    /// Prints what was asked for as JSON on standard output, or the error object that it ended with.
    private static func answer(_ body: () throws -> some Encodable) -> Int32 {
        func print(_ value: some Encodable) -> Int32? {
            guard let bytes = try? JSONBody.encode(value) else { return 1 }
            do throws(Errno) { try FileDescriptor.duplicating(1).writeAll(bytes[...]) } catch { return 1 }
            return nil
        }
        do {
            return print(try body()) ?? 0
        } catch {
            let error = error as? AegisError ?? .failed("internal-error", "\(error)")
            return print(error) ?? error.kind.exitCode
        }
    }
}

/// One line to standard error.
func say(_ text: String) {
    let line = Array((text + "\n").utf8)
    _ = unsafe line.withUnsafeBytes { unsafe write(2, $0.baseAddress, $0.count) }
}
