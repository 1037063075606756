import AegisChannelEmbedded
import CHarness

extension Keeper {
    /// Takes a connection on the keeper's socket, if it is root's or of the keeper's own user.
    func accept() {
        var uid: UInt32 = 0
        let accepted = unsafe ah_accept(Keeper.listener, &uid)
        guard accepted >= 0 else { return }
        guard uid == 0 || uid == ah_effective_uid() else {
            log(bytes("refused a connection of user ") + bytes(Int(uid)))
            ah_close(Int32(accepted))
            return
        }
        if candidates.count == Keeper.candidateLimit { ah_close(candidates.removeFirst().descriptor) }
        candidates.append(Candidate(descriptor: Int32(accepted)))
    }

    /// The first frame decides: `attach` makes it the daemon's connection, `kill` kills, even while the daemon's own
    /// connection is stopped up.
    func readCandidate(_ descriptor: Int32) {
        guard let at = candidates.firstIndex(where: { $0.descriptor == descriptor }) else { return }
        let count = candidates[at].incoming.fill(4096) { unsafe ah_read(descriptor, $0.baseAddress, $0.count) }
        if count == -Code.again { return }
        var type: FrameType?
        var isWhole = false
        if count > 0 {
            guard let header = try? candidates[at].incoming.header() else {
                if candidates[at].incoming.count < Channel.headerSize { return }
                return dropCandidate(at)
            }
            type = header.type
            isWhole = candidates[at].incoming.count >= Channel.headerSize + Int(header.length)
        }
        switch type {
        case .attach where isWhole:
            // One that cannot be talked to does not take the place of one that can.
            guard let header = try? candidates[at].incoming.header(),
                (try? Attach(decoding: candidates[at].incoming.payload(of: header))) != nil
            else {
                log(bytes("refused a daemon: a protocol version unknown here"))
                return dropCandidate(at)
            }
            let candidate = candidates.remove(at: at)
            dropDaemon(nil)
            daemon = candidate.descriptor
            fromDaemon = candidate.incoming
            takeFromDaemon()
        case .attach where candidates[at].incoming.count < 256: break
        case .kill:
            dropCandidate(at)
            kill()
        default: dropCandidate(at)
        }
    }

    private func dropCandidate(_ at: Int) {
        ah_close(candidates[at].descriptor)
        candidates.remove(at: at)
    }

    /// Forgets the connection; what it was not sent, or did not acknowledge, is the next one's.
    func dropDaemon(_ reason: [UInt8]?) {
        guard daemon >= 0 else { return }
        if let reason { log(bytes("closed the daemon's connection: ") + reason) }
        ah_close(daemon)
        daemon = -1
        fromDaemon = ByteQueue()
        toDaemon = ByteQueue()
        daemonWritable = true
        relay.rewind()
        endedSent = false
        if phase == .waiting { ah_exit(0) }
        if phase == .failed { ah_exit(0) }
    }

    func readDaemon() {
        let count = fromDaemon.fill(Keeper.readSize) { unsafe ah_read(daemon, $0.baseAddress, $0.count) }
        if count == -Code.again { return }
        if count <= 0 { return dropDaemon(nil) }
        takeFromDaemon()
    }

    private func takeFromDaemon() {
        do throws(ChannelError) {
            while daemon >= 0, let header = try fromDaemon.frame() {
                let connection = daemon
                take(header)
                // A frame that cost the connection went with its queue.
                if daemon == connection { fromDaemon.consumeFrame(header) }
            }
        } catch {
            refuse(bytes("a malformed frame"))
        }
    }

    private func refuse(_ reason: [UInt8]) {
        if phase == .waiting {
            // Nothing exists yet; whoever started this keeper learns why from what it reads.
            toDaemon.appendFrame(.bootFailed, BootFailed(step: .plan, errno: 0, text: reason).encoded())
            _ = unsafe toDaemon.withBytes { unsafe ah_write(daemon, $0.baseAddress, $0.count) }
        }
        dropDaemon(reason)
    }

    private func take(_ header: FrameHeader) {
        switch header.type {
        case .attach: attach(fromDaemon.payload(of: header))
        case .boot:
            guard phase == .waiting else { return refuse(bytes("a second boot plan")) }
            do throws(ChannelError) {
                startBoot(try BootPlan(decoding: fromDaemon.payload(of: header)))
            } catch {
                refuse(bytes("a malformed boot plan, or one of another protocol version"))
            }
        case .kill: kill()
        case .release: if phase == .ended || phase == .failed { ah_exit(0) }
        default:
            guard phase != .waiting else { return refuse(bytes("a frame before the boot plan")) }
            if header.type == .shutdown { requested = true }
            do throws(ChannelViolation) {
                try relay.takeFromDaemon(header, in: fromDaemon, to: &toHarness)
            } catch {
                refuse(error.text)
            }
        }
    }

    /// Says where everything stands and begins to send again what was not acknowledged.
    private func attach(_ payload: [UInt8]) {
        guard (try? Attach(decoding: payload)) != nil else { return refuse(bytes("a protocol version unknown here")) }
        relay.rewind()
        endedSent = false
        let state = relay.state(phase: publicPhase, sandboxPid: UInt32(truncatingIfNeeded: sandbox.pid))
        toDaemon.appendFrame(.state, state.encoded())
        if let hello = relay.helloPayload { toDaemon.appendFrame(.hello, hello) }
        if let booted { toDaemon.appendFrame(.booted, booted) }
        if phase == .failed { sendFailure() }
    }

    private var publicPhase: KeeperPhase {
        switch phase {
        case .waiting: .waiting
        case .booting, .failing: .booting
        case .running, .ending: .running
        case .ended: .ended
        case .failed: .failed
        }
    }

    func sendFailure() {
        if let failure, daemon >= 0 { toDaemon.appendFrame(.bootFailed, failure.encoded()) }
    }
}
