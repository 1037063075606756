internal import AegisClient
internal import AegisIO
internal import Synchronization

/// Runs a process session at the terminal: raw mode, window size, signals, progress.
final class StreamRunner: Sendable {
    /// What ctrl-C, SIGTERM and SIGHUP do the first time; the second time this program ends at once.
    enum Interruption: Sendable {
        /// The body stops the process; then this program ends as if by the signal.
        case stops(@Sendable () async -> Void)
        /// The process gets the signal, and decides.
        case forwards
        /// This program ends; the process goes on.
        case leaves
    }

    private let context: Context
    private let progress: ProgressLine
    private let interruption: Interruption
    /// Whether the process has a terminal, which is then this one.
    private let tty: Mutex<Bool>
    /// Whether the keys go to the process; else ^C is still for this program.
    private let takesKeys: Bool
    private let stoppedBy = Mutex<Int32?>(nil)
    private let session = Mutex<ProcessSession?>(nil)

    /// This program's signals: INT, TERM and HUP end it; WINCH and CONT are about the terminal.
    private static let ending: [Int32] = [2, 15, 1]
    private static let windowChanged: Int32 = 28
    private static let continued: Int32 = 18

    /// - Parameters:
    ///   - context: streams and loop.
    ///   - quiet: no progress.
    ///   - tty: whether the process is known to have a terminal; else the daemon says so.
    ///   - input: whether standard input is handed on.
    ///   - interruption: what the first signal does.
    init(_ context: Context, quiet: Bool, tty: Bool, input: Bool, interruption: Interruption) {
        self.context = context
        self.interruption = interruption
        takesKeys = input && context.console.inputIsTerminal
        self.tty = Mutex(tty)
        progress = ProgressLine(context.console, enabled: !quiet)
    }

    private enum Part: Sendable { case ended(StreamExit), watched }

    /// Makes a session with `make` and runs it to its end.
    ///
    /// - Throws: `Interrupted` after a signal, and what the session throws.
    func run(_ make: (ProcessSession.Listener) -> ProcessSession) async throws -> StreamExit {
        let signals = try SignalSource(Self.ending + [Self.windowChanged, Self.continued], on: context.loop)
        let session = make(
            ProcessSession.Listener(
                notice: { _, text in await self.progress.show(text) },
                // The session waits for this: the first output finds the terminal as it should be.
                started: { terminal in
                    await self.progress.finish()
                    self.tty.withLock { $0 = $0 || terminal }
                    await self.takeTerminal()
                },
                lost: { bytes in
                    await self.context.console.say("aegis: \(bytes) bytes of output were lost (output-lost)\n")
                }))
        self.session.withLock { $0 = session }
        defer {
            Terminal.restore()
            self.session.withLock { $0 = nil }
        }
        return try await withThrowingTaskGroup(of: Part.self) { group in
            defer {
                group.cancelAll()
                signals.close()
            }
            group.addTask { .ended(try await session.run()) }
            group.addTask {
                try await self.watch(signals, session)
                return .watched
            }
            while let part = try await next(&group) {
                guard case .ended(let exit) = part else { continue }
                await progress.clear()
                if let number = stoppedBy.withLock({ $0 }) { throw Interrupted(signal: number) }
                return exit
            }
            throw IOError.cancelled
        }
    }

    /// What ends next; when a signal has stopped the process, whatever came of that is the signal's doing.
    private func next(_ group: inout ThrowingTaskGroup<Part, any Error>) async throws -> Part? {
        do { return try await group.next() } catch {
            guard let number = stoppedBy.withLock({ $0 }) else { throw error }
            await progress.clear()
            throw Interrupted(signal: number)
        }
    }

    /// The process is there: the terminal is its own from now on.
    private func takeTerminal() async {
        await progress.clear()
        guard tty.withLock({ $0 }) else { return }
        if takesKeys { try? Terminal.makeRaw(0) }
        if let size = Terminal.ofThisProcess {
            session.withLock { $0 }?.resize(rows: size.rows, columns: size.columns)
        }
    }

    private func watch(_ signals: SignalSource, _ session: ProcessSession) async throws {
        try await withThrowingTaskGroup(of: Void.self) { stopping in
            defer { stopping.cancelAll() }
            var count = 0
            while true {
                let number = try await signals.next()
                if number == Self.windowChanged || number == Self.continued {
                    // After SIGCONT the shell has put its own mode back.
                    if session.hasStarted { await takeTerminal() }
                    continue
                }
                count += 1
                guard count == 1, session.hasStarted else { throw Interrupted(signal: number) }
                switch interruption {
                case .leaves: throw Interrupted(signal: number)
                case .forwards: session.signal(UInt8(truncatingIfNeeded: number))
                case .stops(let stop):
                    stoppedBy.withLock { $0 = number }
                    stopping.addTask { await stop() }
                }
            }
        }
    }
}

/// A signal ended this program.
package struct Interrupted: Error, Equatable {
    /// The signal's number.
    package var signal: Int32
    /// What a shell says.
    package var exitCode: Int32 { 128 + signal }
    /// Makes the error.
    package init(signal: Int32) { self.signal = signal }
}
