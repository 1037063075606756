import AegisCapabilities
import AegisIO
import AegisTestSupport
import Glibc
import LinuxSys
import Testing

@testable import AegisNetwork

@Suite(.serialized) struct HostResolverTests {
    private static let four = IPAddress("203.0.113.7")

    @Test func namesLeadToTheirAddresses() async throws {
        try await NameServer.with { server, loop in
            let resolver = HostResolver(on: loop, servers: server.place)
            let plain = try await resolver.addresses(of: "plain.example", for: "i-1").first
            #expect(plain == Self.four)
            // No search list: nothing else was asked for.
            #expect(Set(server.asked.map(\.name)) == ["plain.example"])
            // What is not an answer to the question is none.
            let odd = try await resolver.addresses(of: "odd.example", for: "i-1").first
            #expect(odd == Self.four)
        }
    }

    @Test func theHostsFileComesFirst() async throws {
        try await NameServer.with { server, loop in
            let resolver = HostResolver(on: loop, servers: server.place)
            let own = try await resolver.addresses(of: "localhost", for: "i-1").first?.description
            #expect(own == "127.0.0.1")
            #expect(server.asked.isEmpty)
        }
    }

    @Test(arguments: [
        ("none.example", "Domain name not found"), ("nine.example", "DNS server returned answer with no data"),
    ])
    func whatIsNotThereIsSaidToBe(_ name: String, _ words: String) async throws {
        try await NameServer.with { server, loop in
            let resolver = HostResolver(on: loop, servers: server.place)
            let error = await #expect(throws: ResolutionError.self) {
                try await resolver.addresses(of: name, for: "i-1")
            }
            #expect(error?.message == words)
        }
    }

    @Test func aNameWithoutAnAnswerEndsAtTheDeadline() async throws {
        try await NameServer.with { server, loop in
            let resolver = HostResolver(on: loop, servers: server.place, deadline: .milliseconds(200))
            let error = await #expect(throws: ResolutionError.self) {
                try await resolver.addresses(of: "hang.example", for: "i-1")
            }
            #expect(error?.message == "the name servers do not answer")
        }
    }

    /// Over UDP there is only word that it is cut off; over TCP it comes whole, in pieces.
    @Test func aLongAnswerComesOverTCP() async throws {
        try await NameServer.with { server, loop in
            let lookup = try HostLookup("long.example", in: .servers(server.place), on: loop)
            let found = try await lookup.ask(within: .seconds(60), withIPv6: true)
            #expect(found.count == 20 && found.prefix(10).allSatisfy(\.isIPv4))
            #expect(server.asked.contains(NameServer.Question(name: "long.example", isIPv4: true, isTCP: true)))
        }
    }

    /// Some servers never answer the question for IPv6.
    @Test func oneFamilyDoesNotWaitForTheOtherForEver() async throws {
        try await NameServer.with { server, loop in
            let half = try HostLookup("half.example", in: .servers(server.place), on: loop)
            let addresses = try await half.ask(within: .seconds(3600), withIPv6: true)
            #expect(addresses == [Self.four])
            // It was not asked for as often as it would have been.
            #expect(server.asked.count { !$0.isIPv4 } < 3)
            let six = try HostLookup("six.example", in: .servers(server.place), on: loop)
            let found = try await six.ask(within: .seconds(60), withIPv6: true)
            #expect(found.count == 1 && found.first?.isIPv4 == false)
        }
    }

    /// An instance whose names hang waits for its own; nobody else does, and nothing is left when it gives up.
    @Test func namesThatHangHoldUpNobodyElse() async throws {
        try await NameServer.with { server, loop in
            let resolver = HostResolver(on: loop, servers: server.place, deadline: .seconds(3600))
            // So that what the first lookup opens for good is not counted.
            _ = try await resolver.addresses(of: "plain.example", for: "i-2")
            let before = Self.sockets
            let many = Task(executorPreference: loop) {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<(HostResolver.share * 2) {
                        group.addTask { _ = try await resolver.addresses(of: "hang\(number).example", for: "i-1") }
                    }
                    try await group.waitForAll()
                }
            }
            await server.hasHeard(HostResolver.share, of: "hang")
            #expect(Set(server.asked.map(\.name).filter { $0.hasPrefix("hang") }).count == HostResolver.share)
            let other = try await resolver.addresses(of: "second.example", for: "i-2").first
            #expect(other == Self.four)
            try await withThrowingTaskGroup(of: IPAddress?.self) { group in
                for number in 0..<100 {
                    group.addTask {
                        try await resolver.addresses(of: "name\(number).example", for: "i-\(number % 20 + 3)").first
                    }
                }
                for try await found in group { #expect(found == Self.four) }
            }
            many.cancel()
            await #expect(throws: CancellationError.self) { try await many.value }
            #expect(Self.sockets == before)
            let later = try await resolver.addresses(of: "third.example", for: "i-1").first
            #expect(later == Self.four)
        }
    }

    /// UDP sockets of this process that are bound to a port: other tests have none.
    private static var sockets: Int {
        let mine = (0..<4096).compactMap { number -> String? in
            guard let target = try? Files.readLink("/proc/self/fd/\(number)"), target.hasPrefix("socket:[") else {
                return nil
            }
            return String(target.dropFirst(8).dropLast())
        }
        let table = String(decoding: (try? Files.read("/proc/self/net/udp", limit: 1 << 20)) ?? [], as: UTF8.self)
        let inodes = table.split(separator: "\n").dropFirst().compactMap { $0.split(separator: " ").dropFirst(9).first }
        return Set(inodes.map(String.init)).intersection(mine).count
    }
}

@Suite struct LookupLineTests {
    @Test func anInstanceHasNoMoreThanItsShare() {
        var line = LookupLine(limit: 4, share: 2)
        let first = [line.enter(1, of: "a"), line.enter(2, of: "a"), line.enter(3, of: "a"), line.enter(4, of: "b")]
        #expect(first == [true, true, false, true])
        let next = [line.leave("a"), line.leave("b"), line.leave("a"), line.leave("a")]
        #expect(next == [3, nil, nil, nil])
        let last = line.enter(5, of: "a")
        #expect(last)
    }

    @Test func whoHasTheFewestComesFirst() {
        var line = LookupLine(limit: 3, share: 3)
        for number in 1...3 as ClosedRange<UInt64> { _ = line.enter(number, of: "greedy") }
        let late = [
            line.enter(4, of: "greedy"), line.enter(5, of: "b"), line.enter(6, of: "c"), line.enter(7, of: "b"),
        ]
        #expect(!late.contains(true))
        // At the third all have one under way: the first in line.
        let next = [line.leave("greedy"), line.leave("greedy"), line.leave("greedy"), line.leave("greedy")]
        #expect(next == [5, 6, 4, 7])
    }

    @Test func whoGivesUpIsPassedOver() {
        var line = LookupLine(limit: 1, share: 1)
        let turns = [line.enter(1, of: "a"), line.enter(2, of: "a"), line.enter(3, of: "b")]
        #expect(turns == [true, false, false])
        let gaveUp = [line.giveUp(2, of: "a"), line.giveUp(2, of: "a"), line.giveUp(1, of: "a")]
        #expect(gaveUp == [true, false, false])
        let next = [line.leave("a"), line.leave("b")]
        #expect(next == [3, nil])
    }
}
