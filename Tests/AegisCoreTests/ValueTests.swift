import Testing

@testable import AegisCore

@Suite struct ValueTests {
    @Test(
        arguments: [
            ("512Mi", 512 << 20), ("1Gi", 1 << 30), ("64k", 64000), ("1000", 1000), ("2GB", 2_000_000_000),
            ("4KiB", 4096),
        ] as [(String, UInt64)])
    func sizeParses(_ text: String, _ bytes: UInt64) throws { #expect(try ByteSize(parsing: text).bytes == bytes) }

    @Test(arguments: ["", "Mi", "-1", "1.5Gi", "12Q", "99999999999999999999", "20000000000Gi", "1 Gi"])
    func sizeRefusesWithAForm(_ text: String) {
        let error = #expect(throws: AegisError.self) { try ByteSize(parsing: text) }
        #expect(error?.message.contains("'\(text)'") == true && error?.hint?.contains("512Mi") == true)
    }

    @Test(
        arguments: [("300s", 300_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("250ms", 250), ("0s", 0)]
            as [(String, Int64)])
    func spanParsesAndPrints(_ text: String, _ ms: Int64) throws {
        let span = try TimeSpan(parsing: text)
        #expect(span.milliseconds == ms)
        #expect(try TimeSpan(parsing: span.description) == span)
    }

    @Test(arguments: ["", "5", "m", "30m1h", "1h1h", "1.5h", "-3s", "9999999999999999d"])
    func spanRefuses(_ text: String) { #expect(throws: AegisError.self) { try TimeSpan(parsing: text) } }

    @Test(
        arguments: [
            ("1970-01-01T00:00:00.000Z", 0), ("2026-11-20T10:31:37.042Z", 1_795_170_697_042),
            ("2000-02-29T23:59:59.999Z", 951_868_799_999),
            ("1969-12-31T23:59:59.999Z", -1),
        ] as [(String, Int64)])
    func timestampRoundTrips(_ text: String, _ ms: Int64) {
        #expect(Timestamp(milliseconds: ms).description == text)
        #expect(Timestamp(parsing: text)?.milliseconds == ms)
    }

    @Test func timestampReadsOffsets() {
        #expect(Timestamp(parsing: "2026-11-20T12:31:37+02:00") == Timestamp(parsing: "2026-11-20T10:31:37Z"))
        #expect(Timestamp(parsing: "2026-13-20T12:31:37Z") == nil)
        #expect(Timestamp(parsing: "yesterday") == nil)
    }

    @Test(arguments: ["web", "a", "a-b-1", "x23456789012345678901234567890123456789z"])
    func nameAccepted(_ name: String) throws { try Names.validate(name, what: "instance") }

    @Test(arguments: [
        "", "Web", "-a", "a-", "1a", "a_b", "i-0123456789abcdef", "x2345678901234567890123456789012345678901",
    ])
    func nameRefused(_ name: String) { #expect(throws: AegisError.self) { try Names.validate(name, what: "instance") } }

    /// What is given up early is what would have been too far: the same as of the definition, for words of few letters.
    @Test func theDistanceIsThatOfItsDefinition() {
        func defined(_ a: ArraySlice<UInt8>, _ b: ArraySlice<UInt8>) -> Int {
            guard let x = a.last, let y = b.last else { return max(a.count, b.count) }
            let (a1, b1) = (a.dropLast(), b.dropLast())
            var best = min(defined(a1, b) + 1, defined(a, b1) + 1, defined(a1, b1) + (x == y ? 0 : 1))
            if a1.last == y, b1.last == x { best = min(best, defined(a1.dropLast(), b1.dropLast()) + 1) }
            return best
        }
        var random = SystemRandomNumberGenerator()
        for _ in 0..<1000 {
            let words = (0..<2).map { _ in
                (0..<Int.random(in: 0...6, using: &random)).map { _ in UInt8.random(in: 97...99, using: &random) }
            }
            let distance = defined(words[0][...], words[1][...])
            for most in 0...7 {
                #expect(
                    editDistance(words[0], words[1], atMost: most) == (distance <= most ? distance : nil), "\(words)")
            }
            #expect(editDistance(words[0], words[1]) == distance)
        }
    }

    @Test func nearestFindsTyposOnly() {
        #expect(nearest("isntance", in: ["instance", "image"]) == "instance")
        #expect(nearest("--memroy", in: ["--memory", "--env"]) == "--memory")
        #expect(nearest("zzzzzz", in: ["instance", "image"]) == nil)
        #expect(nearest("c1", in: ["w1", "c12"]) == nil && nearest("web", in: ["wob", "w"]) == "wob")
        #expect(nearest("abc", in: ["axy"]) == nil)
    }

    @Test func secretIsNeverShown() {
        let secret = Secret("hunter2")
        var dumped = ""
        dump(secret, to: &dumped)
        #expect("\(secret) \(String(reflecting: secret)) \(dumped)".contains("hunter2") == false)
        #expect(secret.reveal() == "hunter2")
    }
}
