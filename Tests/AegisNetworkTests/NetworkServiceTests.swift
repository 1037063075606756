import AegisCapabilities
import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

@testable import AegisNetwork

/// Networks in the kernel, without instances (needs root and a kernel with nf_tables).
@Suite struct NetworkServiceTests {
    /// Remembers what it is told.
    final class Listener: NetworkObserver {
        func used(_ secrets: [String], host: String, method: String) {}
        private let failures = Mutex<[AegisError]>([])
        private let news = AsyncStream<AegisError>.makeStream()
        /// Waits for the first word of a broken network.
        func alarm() async -> AegisError? {
            for await error in news.stream { return error }
            return nil
        }
        var unproven: [AegisError] { failures.withLock { $0 } }
        private let refused = AsyncStream<NetworkDenial>.makeStream()
        /// Waits for the next denial.
        func denial() async -> NetworkDenial? {
            for await denial in refused.stream { return denial }
            return nil
        }
        func denied(_ denial: NetworkDenial, count: UInt64) { refused.continuation.yield(denial) }
        func failed(_ error: AegisError) {}
        func unproven(_ error: AegisError) {
            failures.withLock { $0.append(error) }
            news.continuation.yield(error)
        }
    }

    /// Every name leads to this host.
    private struct Inwards: NameResolver {
        func addresses(of name: String, for instance: String) -> [IPAddress] { [IPAddress(ipv4: 0x7f00_0001)] }
    }

    /// A network namespace, as a sandbox has one; it lasts as long as the process in it.
    static func namespace(on loop: EventLoop) async throws -> (holder: ChildProcess, SharedNamespace) {
        let holder = try ChildProcess.spawn(
            ProcessSpec(
                executable: "/usr/bin/unshare", arguments: ["unshare", "-n", "/bin/sh", "-c", "echo ready; exec cat"],
                stdin: .pipe, stdout: .pipe), on: loop)
        var said = ByteBuffer()
        _ = try await holder.stdout?.read(into: &said, atMost: 16)
        return (holder, SharedNamespace(try FileDescriptor.open("/proc/\(holder.pid)/ns/net", [.readOnly])))
    }

    static func with(
        _ body: @escaping @Sendable (NetworkService, EventLoop) async throws -> Void
    ) async throws {
        try await withTwo { service, _, _, loop in try await body(service, loop) }
    }

    /// The networks of a daemon with what ends as it dies, and those of the next one of the same node.
    static func withTwo(
        _ body: @escaping @Sendable (NetworkService, TaskScope, NetworkService, EventLoop) async throws -> Void
    ) async throws {
        try await onLoop { loop in
            let folder = try TemporaryDirectory()
            let scopes = (0..<2).map { _ in TaskScope(on: loop) }
            let node = try Random.hex(bytes: 4)
            let services = scopes.map { scope in
                NetworkService(
                    node: node, runDirectory: folder.path("run"), grants: GrantBook(), resolver: Inwards(), on: loop,
                    scope: scope, logger: .none)
            }
            let outcome: Result<Void, any Error>
            do { outcome = .success(try await body(services[0], scopes[0], services[1], loop)) } catch {
                outcome = .failure(error)
            }
            for service in services { await service.close(keeping: false) }
            for scope in scopes { await scope.end() }
            let mounts = String(decoding: try Files.read("/proc/self/mountinfo", limit: 1 << 20), as: UTF8.self)
            #expect(!mounts.contains(folder.path))
            try outcome.get()
        }
    }

    /// A linked instance.
    struct Linked: Sendable {
        let member: NetworkMember
        let place: NetworkService.Place
        let holder: ChildProcess
        let observer = Listener()

        func end(_ service: NetworkService) async throws {
            await service.detach(member.id, place)
            _ = holder.signal(9)
            _ = try await holder.wait()
        }
    }

    /// An instance with a network, and what is done with it.
    static func withLinked(
        _ policy: NetworkPolicy,
        _ body: @escaping @Sendable (NetworkService, Linked, EventLoop) async throws -> Void
    ) async throws {
        try await with { service, loop in
            let linked = try await link("i-0000000000000007", policy, to: service, on: loop)
            let outcome: Result<Void, any Error>
            do { outcome = .success(try await body(service, linked, loop)) } catch { outcome = .failure(error) }
            try await linked.end(service)
            try outcome.get()
        }
    }

