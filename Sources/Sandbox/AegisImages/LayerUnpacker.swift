import AegisCore
import AegisIO
import FoundationEssentials
import LinuxSys

/// Turns one blob into one layer, in three confined processes (see `UnpackHelper`) and a fourth that checks the blob.
struct LayerUnpacker: Sendable {
    let helper: HelperProgram
    let limits: ImageLimits
    let loop: EventLoop

    /// The directory of one layer's work, open until it is done.
    private final class Job: Sendable {
        let tree: FileDescriptor
        init(_ work: WorkDirectory, name: String, of image: String) throws(AegisError) {
            do {
                try work.directory.makeDirectories("\(name)/tree")
                tree = try work.directory.open("\(name)/tree", [.readOnly, .directory, .noFollow], resolve: .beneath)
                try tree.setPermissions(0o755)
            } catch { throw StoreDirectory.failure(error, "preparing a layer of '\(image)'") }
        }
    }
    /// An open blob.
    private final class Blob: Sendable {
        let file: FileDescriptor
        init(_ path: String, in work: WorkDirectory, of image: String) throws(AegisError) {
            do { file = try work.directory.open(path, [.readOnly, .noFollow], resolve: .beneath) } catch {
                throw StoreDirectory.failure(error, "opening a layer of '\(image)'")
            }
        }
    }

    /// Unpacks a blob of the work directory into `name/tree` and writes `name/layer.json`.
    ///
    /// - Parameters:
    ///   - path: the blob's path in the work directory; the file is removed at the end.
    ///   - blob: what the manifest says of it.
    ///   - digest: what the configuration says of its uncompressed stream.
    ///   - work: the work directory.
    ///   - name: the layer's folder in it.
    ///   - image: the image's name, for messages.
    /// - Returns: the layer's record, and what was left out of it.
    /// - Throws: `digest-mismatch`, `corrupt-layer`, `image-too-large`, `disk-full`, `unpack-failed`.
    func unpack(
        _ path: String, _ blob: Descriptor, as digest: Digest, in work: WorkDirectory, name: String, of image: String
    ) async throws -> (LayerRecord, warnings: [String]) {
        let (job, blobs) = try await BlockingPool.shared.run {
            // Two readers, each with an offset of its own.
            (
                try Job(work, name: name, of: image),
                [try Blob(path, in: work, of: image), try Blob(path, in: work, of: image)]
            )
        }
        let results = try await run(job, blobs)
        try Self.judge(results, blob: blob, digest: digest, of: image)
        return try await BlockingPool.shared.run {
            let finished = try Self.finish(results.untar.records, job, digest, in: work, name: name, of: image)
            do throws(Errno) { try work.directory.removeFile(path) } catch {
                throw StoreDirectory.failure(error, "removing a blob of '\(image)'")
            }
            return finished
        }
    }

    private static func finish(
        _ records: [HelperRecord], _ job: Job, _ digest: Digest, in work: WorkDirectory, name: String, of image: String
    ) throws(AegisError) -> (LayerRecord, warnings: [String]) {
        let outcome = try LayerFinish.apply(records, to: job.tree)
        let record = LayerRecord(
            digest: digest.description, bytes: outcome.bytes, entries: outcome.entries,
            implicit: outcome.implicit.map { Data($0) }, hidesAll: outcome.hidesAll)
        let bytes = try StoreCoding.encode(record)
        do {
            try work.directory.open(name, [.readOnly, .directory]).writeAtomically("layer.json", bytes)
        } catch { throw StoreDirectory.failure(error, "storing a layer of '\(image)'") }
        return (record, outcome.warnings)
    }

    /// What the four processes left.
    struct Results: Sendable {
        var check: HelperProcess.Result
        var inflate: HelperProcess.Result
        var digest: HelperProcess.Result
        var untar: HelperProcess.Result
    }

    private func stage(_ role: [String], _ input: Int32, _ output: Int32?, _ directory: Int32?) async throws
        -> HelperProcess
    {
        var spec = helper.spec(role)
        spec.stdin = .descriptor(input)
        if let output { spec.stdout = .descriptor(output) }
        return try await HelperProcess(spec, directory: directory, on: loop)
    }

    private func run(_ job: Job, _ blobs: [Blob]) async throws -> Results {
        var started: [HelperProcess] = []
        do {
            var raw = try DescriptorPair.pipe()
            var tar = try DescriptorPair.pipe()
            let rawOut = raw.takeFirst()
            let rawIn = raw.takeSecond()
            let tarOut = tar.takeFirst()
            let tarIn = tar.takeSecond()
            started.append(try await stage(["digest", "\(limits.blobBytes)"], blobs[0].file.raw, nil, nil))
            started.append(try await stage(["inflate", "\(limits.layerBytes)"], blobs[1].file.raw, rawIn.raw, nil))
            started.append(try await stage(["digest", "\(limits.layerBytes)", "pass"], rawOut.raw, tarIn.raw, nil))
            let filling = ["untar", "\(limits.layerBytes)", "\(limits.entries)"]
            started.append(try await stage(filling, tarOut.raw, nil, job.tree.raw))
            // The pipes belong to the children alone from now on, or their ends would never come.
            _ = consume rawIn
            _ = consume rawOut
            _ = consume tarIn
            _ = consume tarOut
            async let check = started[0].finish()
            async let inflate = started[1].finish()
            async let digest = started[2].finish()
            async let untar = started[3].finish()
            return try await Results(check: check, inflate: inflate, digest: digest, untar: untar)
        } catch {
            for process in started { await process.end() }
            throw error
        }
    }

