import Synchronization

/// How often each layer and image is held, by sandboxes that use it and pulls that count on it.
final class LayerUses: Sendable {
    private let counts = Mutex<[Digest: Int]>([:])

    func add(_ digests: some Sequence<Digest>) {
        counts.withLock { counts in
            for digest in digests { counts[digest, default: 0] += 1 }
        }
    }

    func remove(_ digests: some Sequence<Digest>) {
        counts.withLock { counts in
            for digest in digests {
                let left = (counts[digest] ?? 0) - 1
                counts[digest] = left > 0 ? left : nil
            }
        }
    }

    /// Runs `body` with what is held now, while nothing can be added: what it takes out of the store cannot be held.
    func withHeld<T, E: Error>(_ body: (Set<Digest>) throws(E) -> T) throws(E) -> T {
        let result = counts.withLock { counts -> Result<T, E> in
            do throws(E) { return .success(try body(Set(counts.keys))) } catch { return .failure(error) }
        }
        return try result.get()
    }
}

/// Keeps the layers of an image in the store for as long as it lives.
package final class ImageLease: Sendable {
    private let uses: LayerUses
    private let held = Mutex<Set<Digest>>([])

    init(_ uses: LayerUses) { self.uses = uses }
    deinit { uses.remove(held.withLock { $0 }) }

    /// An image whose lease is the caller's alone: what the old one held for it, this one holds. Who worked for an image may still
    /// have it for a moment when its caller is through with it, and must not keep it in use.
    ///
    /// - Parameters:
    ///   - image: what was worked for.
    ///   - isLast: whether nobody else gets it, so that the old lease holds nothing any more.
    /// - Returns: the same image, with a lease of its own.
    static func handingOver(_ image: ResolvedImage, isLast: Bool = true) -> ResolvedImage {
        let old = image.lease
        var image = image
        image.lease = ImageLease(old.uses)
        image.lease.hold(Array(old.held.withLock { $0 }))
        if isLast { old.release() }
        return image
    }

    private func release() {
        let gone = held.withLock { held in
            defer { held = [] }
            return held
        }
        uses.remove(gone)
    }

    /// Holds these as well.
    func hold(_ digests: [Digest]) {
        held.withLock { held in
            let new = digests.filter { held.insert($0).inserted }
            uses.add(new)
        }
    }
}
