import AegisChannelEmbedded
import CHarness

/// PID 1 of a sandbox (or its supervisor): one thread, one loop, no timers but those of a shutdown and of limited processes.
///
/// Nothing in the loop blocks: every descriptor is non-blocking and edge-triggered, what cannot be sent now is not
/// read. Whatever may take long (finding and starting a program, copying files) happens in a child.
final class Harness {
    /// stdin and stdout of the harness are two descriptors of the channel's socket.
    let channel: Int32 = 0
    let epoll: Int32
    let signals: Int32
    var incoming = ByteQueue()
    var outgoing = ByteQueue()
    var channelReadable = true
    /// The daemon's side is closed: told once, maybe together with the last bytes, which are not the end then.
    private var channelEnded = false
    var channelWritable = true
    /// A child that waits to become the command; in a sandbox that is kept ready.
    var spare: SpareProcess?
    /// What such a child will be given; while the sandbox waits.
    var ready: ReadyStreams?
    /// Descriptors that are to be closed when what is to be sent is sent: in gVisor each of them takes its time.
    var closing: [Int32] = []
    var processes: [GuestProcess] = []
    /// By which programs inside reach the daemon, if it wants that.
    var door: GuestDoor?
    var passwd = AccountFile()
    var group = AccountFile()
    /// When everything that still runs is killed, when it is over whatever the daemon has acknowledged, and whether the
    /// harness stays then.
    var shutdown: (kill: UInt64, exit: UInt64, killed: Bool, stays: Bool)?
    /// When the first of the processes whose time is limited is to end.
    var deadline: UInt64?
    /// Questions for health that are answered when a shutdown in which the harness stays is over.
    var questions: [(flags: UInt8, payload: [UInt8])] = []
    /// Whether the kernel has told of the end of children that were not asked for since.
    private var haveEnded = false
    /// Whether something happened since memory was last given back.
    var isWarm = true
    /// Whether this sandbox waits for somebody who takes it: what memory there is will be wanted then, and there is nothing to be done
    /// before.
    var isKeptReady = false

    /// Output is read while less than this waits for the channel.
    static let highWater = 128 << 10
    /// Frames are read while less than this waits for the channel.
    static let answerLimit = 1 << 20
    /// After SIGKILL, the time for the last output to be acknowledged.
    static let lastWords: UInt64 = 2_000_000

    /// Whether ^C in a terminal is but a byte to this kernel; known from the first terminal on.
    var terminalsLackSignals: Bool?

    /// What this kernel does not do; told in `hello`.
    private let quirks: UInt8

    init(quirks: UInt8) {
        self.quirks = quirks
        let epoll = ah_epoll_create()
        let signals = ah_child_signals()
        guard epoll >= 0, signals >= 0 else { Harness.die(bytes("no event descriptors"), 1) }
        self.epoll = Int32(epoll)
        self.signals = Int32(signals)
        ah_set_nonblocking(channel)
        ah_set_close_on_exec(0)
        ah_set_close_on_exec(1)
        // Not told when it is writable, each time that the keeper has read: it nearly always is.
        guard ah_epoll_add_input(self.epoll, channel, Source.channel) >= 0,
            ah_epoll_add(self.epoll, self.signals, Source.signals) >= 0
        else { Harness.die(bytes("the channel cannot be waited for"), 1) }
    }

    /// What an event belongs to: the low byte, with the number of the process or of the door's connection above it.
    enum Source {
        static let channel: UInt64 = 0
        static let signals: UInt64 = 1
        static let input: UInt64 = 2
        static let stdout: UInt64 = 3
        static let stderr: UInt64 = 4
        static let status: UInt64 = 5
        static let listener: UInt64 = 6
        static let connection: UInt64 = 7
    }

    static func die(_ text: [UInt8], _ code: Int32) -> Never {
        log(text)
        ah_exit(code)
    }

    func run() -> Never {
        outgoing.appendFrame(.hello, Hello(build: buildText, quirks: quirks).encoded())
        flush()
        ah_reset_signals()
        var events = [ah_event](repeating: ah_event(), count: 64)
        while true {
            let isBusy = step()
            let timeout = isBusy ? 0 : patience()
            let count = unsafe ah_epoll_wait(epoll, &events, 64, timeout)
            if count < 0 { Harness.die(bytes("waiting failed: ") + errorText(-count), 1) }
            if count == 0 && !isBusy && shutdown == nil { coolDown() }
            if count > 0 { isWarm = true }
            for i in 0..<max(0, count) { take(events[i]) }
        }
    }

