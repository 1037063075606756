import AegisCapabilities
import AegisIO
import CCares
import LinuxSys

/// One name's way to its addresses: c-ares writes the questions and reads the answers, the loop says when.
///
/// A lookup has a channel of its own, and so sockets of its own: each asks from ports that nobody could foresee, ends alone, and
/// finds the host's configuration as it is now. It belongs to one thread at a time, from `ask` on to the loop's (hence
/// `@unchecked Sendable`).
///
/// What is read here was written by strangers: whoever owns a name that an instance may reach says what it leads to. It is read in
/// the daemon, as the C library's own resolver would have been, which this one replaces: c-ares is maintained with Debian's
/// security updates, is fuzzed, and gets nothing to read but answers of the host's own name servers to questions for A and AAAA that
/// were asked, from the address and for the number that they were asked with. No instance sends it a byte.
@safe final class HostLookup: @unchecked Sendable {
    private let raw: UnsafeMutablePointer<al_dns>
    private let name: String
    private let loop: EventLoop
    private var watches: [Int32: BorrowedDescriptor] = [:]
    private var timer: LoopTimer?
    private var waiter: CheckedContinuation<Result<[IPAddress], any Error>, Never>?
    /// When to end, whatever has come; in the time of `SystemTime.monotonic`.
    private var limit: UInt64 = 0
    /// When an IPv4 answer came, the time until which the other one is waited for.
    private var grace: UInt64?

    /// Where a name is looked for.
    enum Place: Sendable {
        /// In the host's hosts file.
        case file
        /// At its name servers, or at others (`ADDRESS:PORT`).
        case servers(String?)
    }

    /// Milliseconds until a question is asked again, more each time, of the next server where there is one.
    private static var repetition: Int32 { 2000 }
    private static var tries: Int32 { 3 }
    /// How much longer the IPv6 answer may take than the other: some servers never give one.
    private static var graceTime: UInt64 { 1_000_000_000 }
    private static var four: Int32 { Int32(AL_DNS_IPV4) }
    private static var six: Int32 { Int32(AL_DNS_IPV6) }
    /// Must be called before everything else of c-ares, once.
    private static let libraryStatus = al_dns_start()

    /// Reads the host's configuration.
    ///
    /// - Throws: `ResolutionError`.
    init(_ name: String, in place: Place, on loop: EventLoop) throws(ResolutionError) {
        var status = Self.libraryStatus
        var made: UnsafeMutablePointer<al_dns>?
        if al_dns_succeeded(status) != 0 {
            switch place {
            case .file: unsafe made = al_dns_new("f", nil, Self.repetition, Self.tries, &status)
            case .servers(let servers):
                unsafe made = al_dns_new("b", servers, Self.repetition, Self.tries, &status)
            }
        }
        guard let made = unsafe made else { throw ResolutionError(Self.words(status)) }
        unsafe raw = made
        self.name = name
        self.loop = loop
    }

    // Its sockets are gone by now: `finish` sees to that, or it never had any.
    deinit { unsafe al_dns_free(raw) }

    private static func words(_ status: Int32) -> String {
        unsafe al_dns_words(status).map { unsafe String(cString: $0) } ?? "error \(status)"
    }

    /// What has been found so far, IPv4 first.
    private var addresses: [IPAddress] {
        [Self.four, Self.six].flatMap { family in
            let count = unsafe al_dns_count(raw, family)
            return (0..<count).compactMap { index in
                unsafe al_dns_address(raw, family, index).flatMap { IPAddress(unsafe String(cString: $0)) }
            }
        }
    }

    /// The addresses that the host's file has; reads it here and now.
    func read() -> [IPAddress] {
        unsafe al_dns_ask(raw, name, Self.four)
        unsafe al_dns_ask(raw, name, Self.six)
        return addresses
    }
}

