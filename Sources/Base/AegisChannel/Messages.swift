// Messages may grow at the end: a reader takes the fields that it knows and ignores what a newer peer appended.

/// The first frame of a harness.
package struct Hello: Sendable, Equatable {
    /// The protocol version that the harness speaks.
    package var version: UInt16
    /// The build of the harness, as `aegis-harness --version` prints it.
    package var build: [UInt8]
    /// What the sandbox's kernel does not do: `refusesNoAutomount` and `forbidsClone3`, or 0.
    package var quirks: UInt8
    /// The quirk of a gVisor of 2022: EINVAL for AT_NO_AUTOMOUNT, so `ls` and `stat` of coreutils 9 fail.
    package static let refusesNoAutomount: UInt8 = 1
    /// The quirk of a gVisor of 2022: its filter answers clone3 with EPERM whatever the profile says, so that glibc 2.34 and
    /// later start no threads.
    package static let forbidsClone3: UInt8 = 2
    /// Makes a hello.
    package init(version: UInt16 = Channel.version, build: [UInt8], quirks: UInt8 = 0) {
        self.version = version
        self.build = build
        self.quirks = quirks
    }
}

/// What a started process is.
package enum ProcessKind: UInt8, Sendable {
    /// The instance's command, task mode: the instance ends with it.
    case task = 0
    /// The instance's command, serve mode.
    case server = 1
    /// A further process.
    case exec = 2
    /// Read a tar stream on stdin and extract it beneath the path in `arguments[0]`.
    case copyIn = 3
    /// Write the path in `arguments[0]` to stdout as a tar stream.
    case copyOut = 4
    /// The door of programs inside to the daemon, a part of the harness (from version 2 on): `arguments` are the port of the
    /// loopback and the path of the socket.
    case door = 5
    /// The process of this number will be started in a moment, in `directory`, with or without `stdin`: what can be done before
    /// the rest is known may be done now (from version 3 on). `arguments` has its program, or `-`, `environment` its PATH; nothing hangs
    /// on them. No answer comes, and the number is free.
    case spare = 6
}

/// Start a process; its number is in the frame's stream field.
package struct StartProcess: Sendable, Equatable {
    package var kind: ProcessKind
    /// argv, the program first; looked up in the PATH of `environment`.
    package var arguments: [[UInt8]]
    /// `NAME=value`, the whole environment of the process.
    package var environment: [[UInt8]]
    /// Absolute; created if it does not exist and `createDirectory` is set.
    package var directory: [UInt8]
    /// `uid`, `name`, `uid:gid` or `name:group`, looked up in the sandbox; empty = root.
    package var user: [UInt8]
    /// Whether the process gets a terminal (stdout carries its output, there is no stderr).
    package var terminal: Bool
    /// Whether stdin is open; else the process reads end-of-file at once.
    package var stdin: Bool
    package var createDirectory: Bool
    package var columns: UInt16
    package var rows: UInt16
    /// Milliseconds after which its process group is sent SIGKILL, whatever has become of the daemon; 0 is never.
    package var limit: UInt32

    /// Makes a start message.
    package init(
        kind: ProcessKind, arguments: [[UInt8]], environment: [[UInt8]], directory: [UInt8], user: [UInt8] = [],
        terminal: Bool = false, stdin: Bool = false, createDirectory: Bool = false, columns: UInt16 = 80,
        rows: UInt16 = 24, limit: UInt32 = 0
    ) {
        self.kind = kind
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
        self.user = user
        self.terminal = terminal
        self.stdin = stdin
        self.createDirectory = createDirectory
        self.columns = columns
        self.rows = rows
        self.limit = limit
    }
}

extension StartProcess {
    /// Open the door of programs inside, on a port of the loopback and a socket.
    package static func door(port: [UInt8], socket: [UInt8]) -> StartProcess {
        StartProcess(kind: .door, arguments: [port, socket], environment: [], directory: [], stdin: true)
    }
}

extension StartProcess {
    /// A process will be started in a moment, most likely of this program, which is looked for in these folders.
    package static func spare(
        in directory: [UInt8], stdin: Bool, program: [UInt8] = [0x2d], path: [UInt8]? = nil
    ) -> StartProcess {
        var environment: [[UInt8]] = []
        // "PATH="
        if let path { environment.append([0x50, 0x41, 0x54, 0x48, 0x3d] + path) }
        return StartProcess(
            kind: .spare, arguments: [program], environment: environment, directory: directory, stdin: stdin)
    }
}

