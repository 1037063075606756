import AegisCapabilities
import AegisCore
import AegisIO
import AegisSandboxTypes
internal import CNetlink
import LinuxSys

/// What a probe tries in every instance's network (decision D22).
enum ProofTargets {
    /// The positive control: a name that every linked instance may reach, at an address that leads to an echo of ours.
    static let controlName = HostName.ofProofs
    static let controlAddress = IPAddress(ipv4: AddressPlan.control)
    static let controlPort: UInt16 = 7
    /// The grant that the control needs: what is allowed is allowed by the evaluator, here as elsewhere.
    static var grant: GrantSpec {
        get throws(AegisError) {
            do { return GrantSpec(try Capability(parsing: "network: \(controlName):\(controlPort)")) } catch {
                throw error.asAegisError
            }
        }
    }

    /// Ports of the gateway's address that are always tried, beside those on which the host listens.
    static let ports: [UInt16] = [22, 80, 443, 2375, 8080]
    /// The most ports on which the host listens that one round tries.
    static let hostPorts = 16
}

/// Tries in an instance's network what must fail, with what must succeed beside it, and looks whether each refusal was
/// counted as one. It runs as a thread of ours: nothing of it passes through a program of the instance's.
struct PolicyProver: Sendable {
    let uplink: Uplink
    /// The instance's network namespace.
    let namespace: SharedNamespace
    /// The instance's address in its group.
    let member: UInt32?
    /// The address of a member of another group; some address of no member where there is none.
    let stranger: UInt32

    /// What the instance may reach, as its policy says.
    let opened: [Capability]

    /// Milliseconds that one round may take.
    private static let patience: Int32 = 4000
    /// How long the word of a refusal may take after the attempt.
    private static var newsTime: Duration { .seconds(2) }
    /// How often a round that shows nothing certain is made again.
    private static var rounds: Int { 3 }

    /// One thing to try.
    struct Trial: Sendable {
        enum Kind: Sendable { case tcp, udp, tcpSix, frame, question, echo }
        var kind: Kind
        var address: UInt32 = 0
        var port: UInt16 = 0

        var isControl: Bool { kind == .question || kind == .echo }
        var what: String {
            let place = "\(IPAddress(ipv4: address)):\(port)"
            return switch kind {
            case .tcp: "TCP to \(place)"
            case .udp: "UDP to \(place)"
            case .tcpSix: "TCP to [2001:db8::1]:443"
            case .frame: "a forged frame in the group"
            case .question: "the control's name"
            case .echo: "the control's echo"
            }
        }
    }

    /// What came of one.
    struct Result: Sendable, Equatable {
        var outcome: Int
        var error: Int
        var answer: [UInt8]
    }

    /// Makes a round, and again while nothing certain came of it.
    func prove(_ cause: PolicyProof.Cause) async throws -> PolicyProof {
        var proof = try await round(cause)
        for _ in 1..<Self.rounds where !proof.passed && !isCertain(proof) { proof = try await round(cause) }
        return proof
    }

    /// Whether a failed proof shows an open network, rather than a machine that is too busy to answer in time.
    private func isCertain(_ proof: PolicyProof) -> Bool {
        proof.attempts.contains { !$0.passed && $0.wanted == "refused" && $0.outcome == Self.word(CN_ANSWERED) }
    }

    /// Everything that is tried.
    func trials(hostPorts: [UInt16]) -> [Trial] {
        var trials = [
            Trial(kind: .question, address: AddressPlan.gateway, port: AddressPlan.resolverPort),
            Trial(kind: .echo, address: AddressPlan.control, port: ProofTargets.controlPort),
            Trial(kind: .tcp, address: forbidden, port: 443), Trial(kind: .tcp, address: forbidden, port: 9),
            Trial(kind: .tcp, address: 0xa9fe_a9fe, port: 80), Trial(kind: .tcp, address: stranger, port: 80),
            Trial(kind: .tcpSix), Trial(kind: .udp, address: forbidden, port: 123),
        ]
        for port in Set(ProofTargets.ports + hostPorts).sorted() {
            trials.append(Trial(kind: .tcp, address: AddressPlan.gateway, port: port))
        }
        if let member { trials.append(Trial(kind: .frame, address: member & 0xffff_ff00 | 0xfe, port: 9)) }
        return trials
    }

