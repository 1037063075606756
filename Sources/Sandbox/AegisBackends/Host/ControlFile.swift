import LinuxSys

/// The small text files by which the kernel is controlled.
enum ControlFile {
    /// Writes a value in one piece, as these files want it.
    static func write(_ path: String, _ value: String) throws(Errno) {
        let file = try FileDescriptor.open(path, .writeOnly)
        try file.writeAll(Array(value.utf8)[...])
    }

    /// Reads a value, without the newline at its end.
    static func read(_ path: String) throws(Errno) -> String {
        var bytes = try Files.read(path, limit: 1 << 20)
        if bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Reads a whole number; nil for `max`, text or a file that is not there.
    static func number(_ path: String) -> UInt64? { (try? read(path)).flatMap { UInt64($0) } }

    /// Reads one number out of a file of `key value` lines.
    static func number(_ path: String, key: String) -> UInt64? {
        guard let text = try? read(path) else { return nil }
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2, words[0] == key { return UInt64(words[1]) }
        }
        return nil
    }

    /// Lets the groups below a version 2 folder have controllers.
    static func delegate(_ folder: String, _ controllers: Set<String>) throws(Errno) {
        let wanted = controllers.intersection(["cpu", "memory", "pids"])
        let path = folder + "/cgroup.subtree_control"
        let have = Set(try read(path).split(separator: " ").map(String.init))
        let missing = wanted.subtracting(have).sorted()
        guard !missing.isEmpty else { return }
        try write(path, missing.map { "+\($0)" }.joined(separator: " "))
    }
}
