internal import CLinux
internal import LinuxSys

/// Becomes an MCP server at the host, after it has given up the sight of everything but the system's programs and what it is told
/// (decision D14). It is started as another user, in a group of its own, without a way back to privileges; where any of that
/// is missing it does not become it.
///
/// Arguments: `--read PATH` and `--write PATH`, any number; then `--`, the program's absolute path, and its arguments.
enum HostServerHelper {
    /// What every program needs to run.
    private static let system = [
        "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/run/systemd/resolve", "/run/resolvconf",
        "/dev/zero", "/dev/urandom", "/dev/random",
    ]
    private static let refused: Int32 = 126

    /// Returns only when it failed; the words on standard error say why.
    static func main(_ arguments: [String]) -> Int32 {
        guard let dashes = arguments.firstIndex(of: "--"), dashes % 2 == 0, dashes + 1 < arguments.count else {
            say("aegisd: arguments of this helper are missing")
            return 2
        }
        guard CurrentProcess.effectiveUser != 0 else {
            say("not started: it would run as root")
            return refused
        }
        do throws(Errno) {
            try check(unsafe al_confine_close_others([0, 1, 2], 3))
            var reads = system
            var writes = [try open("/dev/null")]
            for place in stride(from: 0, to: dashes, by: 2) {
                let path = arguments[place + 1]
                if arguments[place] == "--write" { writes.append(try open(path)) } else { reads.append(path) }
            }
            try confine(reads, writes)
        } catch {
            say("not started: its confinement (Landlock) cannot be set up: \(error)")
            return refused
        }
        return become(Array(arguments[(dashes + 1)...]))
    }

    private static func check(_ result: Int32) throws(Errno) {
        if result < 0 { throw Errno(-result) }
    }

    private static func open(_ path: String) throws(Errno) -> Int32 {
        try FileDescriptor.open(path, [.pathOnly]).take()
    }

    private static func confine(_ reads: [String], _ writes: [Int32]) throws(Errno) {
        let result = unsafe withPointers(reads) { pointers in
            unsafe al_confine_landlock(writes, writes.count, pointers.map { unsafe UnsafePointer($0) }, reads.count)
        }
        try check(result)
        try check(al_confine_limit(Int32(AL_LIMIT_CORE), 0))
    }

    private static func become(_ command: [String]) -> Int32 {
        let environment = CurrentProcess.environment
        let result = unsafe withPointers(command) { arguments in
            unsafe withPointers(environment) { environment in
                unsafe al_confine_execute(command[0], arguments + [nil], environment + [nil])
            }
        }
        say("not started: '\(command[0])': \(Errno(-result))")
        return refused
    }

    private static func withPointers(
        _ texts: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Int32
    ) -> Int32 {
        let copies: [UnsafeMutablePointer<CChar>?] = unsafe texts.map { text in
            let bytes = text.utf8.map { CChar(bitPattern: $0) } + [0]
            let memory = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
            unsafe memory.initialize(from: bytes, count: bytes.count)
            return unsafe memory
        }
        // SAFETY: each copy was allocated above and is given back once.
        defer { unsafe copies.forEach { unsafe $0?.deallocate() } }
        return unsafe body(copies)
    }
}
