package import LinuxSys
internal import Synchronization

/// A byte stream over a descriptor: socket, pipe, terminal, or a regular file (which is always ready).
///
/// It works from any task, best from one on its loop. Closing is safe from everywhere; the last reference closes too.
package final class FileStream: ByteStream {
    /// How bytes move without ever blocking the loop.
    enum Method: Sendable {
        /// `recv` and `send` with `MSG_DONTWAIT`: the flags of the open file do not matter.
        case socket
        /// `read` and `write` on an open file that is ours and has `O_NONBLOCK`.
        case nonblocking
        /// The open file is shared with others who expect it to block (an inherited terminal or pipe): ask `poll` before
        /// each call, and write no more than always fits.
        case polled
    }

    /// What a polled write may hand over: a pipe that is writable takes a page, a terminal's queue a few hundred bytes.
    private static var polledPortion: Int { 512 }

    let watched: WatchedDescriptor
    private let method: Method
    private let isTerminal: Bool
    /// Reads and writes so far.
    private let streak = Atomic<UInt64>(0)
    private static var streakLimit: UInt64 { 64 }
    /// The last read took everything that was there; a later arrival is an edge that a wait returns from.
    private let drained = Atomic<Bool>(true)
    /// Counts what moves; few streams have one, and those that have none ask for no lock.
    let meter = Mutex<(any StreamMeter)?>(nil)
    let isMetered = Atomic<Bool>(false)
    /// The loop that watches the descriptor.
    package var loop: EventLoop { watched.loop }

    /// Takes a descriptor over and makes it non-blocking, which everyone sees who shares its open file.
    ///
    /// Descriptors that this process inherited are shared with others: use `standardInput` and its siblings for them.
    package init(_ descriptor: consuming FileDescriptor, on loop: EventLoop) throws(IOError) {
        let isSocket = descriptor.isSocket()
        do throws(Errno) {
            if !isSocket { try descriptor.setNonblocking(true) }
            isTerminal = descriptor.isTerminal()
            method = isSocket ? .socket : .nonblocking
            watched = try WatchedDescriptor(descriptor, on: loop)
        } catch { throw .system(error, "watching a descriptor") }
    }

    /// Takes a descriptor over without changing its open file.
    init(shared descriptor: consuming FileDescriptor, method: Method, on loop: EventLoop) throws(IOError) {
        isTerminal = descriptor.isTerminal()
        self.method = method
        do throws(Errno) { watched = try WatchedDescriptor(descriptor, on: loop) } catch {
            throw .system(error, "watching a descriptor")
        }
    }

    deinit { watched.close() }

    // MARK: Reading

    package func read(into buffer: inout ByteBuffer, atMost limit: Int) async throws(IOError) -> Int {
        precondition(limit > 0, "a read of nothing")
        while true {
            if Task.isCancelled { throw .cancelled }
            if let count = try readNow(into: &buffer, atMost: limit) {
                await letOthersRun()
                return count
            }
            try await wait(.read, for: "reading")
        }
    }

    /// Reads what is there without waiting.
    ///
    /// - Returns: nil when nothing is there now; 0 at the end of the stream.
    package func readNow(into buffer: inout ByteBuffer, atMost limit: Int = 64 << 10) throws(IOError) -> Int? {
        try metered(reading: limit) { (allowed) throws(IOError) in try receive(into: &buffer, atMost: allowed) }
    }

    private func receive(into buffer: inout ByteBuffer, atMost limit: Int) throws(IOError) -> Int? {
        let method = method
        do throws(WatchedDescriptor.Failure) {
            let count: Int? = try watched.perform { descriptor throws(Errno) in
                if method == .polled, !descriptor.isReady(forWriting: false) { throw .wouldBlock }
                return try unsafe buffer.fill(atMost: limit) { room throws(Errno) in
                    let count =
                        method == .socket
                        ? try unsafe descriptor.receive(into: room) : try unsafe descriptor.read(into: room)
                    drained.store(count < room.count, ordering: .relaxed)
                    return count
                }
            }
            if count == nil { drained.store(true, ordering: .relaxed) }
            return count
        } catch {
            // A terminal whose other side has gone says EIO; that is its end of file.
            if isTerminal, case .system(.ioError) = error { return 0 }
            throw error.error("reading")
        }
    }

    /// Whether a read without waiting could find something: the last one stopped early, something has come since, or the
    /// peer's end has (whose edge may have been used up by the bytes before it).
    var mayHaveMore: Bool { !drained.load(ordering: .relaxed) || watched.peerEnding > 0 }

    /// Notes that a wait has ended with an arrival.
    func noteArrival() { drained.store(false, ordering: .relaxed) }

    /// A stream that is always ready would keep its task on the loop for ever: now and then it stands back.
    private func letOthersRun() async {
        if streak.add(1, ordering: .relaxed).newValue % Self.streakLimit == 0 { await Task.yield() }
    }

    // MARK: Writing

    package func write(_ bytes: ArraySlice<UInt8>) async throws(IOError) {
        var rest = bytes
        guard watched.beginWriting() else { throw .system(.busy, "writing from two tasks at once") }
        defer { watched.endWriting() }
        while !rest.isEmpty {
            if Task.isCancelled { throw .cancelled }
            if let count = try writeNow(rest) {
                rest = rest.dropFirst(count)
                await letOthersRun()
            } else {
                try await wait(.write, for: "writing")
            }
        }
    }

    /// Writes what the kernel takes without waiting; only for the one task that writes.
    ///
    /// - Returns: how many bytes; nil when it takes none now.
    package func writeNow(_ bytes: ArraySlice<UInt8>) throws(IOError) -> Int? {
        guard !bytes.isEmpty else { return try send(bytes) }
        return try metered(writing: bytes.count) { (allowed) throws(IOError) in try send(bytes.prefix(allowed)) }
    }

    private func send(_ bytes: ArraySlice<UInt8>) throws(IOError) -> Int? {
        let method = method
        do throws(WatchedDescriptor.Failure) {
            return try watched.perform { descriptor throws(Errno) in
                switch method {
                case .socket: return try descriptor.send(bytes)
                case .nonblocking: return try descriptor.write(bytes)
                case .polled:
                    guard descriptor.isReady(forWriting: true) else { throw .wouldBlock }
                    return try descriptor.write(bytes.prefix(Self.polledPortion))
                }
            }
        } catch { throw error.error("writing") }
    }

    func wait(_ side: WatchedDescriptor.Side, for what: String) async throws(IOError) {
        switch await watched.wait(side) {
        case .ready: return
        case .closed: throw .closed
        case .cancelled: throw .cancelled
        case .timedOut: throw .timeout
        case .busy: throw .system(.busy, "\(what) from two tasks at once")
        }
    }

    // MARK: Closing

    /// Ends the writing direction. A descriptor that can only write is closed; one that can do both and is no socket
    /// cannot be half-closed (`ENOTSOCK`).
    package func closeWrite() throws(IOError) {
        let isSocket = method == .socket
        do throws(WatchedDescriptor.Failure) {
            let closesAll = try watched.perform { descriptor throws(Errno) -> Bool in
                if isSocket {
                    try descriptor.shutdown(.write)
                    return false
                }
                guard try descriptor.access() == .writeOnly else { throw .notSocket }
                return true
            }
            if closesAll == true { close() }
        } catch {
            // The peer was faster: there is no direction left to end.
            if case .system(.notConnected) = error { return }
            throw error.error("half-closing")
        }
    }

    package func close() { watched.close() }

    // MARK: Sockets

    /// Who is at the other end of a Unix socket.
    package func peerCredentials() throws(IOError) -> PeerCredentials {
        try withDescriptor("asking for the peer") { descriptor throws(Errno) in try descriptor.peerCredentials() }
    }

    /// The TCP port of this end.
    package func localPort() throws(IOError) -> UInt16 {
        try withDescriptor("asking for the port") { descriptor throws(Errno) in try descriptor.localPort() }
    }

    /// Lends the descriptor for a call that does not block; it cannot be closed meanwhile.
    ///
    /// - Parameters:
    ///   - what: what the call does, for the error's message.
    ///   - body: must neither block nor call back into this stream.
    /// - Returns: what `body` returned.
    /// - Throws: `IOError` of kind `.system`, `.closed`, `.cancelled` or `.timeout`.
    package func withDescriptor<R: Sendable>(
        _ what: String, _ body: (borrowing FileDescriptor) throws(Errno) -> R
    ) throws(IOError) -> R {
        do throws(WatchedDescriptor.Failure) {
            if let result = try watched.perform(body) { return result }
        } catch { throw error.error(what) }
        throw .system(.wouldBlock, what)
    }
}
