import AegisChannel
import CHarness
import Glibc

/// The harness that was built beside the tests.
enum Binary {
    static let path: String = {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = unsafe readlink("/proc/self/exe", &buffer, buffer.count)
        let own = String(decoding: buffer[..<max(0, count)], as: UTF8.self)
        let beside = own.split(separator: "/").dropLast().joined(separator: "/")
        let candidates = CommandLine.arguments.map { argument in
            argument.split(separator: "/").dropLast().joined(separator: "/")
        }
        for folder in [beside] + candidates {
            for path in ["/\(folder)/aegis-harness", "\(folder)/aegis-harness"] {
                if unsafe access(path, X_OK) == 0 { return path }
            }
        }
        return "aegis-harness-not-built"
    }()
}

/// Two connected stream sockets, close-on-exec.
func socketPair() throws -> (Int32, Int32) {
    var ends: [Int32] = [-1, -1]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw TestFailure("socketpair: errno \(errno)") }
    return (ends[0], ends[1])
}

/// Starts a program; `descriptors` are pairs of the child's number and our descriptor. Returns its pid.
func spawn(_ arguments: [String], environment: [String] = [], descriptors: [(Int32, Int32)]) throws -> pid_t {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    // First out of the way of the numbers that are wanted.
    var high: [Int32] = []
    defer { for descriptor in high { close(descriptor) } }
    for (_, source) in descriptors {
        let copy = fcntl(source, F_DUPFD_CLOEXEC, 200)
        guard copy >= 0 else { throw TestFailure("dup: errno \(errno)") }
        high.append(copy)
    }
    for (index, (number, _)) in descriptors.enumerated() {
        unsafe posix_spawn_file_actions_adddup2(&actions, high[index], number)
    }
    var argv = unsafe arguments.map { unsafe strdup($0) } + [nil]
    var envp = unsafe environment.map { unsafe strdup($0) } + [nil]
    defer { unsafe (argv + envp).forEach { unsafe free($0) } }
    var pid: pid_t = 0
    let result = unsafe posix_spawn(&pid, arguments[0], &actions, nil, &argv, &envp)
    guard result == 0 else { throw TestFailure("\(arguments[0]): errno \(result)") }
    return pid
}

/// Waits for a child of ours to end; `nil` if it does not within the time.
func waitForExit(_ pid: pid_t, seconds: Double) -> Int32? {
    let descriptor = Int32(ah_process_descriptor(pid))
    defer { if descriptor >= 0 { close(descriptor) } }
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard descriptor >= 0, unsafe poll(&entry, 1, Int32(seconds * 1000)) > 0 else { return nil }
    var status: Int32 = 0
    guard unsafe waitpid(pid, &status, 0) == pid else { return nil }
    return status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
}

/// A harness that runs on the host: as a supervisor, or as PID 1 of a namespace of its own.
final class HostHarness {
    let client: ChannelClient
    let pid: pid_t
    private var isOver = false

    init(asInit: Bool = false, environment: [String] = []) throws {
        let (ours, theirs) = try socketPair()
        defer { close(theirs) }
        let program = [Binary.path]
        let wrapper = ["/usr/bin/unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        pid = try spawn(
            asInit ? wrapper + program : program, environment: environment, descriptors: [(0, theirs), (1, theirs)])
        client = ChannelClient(ours)
        try client.wait("hello") { $0.hello != nil }
    }

    /// The exit code of the harness.
    func wait(seconds: Double = 20) throws -> Int32 {
        guard let code = waitForExit(pid, seconds: seconds) else { throw TestFailure("the harness does not end") }
        isOver = true
        return code
    }

    deinit {
        client.close()
        // It ends by itself when its channel does.
        if !isOver && waitForExit(pid, seconds: 10) == nil && pid > 1 {
            kill(pid, SIGKILL)
            _ = waitForExit(pid, seconds: 10)
        }
    }
}

/// A folder that goes with its owner.
final class Scratch {
    let path: String
    init() throws {
        var template = Array("/tmp/aegis-harness-test-XXXXXX".utf8CString)
        guard unsafe mkdtemp(&template) != nil else { throw TestFailure("mkdtemp: errno \(errno)") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Copied by another process: a descriptor of ours that is open for writing, and that a child started meanwhile has
    /// inherited until it runs its own program, would make the file "busy" (ETXTBSY).
    func writeProgram(_ name: String, _ bytes: [UInt8]) throws {
        try write("\(name).data", bytes)
        run(["/usr/bin/install", "-m", "755", "\(path)/\(name).data", "\(path)/\(name)"])
    }

    deinit { run(["/bin/rm", "-rf", "--one-file-system", path]) }

    func write(_ name: String, _ bytes: [UInt8], mode: mode_t = 0o644) throws {
        let descriptor = unsafe open("\(path)/\(name)", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw TestFailure("\(name): errno \(errno)") }
        defer { close(descriptor) }
        var done = 0
        while done < bytes.count {
            let count = unsafe Glibc.write(descriptor, Array(bytes[done...]), bytes.count - done)
            guard count > 0 else { throw TestFailure("\(name): errno \(errno)") }
            done += count
        }
        unsafe chmod("\(path)/\(name)", mode)
    }
}

/// The content of a file.
func contents(_ path: String) throws -> [UInt8] {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw TestFailure("\(path): errno \(errno)") }
    defer { close(descriptor) }
    var out: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = unsafe read(descriptor, &chunk, chunk.count)
        guard count > 0 else { return out }
        out += chunk[..<count]
    }
}

/// Runs a program to its end and returns its exit code.
@discardableResult
func run(_ arguments: [String], output: String = "/dev/null") -> Int32 {
    let descriptor = unsafe open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    defer { close(descriptor) }
    guard
        let pid = try? spawn(
            arguments, environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            descriptors: [(0, descriptor), (1, descriptor), (2, descriptor)])
    else { return -1 }
    return waitForExit(pid, seconds: 60) ?? -1
}
