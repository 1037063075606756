import AegisCore
import AegisIO
import LinuxSys

/// Speaks to registries through a fetching program (`skopeo`), which runs confined in the `fetch` role.
struct Fetcher: Sendable {
    let helper: HelperProgram
    let settings: ImageSettings
    let loop: EventLoop
    /// The node's registry credentials, if they may be used and there are any.
    let credentials: Credentials?

    /// The store's directories inside the confined program.
    private static let layout = "layout"
    private static let blobs = "blobs"

    /// Where the program puts a blob, in the work directory.
    static func blobPath(_ digest: Digest) -> String { "\(blobs)/sha256/\(digest.hex)" }

    /// What a registry answers for a name: the bytes of a manifest or list.
    func manifest(_ reference: RegistryReference, digest: Digest? = nil, in work: WorkDirectory) async throws -> [UInt8]
    {
        let name = digest.map { "\(reference.name)@\($0)" } ?? reference.wanted
        return try await ask(reference, ["inspect", "--raw"], name, limit: Manifest.mostBytes, in: work)
    }

    /// The bytes of the configuration of the image with this manifest.
    func config(_ reference: RegistryReference, manifest: Digest, in work: WorkDirectory) async throws -> [UInt8] {
        try await ask(
            reference, ["inspect", "--raw", "--config"], "\(reference.name)@\(manifest)",
            limit: ImageDocument.mostBytes, in: work)
    }

    /// Tags that a repository has, for a hint; empty when that cannot be had within a few seconds.
    func tags(_ reference: RegistryReference, in work: WorkDirectory) async -> [String] {
        let answer = try? await withDeadline(.seconds(5), clock: loop.clock) {
            try await ask(reference, ["list-tags"], reference.name, limit: 1 << 20, in: work)
        }
        return answer.map(TagList.read) ?? []
    }

    /// Downloads the layers of one image into the work directory, but for those that the store has.
    ///
    /// - Parameters:
    ///   - reference: the image's name.
    ///   - manifest: the manifest that lists the layers.
    ///   - present: layers that are not downloaded: the program takes a file of the right name and size for them.
    ///   - work: where they go.
    ///   - progress: called with the bytes on disk while it goes on.
    /// - Throws: what `FetchFailure` makes of the program's messages, `registry-stalled`, `disk-full`.
    func download(
        _ reference: RegistryReference, manifest: Digest, present: [Descriptor], in work: WorkDirectory,
        progress: @escaping @Sendable (Int64) -> Void
    ) async throws {
        try await BlockingPool.shared.run {
            do throws(Errno) {
                try work.directory.makeDirectories("\(Self.blobs)/sha256")
                for blob in present {
                    let file = try work.directory.open(Self.blobPath(blob.digest), [.writeOnly, .create, .noFollow])
                    try file.truncate(to: UInt64(blob.size))
                }
            } catch { throw StoreDirectory.failure(error, "preparing a download") }
        }
        let security = settings.verifiesTLS(reference) ? [] : ["--src-tls-verify=false"]
        try await copy(
            .registry(reference), security + ["docker://\(reference.name)@\(manifest)"], source: nil, in: work,
            progress: progress)
    }

    /// Copies an image of this machine into the work directory, whole.
    func copy(
        _ reference: LocalReference, source: borrowing FileDescriptor, in work: WorkDirectory,
        progress: @escaping @Sendable (Int64) -> Void
    ) async throws {
        let origin = "\(reference.transport.rawValue):\(FetchRole.source)" + (reference.tag.map { ":\($0)" } ?? "")
        let platform = settings.platform
        let override = ["--override-os", platform.operatingSystem, "--override-arch", platform.architecture]
        try await copy(
            .local(reference), [origin], source: source.raw, global: override, in: work, progress: progress)
    }

    /// The manifest that a copy wrote, by its layout's index.
    static func copiedManifest(in work: WorkDirectory, of reference: ImageReference) throws -> (Digest, [UInt8]) {
        let index = try readFile("\(layout)/index.json", Manifest.mostBytes, work)
        guard case .index(let entries) = try Manifest(json: index, of: reference.description), entries.count == 1,
            let digest = entries.first?.descriptor.digest
        else { throw AegisError.failed("pull-failed", "'\(reference)' was not copied as one image") }
        return (digest, try readFile(blobPath(digest), Manifest.mostBytes, work))
    }

    /// A small file of the work directory.
    static func readFile(_ path: String, _ limit: Int, _ work: WorkDirectory) throws -> [UInt8] {
        do {
            return try work.directory.open(path, [.readOnly, .noFollow], resolve: .beneath).readAll(limit: limit)
        } catch {
            throw StoreDirectory.failure(error, "reading \(path) of a download")
        }
    }

    // MARK: The program

    private func ask(
        _ reference: RegistryReference, _ command: [String], _ name: String, limit: Int, in work: WorkDirectory
    ) async throws -> [UInt8] {
        let security = settings.verifiesTLS(reference) ? [] : ["--tls-verify=false"]
        let words = command + ["--retry-times", "\(min(settings.retries, 1))"] + security
        // What is asked for is small: an answer that takes longer does not come.
        let patience = settings.limits.stallTime
        do {
            return try await withDeadline(patience, clock: loop.clock) {
                try await run(.registry(reference), words, ["docker://\(name)"], source: nil, limit: limit, in: work)
            }
        } catch let error as IOError where error.kind == .timeout { throw stalled(.registry(reference)) }
    }

