import AegisCore
import AegisSecrets

/// What both versions of HTTP say of a server that did not answer as it should.
extension AegisError {
    /// The server took the request and gave no answer.
    static let upstreamLost = AegisError(
        .failed, "upstream-lost", "the server closed the connection before it answered")

    /// What the server says is no valid answer.
    static func malformed(_ what: String) -> AegisError {
        .failed("upstream-malformed", "the server gave no valid answer: \(what)")
    }

    /// The answer is in a coding in which nothing can be found.
    static func encoded(_ coding: String) -> AegisError {
        .failed(
            "response-encoded", "the server encoded its answer ('\(plain(coding))') although it was asked not to",
            hint: "secrets cannot be masked in it; use this host without brokered secrets")
    }
}

extension EncodedMaskStream {
    /// Whether somebody waits for each piece of a body of this type.
    static func isLive(_ type: String?) -> Bool {
        let type = type?.lowercased() ?? ""
        return ["text/event-stream", "application/x-ndjson", "application/jsonl", "application/grpc"].contains {
            type.hasPrefix($0)
        }
    }
}