    /// Unpacks the tar stream that a trusted program writes to its standard output, into `name`.
    ///
    /// - Parameters:
    ///   - program: what to run; its standard error is a pipe.
    ///   - work: the work directory.
    ///   - name: the layer's folder in it.
    ///   - image: the image's name, for messages.
    ///   - line: called with the lines of its standard error.
    /// - Returns: the layer, its digest and the bytes of the stream.
    /// - Throws: `base-build-failed` when the program fails, and what `unpack` throws.
    func unpackOutput(
        of program: ProcessSpec, in work: WorkDirectory, name: String, of image: String,
        line: @escaping @Sendable (String) -> Void
    ) async throws -> (LayerRecord, Digest, Int64) {
        let job = try await BlockingPool.shared.run { try Job(work, name: name, of: image) }
        var started: [HelperProcess] = []
        var source: ChildProcess?
        do {
            var raw = try DescriptorPair.pipe()
            var tar = try DescriptorPair.pipe()
            let rawOut = raw.takeFirst()
            let rawIn = raw.takeSecond()
            let tarOut = tar.takeFirst()
            let tarIn = tar.takeSecond()
            var program = program
            program.stdout = .descriptor(rawIn.raw)
            let child = try await ChildProcess.spawnInBackground(program, on: loop)
            source = child
            started.append(try await stage(["digest", "\(limits.layerBytes)", "pass"], rawOut.raw, tarIn.raw, nil))
            let filling = ["untar", "\(limits.layerBytes)", "\(limits.entries)"]
            started.append(try await stage(filling, tarOut.raw, nil, job.tree.raw))
            _ = consume rawIn
            _ = consume rawOut
            _ = consume tarIn
            _ = consume tarOut
            async let digest = started[0].finish()
            async let untar = started[1].finish()
            let last = try await readLines(child.stderr, line)
            let status = try await child.wait()
            let (found, tree) = try await (digest, untar)
            if let (code, message) = tree.failure ?? found.failure {
                throw UnpackFailure.error(code, "'\(image)': \(message)")
            }
            guard status.isSuccess else {
                throw AegisError.failed(
                    "base-build-failed", "the build of '\(image)' failed (\(status)): \(last)",
                    hint: "see its lines above; is the package mirror reachable?")
            }
            guard let sum = found.done, let digest = sum.digest, tree.done != nil else {
                throw UnpackFailure.error(
                    "unpack-failed", "'\(image)': a helper ended without a result (\(found.status), \(tree.status))")
            }
            let (record, _) = try await BlockingPool.shared.run {
                try Self.finish(tree.records, job, digest, in: work, name: name, of: image)
            }
            return (record, digest, sum.bytes)
        } catch {
            _ = await source?.teardown([.signalGroup(15, allow: .seconds(3)), .signalGroup(9, allow: .seconds(10))])
            for process in started { await process.end() }
            throw error
        }
    }

    /// Reads lines to the end of a stream.
    ///
    /// - Returns: the last line.
    private func readLines(_ stream: FileStream?, _ line: @escaping @Sendable (String) -> Void) async throws -> String {
        guard let stream else { return "" }
        var buffer = ByteBuffer()
        var last = "no reason was given"
        func take(_ count: Int) {
            last = String(HelperRecord.printable(buffer.take(count)[...]))
            if !last.allSatisfy(\.isWhitespace) { line(last) }
        }
        while try await stream.read(into: &buffer, atMost: 16 << 10) > 0 {
            while let end = buffer.firstOffset(of: 0x0a) {
                take(end)
                buffer.consume(1)
            }
            if buffer.readableBytes > 64 << 10 { take(buffer.readableBytes) }
        }
        if !buffer.isEmpty { take(buffer.readableBytes) }
        return last
    }

    /// Decides whether a layer is good; the most telling failure is the one thrown.
    static func judge(_ results: Results, blob: Descriptor, digest: Digest, of image: String) throws(AegisError) {
        if let found = results.check.done, found.digest != blob.digest || found.bytes != blob.size {
            throw .failed(
                "digest-mismatch",
                "a layer of '\(image)' is not what its manifest says: expected \(blob.digest) of \(blob.size) bytes, got \(found.digest.map(\.description) ?? "nothing") of \(found.bytes)",
                hint: "the registry holds a damaged image, or something changed it on the way; push it again")
        }
        for result in [results.check, results.digest, results.inflate, results.untar] {
            guard let (code, message) = result.failure, !(code == "unpack-failed" && message.hasPrefix("passing"))
            else { continue }
            throw UnpackFailure.error(code, "'\(image)', layer \(blob.digest): \(message)")
        }
        let stages = [
            ("tar", results.untar), ("decompression", results.inflate), ("digest", results.digest),
            ("check", results.check),
        ]
        for (name, result) in stages where result.done == nil {
            throw UnpackFailure.error(
                "unpack-failed",
                "'\(image)', layer \(blob.digest): the \(name) helper ended without a result (\(result.status))")
        }
        guard let found = results.digest.done?.digest, found == digest else {
            throw .failed(
                "digest-mismatch",
                "the layer \(blob.digest) of '\(image)' unpacks to \(results.digest.done?.digest?.description ?? "nothing"), its configuration says \(digest)",
                hint: "the image is broken where it is stored; push it again")
        }
    }
}
