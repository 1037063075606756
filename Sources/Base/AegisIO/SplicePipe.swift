internal import LinuxSys

/// A pipe through which bytes go from one socket to another without entering this program's memory.
///
/// It belongs to one task at a time. Bytes that it holds are lost with it.
package final class SplicePipe: Sendable {
    private let output: FileDescriptor
    private let input: FileDescriptor

    /// What should fit: enough that a long body takes few calls.
    private static var room: Int32 { 256 << 10 }

    /// A new, empty pipe.
    package init() throws(IOError) {
        do throws(Errno) {
            var pair = try DescriptorPair.relayPipe(room: Self.room)
            output = pair.takeFirst()
            input = pair.takeSecond()
        } catch { throw .system(error, "making a pipe") }
    }

    fileprivate func take(from source: borrowing FileDescriptor, _ count: Int) throws(Errno) -> Int {
        try source.splice(to: input, atMost: count)
    }
    fileprivate func give(to target: borrowing FileDescriptor, _ count: Int) throws(Errno) -> Int {
        try output.splice(to: target, atMost: count)
    }
}

extension FileStream {
    /// Moves what has come into an empty pipe, without waiting.
    ///
    /// - Returns: how many bytes the pipe holds now; 0 at the end of the stream, nil when nothing is there now.
    package func splice(into pipe: SplicePipe, atMost limit: Int) throws(IOError) -> Int? {
        try metered(reading: limit) { (allowed) throws(IOError) in
            do throws(WatchedDescriptor.Failure) {
                return try watched.perform { descriptor throws(Errno) in try pipe.take(from: descriptor, allowed) }
            } catch { throw error.error("reading") }
        }
    }

    /// Sends what a pipe holds, without waiting.
    ///
    /// - Returns: how many bytes left; nil when the peer takes none now.
    package func splice(from pipe: SplicePipe, count: Int) throws(IOError) -> Int? {
        try metered(writing: count) { (allowed) throws(IOError) in
            do throws(WatchedDescriptor.Failure) {
                return try watched.perform { descriptor throws(Errno) in try pipe.give(to: descriptor, allowed) }
            } catch { throw error.error("writing") }
        }
    }
}