    /// One turn: read frames, move bytes, write frames. `true` if another turn would find something to do.
    func step() -> Bool {
        var isBusy = readChannel()
        // The first one is most likely the one that somebody waits to hear of.
        if haveEnded { reapOne() }
        var i = 0
        while i < processes.count {
            let process = processes[i]
            if process.isStarted {
                pumpInput(process)
                isBusy = pumpOutput(process, 0) || isBusy
                isBusy = pumpOutput(process, 1) || isBusy
            }
            if !finish(process) { i += 1 }
        }
        if door != nil { isBusy = pumpDoor() || isBusy }
        flush()
        closeClosing()
        if haveEnded {
            // In this order: one that ends after the last question is told of anew.
            haveEnded = false
            ah_drain_signals(signals)
            while reapOne() { isBusy = true }
        }
        if let deadline, deadline <= ah_now_microseconds() { keepDeadlines() }
        if shutdown != nil { continueShutdown() }
        return isBusy && (channelWritable || outgoing.count < Harness.highWater)
    }

    func take(_ event: ah_event) {
        switch event.data & 0xff {
        case Source.channel:
            if event.ready & UInt8(AH_IN | AH_HANGUP) != 0 { channelReadable = true }
            if event.ready & UInt8(AH_HANGUP) != 0 { channelEnded = true }
            if event.ready & UInt8(AH_OUT | AH_HANGUP) != 0 && !channelWritable {
                channelWritable = true
                ah_epoll_watch_output(epoll, channel, Source.channel, 0)
            }
        case Source.signals:
            haveEnded = true
        case Source.listener: door?.waiting[Int(event.data >> 8)] = true
        case Source.connection:
            guard let door, let at = door.index(UInt32(truncatingIfNeeded: event.data >> 8)) else { return }
            if event.ready & UInt8(AH_IN | AH_HANGUP) != 0 { door.connections[at].readable = true }
            if event.ready & UInt8(AH_OUT | AH_HANGUP) != 0 { door.connections[at].writable = true }
        default:
            takeProcessEvent(event)
        }
    }

    private func takeProcessEvent(_ event: ah_event) {
        let number = UInt16(truncatingIfNeeded: event.data >> 8)
        let source = event.data & 0xff
        guard let process = process(number) else {
            if let spare, spare.number == number, source == Source.status { dropSpare() }
            return
        }
        switch source {
        case Source.input: process.input.writable = true
        case Source.stdout, Source.stderr:
            let index = source == Source.stdout ? 0 : 1
            process.output[index].ready = true
            if process.terminal {
                process.input.writable = true
            } else {
                // Only gVisor, where the read that tells is dear, looks at both at once: Linux may tell of the end that came after it has
                // seen the pipe empty, and of nothing that was written in between.
                process.output[index].isOver =
                    quirks != 0 && event.ready & UInt8(AH_IN | AH_HANGUP) == UInt8(AH_HANGUP)
            }
        default: resolveStart(process, isDecided: event.ready & UInt8(AH_HANGUP) != 0)
        }
    }

    func process(_ number: UInt16) -> GuestProcess? {
        for process in processes where process.number == number { return process }
        return nil
    }

    func watch(_ descriptor: Int32, _ source: UInt64, _ number: UInt16) {
        ah_set_only_nonblocking(descriptor)
        if ah_epoll_add(epoll, descriptor, UInt64(number) << 8 | source) < 0 {
            Harness.die(bytes("a descriptor cannot be waited for"), 1)
        }
    }

    // MARK: The channel

    /// `true` if there may be more to read.
    private func readChannel() -> Bool {
        var turns = 0
        while channelReadable && outgoing.count < Harness.answerLimit {
            guard turns < 4 else { return true }
            turns += 1
            var room = 0
            let count = incoming.fill(64 << 10) {
                room = $0.count
                return unsafe ah_read(channel, $0.baseAddress, $0.count)
            }
            if count == -Code.again {
                channelReadable = false
            } else if count <= 0 {
                // Nobody could ever hear of what goes on here.
                killEverything()
                ah_exit(1)
            } else {
                // Less than there was room for: the socket is empty, and tells when it is so no longer (epoll(7)).
                if count < room && !channelEnded { channelReadable = false }
                takeFrames()
            }
        }
        return channelReadable
    }

