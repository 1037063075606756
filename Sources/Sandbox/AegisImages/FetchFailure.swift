import AegisCore

/// What the messages of the fetching program mean.
enum FetchFailure {
    /// The error for what the program wrote to standard error before it failed.
    ///
    /// - Parameters:
    ///   - text: its messages.
    ///   - reference: the image that was asked for.
    ///   - authenticated: whether credentials were given.
    /// - Returns: an error whose code says what kind of trouble it is; `pull-failed` for what is not known.
    static func error(_ text: String, _ reference: ImageReference, authenticated: Bool) -> AegisError {
        let lower = plain(text, reference)
        func says(_ parts: String...) -> Bool { parts.contains { lower.contains($0) } }
        let name = reference.description
        if says("no space left on device", "disk quota exceeded") {
            return .failed(
                "disk-full", "no space left while pulling '\(name)'",
                hint: "free space, or remove images: aegis image delete REF")
        }
        if says("toomanyrequests", "too many requests", "status 429", "statuscode: 429") {
            return AegisError(
                .unavailable, "registry-rate-limited", "the registry of '\(name)' refuses more requests for now",
                hint: "wait, or log in: credentials are read from auth.json")
        }
        if says("digest did not match", "does not match", "digest mismatch", "verification failed", "doesn't match") {
            return .failed(
                "digest-mismatch", "'\(name)' is not what its digest says: \(reason(text))",
                hint: "the registry holds a damaged image, or something changed it on the way; push it again")
        }
        // The kernel's words, not a registry's: the program wanted something that its confinement does not let it have.
        if says(": permission denied") {
            return .failed("pull-failed", "'\(name)' cannot be fetched: \(reason(text))")
        }
        if says(
            "unauthorized", "authentication required", "denied", "invalid username/password", "status 401",
            "status 403", "403 (forbidden)", "statuscode: 403")
        {
            return AegisError(
                .denied, "image-auth-required",
                authenticated
                    ? "the registry of '\(name)' does not accept the credentials given"
                    : "the registry of '\(name)' wants credentials, or has no such image",
                hint: authenticated
                    ? "check the entry for this registry in auth.json"
                    : "write auth.json (for example by: skopeo login REGISTRY) or correct the name")
        }
        if says(
            "manifest unknown", "name unknown", "not found", "404", "no such file or directory", "no image found",
            "name_unknown")
        {
            return .notFound("image-not-found", "there is no image '\(name)'")
        }
        if says("server gave http response to https client", "x509", "tls:", "certificate") {
            return AegisError(
                .unavailable, "registry-tls", "no trusted connection to the registry of '\(name)': \(reason(text))",
                hint: "name its authority's certificate as tls.ca_file, or put it into "
                    + "/etc/containers/certs.d/HOST:PORT/ca.crt; or list the registry under registries with insecure: true"
            )
        }
        if says(
            "connection refused", "no such host", "no route to host", "network is unreachable", "i/o timeout",
            "timeout", "temporary failure in name resolution", "server misbehaving", "connection reset", "eof")
        {
            return AegisError(
                .unavailable, "registry-unreachable", "the registry of '\(name)' cannot be reached: \(reason(text))",
                hint: "check the name and the network, or run an image that is here: aegis run --pull never")
        }
        return .failed("pull-failed", "'\(name)' cannot be fetched: \(reason(text))")
    }

    /// The messages in lower case, without what could be taken for a reason: the image's own name, digests, numbers of ports (one
    /// in two hundred has a 404 in it), and the system's word for missing rights on a file.
    private static func plain(_ text: String, _ reference: ImageReference) -> String {
        var lower = text.lowercased()
        var names = [reference.description]
        if case .registry(let image) = reference { names += [image.name, image.repository] }
        for name in names { lower = lower.replacing(name.lowercased(), with: "") }
        lower = lower.replacing("permission denied", with: "")
        let rest = lower.split(separator: "sha256:", omittingEmptySubsequences: false).enumerated().map { index, part in
            index == 0 ? part : part.drop { $0.isHexDigit }
        }.joined()
        return rest.split(separator: ":", omittingEmptySubsequences: false).enumerated().map { index, part in
            index == 0 ? part : part.drop { $0.isNumber }
        }.joined(separator: ":")
    }

    /// The message of the last line, without the log's dressing.
    static func reason(_ text: String) -> String {
        guard let line = text.split(separator: "\n").last(where: { !$0.allSatisfy(\.isWhitespace) }) else {
            return "no reason was given"
        }
        var words = String(line)
        if let dressed = line.firstRange(of: "msg=\"") {
            words = String(line[dressed.upperBound...])
            if words.hasSuffix("\"") { words.removeLast() }
            words = words.replacing("\\\"", with: "\"")
        }
        return String(words.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? " " : Character($0) }.prefix(400))
    }
}
