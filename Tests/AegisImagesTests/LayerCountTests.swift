import AegisCore
import AegisSandboxTypes
import Testing

@testable import AegisImages

struct LayerCountTests {
    /// A manifest with so many layers.
    private static func manifest(_ count: Int) -> [UInt8] {
        let digest = Digest(of: [1])
        let layer = #"{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"\#(digest)","size":1}"#
        let layers = [String](repeating: layer, count: count).joined(separator: ",")
        return Array(#"{"schemaVersion":2,"config":{"digest":"\#(digest)","size":1},"layers":[\#(layers)]}"#.utf8)
    }

    @Test func moreLayersThanASandboxMountsAreRefusedBeforeTheyAreFetched() throws {
        guard case .image(_, let layers) = try Manifest(json: Self.manifest(SandboxBounds.imageLayers), of: "x") else {
            throw Missing(what: "an image")
        }
        #expect(layers.count == SandboxBounds.imageLayers)
        let error = #expect(throws: AegisError.self) {
            try Manifest(json: Self.manifest(SandboxBounds.imageLayers + 1), of: "x")
        }
        #expect(error?.code == "unsupported-manifest" && error?.hint != nil)
        #expect(error?.message.contains("\(SandboxBounds.imageLayers) is the most") == true)
    }
}
