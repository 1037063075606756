internal import AegisCore
internal import AegisIO
internal import LinuxSys
internal import Synchronization

/// One connection of a server: what has been read and not used, and the exchange that goes on.
///
/// Two tasks share it. The *pump* does all reading of the stream, up to a bound, so that it sees the peer go away also
/// while a handler works; the *worker* takes requests one after the other and runs the handler. Whatever they share is
/// under one lock that is never held across a wait.
final class HTTPServerConnection: Sendable {
    /// Why no more bytes will come.
    enum Ending: Sendable, Equatable {
        case endOfStream
        case failed
        case timeout
        case stopped
    }

    struct State: ~Copyable {
        var buffer = ByteBuffer()
        var parser: HTTPRequestParser
        var exchange: HTTPExchange?
        var served = 0
        var ending: Ending?
        var handlerRuns = false
        var bodyIsRead = false
        var upgraded = false
        /// The worker is done with the connection.
        var finished = false
        /// The server stops: no request after the present one.
        var stopping = false
        /// Parts of answers that the stream has taken.
        var sent: UInt64 = 0
        /// The worker waits for the first byte of a request.
        var idle = false
    }

    let stream: any ByteStream
    let peer: HTTPPeer
    let limits: HTTPServerLimits
    let state: Mutex<State>
    /// For the worker: bytes came, or none will.
    let input = Signal()
    /// For the pump: there is room, or the phase has changed.
    let room = Signal()
    private let keeper: DeadlineKeeper
    private let key = Mutex<DeadlineKeeper.Key?>(nil)

    init(_ stream: any ByteStream, peer: HTTPPeer, limits: HTTPServerLimits, keeper: DeadlineKeeper) {
        self.stream = stream
        self.peer = peer
        self.limits = limits
        self.keeper = keeper
        state = Mutex(State(parser: HTTPRequestParser(limits: limits.message)))
    }

    /// Serves the connection until it ends; then the stream is closed.
    func run(_ handler: @escaping HTTPServer.Handler) async {
        await run { await self.serve(handler) }
    }

    /// Says that there is no room for this connection, and ends it.
    func runRefusal(connections: Int) async {
        let error = AegisError(
            .unavailable, "too-many-connections", "the server has \(connections) connections, which is its limit",
            hint: "close idle connections, or try again later")
        await run {
            await self.refuse(error, status: 503)
            await self.linger(afterRefusal: true)
        }
    }