/// Asking name servers, on the loop's thread.
extension HostLookup {
    /// Asks, and waits for the answers.
    ///
    /// - Parameters:
    ///   - time: after which it counts what has come.
    ///   - withIPv6: whether it is asked for addresses of IPv6, too.
    /// - Returns: at least one, IPv4 first.
    /// - Throws: `ResolutionError`; `CancellationError`.
    func ask(within time: Duration, withIPv6: Bool) async throws -> [IPAddress] {
        try await loop.run {
            let result = await withTaskCancellationHandler {
                await withCheckedContinuation { self.begin($0, time, withIPv6) }
            } onCancel: {
                // From any thread; on the loop's it comes after `begin`.
                _ = LoopTimer(after: .zero, on: self.loop) { _ in self.finish(.failure(CancellationError())) }
            }
            return try result.get()
        }
    }

    private func begin(
        _ waiter: CheckedContinuation<Result<[IPAddress], any Error>, Never>, _ time: Duration, _ withIPv6: Bool
    ) {
        guard !Task.isCancelled else { return waiter.resume(returning: .failure(CancellationError())) }
        self.waiter = waiter
        limit = SystemTime.monotonic + UInt64(max(0, time / .nanoseconds(1)))
        unsafe raw.pointee.user = Unmanaged.passUnretained(self).toOpaque()
        unsafe raw.pointee.begin = { user, socket in unsafe HostLookup.of(user)?.watch(socket) }
        unsafe raw.pointee.end = { user, socket in
            unsafe HostLookup.of(user)?.watches.removeValue(forKey: socket)?.end()
        }
        unsafe al_dns_ask(raw, name, Self.four)
        if withIPv6 { unsafe al_dns_ask(raw, name, Self.six) }
        goOn()
    }

    private static func of(_ user: UnsafeMutableRawPointer?) -> HostLookup? {
        // SAFETY: it is `self`, which calls c-ares and is told from inside the calls.
        unsafe user.map { unsafe Unmanaged<HostLookup>.fromOpaque($0).takeUnretainedValue() }
    }

    private func watch(_ socket: Int32) {
        // One that cannot be watched is one that never answers: the next server is asked in time.
        watches[socket] = try? BorrowedDescriptor(socket, on: loop) { [weak self] in self?.goOn() }
    }

    /// Lets c-ares do what can be done now, and waits for the next thing.
    private func goOn() {
        guard waiter != nil else { return }
        timer?.cancel()
        let isBusy = unsafe al_dns_go_on(raw) != 0
        let now = SystemTime.monotonic
        if let result = result(at: now) { return finish(result) }
        // Never zero: rounding must not make it spin.
        let patience = unsafe UInt64(max(1, al_dns_patience(raw))) * 1_000_000
        let next = isBusy ? now : min(now + patience, limit, grace ?? limit)
        timer = LoopTimer(after: .nanoseconds(Int64(next - min(now, next))), on: loop) { [weak self] isDue in
            guard isDue else { self?.finish(.failure(CancellationError())); return }
            self?.goOn()
        }
    }

    /// What has come of it; nil while it is worth waiting.
    private func result(at now: UInt64) -> Result<[IPAddress], any Error>? {
        let (four, six) = (Self.four, Self.six)
        let isDone = unsafe (four: al_dns_is_done(raw, four) != 0, six: al_dns_is_done(raw, six) != 0)
        let hasIPv4 = unsafe isDone.four && al_dns_count(raw, four) > 0
        if hasIPv4, grace == nil { grace = now + Self.graceTime }
        let isOver = unsafe al_dns_patience(raw) < 0
        guard isOver || now >= limit || (hasIPv4 && now >= grace ?? .max) else { return nil }
        let found = addresses
        guard found.isEmpty else { return .success(found) }
        guard isDone.four else { return .failure(ResolutionError("the name servers do not answer")) }
        // That there is nothing of one family says less than what happened to the other.
        let statuses = unsafe (four: al_dns_status(raw, four), six: al_dns_status(raw, six))
        let isEmpty = al_dns_is_empty(statuses.four) != 0 && isDone.six
        return .failure(ResolutionError(Self.words(isEmpty ? statuses.six : statuses.four)))
    }

    private func finish(_ result: Result<[IPAddress], any Error>) {
        guard let waiter else { return }
        self.waiter = nil
        timer?.cancel()
        timer = nil
        unsafe al_dns_stop(raw)
        waiter.resume(returning: result)
    }
}
