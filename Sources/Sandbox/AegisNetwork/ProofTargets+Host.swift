import AegisCore
import LinuxSys

extension ProofTargets {
    /// The most that is read of a table: some 28,000 sockets that listen.
    private static let tableLimit = 4 << 20

    /// The ports on which this host listens, from the kernel's tables (a server of both families is in `tcp6` alone).
    ///
    /// - Parameter folder: where the tables `tcp` and `tcp6` are.
    /// - Returns: at most `hostPorts`, chosen at random.
    /// - Throws: `network-failed` where that cannot be read: a proof that leaves these ports out proves less than it says.
    static func listening(in folder: String) throws(AegisError) -> [UInt16] {
        var tables: [String] = []
        for name in ["tcp", "tcp6"] {
            do throws(Errno) { tables.append(try beginning(of: "\(folder)/\(name)")) } catch {
                // A kernel without IPv6 has no such table.
                guard name == "tcp6", error == .noSuchFile else {
                    throw .failed("network-failed", "it cannot be read on which ports this host listens: \(error)")
                }
            }
        }
        return listening(tables)
    }

    /// As much of a table as names all sockets that listen: the kernel names these first. A router full of connections has
    /// tables of many megabytes, and they cost nothing here.
    private static func beginning(of path: String) throws(Errno) -> String {
        let file = try FileDescriptor.open(path, [.readOnly, .nonblocking, .noTerminal])
        var (all, chunk) = ([UInt8](), [UInt8](repeating: 0, count: 16 << 10))
        while all.count < tableLimit {
            let count = try file.read(into: &chunk)
            guard count > 0 else { break }
            all += chunk[..<count]
            if let state = fields(lastLine(of: all))?.state, state != "0A", state != "st" { break }
        }
        return String(decoding: all, as: UTF8.self)
    }

    /// The last line that is there to its end.
    private static func lastLine(of text: [UInt8]) -> String {
        let newline = UInt8(ascii: "\n")
        guard let end = text.lastIndex(of: newline) else { return "" }
        let start = text[..<end].lastIndex(of: newline).map { $0 + 1 } ?? 0
        return String(decoding: text[start..<end], as: UTF8.self)
    }

    /// The ports of those sockets in tables, as texts, that listen; at most `hostPorts`, chosen at random.
    static func listening(_ tables: [String]) -> [UInt16] {
        var ports: Set<UInt16> = []
        for line in tables.flatMap({ $0.split(separator: "\n").dropFirst() }) {
            guard let fields = fields(line), fields.state == "0A",
                let text = fields.local.split(separator: ":").last, let port = UInt16(text, radix: 16), port > 0,
                port != AddressPlan.resolverPort
            else { continue }
            ports.insert(port)
        }
        return ports.shuffled().prefix(hostPorts).sorted()
    }

    private static func fields(_ line: some StringProtocol) -> (local: String, state: String)? {
        let fields = line.split(separator: " ")
        return fields.count > 3 ? (String(fields[1]), String(fields[3])) : nil
    }
}
