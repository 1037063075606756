package import AegisCore

/// An error whose answer has a status or fields of its own, beside the usual body.
package struct HTTPRefusal: Error, Sendable {
    /// 400 to 599.
    package var status: Int
    /// Such as `Allow` or `WWW-Authenticate`.
    package var headers: HTTPHeaders
    /// What stands in the body.
    package var error: AegisError

    /// Makes a refusal.
    package init(_ status: Int, headers: HTTPHeaders, _ error: AegisError) {
        self.status = status
        self.headers = headers
        self.error = error
    }
}