    private func run(_ work: @escaping @Sendable () async -> Void) async {
        let key = keeper.register { [weak self] in self?.end(.timeout) }
        self.key.withLock { $0 = key }
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await work()
                self.state.withLock { $0.finished = true }
                self.room.set()
                self.stream.close()
            }
            if await pump() { group.cancelAll() }
        }
        keeper.remove(key)
        stream.close()
    }

    /// Sets the time until which the worker must have got on, or takes it away.
    func arm(_ span: Duration?) {
        if let key = key.withLock({ $0 }) { keeper.arm(key, after: span) }
    }

    /// Notes that no more bytes will be looked at and wakes who waits for them.
    func end(_ ending: Ending) {
        state.withLock { if $0.ending == nil || ending == .stopped { $0.ending = ending } }
        input.set()
        room.set()
    }

    /// Ends the connection at once.
    func abort() {
        end(.stopped)
        stream.close()
    }

    /// Ends the connection when the present exchange is over, at once if there is none.
    func finishSoon() {
        let idle = state.withLock { state in
            state.stopping = true
            return state.idle
        }
        if idle { end(.stopped) }
    }

    // MARK: The pump

    /// Reads until the stream ends or the worker is done.
    ///
    /// - Returns: whether the peer went away while a handler was running.
    private func pump() async -> Bool {
        var chunk = ByteBuffer()
        while true {
            let wanted = state.withLock { state in
                max(0, limits.readAhead - state.buffer.readableBytes)
            }
            guard wanted > 0 else {
                await room.wait()
                if Task.isCancelled || state.withLock({ $0.finished }) { break }
                continue
            }
            let ending: Ending
            do throws(IOError) {
                if try await stream.read(into: &chunk, atMost: wanted) > 0 {
                    hand(over: &chunk)
                    continue
                }
                ending = .endOfStream
            } catch {
                ending = .failed
            }
            end(ending)
            return await peerLeftHandler(ending)
        }
        return await peerLeftHandler(.stopped)
    }

    private func hand(over chunk: inout ByteBuffer) {
        state.withLock { state in
            state.buffer.move(chunk.readableBytes, from: &chunk)
        }
        chunk.removeAll()
        input.set()
    }

    /// Since when a client that may have gone has taken nothing.
    private struct Silence {
        var since: Duration
        var sent: UInt64
    }

    /// Waits until the worker is done, or a handler runs that has nobody to answer any more.
    ///
    /// Who has ended its sending side (`shutdown`, `nc -N`) waits for the answer as a rule. Such a client is looked for now and then:
    /// one of this host is known to be there or not, and of others one that takes nothing for a while counts as gone.
    private func peerLeftHandler(_ ending: Ending) async -> Bool {
        var silence: Silence?
        let key = keeper.register { [room] in room.set() }
        defer { keeper.remove(key) }
        while !Task.isCancelled {
            enum Next { case wait, look(sent: UInt64), cancel, done }
            let next = state.withLock { state -> Next in
                if state.finished || state.upgraded { return .done }
                guard state.handlerRuns else { return .wait }
                return ending == .endOfStream && state.ending != .stopped ? .look(sent: state.sent) : .cancel
            }
            switch next {
            case .cancel: return true
            case .done: return false
            case .wait: break
            case .look(let sent):
                if hasLeft(sent, &silence) { return true }
                keeper.arm(key, after: limits.endedTick)
            }
            await room.wait()
        }
        return true
    }

    /// Whether a client that sends no more has gone, or may have and has taken nothing for its time.
    private func hasLeft(_ sent: UInt64, _ silence: inout Silence?) -> Bool {
        switch stream.presence {
        case .gone: return true
        case .there:
            silence = nil
            return false
        case .unknown:
            let now = keeper.now
            guard let before = silence, before.sent == sent else {
                silence = Silence(since: now, sent: sent)
                return false
            }
            return now - before.since >= limits.endedTime
        }
    }

    // MARK: Bytes for the worker

    /// Waits for more bytes than were there at the last look.
    ///
    /// - Throws: when none will come, or the task was cancelled.
    func waitForInput() async throws(HTTPError) {
        if let ending = state.withLock({ $0.ending }) { throw Self.error(ending) }
        await input.wait()
        if Task.isCancelled { throw HTTPError(.cancelled, "the request was cancelled") }
    }

    static func error(_ ending: Ending) -> HTTPError {
        switch ending {
        case .endOfStream, .failed: HTTPError(.closed, "the client closed the connection")
        case .timeout: HTTPError(.timeout, "the client was too slow")
        case .stopped: HTTPError(.closed, "the server is stopping")
        }
    }

    /// What a client takes at a time counts as a sign of life.
    private static let part = 64 << 10

    /// Sends bytes; after a failure the connection is of no use.
    func send(_ bytes: ArraySlice<UInt8>) async throws(HTTPError) {
        var rest = bytes
        do throws(IOError) {
            while !rest.isEmpty {
                let part = rest.prefix(Self.part)
                try await stream.write(part)
                rest = rest.dropFirst(part.count)
                state.withLock { $0.sent += 1 }
            }
        } catch {
            state.withLock { $0.exchange?.breakResponse() }
            throw HTTPError(error)
        }
    }
}

extension HTTPError {
    /// What an exchange failed with when its stream did.
    init(_ error: IOError) {
        switch error.kind {
        case .closed: self.init(.closed, "the connection was lost: \(error.message)")
        case .cancelled: self.init(.cancelled, "the exchange was cancelled")
        case .timeout: self.init(.timeout, "the connection was too slow")
        case .system: self.init(.closed, "the connection failed: \(error.message)")
        }
    }
}
