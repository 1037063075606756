import AegisChannelEmbedded
import CHarness

extension Harness {
    // MARK: Opening and closing

    /// Opens the door that a `start` frame asks for. It runs from here on: nothing is to be waited for.
    func openDoor(_ number: UInt16, _ request: StartProcess) {
        guard door == nil else { return refuse(number, .limit, 0, bytes("the sandbox has its door")) }
        guard let port = Harness.port(request.arguments[0]) else {
            return refuse(number, .other, Code.invalid, request.arguments[0] + bytes(": not a port"))
        }
        let listener = ah_listen_loopback(port)
        guard listener >= 0 else {
            let text = bytes("port ") + bytes(Int(port)) + bytes(": ") + errorText(-listener)
            return refuse(number, .other, -listener, text)
        }
        let path = request.arguments.count > 1 ? request.arguments[1] : []
        let socket = path.isEmpty ? -Code.noEntry : unsafe ah_listen_socket(terminated(path))
        let door = GuestDoor(
            number: number, port: Int32(listener), socket: Int32(max(-1, socket)), path: terminated(path))
        self.door = door
        for i in 0..<2 where door.listeners[i] >= 0 { watchDoor(door.listeners[i], Source.listener, UInt32(i)) }
        outgoing.appendFrame(.started, stream: number, ProcessStarted(pid: UInt32(ah_own_pid())).encoded())
        // The port serves without it.
        if socket < 0 && !path.isEmpty { tell(door, path + bytes(": ") + errorText(-socket)) }
    }

    private static func port(_ text: [UInt8]) -> UInt16? {
        var value = 0
        for digit in text {
            guard digit >= 0x30 && digit <= 0x39 && value <= 6553 else { return nil }
            value = value * 10 + Int(digit - 0x30)
        }
        return value > 0 && value <= 65_535 ? UInt16(value) : nil
    }

    private func watchDoor(_ descriptor: Int32, _ source: UInt64, _ number: UInt32) {
        if ah_epoll_add(epoll, descriptor, UInt64(number) << 8 | source) < 0 {
            Harness.die(bytes("a descriptor cannot be waited for"), 1)
        }
    }

    private func tell(_ door: GuestDoor, _ text: [UInt8]) {
        outgoing.appendDataHeader(.stderr, stream: door.number, offset: door.told, count: text.count)
        outgoing.append(text)
        door.told += UInt64(text.count)
    }

    /// Shuts the door, as if the process that it stands for had ended.
    func closeDoor(code: UInt32, signal: UInt8) {
        guard let door else { return }
        self.door = nil
        door.closeAll()
        outgoing.appendDataHeader(
            .stdout, flags: Channel.endFlag, stream: door.number, offset: door.sent, count: 0)
        outgoing.appendDataHeader(
            .stderr, flags: Channel.endFlag, stream: door.number, offset: door.told, count: 0)
        let exit = ProcessExited(code: code, signal: signal, stdoutBytes: door.sent, stderrBytes: door.told)
        outgoing.appendFrame(.exited, stream: door.number, exit.encoded())
    }

    // MARK: From the daemon

    /// Takes the stdin frame at the front of what came in; it is the door's.
    func takeDoorInput(_ door: GuestDoor, _ header: FrameHeader) throws(ChannelError) {
        guard incoming.dataOffset() == door.received else {
            throw ChannelError.malformed(type: FrameType.stdin.rawValue)
        }
        door.received += UInt64(header.length) - 8
        unsafe incoming.withData(of: header) { unsafe door.incoming.append($0) }
        do throws(DoorBreach) {
            while let frame = try door.incoming.doorFrame() {
                take(try door.link.take(frame, in: door.incoming), frame, door)
                door.incoming.consumeDoorFrame(frame)
            }
        } catch {
            tell(door, error.text)
            return closeDoor(code: 1, signal: 0)
        }
        if header.flags & Channel.endFlag != 0 { closeDoor(code: 0, signal: 0) }
    }

    private func take(_ event: DoorEvent, _ frame: DoorHeader, _ door: GuestDoor) {
        switch event {
        case .begin:
            for number in door.link.restart(into: &door.pending) {
                if let at = door.index(number) { door.drop(at) }
            }
        case .data(let number):
            guard let at = door.index(number) else { return }
            unsafe door.incoming.withDoorData(of: frame) { unsafe door.connections[at].queue.append($0) }
        case .finished(let number):
            if let at = door.index(number) { door.connections[at].ends = true }
        case .reset(let number):
            guard let at = door.index(number) else { return }
            // A daemon that has answered and goes: what it sent is given first, as slowly as it is taken.
            if !door.connections[at].ends || door.connections[at].queue.isEmpty { door.drop(at) }
        case .none, .opened, .credit: break
        }
    }

    /// Takes the daemon's word for how much of the door's output it has.
    func takeDoorAcknowledgement(_ door: GuestDoor, _ flags: UInt8, _ offset: UInt64) throws(ChannelError) {
        guard flags == 1 else { return }
        guard offset <= door.sent else { throw ChannelError.malformed(type: FrameType.ack.rawValue) }
        door.acknowledged = max(door.acknowledged, offset)
    }

    // MARK: Its turn

