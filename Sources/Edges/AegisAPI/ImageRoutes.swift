internal import AegisCore
package import AegisImages
package import AegisInstances
internal import AegisSandboxTypes
internal import AegisWire

/// Images: pull, build, list, delete, collect garbage.
package struct ImageRoutes: Sendable {
    private struct PullRequest: Decodable, Sendable {
        var reference: String
        var policy: String?
        /// Build again what is here already.
        var fresh: Bool
        /// The caller's own credentials for the image's registry, for this request alone.
        var credentials: RegistryCredentials?
        enum CodingKeys: String, CodingKey, CaseIterable { case reference, policy, build, fresh, credentials }
        init(from decoder: any Decoder) throws {
            try decoder.refuseUnknownKeys(CodingKeys.self)
            let c = try decoder.container(keyedBy: CodingKeys.self)
            // `{"build": "base"}` and `{"reference": "base"}` mean the same.
            reference = try c.decodeIfPresent(String.self, forKey: .build) ?? c.decode(String.self, forKey: .reference)
            policy = try c.decodeIfPresent(String.self, forKey: .policy)
            fresh = try c.decodeIfPresent(Bool.self, forKey: .fresh) ?? false
            credentials = try c.decodeIfPresent(RegistryCredentials.self, forKey: .credentials)
        }
    }
    /// A line of a pull's answer: progress, or its result.
    private struct PullLine: Encodable, Sendable {
        var progress: String?
        var image: ImageInfo?
        /// The id that the name stood for before, if there was one.
        var previous: String?
        var error: Failure?
    }
    /// Why there is no image; the status was sent by then, so the kind stands beside the code.
    private struct Failure: Encodable, Sendable {
        var kind: ErrorKind
        var code: String
        var message: String
        var hint: String?
        init(_ error: AegisError) {
            kind = error.kind
            code = error.code
            message = error.message
            hint = error.hint
        }
    }

    /// What was removed.
    private struct Collected: Encodable, Sendable {
        var references: [String]
        var layers: Int
        var bytes: UInt64
        init(_ collected: CollectedImages) {
            references = collected.references
            layers = collected.layers
            bytes = collected.bytes
        }
    }

    private let images: ImageStore
    private let directory: InstanceDirectory

    /// Routes over a store; the directory knows which images are in use.
    package init(_ images: ImageStore, directory: InstanceDirectory) {
        self.images = images
        self.directory = directory
    }

    package var routes: [Route] {
        [
            .json(.get, "/v1/images", "List images") { [images, directory] _ in
                Page(items: try await images.list(inUse: await directory.imagesInUse()))
            },
            Route(
                .post, "/v1/images", "Pull or build ('fresh': again) an image; NDJSON of progress, then image or error"
            ) {
                context, writer in
                try requireRoot(context)
                let request = try await JSONBody.decode(PullRequest.self, from: context)
                if request.credentials != nil { try requireSocket(context) }
                try await pull(request, writer)
            },
            .json(.delete, "/v1/images/{ref}", "Delete an image") { [images, directory] context in
                try requireRoot(context)
                let reference = try directory.reference(context.parameter("ref"))
                // What is kept ready is nobody's use of it.
                await directory.warm.clear(reference)
                await directory.seeOff()
                return Collected(try await images.delete(reference, inUse: await directory.imagesInUse()))
            },
            .json(.post, "/v1/images/prune", "Remove what no instance uses", query: ["all"]) {
                [images, directory] context in
                try requireRoot(context)
                let all = try context.flag("all")
                await directory.seeOff()
                return Collected(
                    try await images.garbageCollect(inUse: await directory.imagesInUse(), unusedImages: all))
            },
        ]
    }

    private func policy(_ text: String?) throws(AegisError) -> PullPolicy {
        guard let text else { return .always }
        guard let policy = PullPolicy(rawValue: text) else {
            let known = PullPolicy.allCases.map(\.rawValue)
            throw .usage(
                "'\(text)' is not a pull policy",
                hint: nearest(text, in: known).map { "did you mean '\($0)'?" } ?? "use \(known.joined(separator: ", "))"
            )
        }
        return policy
    }

    private func pull(_ request: PullRequest, _ writer: consuming HTTPResponseWriter) async throws {
        let reference = try directory.reference(request.reference)
        let policy = try policy(request.policy)
        if let own = request.credentials { try directory.check(own, for: request.reference) }
        guard !request.fresh || reference == .base else {
            throw AegisError.usage(
                "'\(request.reference)' is not built here", hint: "'fresh' goes with 'base'; pull others by a policy")
        }
        let (lines, feed) = AsyncStream.makeStream(of: String.self, bufferingPolicy: .bufferingNewest(64))
        let previous = try await images.local(reference)?.digest
        var body = try await writer.stream(200, headers: ["Content-Type": "application/x-ndjson"])
        async let result: ResolvedImage = {
            defer { feed.finish() }
            let progress: @Sendable (ImageProgress) -> Void = { _ = feed.yield($0.text(reference)) }
            // Who pulls an image by its name pulls it for everybody on this node.
            return request.fresh
                ? try await images.buildBase(progress: progress)
                : try await images.ensure(
                    reference, policy: policy, for: .publisher.with(request.credentials), progress: progress)
        }()
        for await line in lines { try await body.write(JSONBody.encode(PullLine(progress: line))[...]) }
        do {
            let info = try await images.info(result, inUse: await directory.imagesInUse())
            try await body.write(JSONBody.encode(PullLine(image: info, previous: previous))[...])
        } catch {
            let shown = (error as? AegisError) ?? .failed("pull-failed", "\(error)")
            try await body.write(JSONBody.encode(PullLine(error: Failure(shown)))[...])
        }
        try await body.finish()
    }
}
