/// Who is at the other end of a server's connection, as the kernel tells it.
package enum HTTPPeer: Sendable, Equatable, CustomStringConvertible {
    /// A process on this machine: its user, group and process ids when it connected.
    case unix(user: UInt32, group: UInt32, process: Int32)
    /// A TCP client.
    case tcp(address: String, port: UInt16)
    /// A program inside this instance: known by the door that it came through, which no other has.
    case guest(instance: String)
    /// Nobody the kernel knows (streams in memory).
    case unknown

    package var description: String {
        switch self {
        case .unix(let user, _, let process): "uid \(user), pid \(process)"
        case .tcp(let address, let port): address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)"
        case .guest(let instance): "inside \(instance)"
        case .unknown: "unknown"
        }
    }
}
