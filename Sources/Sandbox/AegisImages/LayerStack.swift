import AegisCore
import CLinux
import LinuxSys

/// The layers of one image as overlayfs takes them: each once, and nothing below one that hides all.
struct LayerStack {
    /// One layer.
    struct Layer {
        var digest: Digest
        var implicit: [[UInt8]]
        var bytes: Int64
    }
    /// Bottom first.
    private(set) var layers: [Layer]

    /// Reads the layers of an image, bottom first.
    ///
    /// A layer that comes twice counts where it is topmost (overlayfs refuses the same directory twice): what it holds
    /// covers what it held further down.
    init(_ digests: [Digest], _ store: StoreDirectory) throws(AegisError) {
        var seen = Set<Digest>()
        var reversed: [Layer] = []
        for digest in digests.reversed() where seen.insert(digest).inserted {
            guard let record = try store.layer(digest) else {
                throw .failed(
                    "image-store-damaged", "layer \(digest) is not in the store", hint: "pull the image again")
            }
            reversed.append(Layer(digest: digest, implicit: record.implicit.map(Array.init), bytes: record.bytes))
            if record.hidesAll { break }
        }
        layers = reversed.reversed()
    }

    /// Makes the layer that restores attributes of directories, if one is needed (see `AttributeLayer`).
    ///
    /// - Returns: its digest, in a list that is empty when no such layer is needed.
    func describeDirectories(in work: WorkDirectory, _ store: StoreDirectory, _ lease: ImageLease) throws -> [Digest] {
        let stack = layers.map { AttributeLayer.Layer(digest: $0.digest, implicit: $0.implicit) }
        let entries = try AttributeLayer.entries(stack) { digest throws(AegisError) in try store.openLayer(digest) }
        guard !entries.isEmpty, let last = layers.last else { return [] }
        let digest = AttributeLayer.digest(entries)
        lease.hold([digest])
        guard try store.layer(digest) == nil else { return [digest] }
        do {
            try work.directory.makeDirectories("attributes/tree")
            let tree = try work.directory.open(
                "attributes/tree", [.readOnly, .directory, .noFollow], resolve: .beneath)
            let below = try store.openLayer(last.digest)
            var top = al_tree_info()
            guard unsafe al_tree_stat(below.raw, cString([0x2e]), &top) == 0 else { throw Errno.current }
            try AttributeLayer.write(entries, top: top, into: tree.raw)
            let record = LayerRecord(
                digest: digest.description, bytes: 0, entries: Int64(entries.count), implicit: [], hidesAll: false)
            try work.directory.open("attributes", [.readOnly, .directory])
                .writeAtomically("layer.json", try StoreCoding.encode(record))
        } catch let error as Errno { throw StoreDirectory.failure(error, "making a layer") } catch let error
            as HelperFailure
        {
            throw UnpackFailure.error(error.code, error.message)
        }
        try store.flush()
        try store.commit("attributes", of: work, as: digest)
        return [digest]
    }
}
