import Testing

@testable import AegisNetwork

@Suite struct ClientHelloTests {
    /// A first message of TLS 1.2 that names a server, or none.
    static func message(_ names: [String]?, records: Int = 1) -> [UInt8] {
        func vector(_ width: Int, _ bytes: [UInt8]) -> [UInt8] {
            (0..<width).reversed().map { UInt8(bytes.count >> ($0 * 8) & 0xff) } + bytes
        }
        var extensions: [UInt8] = [0, 23, 0, 0]
        for name in names ?? [] { extensions += [0, 0] + vector(2, vector(2, [0] + vector(2, Array(name.utf8)))) }
        var body: [UInt8] = [3, 3] + [UInt8](repeating: 7, count: 32)
        body += vector(1, [UInt8](repeating: 1, count: 32)) + vector(2, [0x13, 1]) + vector(1, [0])
        body += vector(2, extensions)
        let handshake = [1] + vector(3, body)
        let size = (handshake.count + records - 1) / records
        return stride(from: 0, to: handshake.count, by: size).flatMap { start in
            [22, 3, 1] + vector(2, Array(handshake[start..<min(start + size, handshake.count)]))
        }
    }

    @Test func readsTheName() {
        #expect(ClientHello.read(Self.message(["api.example"])[...]) == .name("api.example"))
    }

    @Test func readsANameThatIsCutIntoRecords() {
        #expect(ClientHello.read(Self.message(["api.example"], records: 9)[...]) == .name("api.example"))
    }

    @Test func tellsThatThereIsNone() { #expect(ClientHello.read(Self.message(nil)[...]) == .name(nil)) }

    @Test func waitsForTheWholeMessage() {
        let whole = Self.message(["api.example"], records: 3)
        for count in 0..<whole.count { #expect(ClientHello.read(whole.prefix(count)) == .incomplete, "\(count)") }
    }

    @Test(
        arguments: [
            Array("GET / HTTP/1.1\r\n\r\n".utf8), Array("SSH-2.0-x\r\n".utf8), [22, 3, 1, 0, 0],
            [22, 3, 1, 0x7f, 0xff],
            [22, 3, 1, 0, 4, 2, 0, 0, 0], [0x80, 0x2e, 1, 3, 1], [22, 3, 1, 0, 4, 1, 0, 0, 0],
        ] as [[UInt8]]) func refusesWhatIsNoFirstMessage(_ bytes: [UInt8])
    {
        #expect(ClientHello.read(bytes[...]) == .malformed)
    }

    @Test func refusesTwoNames() {
        #expect(ClientHello.read(Self.message(["a.example", "b.example"])[...]) == .malformed)
    }

    @Test func refusesNamesOfOtherBytes() {
        #expect(ClientHello.read(Self.message(["a.example\u{0}b"])[...]) == .malformed)
        #expect(ClientHello.read(Self.message([""])[...]) == .malformed)
    }

    @Test func survivesNoise() {
        var random = SystemRandomNumberGenerator()
        let whole = Self.message(["api.example"], records: 2)
        for _ in 0..<5000 {
            var bytes = whole
            for _ in 0..<3 { bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255) }
            _ = ClientHello.read(bytes[...])
        }
    }
}
