import AegisIO
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

/// Lets every task of this loop run until it waits: the loop runs its jobs first in, first out.
func settle() async { for _ in 0..<8 { await Task.yield() } }

/// Two connected Unix sockets as streams.
func socketStreams(on loop: EventLoop) throws -> (FileStream, FileStream) {
    var pair = try DescriptorPair.sockets()
    return (try FileStream(pair.takeFirst(), on: loop), try FileStream(pair.takeSecond(), on: loop))
}

/// A pipe's ends as streams: what is written to the second is read from the first.
func pipeStreams(on loop: EventLoop) throws -> (FileStream, FileStream) {
    var pair = try DescriptorPair.pipe()
    return (try FileStream(pair.takeFirst(), on: loop), try FileStream(pair.takeSecond(), on: loop))
}

/// Keeps objects alive until here.
func keep<each T>(_ objects: repeat each T) { repeat withExtendedLifetime(each objects) {} }

/// Bytes in which every position is recognisable.
func pattern(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + block.count)
    while bytes.count < count { bytes += block }
    return Array(bytes.prefix(count))
}

/// A length that no power of two divides, so that a lost or doubled piece shows.
private let block: [UInt8] = (0..<4093).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }

/// The kind of error that a call ended with; nil when it succeeded.
func kind<T>(_ body: () async throws -> T) async -> IOError.Kind? {
    do {
        _ = try await body()
        return nil
    } catch { return (error as? IOError)?.kind }
}

/// Echoes until the peer ends its direction.
func echo(_ stream: FileStream) async throws {
    var buffer = ByteBuffer()
    while try await stream.read(into: &buffer) > 0 { try await stream.write(buffer.takeAll()) }
    stream.close()
}

extension String {
    init(bytes: [UInt8]) { self.init(decoding: bytes, as: UTF8.self) }
}

extension FileStream {
    /// Waits until a process's descriptor says that it has ended; reading it is not possible.
    func isEnded() async -> Bool {
        while true {
            let ready = try? withDescriptor("asking") { descriptor throws(Errno) in
                descriptor.isReady(forWriting: false)
            }
            if ready == true { return true }
            if ready == nil { return false }
            await Task.yield()
        }
    }
}

/// A value that several tasks change.
final class Shared<Value: Sendable>: Sendable {
    private let mutex: Mutex<Value>
    init(_ value: Value) { mutex = Mutex(value) }
    var value: Value { mutex.withLock { $0 } }
    func change(_ body: (inout Value) -> Void) { mutex.withLock { body(&$0) } }
}
