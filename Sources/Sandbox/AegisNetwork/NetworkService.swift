package import AegisCapabilities
package import AegisCore
package import AegisIO
import AegisProxy
import AegisSandboxTypes
import LinuxSys

/// The networks of a node: one namespace in which nothing is forwarded and nothing runs but our sockets, and a link from it
/// to every instance that may reach anything.
///
/// The host's own network is not part of it: an instance cannot reach a service of the host even where rules failed to load,
/// and no rule of the host's firewall concerns it.
package actor NetworkService {
    nonisolated let node: String
    nonisolated let path: String
    nonisolated let scope: TaskScope
    nonisolated let gate: EgressGate
    /// How long one instance goes without a proof, on average.
    nonisolated let proofInterval: Duration
    var gateway: SharedNamespace?
    private var trap: ProofTrap?
    private var trapNamespace: SharedNamespace?
    /// What the kernel's counters said, of those whom this daemon takes over, beyond what the one before had told of.
    var unheard: [String: CounterMarks] = [:]
    /// Whether every network is being proved because something came through, and whether more has come since that began.
    var isAlarmed = false
    var hasAlarm = false
    private var opening = false
    private var waiters: [CheckedContinuation<Void, Never>] = []
    var links: [String: Link] = [:]
    /// Which instance has which number.
    var taken: [UInt32: String] = [:]
    /// Which instance an interface of the gateway belongs to, by the kernel's number, and whether it is a port of a group.
    var interfaces: [UInt32: (instance: String, inGroup: Bool)] = [:]
    var proofs: [String: [PolicyProof]] = [:]
    /// What changes an instance's network, and what proves it, come one after the other: a probe of what is just being taken
    /// away fails for no reason, and a failed proof ends the instance.
    nonisolated let turns = Turnstile()
    /// One change at a time: a bridge goes with its last member and comes with its first.
    nonisolated let bridges = BlockingPool(threads: 1, queueLimit: 4096)

    /// A linked instance.
    struct Link {
        var member: NetworkMember
        var uplink: Uplink
        var namespace: SharedNamespace
        var observer: any NetworkObserver
        /// Its address in its group.
        var address: UInt32?
        /// How often in a row it could not be looked whether its network is what it has to be.
        var misses = 0
        /// Whether its observer has been told that it must not go on.
        var isLost = false
        /// What it may reach; a holder may have others, which are not the network's.
        var grants: [Given]
    }

    /// A grant that a link's policy has given.
    struct Given {
        var id: GrantID
        var spec: GrantSpec
    }

    /// What an instance has of the node's addresses; to be kept over a restart of the daemon.
    package struct Place: Sendable, Codable, Equatable {
        /// The number of its link.
        package var index: UInt32
        /// Its address in its group.
        package var address: UInt32?
    }

    /// Makes nothing yet: the namespace comes with the first instance that needs it.
    ///
    /// - Parameters:
    ///   - node: the node's id; names links and rules.
    ///   - runDirectory: where the namespace is mounted, as `net`.
    ///   - grants: who may do what.
    ///   - proofInterval: how long one instance goes without a proof, on average.
    ///   - resolver: where names lead to; nil: as this host says.
    ///   - authorities: whose certificates (PEM) servers of inspected connections may show, beside the system's.
    ///   - loop: the loop of all streams.
    ///   - scope: ends what runs here.
    ///   - logger: for what concerns no single instance.
    package init(
        node: String, runDirectory: String, grants: GrantBook, proofInterval: Duration = .seconds(300),
        resolver: (any NameResolver)? = nil, authorities: [UInt8]? = nil,
        on loop: EventLoop, scope: TaskScope, logger: Logger
    ) {
        self.node = node
        self.scope = scope
        self.proofInterval = proofInterval
        path = "\(runDirectory)/net"
        gate = EgressGate(
            grants: grants, groups: NetworkGroups(),
            dialer: EgressDialer(grants: grants, resolver: resolver ?? HostResolver(on: loop), loop: loop),
            http: HTTPProxy(on: loop), inspector: SharedInspector(authorities: authorities),
            loop: loop, scope: scope, logger: logger)
        let http = gate.http
        scope.spawn("network-http") { await http.run() }
    }

    // MARK: Instances

    /// A number for an instance's link, and with it an address; and one in its group.
    ///
    /// - Throws: `too-many-networks`, `too-many-groups`, `group-full`.
    package func reserve(_ member: NetworkMember, _ policy: NetworkPolicy) throws(AegisError) -> Place {
        // One that it has already, from a start that was cut off, serves as well.
        let own = taken.first { $0.value == member.id }?.key
        guard let index = own ?? (0..<UInt32(AddressPlan.instances.count)).first(where: { taken[$0] == nil }) else {
            throw AegisError(
                .unavailable, "too-many-networks",
                "\(AddressPlan.instances.count) instances of this node have a network")
        }
        var address: UInt32?
        if let group = policy.group { address = try enter(member, group) }
        taken[index] = member.id
        return Place(index: index, address: address)
    }

    /// Takes a place that an instance had under an earlier daemon, before anybody else can get it.
    ///
    /// - Throws: `group-changed`.
    package func recall(_ member: NetworkMember, _ policy: NetworkPolicy, _ place: Place) throws(AegisError) {
        taken[place.index] = member.id
        if let group = policy.group { _ = try enter(member, group, wanted: place.address) }
    }

    /// Gives a place back that nothing was attached with.
    package func giveUp(_ id: String, _ place: Place) {
        if taken[place.index] == id { taken[place.index] = nil }
        _ = gate.groups.leave(id)
    }

    /// Links an instance, gives it its grants, and proves that the network refuses everything else.
    ///
    /// - Parameters:
    ///   - member: the instance.
    ///   - place: from `reserve`, or what it had before a restart of the daemon: then its names go on to be true.
    ///   - policy: what it may reach.
    ///   - inspection: what its TLS is looked into with, where the policy demands that.
    ///   - namespace: a descriptor of its network namespace, valid until this returns.
    ///   - observer: who is told of denials.
    ///   - isTakenOver: whether it ran under an earlier daemon; then a child goes without what its parent has lost meanwhile.
    /// - Throws: `network-failed`, `policy-unproven`; nothing is left behind then, but for one that was taken over and is unproven what
    ///   has come through, until `detach`.
    package func attach(
        _ member: NetworkMember, _ place: Place, policy: NetworkPolicy, inspection: Inspection?, namespace: Int32,
        observer: any NetworkObserver, isTakenOver: Bool = false
    ) async throws {
        taken[place.index] = member.id
        await turns.enter(member.id)
        defer { turns.leave(member.id) }
        do {
            let gateway = try await open()
            let link = "\(GatewayRules.prefix(node))\(place.index)"
            // The caller may be cancelled while the pool works; a number that it has closed could be another file by then.
            let namespace = SharedNamespace(try FileDescriptor.duplicating(namespace))
            guard let trapNamespace else { throw Errno.noSuchFile }
            let counters = InstanceCounters(node: node, index: place.index, gateway: gateway, trap: trapNamespace)
            let (number, counted) = try await BlockingPool.shared.run {
                try KernelNetwork.attach(
                    link, gateway: gateway.raw, instance: namespace.raw, address: AddressPlan.instance(place.index))
                return (try KernelNetwork.number(of: link, gateway: gateway.raw), try counters.read())
            }
            let before = unheard[member.id] ?? .none
            let account = CounterAccount(
                told: counted.marks, untold: isTakenOver ? before + counted.marks : .none,
                generation: counted.generation)
            let uplink = try Uplink(
                instance: member.id, index: place.index, link: link, gateway: gateway,
                table: GatewayRules.table(node), names: namesFile(member.id),
                account: (marksFile(member.id), account), gate: gate, inspection: inspection, observer: observer)
            // Not before: its file says so from here on.
            unheard[member.id] = nil
            try await BlockingPool.shared.run { try uplink.count(link, isPort: false) }
            if let before = links.removeValue(forKey: member.id) {
                before.uplink.close()
                takeBack(before.grants, "attached anew")
            }
            let given = try give(policy.grants + [ProofTargets.grant], to: member, leavingOut: isTakenOver)
            uplink.setImplied(given.filter { policy.implied.contains($0.spec) }.map(\.id))
            links[member.id] = Link(
                member: member, uplink: uplink, namespace: namespace, observer: observer, grants: given)
            interfaces[number] = (member.id, false)
            uplink.start(in: scope)
            if isTakenOver { try settle(uplink) }
            // A child that its parent has left behind has no group any more, whatever was written down of it.
            if let address = place.address, gate.groups.group(of: member.id) != nil {
                try await join(member.id, address)
            }
            if let failure = try await prove(member.id, .start).failure { throw failure }
        } catch {
            // What came through must be known to the next daemon, too, until somebody has written down that this was its end.
            let isUnproven = (error as? AegisError)?.code == "policy-unproven"
            await detach(member.id, place, keepingAccount: isTakenOver && isUnproven)
            if let error = error as? AegisError { throw error }
            throw AegisError.failed("network-failed", "cannot link \(member.name) to its network: \(error)")
        }
    }

    /// Gives a member grants; a child gets what its parent can hand on, all of it or, `leavingOut` the rest, what there is.
    private nonisolated func give(
        _ specs: [GrantSpec], to member: NetworkMember, leavingOut: Bool = false
    ) throws(AegisError) -> [Given] {
        let holder = HolderID(member.id)
        guard let parent = member.parent else {
            return zip(specs, try gate.grants.issue(specs, to: holder)).map { Given(id: $1.id, spec: $0) }
        }
        // That which the proofs need is nobody's to hand on.
        let proof = try ProofTargets.grant
        let held = leavingOut ? gate.grants.records(of: HolderID(parent)).map(\.terms.capability) : []
        let derived = specs.filter { spec in
            spec != proof && (!leavingOut || held.contains { $0.covers(spec.capability) })
        }
        let given = zip(derived, try gate.grants.delegate(derived, from: HolderID(parent), to: holder))
        let own = specs.filter { $0 == proof }
        return given.map { Given(id: $1.id, spec: $0) }
            + zip(own, try gate.grants.issue(own, to: holder)).map { Given(id: $1.id, spec: $0) }
    }

    private nonisolated func takeBack(_ grants: [Given], _ reason: String) {
        for grant in grants { _ = try? gate.grants.revoke(grant.id, reason: reason) }
    }

    private nonisolated var trapPath: String { "\(path)-trap" }
    private nonisolated func namesFile(_ id: String) -> String { "\(path)-\(id)" }
    nonisolated func marksFile(_ id: String) -> String { "\(path)-\(id).told" }

    /// Takes an instance's link and grants away; fine when it has none. A caller that is cancelled waits for it all the same:
    /// what a start has made that was cut off must not stay.
    ///
    /// - Parameters:
    ///   - id: the instance's.
    ///   - place: what it had.
    ///   - keepingAccount: whether it stays written down what came through, as the instance's end is not yet: then this is called
    ///     again.
    package func detach(_ id: String, _ place: Place, keepingAccount: Bool = false) async {
        await scope.spawn("network-detach") { await self.takeAway(id, place, keepingAccount: keepingAccount) }.wait()
    }

    private func takeAway(_ id: String, _ place: Place, keepingAccount: Bool) async {
        for file in [namesFile(id)] + (keepingAccount ? [] : [marksFile(id)]) { try? Files.removeFile(file) }
        unheard[id] = nil
        let link = links.removeValue(forKey: id)
        await link?.uplink.tellUnheard()
        link?.uplink.close()
        proofs[id] = nil
        takeBack(link?.grants ?? [], "the instance has ended")
        await leave(id, place.index)
        interfaces = interfaces.filter { $0.value.instance != id }
        // The number of a record that outlived its sandbox may be another instance's by now.
        guard taken[place.index, default: id] == id else { return }
        if let gateway = gateway?.raw {
            let link = "\(GatewayRules.prefix(node))\(place.index)"
            do {
                try await BlockingPool.shared.run { try KernelNetwork.detach(link, gateway: gateway) }
            } catch { gate.logger.error("a network link cannot be removed", ("link", link), ("error", "\(error)")) }
        }
        taken[place.index] = nil
    }

    /// Changes what a linked instance may reach, and proves it anew; connections that are not allowed any more are cut.
    ///
    /// - Returns: its place from now on.
    /// - Throws: `network-busy` for one that is not linked (yet); `too-many-grants`, `too-many-groups`, `group-full`,
    ///   `network-failed`; and `policy-unproven`: the instance must not go on then.
    package func change(_ id: String, _ place: Place, to policy: NetworkPolicy) async throws -> Place {
        await turns.enter(id)
        defer { turns.leave(id) }
        guard let link = links[id] else {
            throw AegisError.conflict("network-busy", "\(id) has no network at the moment", hint: "try again")
        }
        // What stays allowed stays granted: others may have grants that are derived from it.
        let wanted = try policy.grants + [ProofTargets.grant]
        let kept = link.grants.filter { wanted.contains($0.spec) }
        let given = try give(wanted.filter { spec in !kept.contains { $0.spec == spec } }, to: link.member)
        var place = place
        do { try await move(link, &place, to: policy.group) } catch {
            takeBack(given, "not changed")
            throw error
        }
        takeBack(link.grants.filter { !wanted.contains($0.spec) }, "changed")
        links[id]?.grants = kept + given
        link.uplink.setImplied((kept + given).filter { policy.implied.contains($0.spec) }.map(\.id))
        // Of its children too, whose grants may have gone with its own.
        for one in links.values { one.uplink.enforce() }
        do {
            if let failure = try await prove(id, .change).failure { throw failure }
        } catch {
            // What is in force by now has not been proved: it must not go on, whatever the reason. One that has ended has none.
            if let error = error as? AegisError, error.code == "policy-unproven" || links[id] == nil { throw error }
            throw AegisError.failed("policy-unproven", "the changed network of \(id) could not be proved: \(error)")
        }
        return place
    }

    // MARK: The gateway

    /// Ends every way out.
    ///
    /// - Parameter keeping: whether instances go on without this daemon: their links stay then, and lead nowhere.
    package func close(keeping: Bool) async {
        for link in links.values { link.uplink.close() }
        links = [:]
        trap?.close()
        trap = nil
        guard !keeping else { return }
        gateway = nil
        let (path, trapPath) = (path, trapPath)
        try? await BlockingPool.shared.run {
            try Self.remove(path)
            try Self.remove(trapPath)
        }
    }

    /// The namespace with its rules, made when it is not there.
    private func open() async throws -> SharedNamespace {
        while opening { await withCheckedContinuation { waiters.append($0) } }
        if let gateway { return gateway }
        opening = true
        defer {
            opening = false
            for waiter in waiters { waiter.resume() }
            waiters = []
        }
        let (path, trapPath) = (path, trapPath)
        let (made, trap) = try await BlockingPool.shared.run {
            (SharedNamespace(try Self.openOrMake(path)), SharedNamespace(try Self.openOrMake(trapPath)))
        }
        await readCounters(made, trap)
        let members = await running(in: made)
        do {
            // Before anything is linked to them; and again after a restart, where they may be of an older version.
            async let trapRules: Void = load(ProofTrap.rules(node), in: trapPath)
            try await load(GatewayRules.text(node: node, members: members.map(\.value)), in: path)
            try await trapRules
            try await BlockingPool.shared.run {
                try KernelNetwork.makeTrap(ProofTrap.link, gateway: made.raw, trap: trap.raw)
            }
            try watch(ProofTrap(in: trap, on: gate.loop))
            try hear(made)
        } catch {
            // Nobody hears what they refuse, and nobody takes out of them who leaves: they let nobody through.
            if !members.isEmpty { try? await load(GatewayRules.text(node: node), in: path) }
            throw error
        }
        gateway = made
        trapNamespace = trap
        await forget(members, in: made)
        return made
    }

    /// What arrives in the trap has come through rules that let nothing through.
    private func watch(_ made: ProofTrap) {
        trap?.close()
        trap = made
        scope.spawn("network-trap") { await made.serve { await self.alarm($0) } }
    }
}
