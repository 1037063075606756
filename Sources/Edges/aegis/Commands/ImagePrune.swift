internal import AegisClient
internal import AegisJSON
internal import AegisWire

/// `aegis image prune`
enum ImagePrune {
    static let command = Command(
        "image prune", "remove every image and layer that no instance uses",
        examples: [Example("make room", "aegis image prune")]
    ) { invocation, context in
        let answer = try await context.client().call(.post, APIClient.Route("images", "prune", query: [("all", "1")]))
        let deleted = (answer["references"]?.elements ?? []).compactMap(\.text)
        try await context.show(answer, invocation) {
            if invocation.quiet { return deleted.map { Plain.text($0) + "\n" }.joined() }
            let freed = answer["bytes"]?.unsigned.map { ", \(Plain.size($0)) freed" } ?? ""
            return "Removed \(deleted.count) \(deleted.count == 1 ? "image" : "images")\(freed)\n"
        }
        return 0
    }
}