    /// Links one more instance.
    static func link(
        _ id: String, _ policy: NetworkPolicy, to service: NetworkService, on loop: EventLoop
    ) async throws -> Linked {
        let (holder, namespace) = try await namespace(on: loop)
        let member = NetworkMember(id: id, name: "name-\(id)", owner: 0)
        let linked = Linked(member: member, place: try await service.reserve(member, policy), holder: holder)
        try await service.attach(
            member, linked.place, policy: policy, inspection: nil, namespace: namespace.raw, observer: linked.observer)
        return linked
    }

    static func run(_ arguments: [String], on loop: EventLoop) async throws -> String {
        let output = try await runProcess(
            ProcessSpec(executable: "/usr/bin/nsenter", arguments: ["nsenter"] + arguments), deadline: .seconds(60),
            on: loop)
        try #require(output.status.shellCode == 0, "\(arguments): \(String(decoding: output.stderr, as: UTF8.self))")
        return String(decoding: output.stdout, as: UTF8.self)
    }

    /// Sends from a port of its own, and prints what became of it: what it was told, if it was a connection.
    private static let sender = """
        import socket, sys
        kind, port, address, to = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
        def ask(name):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(60)
                s.sendto(bytes(2) + bytes([1, 0, 0, 1]) + bytes(6) + b''.join(
                    bytes([len(word)]) + word.encode() for word in name.split('.')) + bytes([0, 0, 1, 0, 1]), ('198.18.0.1', 53))
                return socket.inet_ntoa(s.recv(500)[-4:])
        if not address[0].isdigit(): address = ask(address)
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == 'udp' else socket.SOCK_STREAM)
        s.settimeout(60); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', port))
        try:
            s.connect((address, to))
            print(s.recv(100).decode().strip() if kind == 'tcp' else s.send(b'x') and 'sent')
        except ConnectionResetError: print('reset')
        """

    private static func send(
        _ kind: String, from port: UInt16, to address: String, _ number: UInt16, _ linked: Linked, on loop: EventLoop
    ) async throws -> String {
        try await run(
            [
                "-t", "\(linked.holder.pid)", "-n", "/usr/bin/python3", "-c", sender, kind, "\(port)", address,
                "\(number)",
            ], on: loop)
    }

