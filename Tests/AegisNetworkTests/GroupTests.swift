import AegisCapabilities
import AegisCore
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisNetwork

@Suite struct NetworkGroupsTests {
    private func member(_ name: String, owner: UInt32 = 0) -> NetworkMember {
        NetworkMember(id: "i-\(name)-\(owner)", name: name, owner: owner)
    }

    @Test func membersFindEachOtherByName() throws {
        let groups = NetworkGroups()
        let one = try groups.join(member("one"), "shop")
        let two = try groups.join(member("two"), "shop")
        #expect(IPAddress(ipv4: one).description == "198.19.0.1" && IPAddress(ipv4: two).description == "198.19.0.2")
        for name in ["one", "ONE.", "one.shop.internal", "One.Shop.Internal."] {
            #expect(groups.look(up: name, for: "i-two-0") == .member(one), "\(name)")
        }
        #expect(groups.look(up: "none.shop.internal", for: "i-two-0") == .nobody)
        for name in ["none", "one.internal", "one.other.internal", "shop.internal", ".shop.internal", ""] {
            let answer = groups.look(up: name, for: "i-two-0")
            #expect(answer == (name.hasPrefix(".shop") ? .nobody : .unknown), "\(name)")
        }
        #expect(groups.look(up: "one", for: "i-stranger") == .unknown)
    }

    @Test func groupsAreTheirOwners() throws {
        let groups = NetworkGroups()
        let mine = try groups.join(member("one", owner: 1), "shop")
        let theirs = try groups.join(member("one", owner: 2), "shop")
        #expect(AddressPlan.place(of: mine)?.group != AddressPlan.place(of: theirs)?.group)
        #expect(groups.look(up: "one", for: "i-one-1") == .member(mine))
        #expect(groups.stranger(to: "i-one-1") == theirs)
    }

    @Test func addressesAreKeptAndGivenBack() throws {
        let groups = NetworkGroups()
        let wanted = AddressPlan.member(7, of: 3)
        #expect(try groups.join(member("one"), "shop", wanted: wanted) == wanted)
        #expect(try groups.join(member("one"), "shop") == wanted)
        #expect(try groups.join(member("two"), "shop") == AddressPlan.member(1, of: 3))
        #expect { _ = try groups.join(member("three"), "shop", wanted: wanted) } throws: {
            ($0 as? AegisError)?.code == "group-changed"
        }
        #expect { _ = try groups.join(member("three"), "zoo", wanted: AddressPlan.member(9, of: 3)) } throws: {
            ($0 as? AegisError)?.code == "group-changed"
        }
        let first = groups.leave("i-one-0")
        #expect(first?.address == wanted && first?.isLast == false)
        #expect(groups.leave("i-one-0") == nil)
        #expect(groups.leave("i-two-0")?.isLast == true)
        #expect(groups.group(of: "i-two-0") == nil)
    }

    @Test func thereAreLimits() throws {
        let groups = NetworkGroups()
        for number in 0..<AddressPlan.memberLimit { _ = try groups.join(member("m\(number)"), "shop") }
        #expect { _ = try groups.join(member("more"), "shop") } throws: { ($0 as? AegisError)?.code == "group-full" }
        for number in 1..<AddressPlan.groupLimit { _ = try groups.join(member("g\(number)"), "g\(number)") }
        #expect { _ = try groups.join(member("more"), "more") } throws: {
            ($0 as? AegisError)?.code == "too-many-groups"
        }
    }
}

@Suite struct DenialTallyTests {
    private static let second: UInt64 = 1_000_000_000
    private static func denial(_ host: String) -> NetworkDenial {
        NetworkDenial("i", host, 443, reason: "capability-denied", "no")
    }

    @Test func theSameIsToldAtOnceAndThenByPeriod() {
        var tally = DenialTally()
        let told = [("a", 1), ("a", 2), ("b", 3), ("a", 4)].map { host, time in
            tally.take(Self.denial(host), now: time * Self.second)
        }
        #expect(told == [true, false, true, false])
        #expect(tally.due(now: 5 * Self.second).isEmpty)
        let due = tally.due(now: 11 * Self.second)
        #expect(due.map(\.denial.host) == ["a"] && due.map(\.count) == [2])
        // Nothing since: the next is told at once again.
        _ = tally.due(now: 30 * Self.second)
        #expect(tally.isEmpty)
        let again = tally.take(Self.denial("a"), now: 31 * Self.second)
        #expect(again)
    }

