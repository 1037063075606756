internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis image pull` and what it shares with `build`.
enum ImagePull {
    static let command = Command(
        "image pull", "fetch an image from its registry",
        details: "Progress is shown on a terminal. Ctrl-C leaves nothing half done.",
        arguments: [Argument("REF", completion: .images)],
        options: [RegistryLogin.option],
        examples: [Example("by tag", "aegis image pull python:3.12-alpine")]
    ) { invocation, context in
        let name = invocation.arguments[0]
        let own = try await RegistryLogin.find(
            image: name, authfile: invocation["authfile"], context.caller, on: context.loop)
        var body: JSONValue = ["reference": .string(name)]
        if let own { body = ["reference": .string(name), "credentials": try JSONValue(encoding: own)] }
        let (image, info, _) = try await make(body, invocation, context)
        try await context.show(image, invocation) { invocation.quiet ? info.id + "\n" : ServiceText.image(info) + "\n" }
        return 0
    }

    /// Asks for an image and shows the daemon's notices until it is there.
    ///
    /// - Returns: the image, and the id that its name stood for before.
    static func make(
        _ body: JSONValue, _ invocation: Invocation, _ context: Context
    ) async throws -> (JSONValue, ImageInfo, previous: String?) {
        let response = try await context.client().stream(.post, APIClient.Route("images"), body: body)
        var lines = LineReader(response)
        let progress = ProgressLine(context.console, enabled: !invocation.quiet)
        var image: JSONValue?
        var previous: String?
        while let json = try await lines.next() {
            if let error = json["error"], error != .null {
                await progress.clear()
                throw StreamJSON.error(error)
            }
            if let text = json["progress"]?.text { await progress.show(text) }
            image = json["image"] ?? image
            previous = json["previous"]?.text ?? previous
        }
        await progress.clear()
        guard let image else {
            throw AegisError.failed(
                "connection-lost", "the daemon stopped before the image was there", hint: "try again")
        }
        return (image, try image.decoded(ImageInfo.self), previous)
    }
}
