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
    private let observer: any NetworkObserver
    private let questions: FileStream
    private let resolver: Listener
    private let egress: Listener
    /// Where names are written down before their addresses are told.
    private let record: FileDescriptor
    private let state = Mutex(State())

    private struct Live {
        var client: FileStream
        var server: FileStream?
        var destination: Destination

        func cut() {
            client.reset()
            server?.reset()
        }
    }
    private struct State {
        var names = SyntheticNames()
        var live: [UInt64: Live] = [:]
        var next: UInt64 = 0
        var filter = DenialFilter()
        var denials: UInt64 = 0
        var conversations = 0
        var task: TaskScope.Handle?
    }

    /// Connections that one instance may have at the same time.
    static let connectionLimit = 1024
    /// Conversations with the resolver over TCP likewise.
    private static var conversationLimit: Int { 16 }

    /// Opens the sockets of a link that is there.
    ///
    /// - Parameters:
    ///   - instance: whose it is.
    ///   - index: the number of the link, which says the address.
    ///   - link: the name of the gateway's end.
    ///   - gateway: a descriptor of the gateway's namespace.
    ///   - names: the file of the instance's names; what it holds goes on to be true.
    ///   - gate: what all ways out share.
    ///   - observer: who is told of denials.
    /// - Throws: when a socket or the file cannot be had.
    init(
        instance: String, index: UInt32, link: String, gateway: Int32, names: String, gate: EgressGate,
        observer: any NetworkObserver
    ) throws {
        let known = SyntheticNames(lines: (try? Files.read(names, limit: 8 << 20)) ?? [])
        try Files.writeAtomically(names, known.lines, mode: 0o600, synced: false)
        record = try FileDescriptor.open(names, [.writeOnly, .append])
        self.instance = instance
        holder = HolderID(instance)
        self.index = index
        self.link = link
        self.gate = gate
        self.observer = observer
        questions = try FileStream(
            KernelNetwork.datagrams(on: link, gateway: gateway, port: AddressPlan.resolverPort), on: gate.loop)
        resolver = try Listener(
            adopting: KernelNetwork.listener(on: link, gateway: gateway, port: AddressPlan.resolverPort), on: gate.loop)
        egress = try Listener(
            adopting: KernelNetwork.listener(on: link, gateway: gateway, port: AddressPlan.egressPort), on: gate.loop)
        state.withLock { $0.names = known }
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
            defer { state.live = [:] }
            return (state.task, Array(state.live.values))
        }
        for one in live { one.cut() }
        task?.cancel()
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
    func begin(_ client: FileStream, _ destination: Destination) throws(NetworkDenial) -> UInt64 {
        let number = state.withLock { state -> UInt64? in
            guard state.live.count < Self.connectionLimit else { return nil }
            state.next += 1
            state.live[state.next] = Live(client: client, destination: destination)
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
        let held = gate.grants.grants(of: holder)
        let now = Timestamp.now()
        let live = state.withLock { $0.live }
        for (number, one) in live {
            let request = Request(.connect(one.destination))
            guard case .deny(let denial) = evaluate(request, with: held, at: now) else { continue }
            end(number)
            one.cut()
            report(NetworkDenial(instance, one.destination, denial))
        }
    }

    /// The name that an address stands for here.
    func name(of address: IPAddress) -> HostName? { state.withLock { $0.names.name(of: address) } }

    // MARK: The resolver

    private func answerQuestions() async {
        var memory = [UInt8](repeating: 0, count: 4096)
        while !Task.isCancelled {
            do throws(IOError) {
                let (count, address, port) = try questions.withDescriptor("reading a question") {
                    descriptor throws(Errno) in try descriptor.receiveDatagram(into: &memory)
                }
                guard let response = answer(memory[..<count]) else { continue }
                try questions.withDescriptor("answering") { descriptor throws(Errno) in
                    descriptor.sendDatagram(response, to: address, port)
                }
            } catch {
                if error.errno == .wouldBlock {
                    guard (try? await questions.waitUntilReadable()) != nil else { return }
                } else if error.kind != .system {
                    return
                }
            }
        }
    }

    private func acceptConversations() async {
        await withDiscardingTaskGroup { group in
            while let client = try? await resolver.accept() {
                let hasRoom = state.withLock { state in
                    state.conversations += 1
                    return state.conversations <= Self.conversationLimit
                }
                guard hasRoom else {
                    state.withLock { $0.conversations -= 1 }
                    client.reset()
                    continue
                }
                group.addTask {
                    try? await withDeadline(.seconds(10), clock: self.gate.loop.clock) {
                        try await self.converse(client)
                    }
                    client.close()
                    self.state.withLock { $0.conversations -= 1 }
                }
            }
        }
    }

    /// Questions over TCP, each behind its length.
    private func converse(_ client: FileStream) async throws {
        var buffer = ByteBuffer()
        while try await client.readNext(into: &buffer, atMost: 4096) > 0 {
            while buffer.readableBytes >= 2 {
                let length = Int(buffer[0]) << 8 | Int(buffer[1])
                guard buffer.readableBytes >= length + 2 else { break }
                buffer.consume(2)
                guard let response = answer(buffer.take(length)[...]) else { return }
                try await client.write([UInt8(response.count >> 8), UInt8(response.count & 0xff)] + response[...])
            }
        }
    }

    /// The answer to a question; nil is silence.
    private func answer(_ bytes: ArraySlice<UInt8>) -> [UInt8]? {
        let query: DNSQuery
        do throws(DNSQuery.Problem) { query = try DNSQuery(bytes) } catch { return DNSQuery.response(to: error) }
        return query.response(answer(query))
    }

    private func answer(_ query: DNSQuery) -> DNSQuery.Answer {
        // What stands for a name has no name of its own, and asking for it is no attempt to get anywhere.
        if query.name.lowercased().hasSuffix(".arpa") { return .noSuchName }
        guard let name = HostName(query.name), mayName(name) else {
            let text = printable(query.name)
            report(
                NetworkDenial(
                    instance, text, reason: "name-denied", "the name '\(text)' is not one that may be reached",
                    hint: "allow it with --allow \(text)"))
            return .noSuchName
        }
        guard query.kind == .address else { return .empty }
        let address: UInt32?
        do throws(Errno) { address = try self.address(of: name) } catch {
            gate.logger.error("a name cannot be written down", ("instance", instance), ("error", "\(error)"))
            return .failed
        }
        guard let address else {
            report(
                NetworkDenial(
                    instance, name.description, reason: "too-many-names",
                    "the name '\(name)' is refused: the instance has asked for \(SyntheticNames.limit) names, its limit"
                ))
            return .refused
        }
        return .address(address)
    }

    /// The address of a name, written down when it is new; nil when there are too many.
    private func address(of name: HostName) throws(Errno) -> UInt32? {
        try state.withLock { (state) throws(Errno) -> UInt32? in
            let before = state.names.count
            let address = state.names.address(of: name)
            guard state.names.count > before else { return address }
            do throws(Errno) { try record.writeAll(Array("\(name)\n".utf8)[...]) } catch {
                state.names.dropLast()
                throw error
            }
            return address
        }
    }

    /// Whether some live grant allows a connection to the name, to whatever port.
    private func mayName(_ name: HostName) -> Bool {
        let held = gate.grants.grants(of: holder)
        let now = Timestamp.now()
        return held.grants.contains { grant in
            guard case .network(let pattern) = grant.terms.capability, grant.standing.revoked == nil else {
                return false
            }
            if let expires = grant.standing.expires, expires <= now { return false }
            return pattern.matches(Destination(name, port: pattern.port ?? 443), tool: nil)
        }
    }

    // MARK: Telling

    /// Counts a denial and tells of it, unless the same was told a moment ago.
    func report(_ denial: NetworkDenial) {
        let kept = state.withLock { state -> UInt64? in
            state.denials += 1
            return state.filter.pass(denial, now: SystemTime.monotonic)
        }
        guard let kept else { return }
        observer.denied(denial, suppressed: kept)
    }

    /// Tells of a connection that was allowed but did not come about.
    func note(_ error: AegisError) {
        let text = "network: \(error.message) (\(error.code))"
        let key = NetworkDenial(instance, error.message, reason: error.code, text)
        guard state.withLock({ $0.filter.pass(key, now: SystemTime.monotonic) }) != nil else { return }
        observer.failed(text)
    }
}

/// Who is told what an instance was refused.
package protocol NetworkObserver: Sendable {
    /// A denial.
    ///
    /// - Parameters:
    ///   - denial: what was refused.
    ///   - suppressed: how many of the same kind were not told since the last one.
    func denied(_ denial: NetworkDenial, suppressed: UInt64)
    /// A connection was allowed but could not be made.
    func failed(_ text: String)
}
