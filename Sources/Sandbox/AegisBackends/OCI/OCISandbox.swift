package import AegisChannel
import AegisCore
package import AegisIO
import AegisSandboxTypes
import LinuxSys
import Synchronization

/// A sandbox of an OCI runtime, booted or found again. What it is lives in its keeper and in the kernel; this object may be
/// dropped and made anew at any time.
package final class OCISandbox: Sandbox {
    package let record: SandboxRecord
    package let abilities = Abilities()
    let keeper: ProcessIdentity
    /// The keeper, if this process started it.
    let child: ChildProcess?
    let lease: IDLease
    let group: InstanceCgroup
    let backend: OCIBackend
    var loop: EventLoop { backend.loop }
    let ended = Settlement<Termination>()
    private let state = Mutex(State())

    private struct State {
        /// The connection of the boot, until somebody wants the channel.
        var first: FileStream?
        var link: KeeperLink?
        var network: SharedDescriptor?
        /// The first process inside, by the host's number; 0 is not known.
        var firstProcess: UInt32 = 0
        var requested = false
        var released = false
        var steps: [(name: String, milliseconds: Double)] = []
    }

    init(
        record: SandboxRecord, keeper: ProcessIdentity, child: ChildProcess?, lease: IDLease, group: InstanceCgroup,
        backend: OCIBackend
    ) {
        self.record = record
        self.keeper = keeper
        self.child = child
        self.lease = lease
        self.group = group
        self.backend = backend
    }

    package var bootSteps: [(name: String, milliseconds: Double)] { state.withLock { $0.steps } }
    var layout: RunLayout { RunLayout(directory: record.runDirectory) }

    // MARK: - Beginning

    /// Takes over what a boot left.
    func begin(
        _ preparation: Preparation, _ booted: Booted, steps: [(name: String, milliseconds: Double)]
    ) throws {
        let network = try openNetwork(booted.namespacePid)
        let stream = try preparation.connection(on: loop)
        state.withLock {
            $0.first = stream
            $0.network = network
            $0.firstProcess = booted.sandboxPid
            $0.steps = steps
        }
    }

    /// Looks whether the keeper answers, and takes up what it says: for adoption.
    func recognise() async throws {
        let (seen, link) = try await attach()
        guard seen.phase == .running || seen.phase == .ended else {
            link.close()
            throw AegisError.failed("sandbox-lost", "the daemon ended before \(record.id) had started")
        }
        let network = seen.phase == .running ? try? openNetwork(seen.sandboxPid) : nil
        state.withLock { $0.network = network }
        // Kept for the first who asks for the channel, who attaches anew: what was sent on it is sent again then.
        link.close()
    }

    private func openNetwork(_ pid: UInt32) throws(AegisError) -> SharedDescriptor {
        guard pid > 1, pid < UInt32(Int32.max) else {
            throw .failed("boot-failed", "the keeper of \(record.id) named process \(pid)")
        }
        do throws(Errno) { return SharedDescriptor(try FileDescriptor.open("/proc/\(pid)/ns/net", .readOnly)) } catch {
            throw .failed("boot-failed", "cannot open the network of \(record.id): \(error)")
        }
    }

    // MARK: - The channel

    package func channel() async throws -> (state: KeeperState, stream: any ByteStream) {
        let (seen, link) = try await attach()
        return (seen, link)
    }

    /// Attaches to the keeper; the link takes the place of the one before.
    func attach() async throws -> (KeeperState, KeeperLink) {
        let first = state.withLock { state -> FileStream? in
            defer { state.first = nil }
            return state.first
        }
        let connection: FileStream
        if let first { connection = first } else { connection = try await connect() }
        do {
            return try await withDeadline(.seconds(5), clock: loop.clock) { [self] in
                var handshake = KeeperHandshake(connection)
                try await handshake.send(.attach, Attach().encoded())
                while let (header, payload) = try await handshake.next() {
                    // The boot's connection may hold frames from before: they come again after the state.
                    guard header.type == .state else { continue }
                    let link = KeeperLink(connection, early: handshake.leftover()) { [self] header, payload in
                        take(header, payload)
                    }
                    let former = state.withLock { state -> KeeperLink? in
                        defer { state.link = link }
                        return state.link
                    }
                    former?.close()
                    return (try KeeperState(decoding: payload), link)
                }
                throw IOError(.closed, "the keeper of \(record.id) hung up")
            }
        } catch {
            connection.close()
            throw error
        }
    }

    private func connect() async throws -> FileStream {
        do {
            return try await Connect.unix(path: layout.keeperSocket, on: loop, deadline: .seconds(5))
        } catch {
            throw AegisError(
                .conflict, "sandbox-lost", "the keeper of \(record.id) does not answer: \(error)",
                hint: "the instance has ended without a word; start it again")
        }
    }

    // MARK: - The end

    /// A frame that concerns the sandbox itself; on the task of whoever reads the link.
    private func take(_ header: FrameHeader, _ payload: [UInt8]) {
        guard header.type == .ended, let end = try? SandboxEnded(decoding: payload) else { return }
        let requested = state.withLock { $0.requested }
        ended.settle(
            Termination(
                code: Int32(truncatingIfNeeded: end.code), oomKilled: group.oomKills > 0,
                requested: end.requested || requested,
                reason: end.reason.isEmpty ? nil : String(decoding: end.reason, as: UTF8.self)))
    }

    package var isAlive: Bool { ended.now == nil && keeper.isAlive }
    package var isDoomed: Bool { group.isDoomed }
    package var oomKills: UInt64 { group.oomKills }

    /// Nobody can say how it ended: whatever is left of it is killed.
    private func lose() async {
        let (oom, requested) = (group.oomKills > 0, state.withLock { $0.requested })
        await killGroup()
        ended.settle(Termination(code: nil, oomKilled: oom, requested: requested, reason: "lost"))
    }

    package func termination() async -> Termination {
        while !Task.isCancelled {
            if let known = ended.now { return known }
            if !keeper.isAlive {
                await lose()
                continue
            }
            // Somebody reads the channel: what ends it, ends this wait.
            if let link = state.withLock({ $0.link }), link.gone.now == nil {
                await firstOf(ended, link.gone)
                continue
            }
            guard let (_, link) = try? await attach() else {
                try? await loop.clock.sleep(for: .milliseconds(20))
                continue
            }
            await drain(link)
        }
        return Termination(code: nil, oomKilled: false, requested: false, reason: "cancelled")
    }

    /// Reads a link that nobody else wants, until the end, or until somebody attaches.
    private func drain(_ link: KeeperLink) async {
        var buffer = ByteBuffer()
        while ended.now == nil {
            guard let count = try? await link.read(into: &buffer, atMost: 64 << 10), count > 0 else { break }
            buffer.removeAll()
        }
        if link.gone.now == nil, ended.now == nil { link.close() }
    }

    /// Waits for one of two.
    private func firstOf(_ end: Settlement<Termination>, _ gone: Settlement<Bool>) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { _ = await end.value() }
            group.addTask { _ = await gone.value() }
            _ = await group.next()
            group.cancelAll()
        }
    }

    package func kill() async {
        state.withLock { $0.requested = true }
        if let link = state.withLock({ $0.link }), link.gone.now == nil, ended.now == nil {
            // The keeper notes that the end was asked for. Its own kill and ours may come in any order.
            _ = try? await withDeadline(.milliseconds(100), clock: loop.clock) { try await link.write(frame(.kill)) }
            // The keeper kills and reaps everything by itself, and reading the groups meanwhile only takes its time; but
            // what is frozen must be thawed by us.
            if !group.isFrozen, await endsSoon() { return }
        }
        await killGroup()
    }

    /// Whether the keeper says within 100 ms that everything has ended.
    private func endsSoon() async -> Bool {
        let end = try? await withDeadline(.milliseconds(100), clock: loop.clock) { [ended] in await ended.value() }
        return end != nil
    }

    /// Kills every process of the sandbox. A frozen one dies only after it was thawed, and is thawed only after the signal.
    func killGroup() async {
        let (group, logger, id) = (group, backend.logger, record.id)
        await onOwnThread {
            let end = SystemTime.monotonic + 5_000_000_000
            var pause: UInt32 = 200
            while group.killMembers() {
                try? group.setFrozen(false)
                guard SystemTime.monotonic < end else {
                    logger.warning("processes of a sandbox do not die", ("id", id))
                    return
                }
                SystemThread.pause(microseconds: pause)
                pause = min(pause * 2, 20_000)
            }
        }
    }

    package func release() async {
        let isMine = state.withLock { state -> Bool in
            defer { state.released = true }
            return !state.released
        }
        guard isMine else { return }
        await dismissKeeper()
        await backend.remove(id: record.id, keeper: keeper, lease: lease)
        let link = state.withLock { state -> KeeperLink? in
            state.network = nil
            defer { state.link = nil }
            return state.link
        }
        link?.close()
    }

    /// Tells the keeper that it may go and waits for that; `remove` deals with one that does not.
    private func dismissKeeper() async {
        guard keeper.isAlive else { return }
        try? await withDeadline(.seconds(2), clock: loop.clock) { [self] in
            // A keeper goes only when its sandbox has ended and said so.
            if ended.now == nil { await drain(try await attach().1) }
            var link = state.withLock { $0.link }
            if link == nil || link?.gone.now != nil { link = try await attach().1 }
            try await link?.write(frame(.release))
            if let child {
                _ = try await child.wait()
            } else {
                while keeper.isAlive { try await loop.clock.sleep(for: .milliseconds(1)) }
            }
        }
    }

    // MARK: - State for the other half

    /// A descriptor of the sandbox's network namespace; nil when it has ended.
    var network: SharedDescriptor? { state.withLock { $0.network } }

    /// The first process inside, while nothing runs there and this process has booted it.
    var firstProcess: Int32? { Int32(exactly: state.withLock { $0.firstProcess }).flatMap { $0 > 1 ? $0 : nil } }

    package var networkNamespace: SharedDescriptor? { network }
}