    /// A program that happens to have the port of a probe's attempt is none the less told of as what it is, and gets no more
    /// than it would without.
    @Test func onlyTheAttemptItselfIsTakenForTheProbe() async throws {
        try await Self.withLinked(try NetworkPolicy(NetworkRequest(allow: ["a.example"]))) { service, linked, loop in
            let uplink = try #require(await service.links[linked.member.id]?.uplink)
            let own = AddressPlan.instance(linked.place.index)
            let trials = [
                PolicyProver.Trial(kind: .tcp, address: 0xc000_0201, port: 443),
                PolicyProver.Trial(kind: .udp, address: 0xc000_0201, port: 123),
            ]
            // One for each: the second connection from a port would come from another one.
            let ports: [UInt16] = [20_001, 20_002, 20_003, 20_004, 20_005, 20_006]
            let flows = try ports.flatMap { port in try trials.map { try #require(ProbeFlow($0, from: port, of: own)) }
            }
            uplink.expect(flows)
            func send(_ kind: String, _ port: Int, _ address: String, _ number: UInt16) async throws -> String {
                try await Self.send(kind, from: ports[port], to: address, number, linked, on: loop)
            }
            #expect(try await send("tcp", 0, "198.51.100.9", 443) == "reset\n")
            #expect(await linked.observer.denial()?.host == "198.51.100.9")
            #expect(try await send("tcp", 1, "192.0.2.1", 80) == "reset\n")
            #expect(await linked.observer.denial()?.port == 80)
            #expect(try await send("udp", 2, "198.51.100.9", 123) == "sent\n")
            #expect(await linked.observer.denial()?.reason == "protocol-denied")
            // To where it may go it goes, instead of to what answers probes; the name leads to this host, which is refused.
            #expect(try await send("tcp", 3, "a.example", 9000) == "reset\n")
            #expect(await linked.observer.denial()?.reason == "address-refused")
            #expect(flows.allSatisfy { uplink.refusal(of: $0) == nil })
            // The attempt itself, and the same again when nothing is under way.
            #expect(try await send("tcp", 4, "192.0.2.1", 443) == "reset\n")
            #expect(uplink.refusal(of: flows[8]) == "capability-denied")
            uplink.forget(flows)
            #expect(try await send("tcp", 5, "192.0.2.1", 443) == "reset\n")
            let last = await linked.observer.denial()
            #expect(last?.host == "192.0.2.1" && last?.port == 443, "\(String(describing: last))")
        }
    }

    /// A busy instance has had a good part of those that the kernel gives out within the last minutes.
    @Test func probesTakeNoPortThatProgramsAreGiven() throws {
        let given = try kernelText("/proc/sys/net/ipv4/ip_local_port_range").split(separator: "\t").compactMap {
            UInt16($0)
        }
        for _ in 0..<100 {
            let ports = try PolicyProver.ports(40)
            #expect(Set(ports).count == 40 && ports.allSatisfy { $0 > 1024 && $0 < 32_768 && $0 < given[0] })
        }
    }

    /// An evaluator that lets through what the policy does not open: the proxy reaches nobody for a probe.
    @Test func whatIsGrantedBesideThePolicyFailsTheProof() async throws {
        try await Self.withLinked(try NetworkPolicy(NetworkRequest(allow: ["a.example"]))) { service, linked, _ in
            let extra = GrantSpec(try Capability(parsing: "network: 192.0.2.0/24"))
            _ = try service.gate.grants.issue([extra], to: HolderID(linked.member.id))
            await service.check(linked.member.id, .random)
            let message = linked.observer.unproven.first?.message
            #expect(message?.contains("TCP to 192.0.2.1:443: answered") == true, "\(String(describing: message))")
        }
    }

    /// What a policy opens is not tried as forbidden, not even the addresses that usually are.
    @Test(arguments: [["192.0.2.0/24"], ["192.0.2.0/24:80", "198.51.100.0/24", "203.0.113.0/24"]])
    func whatIsOpenedIsNoForbiddenHost(_ places: [String]) async throws {
        try await Self.withLinked(try NetworkPolicy(NetworkRequest(allow: places))) { service, linked, _ in
            let proof = await service.proved(linked.member.id).proofs.first
            let tried = places.count == 1 ? "198.51.100.1" : "198.18.0.3"
            #expect(proof?.passed == true)
            #expect(
                proof?.attempts.contains { $0.what == "TCP to \(tried):443" } == true, "\(String(describing: proof))")
        }
    }

    @Test func missingRightsAreNotTakenForAMissingKernel() {
        let hint = NetworkTools.hint(
            for: "nft says: netlink: Error: cache initialization failed: Operation not permitted")
        #expect(hint.contains("CAP_NET_ADMIN") && !hint.contains("nf_tables"))
        #expect(NetworkTools.hint(for: "nft says: Could not process rule").contains("nf_tables"))
    }

