internal import AegisClient
internal import AegisCore

/// `aegis image build`
enum ImageBuild {
    static let command = Command(
        "image build", "build the base image of this machine's distribution",
        details: "'base' is the only one: Debian with Python, made locally without a registry.",
        arguments: [Argument("base", completion: .words(["base"]))],
        examples: [Example("the image that 'run' takes by default", "aegis image build base")]
    ) { invocation, context in
        let name = invocation.arguments[0]
        guard name == "base" else {
            throw AegisError.usage(
                "'\(name)' cannot be built", hint: "'base' can; other images are pulled: aegis image pull \(name)")
        }
        return try await ImagePull.make(["build": .string(name)], invocation, context)
    }
}