    /// Moves what can be moved. `true` if another turn would find something to do.
    func pumpDoor() -> Bool {
        guard let door else { return false }
        if door.received - door.acknowledgedInput >= GuestDoor.unacknowledged {
            // Of the channel's window alone: what a program has not taken is bounded by its connection's.
            door.acknowledgedInput = door.received
            let ack = Acknowledgement(offset: door.received)
            outgoing.appendFrame(.ack, flags: 0, stream: door.number, ack.encoded())
        }
        var at = 0
        while at < door.connections.count {
            give(door, at)
            if door.connections[at].isOver { door.drop(at) } else { at += 1 }
        }
        var isBusy = admit(door)
        flushDoor(door)
        let count = door.connections.count
        for _ in 0..<count where !door.connections.isEmpty {
            door.turn = door.turn + 1 < door.connections.count ? door.turn + 1 : 0
            isBusy = collect(door, door.turn) || isBusy
        }
        flushDoor(door)
        return isBusy
    }

    /// Lets programs in. `true` if more may wait.
    private func admit(_ door: GuestDoor) -> Bool {
        for way in 0..<2 where door.listeners[way] >= 0 {
            var turns = 0
            while door.waiting[way] {
                guard door.pending.count < GuestDoor.pendingLimit else { return false }
                guard turns < 64 else { return true }
                turns += 1
                let descriptor = ah_accept_program(door.listeners[way])
                guard descriptor >= 0 else {
                    // Without descriptors or memory it is tried again with the next one who comes.
                    door.waiting[way] = false
                    break
                }
                let kind: DoorWay = way == 0 ? .port : .socket
                // Also those that are over for the daemon and still take its last bytes.
                guard door.connections.count < Door.connectionLimit,
                    let number = door.link.open(kind, into: &door.pending)
                else {
                    ah_close(Int32(descriptor))
                    continue
                }
                door.connections.append(DoorConnection(number: number, descriptor: Int32(descriptor)))
                watchDoor(Int32(descriptor), Source.connection, number)
            }
        }
        return false
    }

    /// Gives a program what the daemon sent it.
    private func give(_ door: GuestDoor, _ at: Int) {
        let descriptor = door.connections[at].descriptor
        let number = door.connections[at].number
        while door.connections[at].writable && !door.connections[at].queue.isEmpty {
            let count = unsafe door.connections[at].queue.withBytes {
                unsafe ah_write(descriptor, $0.baseAddress, $0.count)
            }
            if count > 0 {
                door.connections[at].queue.consume(count)
                door.connections[at].taken += count
            } else if count == -Code.again {
                door.connections[at].writable = false
            } else {
                door.link.reset(number, into: &door.pending)
                door.connections[at].isOver = true
                return
            }
        }
        if door.connections[at].taken >= Door.downWindow / 2 {
            door.link.grant(number, door.connections[at].taken, into: &door.pending)
            door.connections[at].taken = 0
        }
        guard door.connections[at].ends && door.connections[at].queue.isEmpty else { return }
        door.connections[at].ends = false
        ah_shutdown_write(descriptor)
        // Both sides have finished: nothing comes from there any more.
        if door.link.room(number) == nil { door.connections[at].isOver = true }
    }

    /// Sends what a program wrote, one frame of it. `true` if there may be more.
    private func collect(_ door: GuestDoor, _ at: Int) -> Bool {
        let number = door.connections[at].number
        guard door.connections[at].readable, let room = door.link.room(number), room > 0 else { return false }
        // Frames that wait come first, or an opening would come after its bytes.
        let most = min(room, door.credit - Door.headerSize)
        guard door.pending.isEmpty, most > 0 else { return false }
        guard outgoing.count < Harness.highWater else { return true }
        let place = outgoing.count
        outgoing.appendDataHeader(.stdout, stream: door.number, offset: door.sent, count: 0)
        outgoing.append(DoorHeader(.data, number, length: 0).encoded)
        let descriptor = door.connections[at].descriptor
        let count = outgoing.fill(most) { unsafe ah_read(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else {
            outgoing.dropLast(outgoing.count - place)
            door.connections[at].readable = false
            if count == -Code.again { return false }
            if count == 0 {
                door.link.finish(number, into: &door.pending)
                endIfOver(door, at)
            } else {
                door.link.reset(number, into: &door.pending)
                door.drop(at)
            }
            return false
        }
        var header: [UInt8] = []
        FrameHeader(.stdout, stream: door.number, length: count + Door.headerSize + 8).encode(into: &header)
        outgoing.overwrite(at: place, with: header)
        outgoing.overwrite(
            at: place + Channel.headerSize + 8, with: door.link.data(number, count: count))
        door.sent += UInt64(count + Door.headerSize)
        // Also after less than there was room for: gVisor tells of a program's end together with its last bytes, and not as an end.
        return true
    }

    /// After the program's last byte: the connection is over if the daemon's last one has been given, too.
    private func endIfOver(_ door: GuestDoor, _ at: Int) {
        let connection = door.connections[at]
        // The daemon's end stands as long as the link knows the connection.
        if !door.link.isOpen(connection.number) && connection.queue.isEmpty && !connection.ends { door.drop(at) }
    }

    /// Sends the frames without data, as far as the daemon takes them.
    private func flushDoor(_ door: GuestDoor) {
        let count = min(door.pending.count, min(door.credit, Channel.dataLimit))
        guard count > 0 else { return }
        outgoing.appendDataHeader(.stdout, stream: door.number, offset: door.sent, count: count)
        outgoing.append(door.pending.bytes(at: 0, count: count))
        door.pending.consume(count)
        door.sent += UInt64(count)
    }
}
