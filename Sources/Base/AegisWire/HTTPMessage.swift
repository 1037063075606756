/// A request method; case matters.
package struct HTTPMethod: RawRepresentable, Sendable, Hashable, CustomStringConvertible {
    /// The token as it stands in the request line.
    package let rawValue: String
    /// Any method.
    package init(rawValue: String) { self.rawValue = rawValue }

    package static let get = HTTPMethod(rawValue: "GET")
    package static let head = HTTPMethod(rawValue: "HEAD")
    package static let post = HTTPMethod(rawValue: "POST")
    package static let put = HTTPMethod(rawValue: "PUT")
    package static let delete = HTTPMethod(rawValue: "DELETE")
    package static let patch = HTTPMethod(rawValue: "PATCH")
    package static let options = HTTPMethod(rawValue: "OPTIONS")
    package static let connect = HTTPMethod(rawValue: "CONNECT")
    package var description: String { rawValue }

    /// Whether the token can be sent.
    var isValid: Bool {
        !rawValue.isEmpty && rawValue.utf8.count <= 32 && rawValue.utf8.allSatisfy(ASCII.isToken)
    }
}

/// The two versions that are spoken; a higher minor version counts as 1.1.
package enum HTTPVersion: Sendable, Hashable {
    case http10, http11
}

/// The start line and header section of a request.
package struct HTTPRequestHead: Sendable, Equatable {
    /// What to do.
    package var method: HTTPMethod
    /// What to do it to.
    package var target: HTTPTarget
    /// The version that the sender speaks.
    package var version: HTTPVersion
    /// The fields, in order.
    package var headers: HTTPHeaders

    /// Makes a request head.
    package init(_ method: HTTPMethod, _ target: HTTPTarget, version: HTTPVersion = .http11, headers: HTTPHeaders = [:])
    {
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
    }

    /// Whom the request is for: the authority of an absolute target, else the `Host` field (RFC 9112, 3.3).
    package var authority: String? { target.authority ?? headers.first("host") }

    /// Appends the head with its empty line.
    ///
    /// - Throws: `.misuse` when method or a field cannot be sent.
    func encode(into out: inout [UInt8]) throws(HTTPError) {
        guard method.isValid else { throw HTTPError(.misuse, "'\(method)' is not a method") }
        if let name = headers.invalidField { throw HTTPError(.misuse, "header '\(name)' cannot be sent") }
        out.append(contentsOf: method.rawValue.utf8)
        out.append(ASCII.space)
        out.append(contentsOf: target.raw.utf8)
        out.append(contentsOf: (version == .http11 ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n").utf8)
        headers.encode(into: &out)
        out.append(ASCII.carriageReturn)
        out.append(ASCII.lineFeed)
    }
}

/// The start line and header section of a response.
package struct HTTPResponseHead: Sendable, Equatable {
    /// 100 to 599.
    package var status: Int
    /// The words after the status; they mean nothing.
    package var reason: String
    /// The version that the sender speaks.
    package var version: HTTPVersion
    /// The fields, in order.
    package var headers: HTTPHeaders

    /// Makes a response head; the reason defaults to the usual one.
    package init(_ status: Int, reason: String? = nil, version: HTTPVersion = .http11, headers: HTTPHeaders = [:]) {
        self.status = status
        self.reason = reason ?? Self.reason(status)
        self.version = version
        self.headers = headers
    }

    /// Appends the status line and the fields, without the empty line, so that framing fields can follow.
    ///
    /// - Throws: `.misuse` when a field cannot be sent or the status is none.
    func encodeFields(into out: inout [UInt8]) throws(HTTPError) {
        if let name = headers.invalidField { throw HTTPError(.misuse, "header '\(name)' cannot be sent") }
        guard (100...599).contains(status), reason.utf8.allSatisfy(ASCII.isFieldValue) else {
            throw HTTPError(.misuse, "\(status) \(reason) is not a status line")
        }
        out.append(contentsOf: (version == .http11 ? "HTTP/1.1 " : "HTTP/1.0 ").utf8)
        ASCII.append(decimal: status, to: &out)
        out.append(ASCII.space)
        out.append(contentsOf: reason.utf8)
        out.append(ASCII.carriageReturn)
        out.append(ASCII.lineFeed)
        headers.encode(into: &out)
    }

    /// The usual words for a status.
    package static func reason(_ status: Int) -> String {
        switch status {
        case 100: "Continue"
        case 101: "Switching Protocols"
        case 200: "OK"
        case 201: "Created"
        case 202: "Accepted"
        case 204: "No Content"
        case 206: "Partial Content"
        case 301: "Moved Permanently"
        case 302: "Found"
        case 304: "Not Modified"
        case 307: "Temporary Redirect"
        case 308: "Permanent Redirect"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 406: "Not Acceptable"
        case 408: "Request Timeout"
        case 409: "Conflict"
        case 411: "Length Required"
        case 413: "Content Too Large"
        case 414: "URI Too Long"
        case 415: "Unsupported Media Type"
        case 416: "Range Not Satisfiable"
        case 417: "Expectation Failed"
        case 421: "Misdirected Request"
        case 422: "Unprocessable Content"
        case 426: "Upgrade Required"
        case 429: "Too Many Requests"
        case 431: "Request Header Fields Too Large"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 502: "Bad Gateway"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        case 505: "HTTP Version Not Supported"
        default: "Status"
        }
    }
}
