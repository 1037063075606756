import AegisCapabilities
import AegisTestSupport
import Glibc
import Testing

private func pattern(_ text: String) throws -> NetworkPattern {
    guard case .network(let pattern) = try Capability(parsing: "network: \(text)") else { throw BadInput(text: text) }
    return pattern
}
private func connect(_ text: String) throws -> (Destination, String?) {
    guard case .connect(let destination, let tool) = try action("network: \(text)") else { throw BadInput(text: text) }
    return (destination, tool)
}

@Suite struct NetworkTests {
    @Test(
        arguments: [
            ("example.com", "example.com:443", true), ("example.com", "EXAMPLE.com.:1", true),
            ("example.com", "www.example.com:443", false), ("example.com:443", "example.com:80", false),
            ("*.example.com", "a.b.example.com:1", true), ("*.example.com", "example.com:1", false),
            ("*.example.com", "badexample.com:1", false), ("*", "anything.test:22", true), ("*", "8.8.8.8:53", true),
            ("*", "10.0.0.1:80", false), ("*", "192.0.2.1:80", false), ("*", "[2001:db8::1]:80", false),
            ("*", "169.254.169.254:80", false), ("*", "localhost:80", false), ("*", "a.localhost:80", false),
            ("*:443", "a.test:443", true), ("*:443", "a.test:444", false), ("10.0.0.0/8", "10.2.3.4:80", true),
            ("10.0.0.0/8", "11.0.0.1:80", false), ("0.0.0.0/0", "10.2.3.4:80", false),
            ("0.0.0.0/0", "8.8.4.4:80", true),
            ("0.0.0.0/0", "127.0.0.1:80", false), ("0.0.0.0/0", "[2600::1]:80", false), ("::/0", "[2600::1]:80", true),
            ("::/0", "[fd00::1]:80", false), ("fd00::/8", "[fd00::1]:80", true), ("::/0", "8.8.8.8:80", false),
            ("8.8.8.8", "[::ffff:8.8.8.8]:80", true), ("fd00::/8", "[fd00:ec2::254]:80", false),
            ("100.64.0.0/10", "100.100.100.200:80", false), ("100.64.0.0/10", "100.64.0.1:80", true),
            ("10.0.0.0/8:5432", "10.0.0.1:5432", true), ("10.0.0.0/8:5432", "10.0.0.1:5433", false),
            ("10.0.0.0/8", "a.test:80", false), ("*,tools=web_fetch", "a.test:80 by web_fetch", true),
            ("*,tools=web_fetch", "a.test:80 by other", false), ("*,tools=web_fetch", "a.test:80", false),
            ("a.test", "a.test:80 by other", true), ("a.test,inspect", "a.test:80", true),
        ])
    func matches(_ text: String, _ asked: String, _ expected: Bool) throws {
        let (destination, tool) = try connect(asked)
        #expect(try pattern(text).matches(destination, tool: tool) == expected)
    }

    @Test(
        arguments: [
            ("*", "a.test"), ("*", "*.a.test:80"), ("*", "8.0.0.0/8"), ("*", "0.0.0.0/0"), ("*.a.test", "b.a.test"),
            ("*.a.test", "*.b.a.test"), ("*.a.test", "*.a.test:443,inspect"), ("a.test", "a.test:443"),
            ("10.0.0.0/8", "10.1.0.0/16"), ("0.0.0.0/0", "8.8.8.8"), ("a.test", "a.test,inspect,tools=x"),
            ("a.test,tools=x+y", "a.test,tools=x"), ("::/0", "2600::/16"), ("10.0.0.0/8", "10.0.0.0/8"),
        ])
    func coversWhatIsNarrower(_ wide: String, _ narrow: String) throws {
        #expect(try pattern(wide).covers(pattern(narrow)) && pattern(narrow).covers(pattern(narrow)))
    }

    @Test(
        arguments: [
            ("*", "10.0.0.0/8"), ("0.0.0.0/0", "10.0.0.0/8"), ("0.0.0.0/0", "*"), ("*.a.test", "a.test"),
            ("a.test:443", "a.test"),
            ("a.test,inspect", "a.test"), ("a.test,tools=x", "a.test"), ("a.test,tools=x", "a.test,tools=x+y"),
            ("10.1.0.0/16", "10.0.0.0/8"), ("::/0", "fd00::/8"), ("::/0", "8.8.8.8"), ("*.a.test", "*"),
            ("a.test", "b.test"),
            ("8.0.0.0/8", "0.0.0.0/0"), ("*:80", "a.test:443"), ("*.a.test", "*.test"),
        ])
    func doesNotCoverWhatIsWider(_ own: String, _ wider: String) throws {
        #expect(try !pattern(own).covers(pattern(wider)))
    }

