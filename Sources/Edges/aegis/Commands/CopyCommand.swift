internal import AegisClient
internal import AegisCore
internal import AegisTar
internal import LinuxSys

/// `aegis cp`
enum CopyCommand {
    static let command = Command(
        "cp", "copy files between an instance and here",
        details: """
            As docker cp: an existing folder takes the source under its own name, DIR/. means its content, '-' stands for a
            tar archive on standard output or input. Paths inside that are relative start at /workspace. What cannot come along
            (devices, FIFOs, sockets, links that lead out) is named; the exit code is 1 when that is SOURCE itself.
            """,
        arguments: [Argument("SOURCE", completion: .files), Argument("DESTINATION", completion: .files)],
        examples: [
            Example("out", "aegis cp web:/workspace/report.pdf ."), Example("in", "aegis cp ./data web:/workspace/"),
            Example("as an archive", "aegis cp web:/etc - | tar tv"),
        ], run: run)

    /// One side of a copy.
    enum Side: Equatable {
        case local(String)
        case inside(instance: String, path: String)

        /// `X:PATH` is inside, unless a slash comes before the colon (`./a:b` is here).
        init(_ text: String) {
            guard let colon = text.firstIndex(of: ":"), colon != text.startIndex, !text[..<colon].contains("/"),
                text[text.startIndex] != "."
            else {
                self = .local(text)
                return
            }
            let path = String(text[text.index(after: colon)...])
            self = .inside(
                instance: String(text[..<colon]), path: path.hasPrefix("/") ? path : "/workspace/" + path)
        }
    }

    @Sendable private static func run(_ invocation: Invocation, _ context: Context) async throws -> Int32 {
        let report: String
        switch (Side(invocation.arguments[0]), Side(invocation.arguments[1])) {
        case (.inside(let instance, let path), .local(let local)):
            report = try await download(FileTransfer(context.client(), instance: instance), path, local, context)
        case (.local(let local), .inside(let instance, let path)):
            report = try await upload(FileTransfer(context.client(), instance: instance), local, path, context)
        case (.local, .local):
            throw AegisError.usage(
                "neither side is inside an instance", hint: "write one as X:PATH, for example web:/workspace")
        case (.inside, .inside):
            throw AegisError.usage(
                "both sides are inside an instance",
                hint: "copy here first, or pipe: aegis cp X:PATH - | aegis cp - Y:PATH")
        }
        if !invocation.quiet { await context.console.say(report) }
        return 0
    }

    private static func download(
        _ transfer: FileTransfer, _ path: String, _ local: String, _ context: Context
    ) async throws -> String {
        if local == "-" {
            try await transfer.archive(path) { bytes in try await context.console.print(bytes) }
            return ""
        }
        guard let kind = try await transfer.kind(of: path) else {
            throw AegisError.notFound("path-not-found", "'\(path)' does not exist in the instance")
        }
        let place = localPath(local, context)
        let plan = try CopyRules.plan(source: path, kind: kind, destination: place, target: localTarget(place, context))
        let directory: FileDescriptor
        do throws(Errno) { directory = try FileDescriptor.open(plan.directory, [.readOnly, .directory]) } catch {
            throw AegisError.failed("io-error", "'\(plan.directory)' cannot be written to: \(error)")
        }
        let report = try await transfer.download(path, into: directory, top: plan.top)
        if let refused = report.refusedTop {
            throw AegisError.failed(
                "not-copied", "'\(path)' was not copied: \(refused.reason)",
                hint: "name what a link leads to; with a slash at the end the folder behind it is meant")
        }
        return TransferText.report(report, from: path, to: local)
    }

    private static func upload(
        _ transfer: FileTransfer, _ local: String, _ path: String, _ context: Context
    ) async throws -> String {
        if local == "-" {
            let input = try context.console.input()
            try await transfer.upload(into: path) { try await input.readPiece() }
            return ""
        }
        let place = localPath(local, context)
        guard let kind = localKind(place, context) else {
            throw AegisError.notFound("path-not-found", "'\(local)' does not exist")
        }
        let plan = try CopyRules.plan(
            source: place, kind: kind, destination: path, target: try await transfer.target(path))
        let producer = try producer(place, kind, plan)
        try await transfer.upload(into: plan.directory) { try producer.next() }
        return TransferText.report(producer.report, from: local, to: path)
    }

    /// The archive of a local file or tree; links named on the command line are followed, those below it are not.
    private static func producer(_ place: String, _ kind: CopyRules.Kind, _ plan: CopyPlan) throws(AegisError)
        -> TarProducer
    {
        // Named `.`, the archive's top is the target folder itself.
        let name: [UInt8] = if case .rename(let name) = plan.top { name } else { Array(".".utf8) }
        let (parent, last) = Files.split(kind == .directory ? place : real(place))
        let root: FileDescriptor
        do throws(Errno) {
            root = try FileDescriptor.open(kind == .directory ? place : parent, [.pathOnly, .directory])
        } catch { throw .failed("io-error", "'\(place)' cannot be read: \(error)") }
        return try TarProducer(root: root, path: Array((kind == .directory ? "." : last).utf8), named: name)
    }

    /// Where a file really is; the path itself when that cannot be told.
    private static func real(_ place: String) -> String {
        guard let file = try? FileDescriptor.open(place, .pathOnly) else { return place }
        return (try? Files.readLink("/proc/self/fd/\(file.raw)")) ?? place
    }

    /// Keeps the slash or dot at the end, which the rules look at.
    static func localPath(_ local: String, _ context: Context) -> String {
        let path = context.caller.absolute(local)
        if local == "." || local == "/." || local.hasSuffix("/.") { return path + "/." }
        return local.hasSuffix("/") && path != "/" ? path + "/" : path
    }

    private static func localKind(_ path: String, _ context: Context) -> CopyRules.Kind? {
        context.caller.fileType(path).map { $0 == .directory ? .directory : .file }
    }

    private static func localTarget(_ path: String, _ context: Context) -> CopyRules.Target {
        if let kind = localKind(path, context) { return .exists(kind) }
        return .missing(parentExists: localKind(Files.split(path).directory, context) == .directory)
    }
}
