/// Writes the blocks of a tar stream: ustar, with pax headers where ustar has no room.
package enum TarWriter {
    /// What ends an archive.
    package static let trailer = [UInt8](repeating: 0, count: 1024)

    /// How many zero bytes follow `size` bytes of content.
    package static func padding(after size: UInt64) -> Int { Int((512 - size % 512) % 512) }

    /// The header of an entry; its content, padded, must follow.
    package static func header(for entry: TarEntry) -> [UInt8] {
        var path = entry.path
        if entry.kind == .directory, path.last != TarPath.slash { path.append(TarPath.slash) }
        var records: [UInt8] = []
        let split = split(path)
        if split == nil { add("path", path, to: &records) }
        if entry.linkTarget.count > 100 { add("linkpath", entry.linkTarget, to: &records) }
        if entry.size > 0o77777777777 { add("size", decimal(entry.size), to: &records) }
        if entry.user > 0o7777777 { add("uid", decimal(entry.user), to: &records) }
        if entry.group > 0o7777777 { add("gid", decimal(entry.group), to: &records) }
        let seconds = entry.modified / 1_000_000_000
        let plainTime = entry.modified >= 0 && seconds <= 0o77777777777
        if !plainTime { add("mtime", Array("\(seconds)".utf8), to: &records) }
        var out: [UInt8] = []
        if !records.isEmpty {
            let size = UInt64(records.count)
            out += block(
                name: Array("pax".utf8), prefix: [], entry: TarEntry(path: [], kind: .file, size: size), type: 0x78)
            out += records
            out += [UInt8](repeating: 0, count: padding(after: size))
        }
        var plain = entry
        if entry.size > 0o77777777777 { plain.size = 0 }
        if entry.user > 0o7777777 { plain.user = 0 }
        if entry.group > 0o7777777 { plain.group = 0 }
        if !plainTime { plain.modified = 0 }
        out += block(
            name: split?.name ?? Array(path.suffix(100)), prefix: split?.prefix ?? [], entry: plain,
            type: type(of: entry.kind))
        return out
    }

    private static func type(of kind: TarEntry.Kind) -> UInt8 {
        switch kind {
        case .file: 0x30
        case .hardLink: 0x31
        case .symbolicLink: 0x32
        case .device: 0x33
        case .directory: 0x35
        case .fifo: 0x36
        }
    }

    /// Name and prefix as ustar holds them; nil when the path does not fit.
    private static func split(_ path: [UInt8]) -> (name: [UInt8], prefix: [UInt8])? {
        if path.count <= 100 { return (path, []) }
        // The slash between them is not stored; the name may not be empty.
        for at in path.indices.dropFirst().prefix(155)
        where path[at] == TarPath.slash && (1...100).contains(path.count - at - 1) {
            return (Array(path[(at + 1)...]), Array(path[..<at]))
        }
        return nil
    }

    private static func block(name: [UInt8], prefix: [UInt8], entry: TarEntry, type: UInt8) -> [UInt8] {
        var block = [UInt8](repeating: 0, count: 512)
        func put(_ bytes: some Collection<UInt8>, at start: Int) {
            for (offset, byte) in bytes.enumerated() { block[start + offset] = byte }
        }
        put(name.prefix(100), at: 0)
        put(octal(UInt64(entry.permissions & 0o7777), digits: 7), at: 100)
        put(octal(entry.user, digits: 7), at: 108)
        put(octal(entry.group, digits: 7), at: 116)
        put(octal(entry.size, digits: 11), at: 124)
        put(octal(UInt64(entry.modified / 1_000_000_000), digits: 11), at: 136)
        put([UInt8](repeating: 32, count: 8), at: 148)
        block[156] = type
        put(entry.linkTarget.prefix(100), at: 157)
        put("ustar\u{0}00".utf8, at: 257)
        put(prefix, at: 345)
        let sum = block.reduce(0 as UInt64) { $0 + UInt64($1) }
        put(octal(sum, digits: 6) + [0, 32], at: 148)
        return block
    }

    private static func octal(_ value: UInt64, digits: Int) -> [UInt8] {
        let text = Array(String(value, radix: 8).utf8)
        return [UInt8](repeating: 48, count: max(0, digits - text.count)) + text
    }

    private static func decimal(_ value: UInt64) -> [UInt8] { Array(String(value).utf8) }

    /// Appends `LENGTH KEY=VALUE\n`, where the length counts its own digits too.
    private static func add(_ key: String, _ value: [UInt8], to records: inout [UInt8]) {
        let rest = key.utf8.count + value.count + 3
        var length = rest + 1
        while String(length).utf8.count + rest != length { length = String(length).utf8.count + rest }
        records += Array("\(length) \(key)=".utf8) + value + [10]
    }
}
