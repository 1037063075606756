import CArchive
import CLinux

/// The confined children that parse what registries send: `aegisd --helper unpack ROLE ...` calls `main`.
///
/// Roles are stages of one pipeline, each a process of its own:
/// `inflate` (compressed blob -> tar stream), `digest` (hashes and passes on) and `untar` (tar stream -> tree). The stage
/// that hashes parses nothing, and stands between those that do: so what is recorded under a layer's digest is what a
/// stream of exactly that digest unpacked to, even if a hostile image took over the decompressor or the tar reader.
package enum UnpackHelper {
    /// Runs one role to its end.
    ///
    /// - Parameter arguments: the role's name, then its numbers (see each role).
    /// - Returns: the exit status: 0, or 1 with a record on the report pipe that says why.
    package static func main(_ arguments: [String]) -> Int32 {
        let output = ReportWriter()
        do {
            try run(arguments, output)
            return output.flush() ? 0 : 1
        } catch {
            output.write(.failure(code: error.code, message: error.message))
            _ = output.flush()
            return 1
        }
    }

    private static func run(_ arguments: [String], _ output: ReportWriter) throws(HelperFailure) {
        guard al_confine_threads() == 1 else {
            throw HelperFailure("unpack-failed", "the helper was started in a process with threads")
        }
        // Room for the stages to work at the same time; what is no pipe, or may not grow, stays as it is.
        for descriptor in [0, 1] as [Int32] { _ = al_tree_pipe_room(descriptor, 1 << 20) }
        let numbers = arguments.dropFirst().prefix(4).compactMap { Int64($0) }.filter { $0 >= 0 }
        switch (arguments.first, numbers.count) {
        case ("digest", 1...):
            let limits = Confinement.Limits(memory: 1 << 30, processor: 3600, fileSize: 1 << 40)
            _ = try Confinement.apply(directory: nil, limits: limits)
            try digest(limit: numbers[0], passing: arguments.last == "pass", output)
        case ("inflate", 1...):
            let limits = Confinement.Limits(memory: 1 << 30, processor: 3600, fileSize: 1 << 40)
            _ = try Confinement.apply(directory: nil, limits: limits)
            try inflate(output)
        case ("untar", 2...):
            _ = al_confine_utf8()
            let limits = Confinement.Limits(
                memory: 2 << 30, processor: 3600, fileSize: UInt64(max(numbers[0], 16 << 20)))
            let root = try Confinement.apply(directory: Confinement.directory, limits: limits)
            var untar = Untar(root: root, limits: Untar.Limits(entries: numbers[1], bytes: numbers[0])) {
                output.write($0)
            }
            try untar.run(input: 0)
        case ("page", _): try PageRole.run(Array(arguments.dropFirst()), output)
        case ("fetch", _):
            try FetchRole.run(Array(arguments.dropFirst()))
        default:
            throw HelperFailure("unpack-failed", "unknown role of the unpacking helper")
        }
    }

    /// Hashes standard input, passing it on to standard output if asked; ends at its end or above `limit` bytes.
    private static func digest(limit: Int64, passing: Bool, _ output: ReportWriter) throws(HelperFailure) {
        var hasher = DigestHasher()
        var total: Int64 = 0
        let room = 256 << 10
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: room, alignment: 64)
        defer { unsafe buffer.deallocate() }
        while true {
            let count = try checked(unsafe al_tree_read(0, buffer, room), "reading a layer")
            guard count > 0 else { break }
            total += Int64(count)
            guard total <= limit else {
                throw HelperFailure("image-too-large", "the layer unpacks to more than \(limit) bytes")
            }
            // SAFETY: the call above has filled `count` bytes of `buffer`.
            unsafe hasher.update(buffer.assumingMemoryBound(to: UInt8.self), count)
            if passing { try unsafe writeAll(buffer, count) }
        }
        output.write(.done(digest: hasher.finish(), bytes: total, entries: 0))
    }

    /// Decompresses standard input (gzip, zstd or plain, told by its first bytes) to standard output.
    private static func inflate(_ output: ReportWriter) throws(HelperFailure) {
        guard let archive = unsafe archive_read_new() else { throw HelperFailure("unpack-failed", "no memory") }
        defer { unsafe archive_read_free(archive) }
        unsafe archive_read_support_filter_gzip(archive)
        unsafe archive_read_support_filter_zstd(archive)
        unsafe archive_read_support_format_raw(archive)
        unsafe archive_read_support_format_empty(archive)
        var entry: OpaquePointer?
        var total: Int64 = 0
        if unsafe archive_read_open_fd(archive, 0, 256 << 10) != ARCHIVE_OK { throw unsafe corrupt(archive) }
        let first = unsafe archive_read_next_header(archive, &entry)
        guard first == ARCHIVE_OK || first == ARCHIVE_EOF else { throw unsafe corrupt(archive) }
        var block: UnsafeRawPointer?
        var count = 0
        var offset: Int64 = 0
        while first == ARCHIVE_OK {
            let result = unsafe archive_read_data_block(archive, &block, &count, &offset)
            if result == ARCHIVE_EOF { break }
            guard result == ARCHIVE_OK || result == ARCHIVE_WARN else { throw unsafe corrupt(archive) }
            // SAFETY: libarchive keeps `count` bytes at `block` until its next call.
            if let block = unsafe block { try unsafe writeAll(block, count) }
            total += Int64(count)
        }
        output.write(.done(digest: nil, bytes: total, entries: 0))
    }

    private static func corrupt(_ archive: OpaquePointer) -> HelperFailure {
        let text = unsafe archive_error_string(archive).map { unsafe String(cString: $0) } ?? "it cannot be read"
        return HelperFailure("corrupt-layer", "the layer cannot be decompressed: \(text)")
    }

    private static func writeAll(_ bytes: UnsafeRawPointer, _ count: Int) throws(HelperFailure) {
        var done = 0
        while done < count {
            done += try checked(unsafe al_tree_write(1, bytes.advanced(by: done), count - done), "passing a layer on")
        }
    }
}

/// Collects records and writes them to the report pipe in large pieces.
final class ReportWriter {
    private var pending: [UInt8] = []
    private var failed = false

    func write(_ record: HelperRecord) {
        pending.append(contentsOf: record.encoded)
        if pending.count > 32 << 10 { _ = flush() }
    }

    /// Writes what is pending; false when the daemon no longer reads.
    func flush() -> Bool {
        var rest = pending[...]
        while !rest.isEmpty, !failed {
            let count = unsafe rest.withUnsafeBytes {
                unsafe al_tree_write(Confinement.report, $0.baseAddress, $0.count)
            }
            if count <= 0 { failed = true } else { rest = rest.dropFirst(count) }
        }
        pending.removeAll(keepingCapacity: true)
        return !failed
    }
}