    @Test func nothingIsLostFromTheCounts() {
        var tally = DenialTally()
        var count: UInt64 = 0
        for number in 0..<10_000 where tally.take(Self.denial("h\(number % 5000)"), now: 5) { count += 1 }
        #expect(count == UInt64(DenialTally.most))
        let rest = tally.due(now: 6, all: true)
        #expect(rest.contains { $0.denial.host == "*" && $0.denial.reason == "many-places" })
        count += rest.map(\.count).reduce(0, +)
        #expect(count == 10_000)
        #expect(rest.count <= DenialTally.most + 1)
    }

    /// What stands for many says of how many, and each period counts its own.
    @Test func theOneForManySaysHowManyRefusalsAndPlaces() throws {
        var tally = DenialTally()
        for number in 0..<DenialTally.most { _ = tally.take(Self.denial("h\(number)"), now: 0) }
        for number in 0..<900 {
            let isTold = tally.take(Self.denial("m\(number % 300)"), now: 1)
            #expect(!isTold)
        }
        // The same place, refused for another reason or on another port, is a place of its own.
        _ = tally.take(NetworkDenial("i", "m0", 80, reason: "capability-denied", "no"), now: 1)
        var due = tally.due(now: 1 + DenialTally.period)
        let many = try #require(due.first { $0.denial.reason == "many-places" })
        #expect(many.count == 901 && many.denial.places == 301 && many.denial.host == "*")
        #expect(many.denial.text == "network: what goes to 301 other places is refused (many-places)")
        // Those that were told one by one have no such number.
        due = tally.due(now: 2 + DenialTally.period, all: true)
        #expect(due.allSatisfy { $0.denial.places == nil })
        #expect(tally.isEmpty)
        for number in 0...DenialTally.most { _ = tally.take(Self.denial("h\(number)"), now: 0) }
        due = tally.due(now: DenialTally.period)
        let one = try #require(due.first { $0.denial.reason == "many-places" })
        #expect(
            one.count == 1 && one.denial.places == 1 && one.denial.message == "what goes to 1 other place is refused")
    }

    @Test func placesAreToldApartUpToALimit() throws {
        var tally = DenialTally()
        for number in 0..<DenialTally.most + DenialTally.mostPlaces + 100 {
            _ = tally.take(Self.denial("h\(number)"), now: 0)
        }
        let due = tally.due(now: DenialTally.period)
        let many = try #require(due.first)
        #expect(
            many.count == UInt64(DenialTally.mostPlaces + 100) && many.denial.places == UInt64(DenialTally.mostPlaces))
        #expect(many.denial.message.contains("65536 or more other places"), "\(many.denial.message)")
    }
}

@Suite struct RefusalTests {
    @Test func saysWhatItWas() {
        let udp = LoggedPacket(
            link: 1, etherType: 0x0800, transport: 17, address: 0x0808_0808, source: 0, port: 123, sourcePort: 4)
        let one = udp.denial(of: "i", inGroup: false)
        #expect(one.host == "8.8.8.8" && one.port == 123 && one.reason == "protocol-denied")
        #expect(one.message.hasPrefix("UDP to 8.8.8.8:123 is refused"))
        let six = LoggedPacket(link: 1, etherType: 0x86dd, transport: 0, address: 0, source: 0, port: 0, sourcePort: 0)
        let two = six.denial(of: "i", inGroup: true)
        #expect(two.host == "IPv6" && two.port == nil && two.reason == "frame-denied")
    }
}

@Suite struct PolicyProverTests {
    private func passed(_ kind: PolicyProver.Trial.Kind, _ outcome: String, _ counted: String?, _ answer: [UInt8] = [])
        throws -> Bool
    {
        let number = try #require((0...5).first { PolicyProver.word($0) == outcome })
        return PolicyProver.judge(
            PolicyProver.Trial(kind: kind), .init(outcome: number, error: 0, answer: answer), counted: counted,
            nonce: [1, 2]
        ).passed
    }

