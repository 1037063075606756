import AegisChannelEmbedded
import CHarness

extension Harness {
    // MARK: Input

    /// Takes the stdin frame at the front of what came in.
    func takeInput(_ header: FrameHeader) throws(ChannelError) {
        guard let process = process(header.stream) else { return }
        let count = UInt64(header.length) - 8
        guard incoming.dataOffset() == process.input.received, !process.input.ended,
            UInt64(process.input.queue.count) + count <= Channel.window
        else { throw ChannelError.malformed(type: FrameType.stdin.rawValue) }
        process.input.received += count
        if header.flags & Channel.endFlag != 0 { process.input.ended = true }
        // Without a reader it is discarded, and acknowledged by the next turn.
        guard process.input.descriptor >= 0 else { return }
        unsafe incoming.withData(of: header) { unsafe process.input.queue.append($0) }
    }

    /// Gives the process what it takes and tells the daemon how much that was.
    func pumpInput(_ process: GuestProcess) {
        while process.input.descriptor >= 0 && process.input.writable && !process.input.queue.isEmpty {
            let most = takeSignals(process)
            if most == 0 { continue }
            let count = unsafe process.input.queue.withBytes {
                unsafe ah_write(process.input.descriptor, $0.baseAddress, most)
            }
            if count > 0 {
                process.input.atLineStart = process.input.queue[count - 1] == 0x0a
                process.input.queue.consume(count)
            } else if count == -Code.again {
                process.input.writable = false
            } else {
                process.closeInput()
            }
        }
        if process.input.ended && process.input.queue.isEmpty && process.input.descriptor >= 0 {
            if process.terminal { endTerminalInput(process) }
            process.closeInput()
        }
        guard process.input.consumed > process.input.acknowledged else { return }
        process.input.acknowledged = process.input.consumed
        let ack = Acknowledgement(offset: process.input.consumed)
        outgoing.appendFrame(.ack, flags: 0, stream: process.number, ack.encoded())
    }

    /// Makes the signal of ^C and its like where the kernel's terminals do not.
    ///
    /// - Returns: how many bytes are to be given to the process before the next signal.
    private func takeSignals(_ process: GuestProcess) -> Int {
        guard process.terminal, terminalsLackSignals == true else { return process.input.queue.count }
        var signal: Int32 = 0
        let before = unsafe process.input.queue.withBytes {
            unsafe ah_terminal_signal_at(process.input.descriptor, $0.baseAddress, $0.count, &signal)
        }
        if before == 0 && signal != 0 {
            process.input.queue.consume(1)
            process.input.atLineStart = true
            ah_signal_foreground(process.pid, signal)
        }
        return before
    }

    /// In canonical mode a terminal's end-of-file is a character: at the start of a line one does, within a line the
    /// first hands over the line.
    private func endTerminalInput(_ process: GuestProcess) {
        let character = ah_terminal_eof(process.input.descriptor)
        guard character >= 0 else { return }
        let byte = UInt8(truncatingIfNeeded: character)
        let text = process.input.atLineStart ? [byte] : [byte, byte]
        _ = unsafe ah_write(process.input.descriptor, text, text.count)
    }

    // MARK: Output

