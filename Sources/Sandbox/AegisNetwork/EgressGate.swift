import AegisCapabilities
import AegisCore
import AegisIO
import AegisProxy

/// What all ways out of a node share.
struct EgressGate: Sendable {
    let grants: GrantBook
    let groups: NetworkGroups
    let dialer: EgressDialer
    /// Relays plain HTTP, request by request.
    let http: HTTPProxy
    /// Looks into TLS where that is demanded.
    let inspector: SharedInspector
    let loop: EventLoop
    let scope: TaskScope
    let logger: Logger
}
