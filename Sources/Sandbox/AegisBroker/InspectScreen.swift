import AegisCore
import AegisProxy
import AegisSecrets

/// Looks at what goes through in one stream of HTTP/2: no placeholder may leave in a body, no value may come back.
///
/// On the proxy's loop only, hence `@unchecked Sendable`.
final class InspectScreen: HTTP2Screen, @unchecked Sendable {
    private let secrets: BrokeredSecrets
    private let asked: InspectedRequest
    private let rules: InspectRules
    private var up: EncodedMaskStream
    private var down: EncodedMaskStream

    init(_ secrets: BrokeredSecrets, _ asked: InspectedRequest, _ rules: InspectRules) {
        self.secrets = secrets
        self.asked = asked
        self.rules = rules
        // A call may wait for the answer to what it has said so far. A placeholder's beginning is the same for all of them, and
        // no secret: nothing that is only that is held back.
        up = EncodedMaskStream(secrets.placeholders, showing: 15)
        down = EncodedMaskStream(secrets.values)
    }

    // MARK: The request

    var heldUp: Int { up.heldCount }

    func upload(_ bytes: [UInt8], into out: inout [UInt8]) throws(AegisError) {
        up.write(bytes[...], into: &out)
        try checkUpload()
    }

    func uploadEnd(_ trailers: HTTP2Fields, into out: inout [UInt8]) throws(AegisError) -> HTTP2Fields {
        up.finish(into: &out)
        var unused: [UInt8] = []
        for index in 0..<trailers.count {
            let field = trailers.field(index)
            up.write((field.name + [0x3a, 0x20] + field.value + [0x0d, 0x0a])[...], into: &unused)
        }
        up.finish(into: &unused)
        try checkUpload()
        return trailers
    }

    private func checkUpload() throws(AegisError) {
        guard up.hits > 0 else { return }
        let refusal = InspectRefusal(.misplaced("in the request's body"))
        rules.report(.refused(refusal, asked))
        throw refusal.asAegisError
    }

    // MARK: The response

    var heldDown: Int { down.heldCount }

    func interim(_ response: HTTP2Fields) -> HTTP2Fields { masked(response) }

    func response(_ response: HTTP2Fields, ends: Bool) throws(AegisError) -> HTTP2Fields {
        // Calls encode each message for itself.
        for coding in [response.text("content-encoding"), response.text("grpc-encoding")] where !ends {
            guard let coding, !coding.isEmpty, coding.lowercased() != "identity" else { continue }
            throw .encoded(coding)
        }
        down = EncodedMaskStream(secrets.values, isLive: EncodedMaskStream.isLive(response.text("content-type")))
        return masked(response)
    }

    func download(_ bytes: [UInt8], into out: inout [UInt8]) { down.write(bytes[...], into: &out) }

    func downloadEnd(_ trailers: HTTP2Fields, into out: inout [UInt8]) -> HTTP2Fields {
        down.finish(into: &out)
        return masked(trailers)
    }

    private func masked(_ fields: HTTP2Fields) -> HTTP2Fields {
        var mask = EncodedMaskStream(secrets.values)
        func clean(_ bytes: [UInt8]) -> [UInt8] {
            var out: [UInt8] = []
            mask.write(bytes[...], into: &out)
            mask.finish(into: &out)
            return out
        }
        var out = HTTP2Fields()
        for index in 0..<fields.count {
            let field = fields.field(index)
            // A pseudo-field is a number.
            let name = field.name.first == 0x3a ? field.name : clean(field.name)
            out.add(name, field.name.first == 0x3a ? field.value : clean(field.value), neverIndex: field.neverIndex)
        }
        return out
    }
}
