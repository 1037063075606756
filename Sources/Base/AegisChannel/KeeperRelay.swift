/// Why a peer's frame is refused.
package struct ChannelViolation: Error, Sendable {
    /// What the peer did, for the log and for `ended`.
    package let reason: StaticString
    /// Makes a violation.
    package init(_ reason: StaticString) { self.reason = reason }
    /// The reason as UTF-8.
    package var text: [UInt8] {
        reason.withUTF8Buffer { unsafe Array($0) }
    }
}

/// What a keeper retains of one output stream.
struct RetainedStream: Sendable {
    var ring = RetentionRing()
    /// The harness said that no more comes.
    var ended = false
    /// The offset up to which the present daemon was sent.
    var sent: UInt64 = 0
    var endSent = false

    /// Everything again from what is acknowledged, for a new daemon.
    mutating func rewind() {
        sent = ring.start
        endSent = false
    }
    /// Whether the present daemon has been sent all of it.
    var isSent: Bool { sent == ring.end && (endSent || !ended) }
}

/// What a keeper knows of one process.
struct RetainedProcess: Sendable {
    let number: UInt16
    var started: [UInt8]?
    var startedSent = false
    /// `failed` or `exited`.
    var final: FrameType?
    var finalPayload: [UInt8] = []
    var finalSent = false
    /// stdout, stderr.
    var output = [RetainedStream(), RetainedStream()]
    var stdinTaken: UInt64 = 0
    var stdinAcknowledged: UInt64 = 0
    var stdinAcknowledgementSent: UInt64 = 0
    var stdinEnded = false

    init(number: UInt16) { self.number = number }

    mutating func rewind() {
        startedSent = false
        finalSent = false
        stdinAcknowledgementSent = 0
        output[0].rewind()
        output[1].rewind()
    }
}

/// The keeper's memory of its sandbox: checks each frame of the harness, retains what no daemon has acknowledged, and
/// sends it (again) to the daemon of the moment. Pure: bytes go in and out through queues.
///
/// Its size is bounded: by the number of processes that a daemon started and `Channel.window` for each stream. So a
/// keeper can always read from its harness, and a harness that sends more than it may is one to be killed.
package struct KeeperRelay: Sendable {
    var processes: [RetainedProcess] = []
    /// Where the turn of the next data frame is, so that each stream gets its share.
    var turn = 0
    private var hello: [UInt8]?
    /// `health` questions of the present daemon that the harness has not answered.
    var questions = 0
    /// Answers of the keeper itself, and relayed ones that are not retained.
    var immediate = ByteQueue()

    /// Makes a relay for a sandbox without processes.
    package init() {}

    /// Whether the harness has said hello.
    package var isUp: Bool { hello != nil }
    /// The payload of the harness's hello.
    package var helloPayload: [UInt8]? { hello }
    /// Processes that are remembered.
    package var processCount: Int { processes.count }
    /// Bytes of output that are retained.
    package var retainedBytes: Int {
        var total = 0
        for process in processes { total += process.output[0].ring.count + process.output[1].ring.count }
        return total
    }

    func index(of number: UInt16) -> Int? { processes.firstIndex { $0.number == number } }

    // MARK: From the harness

    /// Takes the frame at the front of what the harness sent (it is left there); throws if a harness may not send that.
    package mutating func takeFromHarness(_ header: FrameHeader, in queue: ByteQueue)
        throws(ChannelViolation)
    {
        switch header.type {
        case .stdout, .stderr: try takeOutput(header, queue)
        case .started, .failed, .exited: try takeState(header, queue.payload(of: header))
        case .hello: try takeHello(queue.payload(of: header))
        case .ack: try takeStdinAcknowledgement(header, queue.payload(of: header))
        case .healthy:
            guard questions > 0, header.length <= UInt32(Channel.healthLimit) else {
                throw ChannelViolation("the harness answered a question that nobody asked")
            }
            questions -= 1
            immediate.appendFrame(.healthy, flags: header.flags, queue.payload(of: header))
        default: throw ChannelViolation("the harness sent a frame that only a daemon may send")
        }
    }

    private mutating func takeHello(_ payload: [UInt8]) throws(ChannelViolation) {
        guard hello == nil else { throw ChannelViolation("the harness said hello twice") }
        guard payload.count <= 256, (try? Hello(decoding: payload)) != nil else {
            throw ChannelViolation("the harness speaks a protocol version that this keeper does not know")
        }
        hello = payload
    }

    private mutating func takeOutput(_ header: FrameHeader, _ queue: ByteQueue) throws(ChannelViolation) {
        guard let at = index(of: header.stream), processes[at].started != nil, processes[at].final == nil else {
            throw ChannelViolation("the harness sent output of a process that does not run")
        }
        let offset = queue.dataOffset()
        let stream = header.type == .stdout ? 0 : 1
        guard !processes[at].output[stream].ended, offset == processes[at].output[stream].ring.end else {
            throw ChannelViolation("the harness sent output with a wrong offset")
        }
        let fits = unsafe queue.withData(of: header) { unsafe processes[at].output[stream].ring.append($0) }
        guard fits else { throw ChannelViolation("the harness sent more output than its window allows") }
        if header.flags & Channel.endFlag != 0 { processes[at].output[stream].ended = true }
    }

    private mutating func takeState(_ header: FrameHeader, _ payload: [UInt8]) throws(ChannelViolation) {
        guard payload.count <= Channel.reportLimit else {
            throw ChannelViolation("a report of the harness is too long")
        }
        guard let at = index(of: header.stream), processes[at].final == nil else {
            throw ChannelViolation("the harness reported a process that nobody started")
        }
        switch header.type {
        case .started:
            guard processes[at].started == nil, (try? ProcessStarted(decoding: payload)) != nil else {
                throw ChannelViolation("the harness sent a malformed start report")
            }
            processes[at].started = payload
        case .failed:
            guard processes[at].started == nil, (try? ProcessFailed(decoding: payload)) != nil else {
                throw ChannelViolation("the harness sent a malformed failure report")
            }
            processes[at].final = .failed
            processes[at].finalPayload = payload
        default:
            guard processes[at].started != nil, let exit = try? ProcessExited(decoding: payload),
                exit.stdoutBytes == processes[at].output[0].ring.end,
                exit.stderrBytes == processes[at].output[1].ring.end
            else { throw ChannelViolation("the harness sent a malformed exit report") }
            processes[at].final = .exited
            processes[at].finalPayload = payload
        }
    }

    private mutating func takeStdinAcknowledgement(_ header: FrameHeader, _ payload: [UInt8])
        throws(ChannelViolation)
    {
        guard header.flags == 0, let ack = try? Acknowledgement(decoding: payload) else {
            throw ChannelViolation("the harness sent a malformed acknowledgement")
        }
        guard let at = index(of: header.stream), processes[at].final == nil,
            ack.offset <= processes[at].stdinTaken, ack.offset >= processes[at].stdinAcknowledged
        else { throw ChannelViolation("the harness acknowledged input that it was not given") }
        processes[at].stdinAcknowledged = ack.offset
    }

    /// Gives memory back that nothing needs now.
    package mutating func shrink() {
        for i in processes.indices {
            processes[i].output[0].ring.shrink()
            processes[i].output[1].ring.shrink()
        }
        immediate.shrink()
    }
}
