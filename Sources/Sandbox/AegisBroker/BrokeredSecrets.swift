package import AegisCapabilities
package import AegisCore
internal import AegisSecrets

/// A secret that is used for an instance but never given to it.
package struct BrokeredSecret: Sendable {
    /// Its name, which is that of the variable inside.
    package let name: String
    /// What the variable holds.
    package let placeholder: Placeholder
    /// What is put in its place.
    package let value: Secret<[UInt8]>
    /// Where; one of them has to fit.
    package let bindings: [SecretBinding]

    /// Binds a value.
    ///
    /// - Parameters:
    ///   - bindings: all of one name.
    ///   - value: what is sent.
    ///   - placeholder: what stands for it inside.
    /// - Throws: `secret-not-sendable` for a value that cannot stand in a header.
    package init(
        _ bindings: [SecretBinding], value: Secret<[UInt8]>, placeholder: Placeholder = Placeholder()
    ) throws(AegisError) {
        let name = bindings.first?.name ?? ""
        let bytes = value.reveal()
        let isSendable = bytes.allSatisfy { $0 >= 32 && $0 != 127 } && bytes.first != 32 && bytes.last != 32
        guard !bytes.isEmpty, isSendable else {
            throw AegisError(
                .usage, "secret-not-sendable",
                "the secret '\(name)' cannot stand in a request's header: it is empty, or has a control character, a "
                    + "line end or blanks around it",
                hint: "store it without the line end: printf %s VALUE | aegis secret set \(name) -")
        }
        self.name = name
        self.bindings = bindings
        self.value = value
        self.placeholder = placeholder
    }
}

/// All secrets that are used for one instance.
package final class BrokeredSecrets: Sendable {
    /// Each of them.
    package let all: [BrokeredSecret]
    private let byPlaceholder: [[UInt8]: BrokeredSecret]
    /// Finds placeholders in what goes out.
    let placeholders: EncodedMask
    /// Finds values in what comes back.
    let values: EncodedMask

    /// Puts secrets together; names are different.
    package init(_ secrets: [BrokeredSecret]) {
        all = secrets
        byPlaceholder = Dictionary(secrets.map { ($0.placeholder.bytes, $0) }) { first, _ in first }
        placeholders = EncodedMask(secrets.map { Secret($0.placeholder.bytes) })
        values = EncodedMask(secrets.map(\.value))
    }

    /// What the variables inside hold.
    package var environment: [(name: String, value: String)] { all.map { ($0.name, $0.placeholder.description) } }

    /// The headers in which a secret may stand, in lower case.
    func isCredential(_ header: String) -> Bool {
        SecretBinding.usualHeaders.contains(header) || all.contains { $0.bindings.contains { $0.header == header } }
    }

    /// Whether a placeholder is somewhere in bytes, in any of the usual spellings.
    func hasPlaceholder(_ bytes: ArraySlice<UInt8>) -> Bool {
        var scan = EncodedMaskStream(placeholders)
        var out: [UInt8] = []
        scan.write(bytes, into: &out)
        return scan.hits > 0
    }

    /// Why a request in clear text does not go out, where no secret is ever put in.
    ///
    /// - Parameter head: the request's.
    /// - Returns: nil when no placeholder is in it.
    package func refusal(ofClearText head: ArraySlice<UInt8>) -> BrokerRefusal? {
        guard hasPlaceholder(head) else { return nil }
        var refusal = BrokerRefusal.misplaced("in a request in clear text")
        refusal.hint = "send it over TLS, to port 443 of the host that the secret is bound to"
        return refusal
    }

    /// Puts the values into a header's text.
    ///
    /// - Parameters:
    ///   - text: the text, or what it says in base64.
    ///   - use: where the text stands; its name does not matter.
    ///   - needsHeader: only bindings that name this header allow it.
    ///   - used: gets the names of the secrets.
    /// - Returns: the text with the values; the same when there is nothing to replace.
    /// - Throws: when a placeholder may not stand here, or is none of this instance's.
    func replaced(
        in text: [UInt8], _ use: SecretUse, needsHeader: Bool, _ used: inout [String]
    ) throws(BrokerRefusal) -> [UInt8] {
        var out: [UInt8] = []
        // What is left when the placeholders are taken out.
        var rest: [UInt8] = []
        var done = 0
        while let start = Placeholder.firstOffset(in: text, from: done) {
            let end = start + Placeholder.length
            guard let secret = byPlaceholder[Array(text[start..<end])] else {
                throw .unknownPlaceholder(header: use.header)
            }
            var use = use
            use.name = secret.name
            guard secret.bindings.contains(where: { $0.matches(use) && (!needsHeader || $0.header != nil) }) else {
                throw .notBound(secret, use)
            }
            out += text[done..<start]
            out += secret.value.reveal()
            rest += text[done..<start]
            rest.append(0)
            if !used.contains(secret.name) { used.append(secret.name) }
            done = end
        }
        rest += text[done...]
        guard !hasPlaceholder(rest[...]) else { throw .misplaced("in a spelling of its own in '\(use.header)'") }
        return done == 0 ? text : out + text[done...]
    }
}

/// Why a request with a placeholder does not go out.
package struct BrokerRefusal: Error, Sendable, Equatable {
    /// The stable word for the cause.
    package var reason: String
    /// What happened, without the secret.
    package var message: String
    /// What to do about it.
    package var hint: String?

    static func misplaced(_ place: String) -> BrokerRefusal {
        BrokerRefusal(
            reason: "secret-misplaced", message: "a secret's placeholder stands \(place), where it is never replaced",
            hint: "send it as 'Authorization: Bearer', as the password of basic authentication, in X-Api-Key, Api-Key, "
                + "X-Goog-Api-Key or Private-Token, or in the header that --secret names")
    }

    static func unknownPlaceholder(header: String) -> BrokerRefusal {
        BrokerRefusal(
            reason: "secret-unknown",
            message: "'\(header)' holds a placeholder that stands for no secret of this instance",
            hint: "placeholders are new at each start: read the variable again")
    }

    static func notBound(_ secret: BrokeredSecret, _ use: SecretUse) -> BrokerRefusal {
        let bound = secret.bindings.map(\.description).joined(separator: " or ")
        return BrokerRefusal(
            reason: "secret-not-bound",
            message:
                "the secret '\(secret.name)' is not for \(use.method) \(use.host)\(plain(use.path)) in '\(use.header)'",
            hint: "it is bound to \(bound)")
    }
}

/// A path of others in a message: without its query, and nothing but what can be printed.
func plain(_ path: String) -> String {
    let bytes = path.utf8.prefix { $0 != 0x3f }.prefix(200).map { (0x21..<0x7f).contains($0) ? $0 : UInt8(ascii: "?") }
    return String(decoding: bytes, as: UTF8.self)
}
