import AegisCapabilities
import AegisCore
import AegisSandboxTypes
import Testing

@testable import AegisNetwork

@Suite struct NetworkPolicyTests {
    @Test func nothingIsClosed() throws {
        #expect(try NetworkPolicy(nil).isClosed)
        #expect(try NetworkPolicy(NetworkRequest()).mode == .none)
        #expect(try NetworkPolicy(NetworkRequest(mode: "none", allow: [])).isClosed)
    }

    @Test func placesAreGrants() throws {
        let policy = try NetworkPolicy(NetworkRequest(allow: ["API.Example:443", "*.example.org", "10.0.0.0/8:5432"]))
        #expect(policy.mode == .listed)
        #expect(policy.places == ["api.example:443", "*.example.org", "10.0.0.0/8:5432"])
    }

    @Test func allowIsEveryPublicAddress() throws {
        let policy = try NetworkPolicy(NetworkRequest(mode: "allow", allow: ["10.0.0.0/8"]))
        #expect(policy.mode == .allow)
        #expect(policy.places == ["10.0.0.0/8", "*"])
    }

    @Test(arguments: ["localhost", "127.0.0.1", "169.254.169.254", "https://a.example", "a b", "", "10.1.2.3/8"])
    func refusesPlaces(_ place: String) {
        #expect { _ = try NetworkPolicy(NetworkRequest(allow: [place])) } throws: {
            ($0 as? AegisError)?.code == "invalid-capability"
        }
    }

    @Test(arguments: [
        NetworkRequest(allow: ["a.example,tools=web_fetch"])
    ]) func refusesWhatIsNotThere(_ request: NetworkRequest) {
        #expect { _ = try NetworkPolicy(request) } throws: { ($0 as? AegisError)?.code == "network-unsupported" }
    }

    /// What only a secret asks for is open for what that is bound to.
    @Test func secretsImplyTheirHosts() throws {
        func bindings(_ texts: String...) throws -> [SecretBinding] {
            try texts.compactMap {
                if case .brokered(let binding) = try SecretArgument(parsing: $0) { binding } else { nil }
            }
        }
        let secrets = try bindings("A@a.example/v1,methods=GET", "B@a.example", "C@c.example")
        let policy = try NetworkPolicy(NetworkRequest(allow: ["c.example:443,inspect", "d.example"]), secrets: secrets)
        #expect(policy.places == ["c.example:443,inspect", "d.example", "a.example:443,inspect"])
        #expect(policy.implied == [policy.grants[2]] && policy.inspects)
        #expect(try NetworkPolicy(NetworkRequest(allow: ["d.example"])).implied.isEmpty)
    }

    @Test func aGroupIsANetwork() throws {
        for request in [NetworkRequest(mode: "team"), NetworkRequest(group: "team")] {
            let policy = try NetworkPolicy(request)
            #expect(policy.group == "team" && policy.mode == .none && policy.places.isEmpty && !policy.isClosed)
        }
        #expect(try NetworkPolicy(NetworkRequest(mode: "team", group: "team")).group == "team")
        #expect(try NetworkPolicy(NetworkRequest(mode: "allow", group: "team")).mode == .allow)
    }

    @Test(arguments: [
        NetworkRequest(mode: "one", group: "two"), NetworkRequest(group: "none"), NetworkRequest(mode: "host"),
        NetworkRequest(group: "bridge"), NetworkRequest(group: "default"), NetworkRequest(group: "A"),
        NetworkRequest(mode: ""), NetworkRequest(group: ""),
    ]) func refusesGroups(_ request: NetworkRequest) {
        #expect { _ = try NetworkPolicy(request) } throws: { ($0 as? AegisError)?.code == "invalid-argument" }
    }

    @Test func boundsTheList() {
        #expect(throws: AegisError.self) {
            _ = try NetworkPolicy(NetworkRequest(allow: (0..<257).map { "h\($0).example" }))
        }
    }
}

@Suite struct SyntheticNamesTests {
    @Test func anAddressKeepsItsName() throws {
        var names = SyntheticNames()
        let a = try #require(HostName("a.example"))
        let b = try #require(HostName("b.example"))
        let given = (names.address(of: a), names.address(of: b))
        let first = try #require(given.0)
        let second = try #require(given.1)
        #expect(first != second)
        let again = names.address(of: a)
        #expect(again == first)
        #expect(names.name(of: IPAddress(ipv4: first)) == a)
        #expect(names.name(of: IPAddress(ipv4: second)) == b)
        #expect(names.name(of: IPAddress(ipv4: second + 1)) == nil)
    }

    @Test func otherAddressesStandForNothing() throws {
        var names = SyntheticNames()
        let known = try #require(HostName("a.example"))
        _ = names.address(of: known)
        for text in ["198.18.0.1", "198.19.0.1", "8.8.8.8", "::c612:100"] {
            let address = try #require(IPAddress(text))
            #expect(names.name(of: address) == nil)
        }
    }

    @Test func whatIsWrittenDownIsReadAgain() throws {
        var names = SyntheticNames()
        let all = try ["a.example", "b.example", "xn--bcher-kva.example"].map { try #require(HostName($0)) }
        let addresses = all.map { names.address(of: $0) }
        var again = SyntheticNames(lines: names.lines)
        let same = all.map { again.address(of: $0) }
        #expect(same == addresses)
        // The daemon died in the middle of a line.
        let cut = SyntheticNames(lines: names.lines.dropLast())
        #expect(cut.count == 2)
        #expect(SyntheticNames(lines: Array("a.example\n-\nb.example\n".utf8)).count == 1)
        #expect(SyntheticNames(lines: []).count == 0)
    }

    @Test func thereIsALimit() throws {
        var names = SyntheticNames()
        var given = 0
        for number in 0..<SyntheticNames.limit {
            let name = try #require(HostName("n\(number).example"))
            if names.address(of: name) != nil { given += 1 }
        }
        #expect(given == SyntheticNames.limit)
        let (more, first) = (try #require(HostName("one-more.example")), try #require(HostName("n0.example")))
        let answers = (names.address(of: more), names.address(of: first))
        #expect(answers.0 == nil && answers.1 != nil)
    }
}

@Suite struct GatewayRulesTests {
    @Test func linksAreNamedAfterTheNode() {
        #expect(GatewayRules.prefix("0123abcd") == "ag0123ab")
        #expect(GatewayRules.table("0123abcd") == "aegis_0123abcd")
        #expect(!GatewayRules.text(node: "0123abcd").contains("Optional"))
    }
}