    private func takeFrames() {
        do throws(ChannelError) {
            while let header = try incoming.frame() {
                try takeFrame(header)
                incoming.consumeFrame(header)
            }
        } catch {
            killEverything()
            Harness.die(bytes("a malformed frame came down the channel"), 2)
        }
    }

    private func takeFrame(_ header: FrameHeader) throws(ChannelError) {
        isKeptReady = header.type == .health && header.flags & Channel.keptReadyFlag != 0
        switch header.type {
        case .stdin:
            if let door, door.number == header.stream { return try takeDoorInput(door, header) }
            try takeInput(header)
        case .ack:
            let ack = try Acknowledgement(decoding: incoming.payload(of: header))
            if let door, door.number == header.stream {
                return try takeDoorAcknowledgement(door, header.flags, ack.offset)
            }
            guard header.flags == 1 || header.flags == 2, let process = process(header.stream) else { return }
            let index = Int(header.flags) - 1
            guard ack.offset <= process.output[index].sent else { throw ChannelError.malformed(type: 3) }
            if ack.offset > process.output[index].acknowledged { process.output[index].acknowledged = ack.offset }
        case .start: start(header.stream, incoming.payload(of: header))
        case .signal:
            let message = try ProcessSignal(decoding: incoming.payload(of: header))
            if door?.number == header.stream {
                return closeDoor(code: 128 + UInt32(message.number), signal: message.number)
            }
            guard let process = process(header.stream), process.end == nil else { return }
            if header.flags & ProcessSignal.groupFlag != 0 {
                ah_signal_group(process.pid, Int32(message.number))
            } else {
                ah_signal(process.pid, Int32(message.number))
            }
        case .resize:
            let size = try TerminalSize(decoding: incoming.payload(of: header))
            guard let process = process(header.stream), process.terminal, process.output[0].isOpen else { return }
            ah_resize_terminal(process.output[0].descriptor, size.columns, size.rows)
        case .health:
            let payload = incoming.payload(of: header)
            if shutdown?.stays == true {
                questions.append((header.flags, payload))
            } else {
                if isKeptReady { getReady() }
                outgoing.appendFrame(.healthy, flags: header.flags, payload)
            }
        case .shutdown: beginShutdown(try Shutdown(decoding: incoming.payload(of: header)))
        case .forget: break
        default: throw ChannelError.malformed(type: header.type.rawValue)
        }
    }

    func flush() {
        while channelWritable && !outgoing.isEmpty {
            let count = unsafe outgoing.withBytes { unsafe ah_write(channel, $0.baseAddress, $0.count) }
            if count > 0 {
                outgoing.consume(count)
            } else if count == -Code.again {
                channelWritable = false
                ah_epoll_watch_output(epoll, channel, Source.channel, 1)
            } else {
                killEverything()
                ah_exit(1)
            }
        }
    }

    private func closeClosing() {
        guard !closing.isEmpty else { return }
        for descriptor in closing { ah_close(descriptor) }
        closing.removeAll(keepingCapacity: true)
    }

    // MARK: Waiting

    /// Milliseconds to wait: until the next deadline, or once for a second to give memory back, or for ever.
    private func patience() -> Int32 {
        if let shutdown { return wait(until: shutdown.killed ? shutdown.exit : shutdown.kill) }
        guard let deadline else { return isWarm && !isKeptReady ? 1000 : -1 }
        return isWarm ? min(1000, wait(until: deadline)) : wait(until: deadline)
    }

    private func wait(until time: UInt64) -> Int32 {
        let now = ah_now_microseconds()
        return time > now ? Int32(truncatingIfNeeded: min((time - now) / 1000 + 1, 1 << 30)) : 0
    }

    private func coolDown() {
        guard isWarm else { return }
        isWarm = false
        incoming.shrink()
        outgoing.shrink()
        for process in processes { process.input.queue.shrink() }
        door?.shrink()
        ah_trim_memory()
    }
}
