internal import AegisClient
internal import AegisCore
internal import AegisWire

/// `aegis image delete`
enum ImageDelete {
    static let command = Command(
        "image delete", "remove images that no instance uses", arguments: [Argument("REF", .many, completion: .images)],
        examples: [Example("one", "aegis image delete python:3.12-alpine")]
    ) { invocation, context in
        try await InstanceActions.eachInstance(invocation, context, "deleted") { client, image throws(AegisError) in
            try await client.call(.delete, APIClient.Route("images", image))
        }
    }
}