    /// An address that nothing was opened to: one of those for documents, or, where all of them were, one that no grant reaches.
    /// What gets there all the same ends in the trap.
    private var forbidden: UInt32 {
        [0xc000_0201, 0xc633_6401, 0xcb00_7101].first { address in
            !opened.contains { capability in
                guard case .network(let pattern) = capability else { return false }
                // Whatever the port: the same address is tried on several.
                let port = pattern.port ?? 443
                return pattern.matches(Destination(IPAddress(ipv4: address), port: port), tool: nil)
            }
        } ?? AddressPlan.trap
    }

    private func round(_ cause: PolicyProof.Cause) async throws -> PolicyProof {
        let (time, begin) = (Timestamp.now(), SystemTime.monotonic)
        let trials = trials(hostPorts: try ProofTargets.listening(in: "/proc/self/net"))
        let ports = try Self.ports(trials.count)
        let nonce = try Random.bytes(16)
        let flows = zip(trials, ports).map { ProbeFlow($0, from: $1, of: AddressPlan.instance(uplink.index)) }
        uplink.expect(flows.compactMap(\.self))
        defer { uplink.forget(flows.compactMap(\.self)) }
        let (namespace, patience) = (namespace, Self.patience)
        let (marks, table, gateway) = (uplink.marks(of: flows.compactMap(\.self)), uplink.table, uplink.gateway)
        let results = try await BlockingPool.shared.run {
            KernelNetwork.mark(marks, true, table: table, gateway: gateway.raw)
            defer { KernelNetwork.mark(marks, false, table: table, gateway: gateway.raw) }
            return try KernelNetwork.attempt(trials, from: ports, nonce: nonce, in: namespace.raw, patience: patience)
        }
        var attempts: [PolicyProof.Attempt] = []
        let limit = SystemTime.monotonic + UInt64(Self.newsTime / .nanoseconds(1))
        for (index, trial) in trials.enumerated() {
            var result = results[index]
            var counted = flows[index].flatMap(uplink.refusal)
            while counted == nil, Self.waits(trial, result), SystemTime.monotonic < limit {
                try await uplink.gate.loop.clock.sleep(for: .milliseconds(2))
                counted = flows[index].flatMap(uplink.refusal)
            }
            if counted == ProofTrap.reason { (counted, result.outcome) = (nil, CN_ANSWERED) }
            attempts.append(Self.judge(trial, result, counted: counted, nonce: nonce))
        }
        let took = Double((SystemTime.monotonic - begin) / 1000) / 1000
        return PolicyProof(time: time, cause: cause, attempts: attempts, took: took)
    }

    /// Whether the word of a refusal is still to come.
    private static func waits(_ trial: Trial, _ result: Result) -> Bool {
        !trial.isControl && trial.kind != .tcpSix && result.outcome != CN_ANSWERED
    }

    /// Different ports below those that the kernel gives to programs. A port that a connection of the instance's has, or had a
    /// minute ago, is changed for another one where the next connection from it is redirected, so that its attempt would be
    /// known by nothing.
    static func ports(_ count: Int) throws(Errno) -> [UInt16] {
        let bytes = try Random.bytes(2)
        let first = Int(bytes[0]) << 8 | Int(bytes[1])
        return (0..<count).map { UInt16(10_000 + (first + $0 * 61) % 22_000) }
    }

    /// What an attempt proves. A refusal without a count proves nothing: nobody can tell it from a failure.
    static func judge(_ trial: Trial, _ result: Result, counted: String?, nonce: [UInt8]) -> PolicyProof.Attempt {
        let passed: Bool
        switch trial.kind {
        case .question: passed = result.outcome == CN_ANSWERED && Array(result.answer.suffix(4)) == controlBytes
        case .echo: passed = result.outcome == CN_ANSWERED && result.answer == nonce
        case .tcp: passed = (result.outcome == CN_RESET || result.outcome == CN_ENDED) && counted != nil
        case .udp, .frame: passed = result.outcome == CN_SILENT && counted != nil
        // There is no way to send any, so there is nothing to count.
        case .tcpSix: passed = result.outcome == CN_UNREACHABLE
        }
        return PolicyProof.Attempt(
            what: trial.what, wanted: trial.isControl ? "answered" : "refused", outcome: word(result.outcome),
            counted: counted, passed: passed)
    }

