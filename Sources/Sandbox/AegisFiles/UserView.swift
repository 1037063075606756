package import AegisCore
package import AegisIO
internal import LinuxSys

/// Whose rights count.
package struct PathCaller: Sendable, Equatable {
    package var user: UInt32
    package var group: UInt32
    /// Nil: those that the system's data bases give the user.
    package var groups: [UInt32]?

    /// A caller, usually from a socket's peer credentials.
    package init(user: UInt32, group: UInt32, groups: [UInt32]? = nil) {
        self.user = user
        self.group = group
        self.groups = groups
    }
}

/// Opens what callers name, as those callers (decision D15), and refuses what belongs to Aegis or to the kernel (D31).
package final class UserView: Sendable {
    /// What a path is wanted for.
    package struct Purpose: Sendable {
        /// The word in messages: `workspace`, `mount`.
        package var what: String
        package var needsDirectory: Bool
        package var writes: Bool
        /// A purpose.
        package init(_ what: String, needsDirectory: Bool, writes: Bool) {
            self.what = what
            self.needsDirectory = needsDirectory
            self.writes = writes
        }
    }

    private let guarded: GuardedPlaces
    private let helper: (executable: String, arguments: [String])
    private let loop: EventLoop

    /// - Parameters:
    ///   - home: `AEGIS_HOME`.
    ///   - runDirectory: where sockets and bundles are.
    ///   - records: the folder of a database that is not in the home.
    ///   - helper: the program that calls `OpenHelper.main`, and its arguments without the program's name.
    ///   - loop: runs the helper's socket.
    package init(
        home: String, runDirectory: String, records: String? = nil,
        helper: (executable: String, arguments: [String]), on loop: EventLoop
    ) {
        guarded = GuardedPlaces(home: home, runDirectory: runDirectory, records: records)
        self.helper = helper
        self.loop = loop
    }

    /// Opens an absolute path.
    ///
    /// - Throws: `path-not-found` (naming the deepest folder that exists), `not-a-directory`, `path-denied`,
    ///   `path-refused` for what no grant may reach, `invalid-argument` for a path that is not absolute.
    package func open(_ path: String, for purpose: Purpose, as caller: PathCaller) async throws(AegisError)
        -> OpenedPath
    {
        guard path.hasPrefix("/"), path.utf8.count < 4096, !path.utf8.contains(0) else {
            throw .usage("the \(purpose.what) path '\(path)' is not absolute", hint: "begin it with /")
        }
        let request = OpenRequest(
            path: path, needsDirectory: purpose.needsDirectory, writes: purpose.writes, user: caller.user,
            group: caller.group, groups: caller.groups)
        // Whoever is the daemon's own user has its rights already.
        let own = caller.user == CurrentProcess.effectiveUser
        let answered = own ? await openHere(request) : try await ask(request, purpose)
        guard let opened = answered.opened else {
            throw explain(answered.answer, path, purpose, caller)
        }
        if let reason = guarded.refusal(opened) {
            throw AegisError(
                .denied, "path-refused", "\(purpose.what) '\(path)' is refused: \(reason)",
                hint: "choose a folder that holds only what the instance may see")
        }
        return opened
    }

    private struct Answered: Sendable {
        var answer: OpenAnswer
        var opened: OpenedPath?

        init(_ answer: OpenAnswer, _ descriptor: consuming FileDescriptor?) {
            self.answer = answer
            guard answer.step == .none, let descriptor else { return }
            do throws(Errno) { opened = try OpenedPath(descriptor) } catch {
                self.answer = OpenAnswer(step: .open, errno: error.code)
            }
        }
    }

    private func openHere(_ request: OpenRequest) async -> Answered {
        // A path on a dead network file system blocks: not the loop.
        let answered = try? await BlockingPool.shared.run { () -> Answered in
            var outcome = OpenHelper.open(request)
            let answer = outcome.answer
            return Answered(answer, outcome.descriptor.take())
        }
        return answered ?? Answered(OpenAnswer(step: .open, errno: Errno.cancelled.code), nil)
    }

    private func ask(_ request: OpenRequest, _ purpose: Purpose) async throws(AegisError) -> Answered {
        do {
            return try await withDeadline(.seconds(10)) { try await self.runHelper(request) }
        } catch {
            throw .failed(
                "open-helper-failed", "the \(purpose.what) could not be opened as uid \(request.user): \(error)")
        }
    }

    private func runHelper(_ request: OpenRequest) async throws -> Answered {
        var pair = try DescriptorPair.sockets()
        let stream = try FileStream(pair.takeFirst(), on: loop)
        let theirs = pair.takeSecond()
        var spec = ProcessSpec(executable: helper.executable, arguments: [helper.executable] + helper.arguments)
        spec.extraDescriptors = [(OpenHelper.socketNumber, theirs.raw)]
        spec.newSession = true
        let child = try ChildProcess.spawn(spec, on: loop)
        try? theirs.close()
        do {
            let answered = try await converse(request, stream)
            stream.close()
            _ = try await child.wait()
            return answered
        } catch {
            stream.close()
            await child.teardown([])
            throw error
        }
    }

    private func converse(_ request: OpenRequest, _ stream: FileStream) async throws -> Answered {
        try await stream.write(request.encode()[...])
        var buffer = ByteBuffer()
        let (count, descriptors) = try await stream.receiveDescriptors(into: &buffer, atMost: 1)
        guard count > 0 else { throw AegisError.failed("open-helper-failed", "the helper ended without an answer") }
        var bytes = buffer.takeAll()
        while bytes.count < 4 || bytes.count < 4 + Int(bytes.big(0)) {
            guard bytes.count < OpenRequest.maximum, try await stream.read(into: &buffer, atMost: 4096) > 0 else {
                throw AegisError.failed("open-helper-failed", "the helper's answer is cut off")
            }
            bytes += buffer.takeAll()
        }
        guard let answer = OpenAnswer(bytes[4..<(4 + Int(bytes.big(0)))]),
            (answer.step == .none) == (descriptors.count == 1)
        else { throw AegisError.failed("open-helper-failed", "the helper's answer cannot be read") }
        return Answered(answer, descriptors.take(0))
    }

    private func explain(
        _ answer: OpenAnswer, _ path: String, _ purpose: Purpose, _ caller: PathCaller
    ) -> AegisError {
        let error = Errno(answer.errno)
        let what = "\(purpose.what) '\(path)'"
        switch (answer.step, error) {
        case (.type, .notDirectory),
            (.open, .notDirectory) where purpose.needsDirectory && answer.step == .type:
            return AegisError(
                .usage, "not-a-directory", "\(what) is a file, not a folder", hint: "name the folder that holds it")
        case (.type, _):
            return AegisError(.usage, "not-a-file", "\(what) is neither a file nor a folder")
        case (.open, .noSuchFile), (.open, .notDirectory):
            return .notFound(
                "path-not-found", "\(what) does not exist",
                hint: "'\(answer.nearest)' exists; create the rest, or correct the path")
        case (.open, .accessDenied), (.open, .notPermitted):
            return AegisError(
                .denied, "path-denied", "uid \(caller.user) may not enter the way to \(what)",
                hint: "the deepest folder that can be reached is '\(answer.nearest)'")
        case (.access, .readOnlyFileSystem):
            return AegisError(
                .denied, "path-denied", "\(what) is on a read-only file system", hint: "mount it read-only")
        case (.access, _):
            return AegisError(
                .denied, "path-denied",
                "uid \(caller.user) may not \(purpose.writes ? "read and write" : "read") \(what)",
                hint: "change its permissions, or choose another")
        case (.become, _):
            return .failed("open-helper-failed", "the daemon cannot act as uid \(caller.user): \(error)")
        default:
            return .failed("path-unusable", "\(what) cannot be opened: \(error)")
        }
    }
}
