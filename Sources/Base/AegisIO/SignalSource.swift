internal import CLinux
internal import LinuxSys

/// Signals of this process as a stream of numbers.
///
/// A handler writes each signal into a pipe, whichever thread gets it. A signalfd would need the signal blocked in every
/// thread, and those of the language's runtime are not ours to set; here it works whenever it is made. While a source is
/// open the signals it asked for do nothing else; several sources may ask for the same.
package final class SignalSource: Sendable {
    private let stream: FileStream
    private let slot: Int32

    /// Starts to receive signals.
    ///
    /// - Throws: `EMFILE` when 16 sources are open, `EINVAL` for SIGKILL, SIGSTOP or no signal at all.
    package init(_ signals: [Int32], on loop: EventLoop) throws(IOError) {
        var mask: UInt64 = 0
        for signal in signals {
            guard (1...64).contains(signal) else { throw .system(.invalidArgument, "receiving signal \(signal)") }
            mask |= 1 << UInt64(signal - 1)
        }
        var slot: Int32 = -1
        let descriptor = unsafe al_signals_open(mask, &slot)
        guard descriptor >= 0 else { throw .system(Errno.current, "receiving signals \(signals)") }
        self.slot = slot
        do throws(IOError) {
            stream = try FileStream(FileDescriptor(owning: descriptor), on: loop)
        } catch {
            al_signals_close(slot)
            throw error
        }
    }

    deinit { al_signals_close(slot) }

    /// Waits for the next signal; those that come between two calls are kept, in order.
    package func next() async throws(IOError) -> Int32 {
        var buffer = ByteBuffer()
        guard try await stream.read(into: &buffer, atMost: 1) == 1 else { throw .closed }
        return Int32(buffer[0])
    }

    /// Ends `next` with `.closed`; the signals keep going nowhere until the source is released.
    package func close() { stream.close() }
}
