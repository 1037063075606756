import AegisChannelEmbedded
import CHarness

/// One output of a process: the reading end of its pipe, or its terminal's master.
struct OutputPipe {
    var descriptor: Int32 = -1
    /// Bytes sent to the daemon.
    var sent: UInt64 = 0
    /// Bytes that the daemon has acknowledged.
    var acknowledged: UInt64 = 0
    /// There may be something to read (edge-triggered: from an event on, until a read says otherwise).
    var ready = false
    /// Nobody has it open for writing any more, and nothing is left in it.
    var isOver = false
    /// After the end of the process: the bytes that it left behind. What a grandchild writes later is not waited for.
    var leftover: Int?

    var isOpen: Bool { descriptor >= 0 }
    /// Bytes that may be sent now.
    var credit: Int { Int(Channel.window - (sent - acknowledged)) }
}

/// The input of a process.
struct InputPipe {
    var descriptor: Int32 = -1
    var queue = ByteQueue()
    /// Bytes that came from the daemon.
    var received: UInt64 = 0
    /// The daemon said that no more comes.
    var ended = false
    var writable = true
    /// Bytes that the daemon was told to be consumed.
    var acknowledged: UInt64 = 0
    /// What a terminal's reader has before it: whether the last byte given ended a line.
    var atLineStart = true

    /// Bytes that the process (or nobody, if it does not read) has been given.
    var consumed: UInt64 { received - UInt64(queue.count) }
}

/// A process that a daemon started.
final class GuestProcess {
    let number: UInt16
    let pid: Int32
    let terminal: Bool
    /// Tells when it is decided whether the program could be executed; -1 once that is known.
    var status: Int32
    /// What the child shares with us until then.
    private var launch: OpaquePointer?
    var isStarted = false
    var input = InputPipe()
    /// stdout (or the terminal), stderr.
    var output = [OutputPipe(), OutputPipe()]
    /// How it ended, once it was reaped.
    var end: (code: UInt32, signal: UInt8)?
    /// When it is killed if it has not ended by then, in microseconds.
    var deadline: UInt64?
    /// What it was called with, for the text of a failure.
    let program: [UInt8]
    let directory: [UInt8]

    init(
        number: UInt16, pid: Int32, terminal: Bool, status: Int32, launch: OpaquePointer?, program: [UInt8],
        directory: [UInt8]
    ) {
        self.number = number
        self.pid = pid
        self.terminal = terminal
        self.status = status
        unsafe self.launch = launch
        self.program = program
        self.directory = directory
    }

    /// Closes the input; what is still queued is discarded and counts as consumed.
    func closeInput() {
        // A terminal's master is shared with the output, which closes it.
        if input.descriptor >= 0 && !terminal { ah_close(input.descriptor) }
        input.descriptor = -1
        input.queue = ByteQueue()
    }

    func closeOutput(_ index: Int) {
        guard output[index].isOpen else { return }
        ah_close(output[index].descriptor)
        output[index].descriptor = -1
        if terminal { closeInput() }
    }

    /// Ends the start: after the end of `status`, which is the caller's to close then, when the child has left our memory.
    ///
    /// - Returns: what went wrong; step 0 when the program runs.
    func endStart() -> ah_start_error {
        var error = ah_start_error()
        status = -1
        // SAFETY: made by ah_spawn, and forgotten here, once.
        if let launch = unsafe launch {
            unsafe ah_launch_error(launch, &error)
            unsafe ah_forget_launch(launch)
        }
        unsafe launch = nil
        return error
    }

    func closeAll() {
        closeInput()
        closeOutput(0)
        closeOutput(1)
    }
}
