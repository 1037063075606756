import AegisIO
import AegisTestSupport
import Testing

@testable import AegisRouter

/// Ports that nobody has named.
@Suite struct LastingPortsTests {
    @Test(arguments: [
        (UInt16(32768), UInt16(60999), UInt32(20_000)..<32768),
        (1024, 60999, 61_000..<65_536), (1024, 65535, 0..<0), (32768, 65535, 20_000..<32768), (20_500, 64_800, 0..<0),
        (20_000, 60_000, 60_001..<65_536), (1, 1, 2..<65_536),
    ]) func theyAreOutsideOfWhatConnectionsGet(_ first: UInt16, _ last: UInt16, _ others: Range<UInt32>) {
        #expect(LastingPorts.Outgoing(first: first, last: last).others == others)
    }

    @Test func whatTheKernelSaysIsRead() {
        #expect(LastingPorts.Outgoing(Array("32768\t60999\n".utf8)) == .usual)
        for text in ["", "1", "5 4", "a b", "1 2 3", "70000 80000"] {
            #expect(LastingPorts.Outgoing(Array(text.utf8)) == nil, "\(text)")
        }
    }

    @Test func oneIsFoundWhateverTheRangeIs() async throws {
        try await onLoop { loop in
            func port(_ outgoing: LastingPorts.Outgoing) throws -> UInt16 {
                let listener = try LastingPorts.listen(address: "127.0.0.1", port: 0, on: loop, outgoing: outgoing)
                defer { listener.close() }
                return try listener.localPort()
            }
            let usual = try port(.usual)
            #expect((20_000..<32_768).contains(usual))
            // Where nothing is left the kernel chooses.
            let any = try port(.init(first: 1024, last: 65535))
            #expect(any > 0)
        }
    }
}