    /// Sends one frame of what the process wrote, if the daemon and the channel take it. `true` if there may be more.
    func pumpOutput(_ process: GuestProcess, _ index: Int) -> Bool {
        guard process.output[index].isOpen, process.output[index].ready else { return false }
        if process.output[index].isOver || process.output[index].leftover == 0 {
            endOutput(process, index)
            return false
        }
        let credit = process.output[index].credit
        guard credit > 0 else { return false }
        guard outgoing.count < Harness.highWater else { return true }
        let most = min(Channel.dataLimit, min(credit, process.output[index].leftover ?? Int.max))
        let type: FrameType = index == 0 ? .stdout : .stderr
        let place = outgoing.count
        outgoing.appendDataHeader(type, stream: process.number, offset: process.output[index].sent, count: 0)
        let descriptor = process.output[index].descriptor
        let count = outgoing.fill(most) { unsafe ah_read(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else {
            outgoing.dropLast(outgoing.count - place)
            if count == -Code.again || (count == -Code.io && process.terminal && process.end == nil) {
                // EIO: no process has the terminal open at the moment.
                process.output[index].ready = false
            }
            if process.output[index].ready || process.output[index].leftover != nil { endOutput(process, index) }
            return false
        }
        var header: [UInt8] = []
        FrameHeader(type, stream: process.number, length: count + 8).encode(into: &header)
        outgoing.overwrite(at: place, with: header)
        process.output[index].sent += UInt64(count)
        if let leftover = process.output[index].leftover { process.output[index].leftover = leftover - count }
        return true
    }

    /// Closes an output and says so.
    private func endOutput(_ process: GuestProcess, _ index: Int) {
        outgoing.appendDataHeader(
            index == 0 ? .stdout : .stderr, flags: Channel.endFlag, stream: process.number,
            offset: process.output[index].sent, count: 0)
        if process.terminal {
            process.closeOutput(index)
        } else {
            closing.append(process.output[index].descriptor)
            process.output[index].descriptor = -1
        }
    }

    // MARK: The end of processes

    /// Reaps every child that ended, ours and those that were left to us. `false` if there is no child any more.
    @discardableResult
    func reap() -> Bool {
        while true {
            let pid = reapNext()
            guard pid > 0 else { return pid != -Code.noChild }
        }
    }

    /// Reaps a child that ended. `false` if there is none.
    @discardableResult
    func reapOne() -> Bool { reapNext() > 0 }

    /// The only place that reaps: whoever else took an end from the kernel would take it from its process.
    private func reapNext() -> Int {
        var code: UInt32 = 0
        var signal: UInt8 = 0
        let pid = unsafe ah_reap(&code, &signal)
        guard pid > 0 else { return pid }
        for process in processes where Int(process.pid) == pid && process.end == nil {
            process.end = (code, signal)
            process.closeInput()
            for i in 0..<2 where process.output[i].isOpen && !process.output[i].isOver {
                let pending = process.terminal ? -1 : ah_pending(process.output[i].descriptor)
                // A terminal does not tell; it holds less than this.
                process.output[i].leftover = pending >= 0 ? pending : 256 << 10
                process.output[i].ready = true
            }
            if !process.isStarted { resolveStart(process) }
            break
        }
        if let spare, Int(spare.pid) == pid { forgetSpare(spare) }
        return pid
    }

    /// Reports the end of a process whose last byte is on its way. `true` if it is gone.
    func finish(_ process: GuestProcess) -> Bool {
        guard let end = process.end, process.isStarted, !process.output[0].isOpen, !process.output[1].isOpen else {
            return false
        }
        let exit = ProcessExited(
            code: end.code, signal: end.signal, stdoutBytes: process.output[0].sent,
            stderrBytes: process.output[1].sent)
        outgoing.appendFrame(.exited, stream: process.number, exit.encoded())
        forget(process)
        return true
    }

    func forget(_ process: GuestProcess) {
        process.closeAll()
        for i in processes.indices where processes[i] === process {
            processes.remove(at: i)
            return
        }
    }

    // MARK: Time limits

    /// Limits the time of a process. Whoever started it may be gone by then: this holds without a daemon.
    func setDeadline(of process: GuestProcess, _ microseconds: UInt64) {
        let end = ah_now_microseconds() + microseconds
        process.deadline = end
        deadline = min(deadline ?? end, end)
    }

    /// Kills those whose time is over.
    func keepDeadlines() {
        let now = ah_now_microseconds()
        deadline = nil
        for process in processes where process.end == nil {
            guard let end = process.deadline else { continue }
            if end > now {
                deadline = min(deadline ?? end, end)
            } else {
                process.deadline = nil
                ah_signal_group(process.pid, 9)
            }
        }
    }

    // MARK: Shutdown

    func beginShutdown(_ request: Shutdown) {
        let kill = ah_now_microseconds() + UInt64(request.grace) * 1000
        // A second one may hasten the first, and may make the harness end that was to stay.
        let stays = request.stays && shutdown?.stays != false
        if let running = shutdown, running.kill <= kill {
            shutdown?.stays = stays
            return
        }
        shutdown = (kill, kill + Harness.lastWords, false, stays)
        dropSpare()
        dropReady()
        signalEverything(15)
    }

    func continueShutdown() {
        let hasChildren = reap()
        guard let times = shutdown else { return }
        if !hasChildren && times.stays { return endShutdown() }
        if !hasChildren && processes.isEmpty && outgoing.isEmpty { ah_exit(0) }
        let now = ah_now_microseconds()
        if now >= times.kill && !times.killed {
            shutdown?.killed = true
            killEverything()
        }
        guard now >= times.exit else { return }
        if !times.stays { ah_exit(0) }
        endShutdown()
    }

    /// Nothing runs any more, and the harness stays. Output that waits for its reader still goes out.
    private func endShutdown() {
        shutdown = nil
        for question in questions { outgoing.appendFrame(.healthy, flags: question.flags, question.payload) }
        questions = []
        flush()
    }

    func killEverything() { signalEverything(9) }

    /// As PID 1: every process of the sandbox. Else the groups of those that were started.
    private func signalEverything(_ signal: Int32) {
        if ah_signal_everyone(signal) != -Code.notPermitted { return }
        for process in processes where process.end == nil { ah_signal_group(process.pid, signal) }
    }
}
