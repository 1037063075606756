import Testing

@testable import AegisClient

@Suite struct Base64Tests {
    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ])
    func theVectorsOfTheStandardHold(_ plain: String, _ coded: String) {
        #expect(Base64.encode(Array(plain.utf8)) == coded)
        #expect(Base64.decode(coded) == Array(plain.utf8))
    }

    @Test func everyByteSurvives() {
        let bytes = (0...255).map { UInt8($0) } + [255, 254]
        #expect(Base64.decode(Base64.encode(bytes)) == bytes)
    }

    @Test(arguments: ["Zg", "Zg=", "Z===", "Zg==Zg==", "Z g=", "Zm9v\n", "====", "Zm=v"])
    func otherTextIsRefused(_ text: String) { #expect(Base64.decode(text) == nil) }
}
