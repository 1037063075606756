import AegisCore
import AegisTar
import Glibc
import LinuxSys

/// A directory of a test's own, removed with it.
final class Scratch: Sendable {
    let path: String
    init() throws {
        path = "/tmp/aegis-tar-\(try Random.hex(bytes: 8))"
        try Files.makeDirectories(path, mode: 0o755)
    }
    deinit { try? Files.removeTree(path) }

    func directory(_ name: String) throws -> FileDescriptor {
        try Files.makeDirectories("\(path)/\(name)", mode: 0o755)
        return try FileDescriptor.open("\(path)/\(name)", [.readOnly, .directory])
    }
    func write(_ name: String, _ text: String) throws {
        try Files.writeAtomically("\(path)/\(name)", Array(text.utf8), mode: 0o644)
    }
    func read(_ name: String) throws -> String {
        String(decoding: try Files.read("\(path)/\(name)", limit: 1 << 24), as: UTF8.self)
    }
    func exists(_ name: String) -> Bool { Files.exists("\(path)/\(name)") }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// An archive of entries with their content.
func archive(_ entries: [(TarEntry, [UInt8])], trailer: Bool = true) -> [UInt8] {
    var out: [UInt8] = []
    for (entry, content) in entries {
        out += TarWriter.header(for: entry) + content
        out += [UInt8](repeating: 0, count: TarWriter.padding(after: UInt64(content.count)))
    }
    return trailer ? out + TarWriter.trailer : out
}

func file(_ path: String, _ content: String, mode: UInt32 = 0o644) -> (TarEntry, [UInt8]) {
    (
        TarEntry(path: bytes(path), kind: .file, permissions: mode, size: UInt64(content.utf8.count)), bytes(content)
    )
}
func folder(_ path: String, mode: UInt32 = 0o755) -> (TarEntry, [UInt8]) {
    (TarEntry(path: bytes(path), kind: .directory, permissions: mode), [])
}
func link(_ path: String, to target: String, hard: Bool = false) -> (TarEntry, [UInt8]) {
    (TarEntry(path: bytes(path), kind: hard ? .hardLink : .symbolicLink, linkTarget: bytes(target)), [])
}

/// Everything a stream says, read in pieces of `step` bytes.
func events(_ stream: [UInt8], step: Int) throws(TarError) -> [(TarEntry, [UInt8])] {
    var reader = TarReader()
    var found: [(TarEntry, [UInt8])] = []
    var at = 0
    while at < stream.count {
        reader.feed(stream[at..<min(at + step, stream.count)])
        at += step
        while let event = try reader.next() {
            switch event {
            case .entry(let entry): found.append((entry, []))
            case .data(let piece): found[found.count - 1].1 += piece
            case .entryEnd, .end: break
            }
        }
    }
    try reader.finish()
    return found
}

@discardableResult
func extract(
    _ stream: [UInt8], into root: consuming FileDescriptor, options: TarExtractOptions = TarExtractOptions(),
    step: Int = 1000
) throws(AegisError) -> TarReport {
    let extractor = TarExtractor(into: root, options: options)
    var at = 0
    while at < stream.count {
        try extractor.consume(stream[at..<min(at + step, stream.count)])
        at += step
    }
    return try extractor.finish()
}

func produce(_ producer: TarProducer, max: Int) throws(AegisError) -> [UInt8] {
    var all: [UInt8] = []
    while let piece = try producer.next(max: max) { all += piece }
    return all
}

/// Runs a shell command and tells its exit status.
func shell(_ command: String) -> Int32 { unsafe system(command) }
