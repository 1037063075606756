internal import LinuxSys

/// What a command line is read against: the caller's environment and directory. Tests give their own.
package struct Caller: Sendable {
    /// A variable, nil when it is not set.
    package var variable: @Sendable (String) -> String?
    /// The bytes of a variable, which need not be text.
    package var variableBytes: @Sendable (String) -> [UInt8]?
    /// Absolute.
    package var workingDirectory: String
    /// What a path is, nil when nothing is there; links are followed.
    package var fileType: @Sendable (String) -> FileKind?
    package var user: UInt32

    /// The kinds of files that matter to a command line.
    package enum FileKind: Sendable { case directory, other }

    /// Makes a caller from its parts.
    package init(
        user: UInt32, workingDirectory: String, variable: @escaping @Sendable (String) -> String?,
        variableBytes: (@Sendable (String) -> [UInt8]?)? = nil, fileType: @escaping @Sendable (String) -> FileKind?
    ) {
        self.user = user
        self.workingDirectory = workingDirectory
        self.variable = variable
        self.variableBytes = variableBytes ?? { name in variable(name).map { Array($0.utf8) } }
        self.fileType = fileType
    }

    /// This process.
    package static var current: Caller {
        Caller(
            user: CurrentProcess.effectiveUser, workingDirectory: currentDirectory,
            variable: { CurrentProcess.environment($0) },
            variableBytes: { CurrentProcess.environmentBytes($0) },
            fileType: { path in
                guard let status = try? Files.status(path) else { return nil }
                return status.type == .directory ? .directory : .other
            })
    }

    /// The directory as the shell names it, when that is the one we are in; else as the kernel names it.
    private static var currentDirectory: String {
        if let named = CurrentProcess.environment("PWD"), named.hasPrefix("/"), let there = try? Files.status(named),
            let here = try? Files.status("."), there.isSameFile(as: here)
        {
            return named
        }
        return (try? Files.readLink("/proc/self/cwd")) ?? "/"
    }

    /// A path as the shell would take it: `~` and `~/` are the home, relative ones start at the working directory,
    /// `.`, `..` and doubled slashes are resolved by name.
    package func absolute(_ path: String) -> String {
        var path = path
        if path == "~" || path.hasPrefix("~/"), let home = variable("HOME"), !home.isEmpty {
            path = home + path.dropFirst()
        }
        if !path.hasPrefix("/") { path = workingDirectory + "/" + path }
        var parts: [Substring] = []
        for part in path.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(part) }
        }
        return "/" + parts.joined(separator: "/")
    }

    /// `--workspace`: a path is made absolute, a name stays one whatever lies in the working directory: the same words are
    /// the same workspace everywhere.
    package func workspace(_ value: String) -> String { Self.isPath(value) ? absolute(value) : value }

    /// What to say when a name of a workspace is that of a folder here, too.
    package func workspaceNote(_ value: String) -> String? {
        guard !value.isEmpty, !Self.isPath(value), fileType(absolute("./" + value)) == .directory else { return nil }
        return "--workspace \(value) is the workspace of that name; write ./\(value) for the folder"
    }

    private static func isPath(_ value: String) -> Bool {
        value.contains("/") || value == "." || value == ".." || value.hasPrefix("~")
    }
}
