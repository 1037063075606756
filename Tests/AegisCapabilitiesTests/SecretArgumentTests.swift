import AegisCapabilities
import AegisCore
import Testing

@Suite struct SecretArgumentTests {
    @Test(arguments: [
        ("API_KEY", "API_KEY"), ("*", "*"), ("KEY@api.example.com", "KEY@api.example.com"),
        (
            "KEY@API.example.com/v1,methods=POST+GET,header=X-Key",
            "KEY@api.example.com/v1,header=x-key,methods=GET+POST"
        ),
    ])
    func whatCanBeReadIsRead(_ text: String, _ canonical: String) throws {
        switch try SecretArgument(parsing: text) {
        case .plain(let name): #expect(name == canonical)
        case .brokered(let binding): #expect(binding.description == canonical)
        }
    }

    @Test(arguments: [
        ("KEY@https://api.example.com/v1/", "KEY@api.example.com/v1"), ("KEY api.example.com", "KEY@api.example.com"),
        ("KEY:api.example.com:443/v1", "KEY@api.example.com/v1"), ("KEY@api.example.com.", "KEY@api.example.com"),
        ("KEY@api.example.com/v1,methods=get", "KEY@api.example.com/v1,methods=GET"),
        ("KEY@api.example.com/v1?x=1", "KEY@api.example.com/v1"),
        ("KEY@api.example.com,method=GET", "KEY@api.example.com"),
        ("KEY@api.example.com//v1", "KEY@api.example.com/v1"),
    ])
    func mistakesHaveANearestForm(_ text: String, _ nearest: String) {
        do throws(AegisError) {
            _ = try SecretArgument(parsing: text)
            Issue.record("'\(text)' was read")
        } catch {
            #expect(error.code == "invalid-argument" && error.message.contains("column"))
            #expect(error.hint == "the nearest valid form is \(nearest)")
        }
    }

    @Test(arguments: [
        "KEY=s3cret-value", "KEY=", "=s3cret-value", "KEY=s3cret-value@api.example.com", "api-key=s3cret",
        "DB.PASS=s3cret",
    ])
    func aValueIsNeverRepeated(_ text: String) {
        let error = #expect(throws: AegisError.self) { try SecretArgument(parsing: text) }
        #expect(
            error?.kind == .usage
                && error?.hint?.contains("aegis secret set \(text.hasPrefix("K") ? "KEY" : "NAME")") == true)
        #expect(error?.message.contains("s3cret") == false && error?.hint?.contains("s3cret") == false)
    }

    @Test(arguments: ["KEY@10.0.0.1", "KEY@10.0.0.1:443/v1", "KEY@[::1]", "KEY@fe80::1", "KEY@127.0.0.1,header=a"])
    func anAddressIsRefusedWithTheReason(_ text: String) {
        let error = #expect(throws: AegisError.self) { try SecretArgument(parsing: text) }
        #expect(error?.message.contains("an address cannot be used") == true, "\(text)")
        #expect(error?.hint?.contains("certificate") == true)
    }

    @Test(arguments: ["", "@", "1KEY", "KEY@", "KEY@127.0.0.1", "KEY@localhost", "KEY@*.example.com", "A B", "K\u{0}Y"])
    func whatIsNothingIsRefused(_ text: String) {
        #expect(throws: AegisError.self) { try SecretArgument(parsing: text) }
    }
}