    /// A proof at a random moment and a change of what it proves would each spoil the other: a port that is taken away counts
    /// nothing, which is a failed proof, which ends the instance.
    @Test func proofsAndChangesComeOneAfterTheOther() async throws {
        try await Self.with { service, loop in
            let (holder, namespace) = try await Self.namespace(on: loop)
            let observer = Listener()
            let member = NetworkMember(id: "i-0000000000000001", name: "one", owner: 0)
            func policy(_ group: String) throws -> NetworkPolicy {
                try NetworkPolicy(NetworkRequest(group: group, allow: ["a.example"]))
            }
            var place = try await service.reserve(member, policy("left"))
            try await service.attach(
                member, place, policy: policy("left"), inspection: nil, namespace: namespace.raw, observer: observer)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<2 {
                    group.addTask { for _ in 0..<10 { await service.check(member.id, .random) } }
                }
                for number in 0..<10 {
                    place = try await service.change(member.id, place, to: policy(number % 2 == 0 ? "right" : "left"))
                }
                try await group.waitForAll()
            }
            #expect(observer.unproven.isEmpty, "\(observer.unproven)")
            let proofs = await service.proved(member.id).proofs
            #expect(proofs.count == 10 && proofs.allSatisfy(\.passed))
            await service.detach(member.id, place)
            _ = holder.signal(9)
            _ = try await holder.wait()
        }
    }

    /// What cannot be looked at is not trusted: a change at once, a running instance after three times in a row.
    @Test func whatCannotBeProvedIsTold() async throws {
        try await Self.with { service, loop in
            let (holder, namespace) = try await Self.namespace(on: loop)
            let observer = Listener()
            let member = NetworkMember(id: "i-0000000000000006", name: "six", owner: 0)
            func policy(_ host: String) throws -> NetworkPolicy { try NetworkPolicy(NetworkRequest(allow: [host])) }
            let place = try await service.reserve(member, policy("a.example"))
            try await service.attach(
                member, place, policy: policy("a.example"), inspection: nil, namespace: namespace.raw,
                observer: observer)
            // No network to enter: a probe cannot even begin.
            let none = SharedNamespace(try FileDescriptor.open("/dev/null", [.readOnly]))
            await service.enter(none, for: member.id)
            for _ in 0..<2 { await service.check(member.id, .random) }
            await service.enter(namespace, for: member.id)
            await service.check(member.id, .random)
            await service.enter(none, for: member.id)
            for _ in 0..<2 { await service.check(member.id, .random) }
            // Two, and two more after one that passed, are no three in a row.
            #expect(observer.unproven.isEmpty, "\(observer.unproven)")
            await service.check(member.id, .random)
            #expect(observer.unproven.map(\.code) == ["policy-unproven"])
            let error = await #expect(throws: AegisError.self) {
                _ = try await service.change(member.id, place, to: policy("b.example"))
            }
            #expect(error?.code == "policy-unproven")
            await service.detach(member.id, place)
            _ = holder.signal(9)
            _ = try await holder.wait()
        }
    }

    /// What a daemon that died had linked is still there when the next one links another instance at the same place: the
    /// kernel takes a link away some time after its namespace has gone.
    @Test func aPlaceWhoseLinkIsStillThereIsLinkedAnew() async throws {
        try await Self.withTwo { first, scope, second, loop in
            let (old, before) = try await Self.namespace(on: loop)
            let (new, namespace) = try await Self.namespace(on: loop)
            let policy = try NetworkPolicy(NetworkRequest(group: "shop", allow: ["a.example"]))
            let lost = NetworkMember(id: "i-0000000000000004", name: "four", owner: 0)
            let place = try await first.reserve(lost, policy)
            try await first.attach(
                lost, place, policy: policy, inspection: nil, namespace: before.raw, observer: Listener())
            await first.close(keeping: true)
            await scope.end()
            let member = NetworkMember(id: "i-0000000000000005", name: "five", owner: 0)
            try #require(try await second.reserve(member, policy) == place)
            try await second.attach(
                member, place, policy: policy, inspection: nil, namespace: namespace.raw, observer: Listener())
            #expect(await second.proved(member.id).proofs.first?.passed == true)
            await second.detach(member.id, place)
            for holder in [old, new] {
                _ = holder.signal(9)
                _ = try await holder.wait()
            }
        }
    }

    /// Whoever waits for a link to be taken away may be cancelled: it is taken away all the same, and its place is free.
    @Test func whoIsCancelledLeavesNothing() async throws {
        try await Self.with { service, loop in
            let (holder, namespace) = try await Self.namespace(on: loop)
            let member = NetworkMember(id: "i-0000000000000002", name: "two", owner: 0)
            let policy = try NetworkPolicy(NetworkRequest(group: "shop"))
            let place = try await service.reserve(member, policy)
            try await service.attach(
                member, place, policy: policy, inspection: nil, namespace: namespace.raw, observer: Listener())
            let leaving = Task {
                unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
                await service.detach(member.id, place)
            }
            await leaving.value
            // The other end of each link is in the namespace, and goes with this one.
            let links = try await runProcess(
                ProcessSpec(
                    executable: "/usr/bin/nsenter",
                    arguments: ["nsenter", "-t", "\(holder.pid)", "-n", "/bin/cat", "/proc/net/dev"]), on: loop)
            let text = String(decoding: links.stdout, as: UTF8.self)
            #expect(text.contains("lo:") && !text.contains("eth"), "\(text)")
            let next = NetworkMember(id: "i-0000000000000003", name: "three", owner: 0)
            #expect(try await service.reserve(next, policy) == place)
            _ = holder.signal(9)
            _ = try await holder.wait()
        }
    }
}

extension NetworkService {
    /// Has the proofs of an instance enter another network.
    fileprivate func enter(_ namespace: SharedNamespace, for id: String) { links[id]?.namespace = namespace }
}
