import Testing

@testable import AegisNetwork

@Suite struct DNSQueryTests {
    /// A question for `a.example`, type A, class IN, with recursion wanted.
    static let question: [UInt8] = [
        0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0,  // header
        1, 0x61, 7, 0x65, 0x78, 0x61, 0x6d, 0x70, 0x6c, 0x65, 0,  // name
        0, 1, 0, 1,
    ]

    @Test func readsAQuestion() throws {
        let query = try DNSQuery(Self.question[...])
        #expect(query.id == 0x1234)
        #expect(query.name == "a.example")
        #expect(query.kind == .address)
    }

    @Test func answersWithTheAddress() throws {
        let response = try DNSQuery(Self.question[...]).response(.address(0xc612_0100))
        #expect(response.prefix(12) == [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])
        #expect(response[12..<27] == Self.question[12...])
        #expect(response.suffix(16) == [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 18, 1, 0])
    }

    @Test(
        arguments: [
            (DNSQuery.Answer.empty, 0x80), (.noSuchName, 0x83), (.refused, 0x85), (.failed, 0x82),
        ] as [(DNSQuery.Answer, UInt8)]) func answersWithoutRecords(_ answer: DNSQuery.Answer, _ code: UInt8) throws
    {
        let response = try DNSQuery(Self.question[...]).response(answer)
        #expect(response[3] == code)
        #expect(response[7] == 0)
        #expect(response.count == Self.question.count)
    }

    @Test(arguments: [28, 65, 64, 255, 16, 12] as [UInt8]) func otherTypesAreNoAddress(_ type: UInt8) throws {
        var bytes = Self.question
        bytes[bytes.count - 3] = type
        #expect(try DNSQuery(bytes[...]).kind == .other(UInt16(type)))
    }

    @Test func ignoresWhatFollowsTheQuestion() throws {
        // An OPT record (EDNS).
        let bytes = Self.question + [0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0]
        let query = try DNSQuery(bytes[...])
        #expect(query.name == "a.example")
        #expect(query.response(.noSuchName).count == Self.question.count)
    }

    /// Every beginning of a question is refused without a trap, whatever it is cut at.
    @Test func refusesEveryPrefix() {
        for count in 0..<Self.question.count {
            #expect(throws: DNSQuery.Problem.self) { _ = try DNSQuery(Self.question.prefix(count)) }
        }
    }

    @Test func refusesResponsesPointersAndManyQuestions() {
        var response = Self.question
        response[2] = 0x81
        #expect(throws: DNSQuery.Problem.unanswerable) { _ = try DNSQuery(response[...]) }
        var pointer = Self.question
        pointer[12] = 0xc0
        #expect(throws: DNSQuery.Problem.malformed(id: 0x1234, code: 1)) { _ = try DNSQuery(pointer[...]) }
        var two = Self.question
        two[5] = 2
        #expect(throws: DNSQuery.Problem.malformed(id: 0x1234, code: 1)) { _ = try DNSQuery(two[...]) }
        var update = Self.question
        update[2] = 0x28
        #expect(throws: DNSQuery.Problem.malformed(id: 0x1234, code: 4)) { _ = try DNSQuery(update[...]) }
        var chaos = Self.question
        chaos[chaos.count - 1] = 3
        #expect(throws: DNSQuery.Problem.malformed(id: 0x1234, code: 5)) { _ = try DNSQuery(chaos[...]) }
    }

    /// Random bytes are read or refused, never a trap; a response is as long as its question.
    @Test func survivesNoise() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<5000 {
            var bytes = Self.question
            for _ in 0..<4 { bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255) }
            if let query = try? DNSQuery(bytes[...]) { #expect(query.response(.empty).count <= bytes.count) }
        }
    }
}
