package import AegisCore
internal import AegisIO
package import AegisTar
internal import AegisWire
package import LinuxSys

/// Files of an instance, moved as tar streams. What comes from an instance is the guest's word: it is extracted beneath
/// the target only, without devices, set-id bits or links that lead out (decision D51).
package struct FileTransfer: Sendable {
    private let client: APIClient
    private let instance: String

    /// Files of one instance.
    package init(_ client: APIClient, instance: String) {
        self.client = client
        self.instance = instance
    }

    /// What a path inside is; nil when nothing is there.
    ///
    /// - Throws: what the daemon says but `path-not-found`.
    package func kind(of path: String) async throws(AegisError) -> CopyRules.Kind? {
        do throws(AegisError) {
            let answer = try await client.call(.get, route(path, [("stat", "1")]))
            return answer["kind"]?.text == "directory" ? .directory : .file
        } catch {
            guard error.kind == .notFound, error.code == "path-not-found" else { throw error }
            return nil
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
    /// - Returns: what was made, and what was left out.
    /// - Throws: `path-not-found`, `bad-archive`, `disk-full`, ...
    package func download(
        _ path: String, into directory: consuming FileDescriptor, top: TarTop
    ) async throws(AegisError) -> TarReport {
        let extractor = TarExtractor(into: directory, options: TarExtractOptions(top: top))
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
    ///   - strip: leave the archive's first component out.
    ///   - next: the archive's next piece; nil at its end.
    /// - Throws: the daemon's own error, or what `next` threw.
    package func upload(
        into directory: String, strip: Bool, _ next: @escaping @Sendable () async throws -> [UInt8]?
    ) async throws {
        let query = strip ? [("strip", "1")] : []
        _ = try await client.upload(.put, route(directory, query), type: "application/x-tar") { writer in
            while let piece = try await next() { try await writer.write(piece[...]) }
        }
    }

    private func route(_ path: String, _ query: [(String, String)] = []) -> APIClient.Route {
        APIClient.Route("instances", instance, "files", query: [("path", path)] + query)
    }
}