    private func stalled(_ reference: ImageReference) -> AegisError {
        AegisError(
            .timeout, "registry-stalled",
            "the registry of '\(reference)' has sent nothing for \(settings.limits.stallTime)",
            hint: "try again; the time is images.stall_timeout")
    }

    private func copy(
        _ reference: ImageReference, _ origin: [String], source: Int32?, global: [String] = [], in work: WorkDirectory,
        progress: @escaping @Sendable (Int64) -> Void
    ) async throws {
        // Signatures cannot be kept in this form; looking for them leads to places that the confined program cannot see.
        let command = [
            "copy", "--quiet", "--remove-signatures", "--retry-times", "\(settings.retries)",
            "--dest-oci-accept-uncompressed-layers",
            "--dest-shared-blob-dir", "\(FetchRole.directory)/\(Self.blobs)",
        ]
        let target = "oci:\(FetchRole.directory)/\(Self.layout):image"
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                _ = try await run(
                    reference, command, origin + [target], source: source, global: global, limit: 1 << 20, in: work)
                return true
            }
            group.addTask {
                try await watch(reference, work, progress)
                return false
            }
            defer { group.cancelAll() }
            while let done = try await group.next(), !done {}
        }
        progress(await occupied(work))
    }

    private func occupied(_ work: WorkDirectory) async -> Int64 {
        (try? await BlockingPool.shared.run { work.occupied([Self.layout, "\(Self.blobs)/sha256"]) }) ?? 0
    }

    /// Reports how much is on disk, and ends a download that makes no progress.
    private func watch(
        _ reference: ImageReference, _ work: WorkDirectory, _ progress: @escaping @Sendable (Int64) -> Void
    ) async throws {
        let clock = loop.clock
        var last: Int64 = -1
        var since = clock.now
        while true {
            try await clock.sleep(for: .milliseconds(250))
            let now = await occupied(work)
            if now != last {
                (last, since) = (now, clock.now)
                progress(now)
            } else if since.duration(to: clock.now) > settings.limits.stallTime {
                throw stalled(reference)
            }
        }
    }

    private func run(
        _ reference: ImageReference, _ command: [String], _ operands: [String], source: Int32?, global: [String] = [],
        limit: Int,
        in work: WorkDirectory
    ) async throws -> [UInt8] {
        let program = try findProgram()
        if let authorities = settings.authorities, source == nil {
            try await BlockingPool.shared.run { try Self.put(authorities, in: work) }
        }
        let credentials = try await BlockingPool.shared.run { [credentials] () throws -> OpenCredentials? in
            guard source == nil, let credentials else { return nil }
            return try OpenCredentials(credentials)
        }
        let policy = Files.exists("/etc/containers/policy.json") ? [] : ["--insecure-policy"]
        let login = credentials == nil ? [] : ["--authfile", FetchRole.credentials]
        var words = ["fetch", program] + policy + global + [command[0]] + command.dropFirst() + login + operands
        if command.first == "list-tags" { words.removeAll { $0 == "--raw" } }
        var spec = helper.spec(words, environment: environment)
        (spec.stdout, spec.stderr) = (.pipe, .pipe)
        if let credentials { spec.extraDescriptors.append((5, credentials.descriptor.raw)) }
        if let source { spec.extraDescriptors.append((6, source)) }
        let process = try await HelperProcess(spec, directory: work.directory.raw, on: loop)
        do {
            async let output = readAll(process.output, limit: limit)
            async let errors = readAll(process.errors, limit: 64 << 10, keepingEnd: true)
            async let result = process.finish()
            let (bytes, text, end) = try await (output, errors, result)
            if let (code, message) = end.failure {
                throw UnpackFailure.error(code == "unpack-failed" ? "pull-failed" : code, "'\(reference)': \(message)")
            }
            guard end.status.isSuccess else {
                throw FetchFailure.error(
                    String(decoding: text, as: UTF8.self), reference, authenticated: !login.isEmpty)
            }
            return bytes
        } catch {
            await process.end()
            throw error
        }
    }

    /// Writes down whom to trust where the program looks for it.
    private static func put(_ authorities: [UInt8], in work: WorkDirectory) throws {
        do throws(Errno) {
            try work.directory.makeDirectories(FetchRole.authorities)
            try work.directory.open(
                "\(FetchRole.authorities)/ca.pem", [.writeOnly, .create, .truncate, .noFollow], resolve: .beneath
            ).writeAll(authorities[...])
        } catch { throw StoreDirectory.failure(error, "preparing a download") }
    }

    private var environment: [String] {
        ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].compactMap { name in
            settings.environment[name].map { "\(name)=\($0)" }
        }
    }

    private func findProgram() throws(AegisError) -> String {
        let name = settings.fetchProgram ?? "skopeo"
        let path = settings.environment["PATH"] ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        guard let found = Files.findExecutable(name, path: path), found.hasPrefix("/") else {
            throw AegisError(
                .unavailable, "fetcher-missing", "'\(name)' is not installed", hint: "install the package skopeo")
        }
        return found
    }
}
