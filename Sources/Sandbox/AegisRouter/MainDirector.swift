import AegisCore
import AegisIO
import AegisProxy
import AegisSandboxTypes
import AegisWire

/// Finds the port that a request to the main router is for (decision D27).
///
/// One address serves all sandboxes, so a page of one must never get to another: what a browser asks for in a form that
/// shares an origin is redirected to the host form, where each instance has an origin of its own; a host that is none
/// of ours is refused, so that nobody's page can be made to look like ours (DNS rebinding).
struct MainDirector: ProxyDirector {
    let router: Router
    /// The port that the router listens on.
    let port: UInt16

    private static var domain: String { ".aegis.localhost" }

    /// Where a request points.
    private enum Place {
        /// To an instance by its own host.
        case host(label: String)
        /// To this machine: header, path or the only instance decide.
        case local
        case foreign
    }

    func direct(_ request: ProxyRequest) async -> ProxyDecision {
        var edits = ProxyEdits()
        edits.guardsOrigin = true
        let host = Host(request.host ?? "")
        let header = request.header("x-aegis-instance")
        guard !request.disagrees(on: "x-aegis-instance") else { return .answer(ambiguous(request)) }
        switch host.place {
        case .foreign: return .answer(misdirected(request))
        case .host(let label):
            guard let found = router.port(label: label) else { return .answer(notFound(label, request)) }
            if let header, router.port(label: header)?.exposure.instance != found.exposure.instance {
                return .answer(misdirected(request))
            }
            return await found.direct(request, edits)
        case .local: return await directLocal(request, header, host, edits)
        }
    }

    private func directLocal(
        _ request: ProxyRequest, _ header: String?, _ host: Host, _ given: ProxyEdits
    ) async -> ProxyDecision {
        var edits = given
        let path = request.path
        let found: ExposedPort
        var label: String
        if let header {
            guard let port = router.port(label: header) else { return .answer(notFound(header, request)) }
            (found, label) = (port, header)
        } else if let segment = Self.firstSegment(path), let (port, name) = served(segment) {
            (found, label) = (port, name)
            edits.pathPrefix = 1 + segment.utf8.count
            edits.forwardedPrefix = Array("/\(segment)".utf8)
            edits.origin = "http://\(request.host ?? "")"
        } else if let port = router.onlyPort {
            (found, label) = (port, port.exposure.name ?? port.exposure.instance)
        } else {
            return .answer(notFound(Self.firstSegment(path) ?? "", request))
        }
        guard request.isFromBrowser else { return await found.direct(request, edits) }
        label = label.lowercased()
        var rest = String(decoding: Array(path.utf8).dropFirst(edits.pathPrefix), as: UTF8.self)
        if !rest.hasPrefix("/") { rest = "/\(rest)" }
        let location = "http://\(label)\(Self.domain):\(host.port ?? port)\(rest)"
        return .answer(
            ProxyAnswer(307, headers: ["Location": location, "Cache-Control": "no-store"], body: []))
    }

    /// Whose the first part of a path is, and what that instance's host is called.
    private func served(_ segment: String) -> (port: ExposedPort, label: String)? {
        if let port = router.port(label: segment) { return (port, segment) }
        return router.port(path: segment).map { ($0, $0.exposure.name ?? $0.exposure.instance) }
    }

    /// `NAME` of `/NAME/rest`.
    private static func firstSegment(_ path: String) -> String? {
        guard path.hasPrefix("/") else { return nil }
        let segment = path.dropFirst().prefix { $0 != "/" && $0 != "?" }
        return segment.isEmpty ? nil : String(segment)
    }

    // MARK: Hosts

    private struct Host {
        let place: Place
        let port: UInt16?

        init(_ text: String) {
            var name = text.lowercased()
            var port: UInt16?
            if let colon = name.lastIndex(of: ":"), !name[colon...].contains("]") {
                port = UInt16(name[name.index(after: colon)...])
                name = String(name[..<colon])
            }
            if name.hasSuffix(".") { name.removeLast() }
            self.port = port
            if name == "localhost" || name == "127.0.0.1" || name == "[::1]" {
                place = .local
            } else if name.hasSuffix(MainDirector.domain), name.count > MainDirector.domain.count {
                place = .host(label: String(name.dropLast(MainDirector.domain.count)))
            } else {
                place = .foreign
            }
        }
    }

    // MARK: Answers

    private func misdirected(_ request: ProxyRequest) -> ProxyAnswer {
        let error = AegisError(
            .usage, "unknown-host", "'\(request.host ?? "")' is no host of this router",
            hint: "use NAME\(Self.domain):\(port), or localhost:\(port)/NAME/")
        return ProxyAnswer(error, status: 421, html: request.prefersHTML)
    }

    private func ambiguous(_ request: ProxyRequest) -> ProxyAnswer {
        let error = AegisError(
            .usage, "ambiguous-instance", "the request names more than one instance",
            hint: "send one X-Aegis-Instance field")
        return ProxyAnswer(error, status: 400, html: request.prefersHTML)
    }

    private func notFound(_ wanted: String, _ request: ProxyRequest) -> ProxyAnswer {
        let labels = router.labels
        let what = wanted.isEmpty ? "the request names no instance" : "nothing is served as '\(wanted)'"
        let hint =
            labels.isEmpty
            ? "expose a port: aegis run --expose PORT ..., or aegis instance expose NAME PORT"
            : "there are: \(labels.joined(separator: ", "))"
        let error = AegisError(.notFound, "not-served", what, hint: hint)
        guard request.prefersHTML else { return ProxyAnswer(error, status: 404, html: false) }
        let links = labels.map { (text: $0, target: "http://\($0)\(Self.domain):\(port)/") }
        let body = HTMLPage.make(
            title: "404 Not Found", paragraphs: ["\(what).", labels.isEmpty ? hint : "There are:"], links: links)
        return ProxyAnswer(
            404, headers: ["Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"], body: body)
    }
}
