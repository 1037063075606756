internal import AegisCore
internal import AegisIO
internal import AegisRouter
internal import LinuxSys

/// The daemon's doors: its socket, and the HTTP API on TCP.
struct Listening: Sendable {
    let socket: Listener
    let tcp: Listener?
    /// Addresses in use, by what listens there.
    let ports: [String: String]

    /// Opens both.
    ///
    /// - Throws: `port-in-use` naming the port and the flag, `socket-failed`.
    static func open(settings: DaemonSettings, home: DaemonHome, loop: EventLoop, anyPorts: Bool) async throws
        -> Listening
    {
        let socket: Listener
        do {
            // The home's lock is ours: whatever lies at the path is left over from a daemon that died.
            try? Files.removeFile(home.socket)
            socket = try Listener.unix(path: home.socket, mode: 0o600, on: loop)
            try home.shareSocket()
        } catch {
            throw AegisError.failed(
                "socket-failed", "cannot listen on \(home.socket): \(error)",
                hint: "check the folder's rights and its path's length")
        }
        let network = settings.network
        let wanted = UInt16(network.port)
        do {
            let tcp = try Listener.tcp(
                address: network.bind == "localhost" ? "127.0.0.1" : network.bind, port: wanted, on: loop)
            return Listening(socket: socket, tcp: tcp, ports: ports(network, tcp))
        } catch {
            guard error.errno == .addressInUse else { throw error }
            guard anyPorts else {
                throw AegisError.conflict(
                    "port-in-use", "port \(wanted) of \(network.bind) is in use\(holder(of: wanted))",
                    hint: "start with --ports auto, or set another spec.network.port (0 = any free one)")
            }
            let tcp = try Listener.tcp(
                address: network.bind == "localhost" ? "127.0.0.1" : network.bind, port: 0, on: loop)
            return Listening(socket: socket, tcp: tcp, ports: ports(network, tcp))
        }
    }

    /// Opens the main router's port.
    ///
    /// - Returns: its address.
    /// - Throws: `port-in-use` naming the port and the flag.
    static func listen(_ router: Router, settings: DaemonSettings, anyPorts: Bool) throws -> String {
        let wanted = UInt16(settings.network.routerPort)
        do throws(IOError) { return "127.0.0.1:\(try router.listen(port: wanted))" } catch {
            guard error.errno == .addressInUse else { throw error }
            guard anyPorts else {
                throw AegisError.conflict(
                    "port-in-use", "port \(wanted) of the router is in use\(holder(of: wanted))",
                    hint: "start with --ports auto, or set another spec.network.router_port (0 = any free one)")
            }
        }
        return "127.0.0.1:\(try router.listen(port: 0))"
    }

    private static func ports(_ network: NetworkSection, _ tcp: Listener) -> [String: String] {
        let host = network.bind.contains(":") ? "[\(network.bind)]" : network.bind
        return ["api": "\(host):\((try? tcp.localPort()) ?? 0)"]
    }

    /// Who has the port, as far as it can be seen.
    private static func holder(of port: UInt16) -> String {
        guard let text = try? Files.read("/proc/net/tcp", limit: 4 << 20) else { return "" }
        let hex = String(port, radix: 16, uppercase: true)
        let wanted = String(repeating: "0", count: 4 - hex.count) + hex
        for line in String(decoding: text, as: UTF8.self).split(separator: "\n").dropFirst() {
            let fields = line.split(separator: " ", omittingEmptySubsequences: true)
            guard fields.count > 9, fields[1].hasSuffix(":\(wanted)"), fields[3] == "0A" else { continue }
            return process(withSocket: String(fields[9])).map { " by \($0)" } ?? ""
        }
        return ""
    }

    private static func process(withSocket inode: String) -> String? {
        for entry in (try? Files.list("/proc")) ?? [] {
            guard let pid = Int32(entry.name), let links = try? Files.list("/proc/\(pid)/fd") else { continue }
            for link in links where (try? Files.readLink("/proc/\(pid)/fd/\(link.name)")) == "socket:[\(inode)]" {
                let name = (try? Files.read("/proc/\(pid)/comm", limit: 64)).map {
                    String(decoding: $0.filter { $0 >= 32 }, as: UTF8.self)
                }
                return "\(name ?? "a process") (pid \(pid))"
            }
        }
        return nil
    }
}
