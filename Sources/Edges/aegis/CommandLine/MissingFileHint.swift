package import AegisSandboxTypes

/// The line that explains a failure which is none of the command's fault: it names a file that only the caller has
/// (decision D8).
package enum MissingFileHint {
    /// The line for a command that failed.
    ///
    /// - Parameters:
    ///   - command: the words that ran inside.
    ///   - request: what the sandbox was given.
    ///   - caller: where the words would be a file.
    /// - Returns: nil when none of the words is a file that the sandbox lacks.
    package static func line(command: [String], request: CreateInstance, caller: Caller) -> String? {
        for word in command where isPlausible(word) {
            let path = caller.absolute(word)
            guard caller.fileType(path) != nil, !covers(request, path, word, caller) else { continue }
            return "'\(word)' is here, but not in the sandbox: add --workspace . to give it this folder,"
                + " or --mount ./\(word):/workspace/\(word)"
        }
        return nil
    }

    /// A relative path that is no option; absolute ones mean the sandbox's own files.
    private static func isPlausible(_ word: String) -> Bool {
        !word.isEmpty && !word.hasPrefix("-") && !word.hasPrefix("/") && !word.hasPrefix("~") && word != "."
            && word != ".." && word.utf8.count < 1024 && !word.contains("\0") && !word.contains("\n")
    }

    private static func covers(_ request: CreateInstance, _ path: String, _ word: String, _ caller: Caller) -> Bool {
        let sources = (request.mounts ?? []).map(\.source) + [request.workspace].compactMap { $0 }
        return sources.contains { source in
            source.hasPrefix("/") && (path == source || path.hasPrefix(source == "/" ? "/" : source + "/"))
        }
    }
}
