package import AegisCapabilities
package import AegisCore
package import AegisIO
import AegisProxy
import LinuxSys

/// The networks of a node: one namespace in which nothing is forwarded and nothing runs but our sockets, and a link from it
/// to every instance that may reach anything.
///
/// The host's own network is not part of it: an instance cannot reach a service of the host even where rules failed to load,
/// and no rule of the host's firewall concerns it.
package actor NetworkService {
    private nonisolated let node: String
    private nonisolated let path: String
    private nonisolated let scope: TaskScope
    private nonisolated let gate: EgressGate
    private var gateway: Gateway?
    private var opening = false
    private var waiters: [CheckedContinuation<Void, Never>] = []
    private var uplinks: [String: Uplink] = [:]
    private var taken: Set<UInt32> = []

    /// Makes nothing yet: the namespace comes with the first instance that needs it.
    ///
    /// - Parameters:
    ///   - node: the node's id; names links and rules.
    ///   - runDirectory: where the namespace is mounted, as `net`.
    ///   - grants: who may do what.
    ///   - resolver: where names lead to.
    ///   - loop: the loop of all streams.
    ///   - scope: ends what runs here.
    ///   - logger: for what concerns no single instance.
    package init(
        node: String, runDirectory: String, grants: GrantBook, resolver: any NameResolver = HostResolver(),
        on loop: EventLoop, scope: TaskScope, logger: Logger
    ) {
        self.node = node
        self.scope = scope
        path = "\(runDirectory)/net"
        gate = EgressGate(
            grants: grants, dialer: EgressDialer(grants: grants, resolver: resolver, loop: loop),
            http: HTTPProxy(on: loop),
            loop: loop, logger: logger)
        let http = gate.http
        scope.spawn("network-http") { await http.run() }
    }

    // MARK: Instances

    /// A number for an instance's link, and with it an address.
    ///
    /// - Throws: `too-many-networks`.
    package func reserve() throws(AegisError) -> UInt32 {
        guard let index = (0..<UInt32(AddressPlan.instances.count)).first(where: { !taken.contains($0) }) else {
            throw AegisError(
                .unavailable, "too-many-networks",
                "\(AddressPlan.instances.count) instances of this node have a network")
        }
        taken.insert(index)
        return index
    }

    /// Gives a number back that nothing was attached with.
    package func giveUp(_ index: UInt32) { taken.remove(index) }

    /// Links an instance, and gives it its grants.
    ///
    /// - Parameters:
    ///   - id: the instance.
    ///   - index: from `reserve`, or what it had before a restart of the daemon: then its names go on to be true.
    ///   - policy: what it may reach.
    ///   - namespace: a descriptor of its network namespace, valid until this returns.
    ///   - observer: who is told of denials.
    /// - Throws: `network-failed`; nothing is left behind then.
    package func attach(
        _ id: String, index: UInt32, policy: NetworkPolicy, namespace: Int32, observer: any NetworkObserver
    ) async throws {
        taken.insert(index)
        do {
            let gateway = try await open()
            let link = "\(GatewayRules.prefix(node))\(index)"
            // The caller may be cancelled while the pool works; a number that it has closed could be another file by then.
            let copy = try FileDescriptor.duplicating(namespace).take()
            try await BlockingPool.shared.run {
                let copy = FileDescriptor(owning: copy)
                try KernelNetwork.attach(
                    link, gateway: gateway, instance: copy.raw, address: AddressPlan.instance(index))
            }
            let uplink = try Uplink(
                instance: id, index: index, link: link, gateway: gateway, names: namesFile(id), gate: gate,
                observer: observer)
            _ = try? gate.grants.retire(HolderID(id), reason: "attached anew")
            try gate.grants.issue(policy.grants, to: HolderID(id))
            uplinks.removeValue(forKey: id)?.close()
            uplinks[id] = uplink
            uplink.start(in: scope)
        } catch {
            await detach(id, index: index)
            if let error = error as? AegisError { throw error }
            throw AegisError.failed("network-failed", "cannot link \(id) to its network: \(error)")
        }
    }

    private nonisolated func namesFile(_ id: String) -> String { "\(path)-\(id)" }

    /// Takes an instance's link and grants away; fine when it has none.
    package func detach(_ id: String, index: UInt32) async {
        try? Files.removeFile(namesFile(id))
        uplinks.removeValue(forKey: id)?.close()
        _ = try? gate.grants.retire(HolderID(id), reason: "the instance has ended")
        // The number of a record that outlived its sandbox may be another instance's by now.
        guard !uplinks.values.contains(where: { $0.index == index }) else { return }
        if let gateway = gateway?.raw {
            let link = "\(GatewayRules.prefix(node))\(index)"
            do {
                try await BlockingPool.shared.run { try KernelNetwork.detach(link, gateway: gateway) }
            } catch { gate.logger.error("a network link cannot be removed", ("link", link), ("error", "\(error)")) }
        }
        taken.remove(index)
    }

    /// Changes what a linked instance may reach; connections that are not allowed any more are cut.
    ///
    /// - Throws: `network-busy` for one that is not linked (yet); `too-many-grants`.
    package func change(_ id: String, to policy: NetworkPolicy) throws {
        guard let uplink = uplinks[id] else {
            throw AegisError.conflict("network-busy", "\(id) has no network at the moment", hint: "try again")
        }
        try gate.grants.revoke(HolderID(id), reason: "changed")
        try gate.grants.issue(policy.grants, to: HolderID(id))
        uplink.enforce()
    }

    // MARK: The gateway

    /// Ends every way out.
    ///
    /// - Parameter keeping: whether instances go on without this daemon: their links stay then, and lead nowhere.
    package func close(keeping: Bool) async {
        for uplink in uplinks.values { uplink.close() }
        uplinks = [:]
        guard !keeping else { return }
        gateway = nil
        let path = path
        try? await BlockingPool.shared.run { try Self.remove(path) }
    }

    private static func remove(_ path: String) throws(Errno) {
        guard Files.exists(path) else { return }
        // Its links and rules go with it.
        do throws(Errno) { try Mounts.unmount(path, detach: true) } catch {
            guard error == .invalidArgument else { throw error }
        }
        try Files.removeFile(path)
    }

    /// The namespace with its rules, made when it is not there.
    private func open() async throws -> Int32 {
        while opening { await withCheckedContinuation { waiters.append($0) } }
        if let gateway { return gateway.raw }
        opening = true
        defer {
            opening = false
            for waiter in waiters { waiter.resume() }
            waiters = []
        }
        let path = path
        let raw = try await BlockingPool.shared.run { try Self.openOrMake(path).take() }
        // Before anything is linked to it; and again after a restart, where they may be of an older version.
        do { try await loadRules() } catch {
            _ = FileDescriptor(owning: raw)
            throw error
        }
        gateway = Gateway(FileDescriptor(owning: raw))
        return raw
    }

    private static func openOrMake(_ path: String) throws -> FileDescriptor {
        do throws(Errno) { return try KernelNetwork.openNamespace(path) } catch {
            guard error == .noSuchFile else { throw error }
        }
        try Files.makeDirectories(Files.split(path).directory, mode: 0o711)
        _ = try FileDescriptor.open(path, [.writeOnly, .create], mode: 0o600)
        return try KernelNetwork.makeNamespace(on: path)
    }

    private func loadRules() async throws {
        let spec = ProcessSpec(
            executable: "/usr/bin/nsenter", arguments: ["nsenter", "--net=\(path)", "nft", "-f", "-"],
            environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], workingDirectory: "/", newSession: true)
        let output: ProcessOutput
        do {
            output = try await runProcess(
                spec, input: Array(GatewayRules.text(node: node).utf8), deadline: .seconds(20), on: gate.loop)
        } catch {
            throw AegisError(
                .unavailable, "network-unavailable", "the rules of the network cannot be loaded: \(error)",
                hint: "install nftables and util-linux")
        }
        guard output.status.shellCode == 0 else {
            let text = String(decoding: output.stderr.prefix(400), as: UTF8.self)
            throw AegisError(
                .unavailable, "network-unavailable", "nft refuses the rules of the network: \(text)",
                hint: "install nftables; the kernel needs nf_tables with nat")
        }
    }
}

/// The open namespace.
private final class Gateway: Sendable {
    private let descriptor: FileDescriptor
    init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
    var raw: Int32 { descriptor.raw }
}
