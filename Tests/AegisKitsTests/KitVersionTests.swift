import Testing

@testable import AegisKits

@Suite struct KitVersionTests {
    @Test(arguments: ["1.0.0", "0.0.1", "10.20.30", "1.0.0-rc.1", "1.0.0-alpha-2.x", "18446744073709551615.0.0"])
    func versionsAreRead(_ text: String) { #expect(KitVersion(text)?.description == text) }

    @Test(arguments: [
        "", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "v1.0.0", "1.0.0+build", "1.0.x",
        " 1.0.0",
        "1.0.0/..", "18446744073709551616.0.0", "1.0.0-ä",
    ])
    func othersAreNot(_ text: String) { #expect(KitVersion(text) == nil) }

    @Test func theyAreOrderedAsSemanticVersionsAre() throws {
        let order = [
            "0.9.9", "1.0.0-1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
            "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.2", "1.0.10", "1.1.0", "2.0.0",
        ]
        let versions = try order.map { try #require(KitVersion($0)) }
        #expect(versions.shuffled().sorted() == versions)
    }

    @Test func referencesAreNamesWithAVersionOrNone() throws {
        #expect(try KitReference(parsing: "web") == KitReference(name: "web", version: nil))
        #expect(try KitReference(parsing: "web@1.0.0") == KitReference(name: "web", version: KitVersion("1.0.0")))
        for bad in ["", "Web", "web@", "web@1", "@1.0.0", "../web", "web@1.0.0@2.0.0"] {
            #expect(throws: (any Error).self) { try KitReference(parsing: bad) }
        }
    }
}
