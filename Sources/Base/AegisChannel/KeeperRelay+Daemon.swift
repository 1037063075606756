extension KeeperRelay {
    /// The present daemon went or a new one came: what was sent but not acknowledged is to be sent again.
    package mutating func rewind() {
        for i in processes.indices { processes[i].rewind() }
        immediate.clear()
        // Late answers to the former daemon's questions still come; they are not for the new one, but they are allowed.
    }

    /// The answer to `attach`, without the frames that follow it.
    package func state(phase: KeeperPhase, sandboxPid: UInt32) -> KeeperState {
        var states: [ProcessState] = []
        states.reserveCapacity(processes.count)
        for process in processes {
            states.append(
                ProcessState(
                    number: process.number, stdinTaken: process.stdinTaken,
                    stdoutAcknowledged: process.output[0].ring.start, stderrAcknowledged: process.output[1].ring.start))
        }
        return KeeperState(phase: phase, sandboxPid: sandboxPid, processes: states)
    }

    /// Takes the frame at the front of what a daemon sent, of a type below 64 (it is left there), and appends what the
    /// harness is to get to `harness`. Throws if a daemon may not send that.
    package mutating func takeFromDaemon(
        _ header: FrameHeader, in queue: ByteQueue, to harness: inout ByteQueue
    ) throws(ChannelViolation) {
        switch header.type {
        case .stdin: try takeInput(header, queue, to: &harness)
        case .ack: try takeAcknowledgement(header, queue.payload(of: header), to: &harness)
        case .start: try takeStart(header, queue.payload(of: header), to: &harness)
        case .signal, .resize, .shutdown:
            let payload = queue.payload(of: header)
            guard payload.count <= 64 else { throw ChannelViolation("the daemon sent too long a message") }
            guard header.type == .shutdown || index(of: header.stream) != nil else { return }
            harness.appendFrame(header.type, flags: header.flags, stream: header.stream, payload)
        case .health:
            let payload = queue.payload(of: header)
            guard payload.count <= Channel.healthLimit else {
                throw ChannelViolation("the daemon sent too long a message")
            }
            questions += 1
            harness.appendFrame(.health, flags: header.flags, payload)
        case .forget:
            // The harness forgets by itself when it has reported the end. What still runs is not forgotten.
            if let at = index(of: header.stream), processes[at].final != nil { processes.remove(at: at) }
        default: throw ChannelViolation("the daemon sent a frame that only a harness may send")
        }
    }

    private mutating func takeStart(_ header: FrameHeader, _ payload: [UInt8], to harness: inout ByteQueue)
        throws(ChannelViolation)
    {
        guard header.stream != 0, index(of: header.stream) == nil else {
            throw ChannelViolation("the daemon started a process under a number in use")
        }
        if payload.first == ProcessKind.spare.rawValue {
            // Nothing is said about it, so there is nothing to be kept.
            return harness.appendFrame(.start, flags: header.flags, stream: header.stream, payload)
        }
        guard processes.count < Channel.processLimit else {
            let text: StaticString = "the keeper remembers as many processes as it can; some must be forgotten first"
            let failure = ProcessFailed(reason: .limit, errno: 0, text: ChannelViolation(text).text)
            immediate.appendFrame(.failed, stream: header.stream, failure.encoded())
            return
        }
        processes.append(RetainedProcess(number: header.stream))
        harness.appendFrame(.start, flags: header.flags, stream: header.stream, payload)
    }

    private mutating func takeInput(
        _ header: FrameHeader, _ queue: ByteQueue, to harness: inout ByteQueue
    ) throws(ChannelViolation) {
        guard let at = index(of: header.stream) else { return }
        let offset = queue.dataOffset()
        let count = UInt64(header.length) - 8
        let taken = processes[at].stdinTaken
        guard offset <= taken else { throw ChannelViolation("the daemon left out bytes of an input") }
        // A new daemon may repeat what its predecessor had sent.
        let skip = min(count, taken - offset)
        let end = header.flags & Channel.endFlag != 0 && !processes[at].stdinEnded
        guard count > skip || end else { return }
        guard !processes[at].stdinEnded else { throw ChannelViolation("the daemon sent input after its end") }
        // From here on what the frame reaches is at least what was taken, so no difference below is negative.
        guard offset + count >= taken else {
            throw ChannelViolation("the daemon ended an input before what it had sent")
        }
        guard offset + count - processes[at].stdinAcknowledged <= Channel.window else {
            throw ChannelViolation("the daemon sent more input than its window allows")
        }
        harness.appendDataHeader(
            .stdin, flags: end ? Channel.endFlag : 0, stream: header.stream, offset: taken, count: Int(count - skip))
        unsafe queue.withData(of: header) {
            unsafe harness.append(UnsafeRawBufferPointer(rebasing: $0[Int(skip)...]))
        }
        processes[at].stdinTaken = offset + count
        processes[at].stdinEnded = end
    }

    private mutating func takeAcknowledgement(
        _ header: FrameHeader, _ payload: [UInt8], to harness: inout ByteQueue
    ) throws(ChannelViolation) {
        guard let ack = try? Acknowledgement(decoding: payload), header.flags == 1 || header.flags == 2 else {
            throw ChannelViolation("the daemon sent a malformed acknowledgement")
        }
        guard let at = index(of: header.stream) else { return }
        let stream = Int(header.flags) - 1
        let before = processes[at].output[stream].ring.start
        guard processes[at].output[stream].ring.acknowledge(ack.offset) else {
            throw ChannelViolation("the daemon acknowledged bytes that were never sent")
        }
        // A daemon that saved them under its predecessor's connection does not want them again.
        if processes[at].output[stream].sent < ack.offset { processes[at].output[stream].sent = ack.offset }
        guard ack.offset > before, processes[at].final == nil, !processes[at].output[stream].ended else { return }
        harness.appendFrame(.ack, flags: header.flags, stream: header.stream, payload)
    }

    // MARK: To the daemon

    /// Appends what the daemon has not been sent yet until `queue` holds about `limit` bytes. Returns whether
    /// everything is in the queue now.
    package mutating func fill(_ queue: inout ByteQueue, limit: Int) -> Bool {
        if !immediate.isEmpty {
            unsafe immediate.withBytes { unsafe queue.append($0) }
            immediate.clear()
        }
        let count = processes.count
        guard count > 0 else { return true }
        var idle = 0
        while idle < count {
            guard queue.count < limit else { return false }
            if turn >= count { turn = 0 }
            idle = send(turn, to: &queue) ? 0 : idle + 1
            turn += 1
        }
        return true
    }

    /// Sends one turn of a process: what it has of state, and a frame of each stream. `false` if there is nothing.
    private mutating func send(_ at: Int, to queue: inout ByteQueue) -> Bool {
        let before = queue.count
        let number = processes[at].number
        if let payload = processes[at].started, !processes[at].startedSent {
            queue.appendFrame(.started, stream: number, payload)
            processes[at].startedSent = true
        }
        if processes[at].stdinAcknowledged > processes[at].stdinAcknowledgementSent {
            let offset = processes[at].stdinAcknowledged
            queue.appendFrame(.ack, flags: 0, stream: number, Acknowledgement(offset: offset).encoded())
            processes[at].stdinAcknowledgementSent = offset
        }
        Self.send(&processes[at].output[0], .stdout, number, to: &queue)
        Self.send(&processes[at].output[1], .stderr, number, to: &queue)
        if let final = processes[at].final, !processes[at].finalSent, processes[at].output[0].isSent,
            processes[at].output[1].isSent
        {
            queue.appendFrame(final, stream: number, processes[at].finalPayload)
            processes[at].finalSent = true
        }
        return queue.count > before
    }

    private static func send(
        _ stream: inout RetainedStream, _ type: FrameType, _ number: UInt16, to queue: inout ByteQueue
    ) {
        let waiting = Int(stream.ring.end - stream.sent)
        guard waiting > 0 || (stream.ended && !stream.endSent) else { return }
        let count = min(waiting, Channel.dataLimit)
        let last = stream.ended && count == waiting
        queue.appendDataHeader(
            type, flags: last ? Channel.endFlag : 0, stream: number, offset: stream.sent, count: count)
        _ = stream.ring.copy(from: stream.sent, atMost: count, to: &queue)
        stream.sent += UInt64(count)
        stream.endSent = last
    }
}