    private static var controlBytes: [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: AddressPlan.control >> $0) }
    }

    static func word(_ outcome: Int) -> String {
        switch outcome {
        case CN_SILENT: "no answer"
        case CN_ANSWERED: "answered"
        case CN_RESET: "reset"
        case CN_ENDED: "ended"
        case CN_BUSY: "not tried"
        default: "unreachable"
        }
    }
}

/// An open network namespace.
final class SharedNamespace: Sendable {
    private let descriptor: FileDescriptor
    init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
    var raw: Int32 { descriptor.raw }
}

extension PolicyProof {
    /// Why an instance with this proof must not run; nil when it passed.
    var failure: AegisError? {
        let failed = attempts.filter { !$0.passed }
        guard !failed.isEmpty else { return nil }
        let text = failed.prefix(3).map { one in
            "\(one.what): \(one.outcome)\(one.wanted == "refused" && one.counted == nil ? ", not counted" : "")"
        }
        return AegisError(
            .failed, "policy-unproven",
            "the network does not refuse what it has to: \(text.joined(separator: "; "))"
                + (failed.count > 3 ? "; \(failed.count - 3) more" : ""),
            hint: "see 'aegis doctor --policy'; has another program changed rules or links of Aegis's namespace?")
    }
}

extension KernelNetwork {
    /// Makes attempts side by side in a namespace; blocks.
    ///
    /// - Returns: what came of each, in their order.
    static func attempt(
        _ trials: [PolicyProver.Trial], from ports: [UInt16], nonce: [UInt8], in namespace: Int32, patience: Int32
    ) throws(Errno) -> [PolicyProver.Result] {
        var list = zip(trials, ports).map { trial, port in describe(trial, port, nonce) }
        guard unsafe cn_attempt_all(namespace, &list, list.count, patience) == 0 else { throw Errno.current }
        return list.map { one in
            let answer = unsafe withUnsafeBytes(of: one.got) { unsafe Array($0.prefix(Int(one.got_count))) }
            return PolicyProver.Result(outcome: Int(one.outcome), error: Int(one.error), answer: answer)
        }
    }

    private static func describe(_ trial: PolicyProver.Trial, _ port: UInt16, _ nonce: [UInt8]) -> cn_attempt {
        var one = cn_attempt()
        let kind =
            switch trial.kind {
            case .tcp, .echo: CN_TCP
            case .udp, .question: CN_UDP
            case .tcpSix: CN_TCP6
            case .frame: CN_FRAME
            }
        one.kind = Int32(kind)
        one.address = trial.address
        one.port = trial.port
        one.source_port = port
        one.wants_answer = trial.isControl ? 1 : 0
        let sent =
            switch trial.kind {
            case .question: question(nonce)
            case .echo, .udp: nonce
            case .tcp, .tcpSix, .frame: [UInt8]()
            }
        unsafe withUnsafeMutableBytes(of: &one.sent) { unsafe $0.copyBytes(from: sent.prefix($0.count)) }
        one.sent_count = sent.count
        return one
    }

    /// The question for the control's name.
    private static func question(_ nonce: [UInt8]) -> [UInt8] {
        var bytes = Array(nonce.prefix(2)) + [1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
        for label in ProofTargets.controlName.description.split(separator: ".") {
            bytes.append(UInt8(label.utf8.count))
            bytes += label.utf8
        }
        return bytes + [0, 0, 1, 0, 1]
    }
}

extension Action {
    /// Whether this is what the node tries itself, from inside an instance, to see that its network works.
    package var isProbeOfNetwork: Bool {
        if case .connect(let destination, nil) = self {
            destination.host == .name(ProofTargets.controlName)
        } else {
            false
        }
    }
}
