internal import AegisCore
package import AegisIO
internal import LinuxSys
internal import Synchronization

/// The three standard streams. Results go to `out`, everything that Aegis has to say goes to `err`.
package final class Console: Sendable {
    private struct Streams {
        var input: (any ByteStream)?
        var out: (any ByteStream)?
        var err: (any ByteStream)?
    }
    private let streams: Mutex<Streams>
    private let loop: EventLoop
    package let inputIsTerminal: Bool
    package let outIsTerminal: Bool
    package let errIsTerminal: Bool
    /// Whether standard output and standard error lead to one place: a terminal, or `2>&1`.
    package let outAndErrAreOne: Bool

    /// This process's own streams, opened when they are first used.
    package init(on loop: EventLoop) {
        self.loop = loop
        streams = Mutex(Streams())
        inputIsTerminal = Terminal.isTerminal(0)
        outIsTerminal = Terminal.isTerminal(1)
        errIsTerminal = Terminal.isTerminal(2)
        outAndErrAreOne = Self.isOnePlace(1, 2)
    }

    /// Given streams, for tests.
    package init(
        on loop: EventLoop, input: any ByteStream, out: any ByteStream, err: any ByteStream, terminals: Bool = false
    ) {
        self.loop = loop
        streams = Mutex(Streams(input: input, out: out, err: err))
        inputIsTerminal = terminals
        outIsTerminal = terminals
        errIsTerminal = terminals
        outAndErrAreOne = terminals || out === err
    }

    private static func isOnePlace(_ one: Int32, _ other: Int32) -> Bool {
        guard let a = try? FileDescriptor.duplicating(one).status(),
            let b = try? FileDescriptor.duplicating(other).status()
        else { return false }
        return a.isSameFile(as: b)
    }

    /// Standard input.
    package func input() throws(IOError) -> any ByteStream {
        try opened({ $0.input }, { $0.input = $1 }) { loop throws(IOError) in try FileStream.standardInput(on: loop) }
    }
    /// Standard output.
    package func out() throws(IOError) -> any ByteStream {
        try opened({ $0.out }, { $0.out = $1 }) { loop throws(IOError) in try FileStream.standardOutput(on: loop) }
    }
    /// Standard error.
    package func err() throws(IOError) -> any ByteStream {
        try opened({ $0.err }, { $0.err = $1 }) { loop throws(IOError) in try FileStream.standardError(on: loop) }
    }

    private func opened(
        _ get: (Streams) -> (any ByteStream)?, _ set: (inout Streams, any ByteStream) -> Void,
        _ open: (EventLoop) throws(IOError) -> FileStream
    ) throws(IOError) -> any ByteStream {
        if let known = streams.withLock({ get($0) }) { return known }
        let new = try open(loop)
        streams.withLock { set(&$0, new) }
        return new
    }

    /// Prints a result.
    ///
    /// - Throws: `ReaderGone` when nobody reads any more.
    package func print(_ text: String) async throws {
        guard !text.isEmpty else { return }
        try await print(Array(text.utf8)[...])
    }

    /// Prints bytes of a result.
    ///
    /// - Throws: `ReaderGone` when nobody reads any more.
    package func print(_ bytes: ArraySlice<UInt8>) async throws {
        do throws(IOError) { try await out().write(bytes) } catch {
            if error.errno == .brokenPipe { throw ReaderGone() }
            throw AegisError.failed("output-failed", "standard output: \(error)")
        }
    }

    /// Says something on stderr; when that is closed there is nobody to tell.
    package func say(_ text: String) async { await say(Array(text.utf8)) }

    /// Bytes on stderr.
    package func say(_ bytes: [UInt8]) async {
        guard !bytes.isEmpty else { return }
        do throws(IOError) { try await err().write(bytes) } catch { return }
    }
}

extension ByteStream {
    /// The next bytes; nil at the end.
    package func readPiece() async throws(IOError) -> [UInt8]? {
        var buffer = ByteBuffer()
        return try await read(into: &buffer, atMost: 256 << 10) > 0 ? buffer.takeAll() : nil
    }
}

/// Whoever read our output has closed it: an end without a word.
package struct ReaderGone: Error, Equatable {
    /// What a shell shows for a program that SIGPIPE ended.
    package static let exitCode: Int32 = 141
    /// Makes the error.
    package init() {}
}
