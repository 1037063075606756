import AegisChannelEmbedded
import CHarness

/// The host's end of one sandbox: makes it, holds its channel and what no daemon has acknowledged, reaps it.
///
/// One thread, one poll loop. It outlives daemons; it never waits for one and never for the sandbox.
final class Keeper {
    /// Where the keeper stands; finer than what it tells a daemon.
    enum Phase { case waiting, booting, running, ending, failing, ended, failed }

    /// The descriptors that a keeper is started with.
    static let listener: Int32 = 4
    static let firstSource: Int32 = 5
    /// Bytes for the daemon and for the harness above which nothing more is made or read.
    /// With a whole frame on top, 60 KiB stay within a queue of 128 KiB: the keeper is to be small.
    static let daemonWater = 60 << 10
    static let readSize = 60 << 10
    static let harnessWater = 1 << 20
    /// Connections that have not said `attach` yet; the oldest goes when there are more.
    static let candidateLimit = 4
    /// Microseconds: for a sandbox that closed its channel to end, and for a daemon to read why a boot failed.
    static let closingGrace: UInt64 = 2_000_000
    static let failureGrace: UInt64 = 10_000_000

    var phase = Phase.waiting
    var relay = KeeperRelay()

    var daemon: Int32 = 3
    var daemonWritable = true
    var fromDaemon = ByteQueue()
    var toDaemon = ByteQueue()
    var candidates: [Candidate] = []

    var harness: Int32 = -1
    var harnessWritable = true
    var fromHarness = ByteQueue()
    var toHarness = ByteQueue()
    /// The sandbox's end of the channel, until the runtime has it.
    var sandboxEndOfChannel: Int32 = -1

    var signals: Int32 = -1
    var boot = BootProgress()
    var sandbox = SandboxProcess()
    var holder = 0
    var oldMounts: Int32 = -1
    var requested = false
    var endReason: [UInt8] = []
    var failure: BootFailed?
    var booted: [UInt8]?
    var endedSent = false
    /// When something must happen; its meaning depends on the phase.
    var deadline: UInt64?
    var isWarm = true

    /// A connection that has not said what it wants.
    struct Candidate {
        var descriptor: Int32
        var incoming = ByteQueue()
    }

    /// The first process of the sandbox.
    struct SandboxProcess {
        var pid = 0
        var descriptor: Int32 = -1
        var end: (code: UInt32, signal: UInt8)?
    }

    func run() -> Never {
        let prepared = ah_prepare_keeper()
        if prepared < 0 { die(bytes("preparing: ") + errorText(-prepared)) }
        ah_close_on_exec_from(3)
        for descriptor in [daemon, Keeper.listener] where ah_set_nonblocking(descriptor) < 0 {
            die(bytes("descriptors 3 and 4 must be sockets"))
        }
        let signals = ah_child_signals()
        var ours: Int32 = -1
        guard signals >= 0, unsafe ah_socket_pair(&ours, &sandboxEndOfChannel) >= 0 else {
            die(bytes("no descriptors"))
        }
        self.signals = Int32(signals)
        harness = ours
        ah_set_nonblocking(harness)
        while true {
            produce()
            wait()
            advance()
        }
    }

    func die(_ text: [UInt8]) -> Never {
        log(text)
        ah_exit(1)
    }

    // MARK: The loop

    /// Puts what the daemon has not seen on its way, and writes as much as the peers take.
    private func produce() {
        var isComplete = false
        repeat {
            if daemon >= 0 && toDaemon.count < Keeper.daemonWater {
                isComplete = relay.fill(&toDaemon, limit: Keeper.daemonWater)
                if isComplete && phase == .ended && !endedSent {
                    toDaemon.appendFrame(.ended, endRecord().encoded())
                    endedSent = true
                }
            }
            while daemon >= 0 && daemonWritable && !toDaemon.isEmpty {
                let count = unsafe toDaemon.withBytes { unsafe ah_write(daemon, $0.baseAddress, $0.count) }
                if count > 0 {
                    toDaemon.consume(count)
                } else if count == -Code.again {
                    daemonWritable = false
                } else {
                    dropDaemon(nil)
                }
            }
            // As long as it takes everything, there is no reason to wait.
        } while !isComplete && daemon >= 0 && daemonWritable
        while harness >= 0 && harnessWritable && !toHarness.isEmpty {
            let count = unsafe toHarness.withBytes { unsafe ah_write(harness, $0.baseAddress, $0.count) }
            if count > 0 {
                toHarness.consume(count)
            } else if count == -Code.again {
                harnessWritable = false
            } else {
                toHarness.clear()
            }
        }
        if harness < 0 { toHarness.clear() }
    }