    @Test func coveringIsNeverWrong() throws {
        var random = Mutator(seed: 7)
        var covered = 0
        for _ in 0..<8000 {
            let (wide, narrow) = (try pattern(random.networkText()), try pattern(random.networkText()))
            guard wide.covers(narrow) else { continue }
            covered += 1
            for _ in 0..<10 {
                let destination = try random.destination()
                let tool = random.pick([nil, "web_fetch", "t"])
                if narrow.matches(destination, tool: tool) {
                    #expect(wide.matches(destination, tool: tool), "\(wide) \(narrow) \(destination)")
                }
            }
        }
        #expect(covered > 400)
    }

    /// The C library reads the same addresses, and prints them alike.
    @Test func addressesAreReadAsTheSystemReadsThem() {
        var random = Mutator(seed: 8)
        var good = 0
        for _ in 0..<8000 {
            let isSix = random.chance(2, in: 3)
            let pieces =
                isSix
                ? ["0", "1", "ffff", "2001", "db8", ":", ":", "::", "1.2.3.4", "00a", "g"]
                : ["0", "1", "10", "255", "256", "01", ".", ".", "."]
            let text = random.some(pieces, 1...(isSix ? 15 : 9)).joined()
            let system = systemForm(text)
            let own = IPAddress(text)
            #expect((own == nil) == (system == nil), "\(text)")
            guard let own, let system else { continue }
            good += 1
            // The system prints IPv4 in IPv6 with dots; we take the address out.
            if !system.contains(".") { #expect(own.description == system, "\(text)") }
            #expect(IPAddress(own.description) == own)
        }
        #expect(good > 80)
    }

    private func systemForm(_ text: String) -> String? {
        var four = in_addr()
        var six = in6_addr()
        var out = [CChar](repeating: 0, count: 64)
        if text.contains(":") {
            guard unsafe inet_pton(AF_INET6, text, &six) == 1, unsafe inet_ntop(AF_INET6, &six, &out, 64) != nil else {
                return nil
            }
        } else {
            guard unsafe inet_pton(AF_INET, text, &four) == 1, unsafe inet_ntop(AF_INET, &four, &out, 64) != nil else {
                return nil
            }
        }
        return String(decoding: out.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    @Test func blocksContainWhatSharesTheirBits() throws {
        var random = Mutator(seed: 9)
        for _ in 0..<5000 {
            let isFour = random.chance(1, in: 2)
            func address() -> IPAddress {
                isFour
                    ? IPAddress(ipv4: UInt32(truncatingIfNeeded: random.next()) & 0xc000_0003)
                    : IPAddress(ipv6: UInt128(random.next()) << 64 | UInt128(random.next() & 3))
            }
            let (a, b) = (address(), address())
            let width = isFour ? 32 : 128
            let bits = random.number(0...width)
            let block = try #require(AddressBlock(a, bits: bits))
            let shared = bits == 0 || a.value >> UInt128(width - bits) == b.value >> UInt128(width - bits)
            #expect(block.contains(a) && block.contains(b) == shared && block.contains(block))
            #expect(AddressBlock(a, bits: width + 1) == nil && AddressBlock(a, bits: -1) == nil)
        }
    }

    @Test(
        arguments: [
            ("8.8.8.8", AddressClass.open), ("2600::1", .open), ("10.0.0.1", .restricted), ("172.31.0.1", .restricted),
            ("172.32.0.1", .open), ("192.168.0.1", .restricted), ("100.127.0.1", .restricted), ("fd00::1", .restricted),
            ("192.0.2.1", .restricted), ("2001:db8::1", .restricted), ("4000::1", .restricted),
        ])
    func classesOfAddresses(_ text: String, _ expected: AddressClass) throws {
        #expect(AddressClass(try #require(IPAddress(text))) == expected)
    }

    @Test(
        arguments: [
            "127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.1.1", "169.254.169.254", "224.0.0.1", "255.255.255.255",
            "198.18.0.1",
            "198.19.255.255", "168.63.129.16", "100.100.100.200", "::", "::1", "::7f00:1", "fe80::1", "fec0::1",
            "ff02::1",
            "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001::1", "fd00:ec2::254", "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ])
    func nothingReachesTheHostItsLinksOrMetadata(_ text: String) throws {
        let address = try #require(IPAddress(text))
        guard case .forbidden = AddressClass(address) else {
            Issue.record("\(text) is \(AddressClass(address))")
            return
        }
        let own = try ["*", "0.0.0.0/0", "::/0"].map { try pattern($0) }
        #expect(own.allSatisfy { !$0.matches(Destination(address, port: 80), tool: nil) })
        #expect(throws: CapabilityError.self) { try pattern(text) }
    }

    @Test func destinationsAreReadAsClientsNameThem() throws {
        #expect(Destination(host: "A.Test.", port: 1)?.description == "a.test:1")
        #expect(Destination(host: "[2600::1]", port: 1)?.description == "[2600::1]:1")
        #expect(Destination(host: "2600:0::1", port: 1)?.description == "[2600::1]:1")
        for bad in ["", ".", "a..b", "1.2.3", "256.1.1.1", "a b", "a/b", "[::1", "0x7f.0x1", "127.1"] {
            #expect(Destination(host: bad, port: 1) == nil, "\(bad)")
        }
    }
}
