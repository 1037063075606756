package import AegisCore
internal import AegisIO
package import AegisTar
internal import AegisWire
package import LinuxSys

/// Files of an instance or a goal, moved as tar streams. What comes from an instance is the guest's word: it is extracted beneath
/// the target only, without devices, set-id bits or links that lead out (decision D51).
package struct FileTransfer: Sendable {
    private let client: APIClient
    private let place: [String]

    /// Files of one instance.
    package init(_ client: APIClient, instance: String) {
        self.client = client
        place = ["instances", instance, "files"]
    }

    /// Files of the workspace of one goal; they can only be read.
    package init(_ client: APIClient, goal: String) {
        self.client = client
        place = ["goals", goal, "files"]
    }

    /// What a path inside is; nil when nothing is there. Told by the first header of its archive, the rest is not read;
    /// an archive that ends before its first header has nothing to tell of.
    ///
    /// - Throws: what the daemon says but `path-not-found`.
    package func kind(of path: String) async throws(AegisError) -> CopyRules.Kind? {
        let response: HTTPClientResponse
        do throws(AegisError) { response = try await client.stream(.get, route(path)) } catch {
            guard error.kind == .notFound, error.code == "path-not-found" else { throw error }
            return nil
        }
        var reader = TarReader()
        var buffer = ByteBuffer()
        while true {
            do throws(HTTPError) {
                guard try await response.read(into: &buffer, atMost: 4096) > 0 else { return nil }
            } catch { throw APIClient.failure(error) }
            reader.feed(buffer.readable)
            buffer.removeAll()
            do throws(TarError) {
                while let event = try reader.next() {
                    if case .entry(let entry) = event { return entry.kind == .directory ? .directory : .file }
                }
                if reader.isAtEnd { return nil }
            } catch { throw AegisError(error) }
        }
    }

    /// What a destination inside is, with what must be known when nothing is there.
    package func target(_ path: String) async throws(AegisError) -> CopyRules.Target {
        if let kind = try await kind(of: path) { return .exists(kind) }
        let parent = Files.split(path).directory
        return .missing(parentExists: try await kind(of: parent) == .directory)
    }

    /// Brings a file or tree into a directory of ours.
    ///
    /// - Parameters:
    ///   - path: inside.
    ///   - directory: where it is extracted.
    ///   - top: what the archive's first component becomes.
    ///   - links: whether links that stay inside are made.
    /// - Returns: what was made, and what was left out.
    /// - Throws: `path-not-found`, `bad-archive`, `disk-full`, ...
    package func download(
        _ path: String, into directory: consuming FileDescriptor, top: TarTop,
        links: TarExtractOptions.LinkPolicy = .keepInside
    ) async throws(AegisError) -> TarReport {
        var options = TarExtractOptions(top: top)
        options.links = links
        let extractor = TarExtractor(into: directory, options: options)
        let response = try await client.stream(.get, route(path))
        var buffer = ByteBuffer()
        while true {
            do throws(HTTPError) { if try await response.read(into: &buffer, atMost: 256 << 10) == 0 { break } } catch {
                throw APIClient.failure(error)
            }
            try extractor.consume(buffer.readable)
            buffer.removeAll()
        }
        return try extractor.finish()
    }

    /// The raw archive of a file or tree, piece by piece.
    package func archive(_ path: String, _ body: (ArraySlice<UInt8>) async throws -> Void) async throws {
        let response = try await client.stream(.get, route(path))
        var buffer = ByteBuffer()
        while try await response.read(into: &buffer, atMost: 256 << 10) > 0 {
            try await body(buffer.readable)
            buffer.removeAll()
        }
    }

    /// Puts an archive into an existing directory inside.
    ///
    /// - Parameters:
    ///   - directory: inside; must exist.
    ///   - next: the archive's next piece; nil at its end.
    /// - Throws: the daemon's own error, or what `next` threw.
    package func upload(
        into directory: String, _ next: @escaping @Sendable () async throws -> [UInt8]?
    ) async throws {
        _ = try await client.upload(.put, route(directory), type: "application/x-tar") { writer in
            while let piece = try await next() { try await writer.write(piece[...]) }
        }
    }

    private func route(_ path: String) -> APIClient.Route {
        // `DIR/.` and `DIR/` name the same thing as `DIR`; what becomes of it is decided on this side.
        var path = path
        while path.count > 1, path.hasSuffix("/") || path.hasSuffix("/.") { path.removeLast() }
        var route = APIClient.Route(query: [("path", path)])
        route.path += place
        return route
    }
}