/// Why a process could not be started.
package enum StartFailure: UInt8, Sendable {
    /// No such program (exit 127).
    case notFound = 0
    /// A program that cannot be executed (exit 126).
    case notExecutable = 1
    /// The user or group does not exist inside.
    case unknownUser = 2
    /// The working directory cannot be entered.
    case badDirectory = 3
    /// A limit of the sandbox or of the harness was reached.
    case limit = 4
    /// Anything else; the text says what.
    case other = 5
}

/// A process could not be started.
package struct ProcessFailed: Sendable, Equatable {
    package var reason: StartFailure
    package var errno: UInt32
    /// What failed, for people.
    package var text: [UInt8]
    /// Makes a failure.
    package init(reason: StartFailure, errno: UInt32, text: [UInt8]) {
        self.reason = reason
        self.errno = errno
        self.text = text
    }
}

/// A process ended.
package struct ProcessExited: Sendable, Equatable {
    /// The exit code; 128+n when signal n ended it.
    package var code: UInt32
    /// The signal that ended it, 0 if none.
    package var signal: UInt8
    /// All bytes that it wrote to stdout.
    package var stdoutBytes: UInt64
    /// All bytes that it wrote to stderr.
    package var stderrBytes: UInt64
    /// Makes an end record.
    package init(code: UInt32, signal: UInt8, stdoutBytes: UInt64, stderrBytes: UInt64) {
        self.code = code
        self.signal = signal
        self.stdoutBytes = stdoutBytes
        self.stderrBytes = stderrBytes
    }
}

/// What the keeper knows of one process, in its answer to `attach`.
package struct ProcessState: Sendable, Equatable {
    package var number: UInt16
    /// Bytes of stdin that the keeper has taken for the harness.
    package var stdinTaken: UInt64
    /// Bytes of stdout and stderr that a daemon has acknowledged.
    package var stdoutAcknowledged: UInt64
    package var stderrAcknowledged: UInt64
    /// Makes a state.
    package init(number: UInt16, stdinTaken: UInt64, stdoutAcknowledged: UInt64, stderrAcknowledged: UInt64) {
        self.number = number
        self.stdinTaken = stdinTaken
        self.stdoutAcknowledged = stdoutAcknowledged
        self.stderrAcknowledged = stderrAcknowledged
    }
}

/// Where a keeper's sandbox stands.
package enum KeeperPhase: UInt8, Sendable { case waiting = 0, booting = 1, running = 2, ended = 3, failed = 4 }

/// The keeper's answer to `attach`. Retained frames (hello, started, failed, exited, data, ended) follow it.
package struct KeeperState: Sendable, Equatable {
    package var version: UInt16
    package var phase: KeeperPhase
    /// The host pid of the sandbox's first process, 0 while there is none.
    package var sandboxPid: UInt32
    package var processes: [ProcessState]
    /// Makes a state.
    package init(version: UInt16 = Channel.version, phase: KeeperPhase, sandboxPid: UInt32, processes: [ProcessState]) {
        self.version = version
        self.phase = phase
        self.sandboxPid = sandboxPid
        self.processes = processes
    }
}

/// The sandbox is up.
package struct Booted: Sendable, Equatable {
    /// The host pid of the sandbox's first process.
    package var sandboxPid: UInt32
    /// The host pid of the process that owns the sandbox's user and network namespaces.
    package var namespacePid: UInt32
    /// Microseconds of each step: namespaces, mounts, runtime, hello.
    package var steps: [UInt32]
    /// Makes a record.
    package init(sandboxPid: UInt32, namespacePid: UInt32, steps: [UInt32]) {
        self.sandboxPid = sandboxPid
        self.namespacePid = namespacePid
        self.steps = steps
    }
}

/// How a sandbox ended, as the kernel told the keeper.
package struct SandboxEnded: Sendable, Equatable {
    /// Exit code of the sandbox's first process, 128+n for signal n.
    package var code: UInt32
    package var signal: UInt8
    /// Whether the end was asked for by `kill` or `shutdown`.
    package var requested: Bool
    /// Why the keeper ended it by itself (a harness that broke the protocol); empty otherwise.
    package var reason: [UInt8]
    /// Makes a record.
    package init(code: UInt32, signal: UInt8, requested: Bool, reason: [UInt8] = []) {
        self.code = code
        self.signal = signal
        self.requested = requested
        self.reason = reason
    }
}
