import AegisCapabilities
import AegisCore
import AegisIO
import LinuxSys
import Synchronization

/// One instance's way out: the sockets at the gateway's end of its link, which hear that link and no other. That is how an
/// instance is known: by the interface that its packets came in on (decision D23).
final class Uplink: Sendable {
    let instance: String
    let holder: HolderID
    let index: UInt32
    let link: String
    let gate: EgressGate
    let observer: any NetworkObserver
    /// The gateway's namespace, and the table of its rules.
    let gateway: SharedNamespace
    let table: String
    /// What its TLS is looked into with; nil when nothing of it is.
    let inspection: Inspection?
    let questions: FileStream
    let resolver: Listener
    private let egress: Listener
    /// Where names are written down before their addresses are told.
    let record: FileDescriptor
    /// Where it is written down how far the kernel's counters have been told of.
    let account: FileDescriptor
    /// What it said when it came.
    let opening: CounterAccount
    let state = Mutex(State())

    struct Live {
        var client: FileStream
        var server: FileStream?
        var destination: Destination
        /// What it was admitted with.
        var permit: EgressPermit

        func cut() {
            client.reset()
            server?.reset()
        }
    }
    struct State {
        var names = SyntheticNames()
        var live: [UInt64: Live] = [:]
        var next: UInt64 = 0
        var tally = DenialTally()
        var failures = RepetitionFilter()
        var denials: UInt64 = 0
        /// Whether a task waits for the tally's next period.
        var isTelling = false
        /// The kernel's counters of the instance's interfaces, and what they were when it came.
        var counters: [Counter] = []
        /// Refusals of the kernel's that were told here one by one, and whether there are new ones.
        var heard: UInt64 = 0
        var hasHeard = false
        /// What was counted while no daemon ran, until it has been told.
        var untold = CounterMarks.none
        var isClosed = false
        /// The attempts of a probe under way, with the reasons for which they were refused.
        var probe: [ProbeFlow: String?] = [:]
        var conversations = 0
        var task: TaskScope.Handle?
        /// The grants that only brokered secrets have asked for.
        var implied: Set<GrantID> = []
    }

    /// A counter of the kernel's.
    struct Counter: Sendable {
        var interface: String
        var isPort: Bool
        var base: UInt64
    }

    /// Connections that one instance may have at the same time.
    static let connectionLimit = 1024
    /// Conversations with the resolver over TCP likewise.
    static let conversationLimit = 16

    /// Opens the sockets of a link that is there.
    ///
    /// - Parameters:
    ///   - instance: whose it is.
    ///   - index: the number of the link, which says the address.
    ///   - link: the name of the gateway's end.
    ///   - gateway: the gateway's namespace.
    ///   - table: the name of its tables of rules.
    ///   - names: the file of the instance's names; what it holds goes on to be true.
    ///   - account: the file that says how far the kernel's counters have been told of, and what it is to say.
    ///   - gate: what all ways out share.
    ///   - inspection: what its TLS is looked into with.
    ///   - observer: who is told of denials.
    /// - Throws: when a socket or the file cannot be had.
    init(
        instance: String, index: UInt32, link: String, gateway: SharedNamespace, table: String, names: String,
        account: (file: String, opening: CounterAccount), gate: EgressGate, inspection: Inspection?,
        observer: any NetworkObserver
    ) throws {
        let known = SyntheticNames(lines: (try? Files.read(names, limit: 8 << 20)) ?? [])
        try Files.writeAtomically(names, known.lines, mode: 0o600, synced: false)
        record = try FileDescriptor.open(names, [.writeOnly, .append])
        try Files.writeAtomically(account.file, account.opening.bytes, mode: 0o600, synced: false)
        self.account = try FileDescriptor.open(account.file, [.writeOnly])
        opening = account.opening
        self.instance = instance
        holder = HolderID(instance)
        self.index = index
        self.link = link
        self.gateway = gateway
        self.table = table
        self.gate = gate
        self.observer = observer
        self.inspection = inspection
        questions = try FileStream(
            KernelNetwork.datagrams(on: link, gateway: gateway.raw, port: AddressPlan.resolverPort), on: gate.loop)
        resolver = try Listener(
            adopting: KernelNetwork.listener(on: link, gateway: gateway.raw, port: AddressPlan.resolverPort),
            on: gate.loop)
        egress = try Listener(
            adopting: KernelNetwork.listener(on: link, gateway: gateway.raw, port: AddressPlan.egressPort),
            on: gate.loop)
        state.withLock { state in
            state.names = known
            state.untold = account.opening.untold
        }
    }

    /// The instance's address.
    var addressText: String { IPAddress(ipv4: AddressPlan.instance(index)).description }
    /// How many denials there were.
    var denials: UInt64 { state.withLock { $0.denials } }

    // MARK: Life

    /// Serves until `close`.
    func start(in scope: TaskScope) {
        let task = scope.spawn("network-\(link)") { [self] in
            await withDiscardingTaskGroup { group in
                group.addTask { await self.answerQuestions() }
                group.addTask { await self.acceptConversations() }
                group.addTask { await self.acceptConnections() }
            }
        }
        state.withLock { $0.task = task }
    }

    /// Ends every connection and the sockets.
    func close() {
        questions.close()
        resolver.close()
        egress.close()
        let (task, live) = state.withLock { state -> (TaskScope.Handle?, [Live]) in
            state.isClosed = true
            defer { state.live = [:] }
            return (state.task, Array(state.live.values))
        }
        for one in live { one.cut() }
        task?.cancel()
        tellRest()
    }

    // MARK: Connections

    private func acceptConnections() async {
        await withDiscardingTaskGroup { group in
            while let client = try? await egress.accept() {
                group.addTask { await EgressConnection(uplink: self, client: client).run() }
            }
        }
    }

    /// Notes a connection that was admitted.
    ///
    /// - Throws: a denial when there are too many.
    func begin(_ client: FileStream, _ permit: EgressPermit) throws(NetworkDenial) -> UInt64 {
        let destination = permit.destination
        let number = state.withLock { state -> UInt64? in
            guard state.live.count < Self.connectionLimit else { return nil }
            state.next += 1
            state.live[state.next] = Live(client: client, destination: destination, permit: permit)
            return state.next
        }
        guard let number else {
            throw NetworkDenial(
                instance, destination, reason: "too-many-connections",
                "'\(destination)' is refused: the instance has \(Self.connectionLimit) connections, its limit")
        }
        return number
    }

    /// Notes the other side of a connection; false when it was cut meanwhile.
    func join(_ number: UInt64, _ server: FileStream) -> Bool {
        state.withLock { state in
            guard state.live[number] != nil else { return false }
            state.live[number]?.server = server
            return true
        }
    }

    /// Forgets a connection.
    func end(_ number: UInt64) { state.withLock { _ = $0.live.removeValue(forKey: number) } }

    /// Cuts the connections that the instance's grants do not allow any more.
    func enforce() {
        let live = state.withLock { $0.live }
        for (number, one) in live {
            guard let denial = one.permit.refusal() else { continue }
            end(number)
            one.cut()
            report(NetworkDenial(instance, one.destination, denial))
        }
    }

    /// The name that an address stands for here.
    func name(of address: IPAddress) -> HostName? {
        if address == ProofTargets.controlAddress { return ProofTargets.controlName }
        return state.withLock { $0.names.name(of: address) }
    }
}