    private func wait() {
        let isFull = toHarness.count >= Keeper.harnessWater || toDaemon.count >= 8 * Keeper.daemonWater
        var entries = [
            entry(daemon, reads: !isFull, writes: !toDaemon.isEmpty), entry(Keeper.listener, reads: true),
            entry(harness, reads: true, writes: !toHarness.isEmpty), entry(signals, reads: true),
            entry(boot.errors, reads: true),
        ]
        for candidate in candidates { entries.append(entry(candidate.descriptor, reads: true)) }
        let count = unsafe ah_poll(&entries, entries.count, patience())
        if count < 0 { die(bytes("waiting failed: ") + errorText(-count)) }
        if count == 0 { return coolDown() }
        isWarm = true
        if entries[0].ready & UInt8(AH_OUT | AH_HANGUP) != 0 { daemonWritable = true }
        if entries[2].ready & UInt8(AH_OUT | AH_HANGUP) != 0 { harnessWritable = true }
        // The signal first: what the kernel says about an end is worth more than a closed channel.
        if entries[3].ready != 0 { reap() }
        if entries[4].ready != 0 { readErrors() }
        if entries[2].ready & UInt8(AH_IN | AH_HANGUP) != 0 { readHarness() }
        for i in 5..<entries.count where entries[i].ready != 0 { readCandidate(entries[i].fd) }
        if entries[0].ready & UInt8(AH_IN | AH_HANGUP) != 0 && daemon == entries[0].fd && !isFull { readDaemon() }
        if entries[1].ready != 0 { accept() }
    }

    private func entry(_ descriptor: Int32, reads: Bool, writes: Bool = false) -> ah_poll_entry {
        let wanted = UInt8((reads ? AH_IN : 0) | (writes ? AH_OUT : 0))
        return ah_poll_entry(fd: wanted == 0 ? -1 : descriptor, wanted: wanted, ready: 0)
    }

    private func patience() -> Int32 {
        var wait: UInt64 = isWarm ? 1_000_000 : .max
        if let deadline {
            let now = ah_now_microseconds()
            wait = min(wait, deadline > now ? deadline - now : 0)
        }
        return wait == .max ? -1 : Int32(truncatingIfNeeded: min(wait / 1000 + 1, 1 << 30))
    }

    /// After a second without anything to do: gives memory back, once.
    private func coolDown() {
        guard isWarm else { return }
        isWarm = false
        relay.shrink()
        fromDaemon.shrink()
        toDaemon.shrink()
        fromHarness.shrink()
        toHarness.shrink()
        ah_trim_memory()
    }

    // MARK: The harness

    private func readHarness() {
        guard harness >= 0 else { return }
        let count = fromHarness.fill(Keeper.readSize) { unsafe ah_read(harness, $0.baseAddress, $0.count) }
        if count == -Code.again { return }
        if count <= 0 { return closeHarness() }
        do throws(ChannelError) {
            while harness >= 0, let header = try fromHarness.frame() {
                takeFromHarness(header)
                fromHarness.consumeFrame(header)
            }
        } catch {
            accuse(bytes("the harness sent a malformed frame"))
        }
    }

    private func takeFromHarness(_ header: FrameHeader) {
        do throws(ChannelViolation) {
            try relay.takeFromHarness(header, in: fromHarness)
            if header.type == .hello {
                boot.helloAt = ah_now_microseconds()
                if daemon >= 0 { toDaemon.appendFrame(.hello, relay.helloPayload ?? []) }
            }
        } catch {
            accuse(error.text)
        }
    }

    /// What the harness did is no accident: the sandbox ends.
    private func accuse(_ reason: [UInt8]) {
        log(reason)
        closeHarness()
        switch phase {
        case .booting: fail(.hello, 0, reason)
        case .running, .ending:
            if endReason.isEmpty { endReason = reason }
            killSandbox()
        default: break
        }
    }

    private func closeHarness() {
        guard harness >= 0 else { return }
        ah_close(harness)
        harness = -1
        fromHarness = ByteQueue()
        toHarness.clear()
        // The channel closes just before the sandbox ends. One that stays on without it is of no use.
        if phase == .running { deadline = ah_now_microseconds() + Keeper.closingGrace }
    }
}
