package import AegisCore

/// A word that was meant as an image, by those who write it in front of the command as elsewhere.
package enum ImageWord {
    /// Repositories that are known by their bare name.
    private static let known: Set<String> = [
        "ubuntu", "debian", "alpine", "fedora", "centos", "rockylinux", "almalinux", "archlinux", "busybox", "python",
        "node", "golang", "rust", "ruby", "php", "perl", "openjdk", "postgres", "mysql", "mariadb", "mongo", "redis",
        "memcached", "nginx", "httpd", "caddy", "traefik", "hello-world",
    ]

    /// Whether a word has the form of an image's reference, or is the name of a well-known one.
    package static func isLikely(_ word: String) -> Bool {
        if known.contains(word) { return true }
        // A path is no image.
        guard !word.hasPrefix("/"), !word.hasPrefix("."), !word.hasPrefix("~"), !word.hasPrefix("-") else {
            return false
        }
        let isPlain = word.utf8.allSatisfy { byte in
            (0x61...0x7a).contains(byte) || (0x41...0x5a).contains(byte) || (0x30...0x39).contains(byte)
                || [0x2d, 0x2e, 0x2f, 0x3a, 0x40, 0x5f].contains(byte)
        }
        let first = word.prefix { $0 != "/" }
        let hasRegistry = word.contains("/") && (first.contains(".") || first.contains(":") || first == "localhost")
        let hasTag =
            word.split(separator: ":", omittingEmptySubsequences: false).count == 2 && !word.hasSuffix(":")
            && !word.hasPrefix(":")
        return isPlain && (hasRegistry || hasTag || word.contains("@sha256:"))
    }

    /// The same failure with what to write, when the program that is not there was meant as an image.
    package static func explained(_ error: AegisError, _ command: [String], image: String?) -> AegisError {
        guard error.code == "command-not-found", image == nil, let word = command.first, isLikely(word) else {
            return error
        }
        return AegisError(error.kind, error.code, error.message, hint: hint(command))
    }

    /// How to name the image.
    static func hint(_ command: [String]) -> String {
        let line = (["aegis run --image"] + command.prefix(1) + (command.count > 1 ? ["--"] : []) + command.dropFirst())
            .joined(separator: " ")
        return "an image is named with --image: \(line)"
    }
}
