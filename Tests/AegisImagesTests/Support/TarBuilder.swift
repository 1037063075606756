import CArchive

/// Tar streams made byte by byte, so that a test can say things that no tool would write.
struct TarBuilder {
    enum Kind: UInt8 {
        case file = 0x30
        case hardLink, symbolicLink, characterDevice, blockDevice, directory, fifo
    }
    private(set) var bytes: [UInt8] = []

    /// Adds an entry as it is; names over 100 bytes and attributes go to a pax header before it.
    mutating func add(
        _ name: String, _ kind: Kind = .file, _ content: String = "", link: String = "", mode: Int = 0o644,
        uid: Int = 0,
        gid: Int = 0, time: Int = 1_600_000_000, attributes: [String: String] = [:], device: (Int, Int) = (0, 0)
    ) {
        var records = attributes.sorted { $0.key < $1.key }.map { ("SCHILY.xattr.\($0.key)", $0.value) }
        if name.utf8.count > 100 { records.append(("path", name)) }
        if link.utf8.count > 100 { records.append(("linkpath", link)) }
        if uid > 0o7777777 { records.append(("uid", "\(uid)")) }
        if !records.isEmpty {
            let text = records.map(Self.paxRecord).joined()
            block(header("pax", 0x78, text.utf8.count, "", 0o644, 0, 0, time, (0, 0)), Array(text.utf8))
        }
        let data = Array(content.utf8)
        block(header(name, kind.rawValue, data.count, link, mode, uid & 0o7777777, gid, time, device), data)
    }

    /// The finished stream.
    func finished() -> [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }

    /// A stream of these entries.
    static func make(_ body: (inout TarBuilder) -> Void) -> [UInt8] {
        var tar = TarBuilder()
        body(&tar)
        return tar.finished()
    }

    private static func paxRecord(_ key: String, _ value: String) -> String {
        let body = " \(key)=\(value)\n"
        var size = body.utf8.count + 1
        while "\(size)".utf8.count + body.utf8.count != size { size += 1 }
        return "\(size)\(body)"
    }

    private mutating func block(_ header: [UInt8], _ data: [UInt8]) {
        bytes += header + data
        bytes += [UInt8](repeating: 0, count: (512 - data.count % 512) % 512)
    }

    private func header(
        _ name: String, _ kind: UInt8, _ size: Int, _ link: String, _ mode: Int, _ uid: Int, _ gid: Int, _ time: Int,
        _ device: (Int, Int)
    ) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, _ at: Int, _ width: Int) {
            for (i, byte) in text.utf8.prefix(width).enumerated() { header[at + i] = byte }
        }
        func octal(_ value: Int, _ at: Int, _ width: Int) {
            let text = String(value, radix: 8)
            put(String(repeating: "0", count: width - 1 - text.utf8.count) + text, at, width - 1)
        }
        put(name, 0, 100)
        octal(mode, 100, 8)
        octal(uid, 108, 8)
        octal(gid, 116, 8)
        octal(size, 124, 12)
        octal(time, 136, 12)
        header[156] = kind
        put(link, 157, 100)
        put("ustar\u{0}00", 257, 8)
        octal(device.0, 329, 8)
        octal(device.1, 337, 8)
        for i in 148..<156 { header[i] = 0x20 }
        octal(header.reduce(0) { $0 + Int($1) }, 148, 7)
        header[154] = 0
        header[155] = 0x20
        return header
    }
}

/// How a layer is compressed.
enum Compression: String, CaseIterable, Sendable {
    case none, gzip, zstd

    /// The bytes in this form.
    func apply(_ bytes: [UInt8]) throws -> [UInt8] {
        guard self != .none else { return bytes }
        var out = [UInt8](repeating: 0, count: bytes.count + bytes.count / 8 + 4096)
        var used = 0
        let room = out.count
        let archive = unsafe archive_write_new()
        defer { unsafe archive_write_free(archive) }
        unsafe archive_write_set_format_raw(archive)
        _ = unsafe self == .gzip ? archive_write_add_filter_gzip(archive) : archive_write_add_filter_zstd(archive)
        unsafe archive_write_set_bytes_in_last_block(archive, 1)
        let entry = unsafe archive_entry_new()
        defer { unsafe archive_entry_free(entry) }
        unsafe archive_entry_set_filetype(entry, 0o100000)
        let failed = unsafe out.withUnsafeMutableBytes { memory -> Bool in
            guard unsafe archive_write_open_memory(archive, memory.baseAddress, room, &used) == ARCHIVE_OK,
                unsafe archive_write_header(archive, entry) == ARCHIVE_OK,
                unsafe archive_write_data(archive, bytes, bytes.count) == bytes.count
            else { return true }
            return unsafe archive_write_close(archive) != ARCHIVE_OK
        }
        guard !failed else { throw CompressionFailed() }
        return Array(out[..<used])
    }
    struct CompressionFailed: Error {}

    var mediaType: String {
        "application/vnd.oci.image.layer.v1.tar" + (self == .none ? "" : "+\(rawValue)")
    }
}
