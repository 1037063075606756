internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes

/// `aegis image build`
enum ImageBuild {
    static let command = Command(
        "image build", "build the base image of this machine's distribution",
        details: """
            'base' is the only one: Debian with Python, made locally without a registry. One that is here already is left
            alone. With --fresh it is built again, with the packages of today; instances keep the one that they were made
            with, and the same packages give the same image.
            """,
        arguments: [Argument("base", completion: .words(["base"]))],
        options: [Option("fresh", .flag, "build it again, with new packages")],
        examples: [
            Example("the image that 'run' takes by default", "aegis image build base"),
            Example("with the distribution's updates", "aegis image build base --fresh"),
        ]
    ) { invocation, context in
        let name = invocation.arguments[0]
        guard name == "base" else {
            throw AegisError.usage(
                "'\(name)' cannot be built", hint: "'base' can; other images are pulled: aegis image pull \(name)")
        }
        let fresh = invocation.has("fresh")
        let body: JSONValue = fresh ? ["build": .string(name), "fresh": true] : ["build": .string(name)]
        let (image, info, previous) = try await ImagePull.make(body, invocation, context)
        try await context.show(image, invocation) {
            if invocation.quiet { return info.id + "\n" }
            return ServiceText.built(info, previous: previous, fresh: fresh, now: context.now())
        }
        return 0
    }
}