    /// A refusal that nobody counted, and silence, prove nothing.
    @Test func onlyWhatIsCountedIsProved() throws {
        #expect(try passed(.tcp, "reset", "capability-denied"))
        #expect(try passed(.tcp, "ended", "capability-denied"))
        for outcome in ["reset", "ended", "no answer", "unreachable", "answered", "not tried"] {
            #expect(try !passed(.tcp, outcome, nil), "\(outcome)")
        }
        for outcome in ["no answer", "unreachable", "answered", "not tried"] {
            #expect(try !passed(.tcp, outcome, "capability-denied"), "\(outcome)")
        }
        #expect(try passed(.udp, "no answer", "protocol-denied"))
        #expect(try !passed(.udp, "no answer", nil))
        #expect(try passed(.frame, "no answer", "frame-denied"))
        #expect(try !passed(.frame, "unreachable", nil))
        #expect(try passed(.tcpSix, "unreachable", nil))
        #expect(try !passed(.tcpSix, "reset", nil))
    }

    @Test func theControlHasToAnswerRight() throws {
        #expect(try passed(.echo, "answered", nil, [1, 2]))
        #expect(try !passed(.echo, "answered", nil, [2, 1]))
        #expect(try !passed(.echo, "reset", nil))
        #expect(try passed(.question, "answered", nil, [9, 198, 18, 0, 2]))
        #expect(try !passed(.question, "answered", nil, [9, 198, 18, 1, 0]))
        #expect(try !passed(.question, "no answer", nil))
    }

    @Test func portsOfTheHostAreFound() {
        let table = """
              sl  local_address rem_address   st tx_queue
               0: 0100007F:1F90 00000000:0000 0A 00000000:00000000
               1: 00000000:0016 00000000:0000 0A 00000000:00000000
               2: 0100007F:0035 00000000:0000 0A 00000000:00000000
               3: 0100007F:A000 0100007F:1F90 01 00000000:00000000
            """
        #expect(ProofTargets.listening([table]) == [22, 8080])
        // A server of both families is in the other table alone.
        let six = """
              sl  local_address                         remote_address                        st tx_queue
               0: 00000000000000000000000000000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000
            """
        #expect(ProofTargets.listening([table, six]) == [22, 8080, 8081])
        #expect(ProofTargets.listening(["nonsense\nmore nonsense"]).isEmpty)
    }

    /// However many connections the host has beside them; and where it cannot be known, a proof is not made without them.
    @Test func portsOfABusyHostAreFound() throws {
        let folder = try TemporaryDirectory()
        let head = "  sl  local_address rem_address   st tx_queue\n"
        func line(_ port: Int, _ state: String) -> String {
            "   0: 0100007F:\(String(port, radix: 16, uppercase: true)) 00000000:0000 \(state)"
                + String(repeating: " ", count: 100) + "\n"
        }
        func find() throws -> [UInt16] { try ProofTargets.listening(in: folder.path) }
        #expect { _ = try find() } throws: { ($0 as? AegisError)?.code == "network-failed" }
        // More than one reading has, and less than all: 3 MiB.
        let listening = (0..<400).map { _ in line(8080, "0A") }.joined() + line(4433, "0A")
        let others = (0..<20_000).map { _ in line(40_000, "01") }.joined()
        try Files.writeAtomically(folder.path("tcp"), Array((head + listening + others).utf8))
        // A kernel without IPv6 has no other table.
        #expect(try find() == [4433, 8080])
        try Files.writeAtomically(folder.path("tcp6"), Array((head + line(4434, "0A") + others).utf8))
        #expect(try find() == [4433, 4434, 8080])
        // Nobody listens.
        for name in ["tcp", "tcp6"] { try Files.writeAtomically(folder.path(name), Array((head + others).utf8)) }
        #expect(try find() == [])
        try Files.removeFile(folder.path("tcp6"))
        try Files.makeDirectories(folder.path("tcp6"), mode: 0o700)
        #expect { _ = try find() } throws: { ($0 as? AegisError)?.code == "network-failed" }
    }
}
