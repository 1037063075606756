package import AegisCore

/// What `--artifacts DIR` and `--artifact PATH[:LOCAL]` ask to bring home (decision D9).
package struct ArtifactSpec: Sendable, Equatable {
    /// An absolute path inside; relative ones start at /workspace.
    package var source: String
    /// An absolute path of the caller's.
    package var destination: String
    /// The contents of the source go into the destination, rather than the source itself becoming it.
    package var contentsOnly: Bool

    /// The folder whose contents `--artifacts` brings home.
    package static let output = "/workspace/output"

    /// Reads both options of an invocation.
    ///
    /// - Throws: `invalid-argument` with the right form.
    package static func all(_ invocation: Invocation, _ caller: Caller) throws(AegisError) -> [ArtifactSpec] {
        var specs: [ArtifactSpec] = []
        if let directory = invocation["artifacts"] {
            guard !directory.isEmpty else { throw .usage("--artifacts is empty", hint: "write --artifacts DIR") }
            specs.append(
                ArtifactSpec(source: output, destination: caller.absolute(directory), contentsOnly: true))
        }
        for text in invocation.all("artifact") { specs.append(try ArtifactSpec(parsing: text, caller)) }
        guard specs.isEmpty || !invocation.has("detach") else {
            throw .usage(
                "artifacts are fetched when the command ends, which --detach does not wait for",
                hint: "leave out --detach, or use 'aegis cp' later")
        }
        return specs
    }

    private init(parsing text: String, _ caller: Caller) throws(AegisError) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let name = parts[0].split(separator: "/").last.map(String.init) ?? ""
        guard !name.isEmpty, name != ".", name != "..", parts.count == 1 || !parts[1].isEmpty else {
            throw .usage("'\(text)' is not an artifact", hint: "write PATH or PATH:LOCAL, as report.pdf:out/report.pdf")
        }
        source = parts[0].hasPrefix("/") ? parts[0] : "/workspace/" + parts[0]
        let local = parts.count == 2 ? parts[1] : name
        // As `cp` does: an existing folder takes the artifact under its own name.
        let path = caller.absolute(local)
        destination = caller.fileType(path) == .directory || local.hasSuffix("/") ? "\(path)/\(name)" : path
        contentsOnly = false
    }

    private init(source: String, destination: String, contentsOnly: Bool) {
        self.source = source
        self.destination = destination
        self.contentsOnly = contentsOnly
    }
}
