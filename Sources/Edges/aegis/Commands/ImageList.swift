internal import AegisClient
internal import AegisSandboxTypes

/// `aegis image list`
enum ImageList {
    static let command = Command(
        "image list", "list the images that are here",
        examples: [Example("all", "aegis image list"), Example("references only", "aegis image list --quiet")]
    ) { invocation, context in
        let items = try await context.client().list(APIClient.Route("images"))
        try await context.showList(items, of: ImageInfo.self, invocation, quiet: \.reference) {
            ServiceText.images($0, now: context.now())
        }
        return 0
    }
}
