internal import CLinux
internal import Glibc

/// CRC-32C (Castagnoli), in hardware where the processor has it.
package enum CRC32C {
    /// The checksum of bytes, continued from that of the bytes before them.
    package static func of(_ bytes: Span<UInt8>, after before: UInt32 = 0) -> UInt32 {
        unsafe bytes.withUnsafeBytes { unsafe al_crc32c(before, $0.baseAddress, $0.count) }
    }
}

/// Newlines in bytes, at the speed of the C library.
package enum Newlines {
    /// Where the first newline is; nil if there is none.
    package static func first(in bytes: Span<UInt8>) -> Int? {
        let at = unsafe bytes.withUnsafeBytes { unsafe al_first_newline($0.baseAddress, $0.count) }
        return at < 0 ? nil : at
    }
    /// Where the last newline is; nil if there is none.
    package static func last(in bytes: Span<UInt8>) -> Int? {
        let at = unsafe bytes.withUnsafeBytes { unsafe al_last_newline($0.baseAddress, $0.count) }
        return at < 0 ? nil : at
    }
    /// How many there are.
    package static func count(in bytes: Span<UInt8>) -> Int {
        unsafe bytes.withUnsafeBytes { unsafe al_count_newlines($0.baseAddress, $0.count) }
    }
}

extension FileDescriptor {
    /// Writes three pieces, one after the other, at a position of the file with one call.
    ///
    /// - Returns: how many bytes the kernel took, which may be fewer than given (a full disk).
    package borrowing func write(_ a: Span<UInt8>, _ b: Span<UInt8>, _ c: Span<UInt8>, at offset: UInt64) throws(Errno)
        -> Int
    {
        let raw = raw
        let result = unsafe a.withUnsafeBytes { a in
            unsafe b.withUnsafeBytes { b in
                unsafe c.withUnsafeBytes { c in
                    unsafe al_write_pieces(
                        raw, offset, a.baseAddress, a.count, b.baseAddress, b.count, c.baseAddress, c.count)
                }
            }
        }
        return try check(result)
    }

    /// Reads at a position what the kernel has in memory.
    ///
    /// - Returns: bytes read, 0 at the end; nil when the disk would have to be waited for, or when that is unknown.
    package borrowing func readCached(at offset: UInt64, into buffer: inout [UInt8]) throws(Errno) -> Int? {
        let raw = raw
        let result = unsafe buffer.withUnsafeMutableBytes {
            unsafe al_read_cached(raw, $0.baseAddress, $0.count, offset)
        }
        if result >= 0 { return result }
        let error = Errno.current
        if error == .wouldBlock || error == .notSupported { return nil }
        throw error
    }
}
