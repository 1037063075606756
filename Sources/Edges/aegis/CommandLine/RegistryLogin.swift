internal import AegisClient
package import AegisCore
package import AegisSandboxTypes
internal import LinuxSys

/// Finds the caller's own credentials for the registry of an image, in the files that `skopeo login` and `docker login` write.
///
/// They are read here, with the caller's rights: the daemon never opens a file for them, and gets those of one registry only.
package enum RegistryLogin {
    /// The option that names a file.
    static let option = Option(
        "authfile", .value("FILE"), "your credentials for the image's registry (default: see docs/images.md)",
        section: "Sandbox", completion: .files)
    private static let limit = 1 << 20
    private static let conventional = "docker.io"

    /// The credentials for an image.
    ///
    /// A file that was named, by `authfile` or `REGISTRY_AUTH_FILE`, is the only one; else the first that has some counts.
    ///
    /// - Parameters:
    ///   - image: as the caller wrote it; nil is `base`.
    ///   - authfile: the file that the caller named.
    ///   - caller: whose files are looked at.
    /// - Returns: nil when the image is of no registry, or no file has any for it.
    /// - Throws: `auth-file-unreadable` for a file that was named.
    package static func find(
        image: String?, authfile: String?, _ caller: Caller
    ) throws(AegisError) -> RegistryCredentials? {
        guard let image, let name = repository(image) else { return nil }
        if let named = authfile ?? caller.variable("REGISTRY_AUTH_FILE").flatMap({ $0.isEmpty ? nil : $0 }) {
            return pick(name, try entries(caller.absolute(named)))
        }
        for path in places(caller) {
            guard let entries = try? entries(path), let found = pick(name, entries) else { continue }
            return found
        }
        return nil
    }

    private static func places(_ caller: Caller) -> [String] {
        func at(_ variable: String, _ path: String) -> String? {
            caller.variable(variable).flatMap { $0.hasPrefix("/") ? "\($0)/\(path)" : nil }
        }
        return [
            at("XDG_RUNTIME_DIR", "containers/auth.json"),
            at("XDG_CONFIG_HOME", "containers/auth.json") ?? at("HOME", ".config/containers/auth.json"),
            at("DOCKER_CONFIG", "config.json") ?? at("HOME", ".docker/config.json"),
        ].compactMap(\.self)
    }

    /// The `auths` of a file.
    private static func entries(_ path: String) throws(AegisError) -> [(key: String, JSONValue)] {
        func unreadable(_ why: String) -> AegisError {
            AegisError(
                .usage, "auth-file-unreadable", "the credentials file '\(path)' cannot be read: \(why)",
                hint: "check --authfile or REGISTRY_AUTH_FILE")
        }
        let bytes: [UInt8]
        do throws(Errno) { bytes = try Files.read(path, limit: limit) } catch { throw unreadable("\(error)") }
        let json: JSONValue
        do throws(JSONError) { json = try JSONValue(parsing: bytes) } catch { throw unreadable("it is not JSON") }
        guard case .object = json else { throw unreadable("it holds no object") }
        guard case .object(let auths)? = json["auths"] else { return [] }
        return auths.map { ($0.name, $0.value) }
    }

    /// The most exact entry for a repository: its own, those of the paths above it, the registry's.
    private static func pick(_ name: String, _ entries: [(key: String, JSONValue)]) -> RegistryCredentials? {
        let parts = name.split(separator: "/")
        let registry = String(parts[0])
        for count in stride(from: parts.count, through: 1, by: -1) {
            let wanted = parts.prefix(count).joined(separator: "/")
            for (key, value) in entries where key == wanted || (count == 1 && host(key) == registry) {
                let (auth, token) = (value["auth"]?.text, value["identitytoken"]?.text)
                let given = (auth.flatMap { $0.isEmpty ? nil : $0 }, token.flatMap { $0.isEmpty ? nil : $0 })
                guard given.0 != nil || given.1 != nil else { continue }
                return RegistryCredentials(registry: registry, auth: given.0, identityToken: given.1)
            }
        }
        return nil
    }

    /// The registry of a key in the form of old files, `https://HOST/v1/`.
    private static func host(_ key: String) -> String {
        var rest = key[...]
        for scheme in ["https://", "http://"] where rest.hasPrefix(scheme) { rest = rest.dropFirst(scheme.count) }
        if rest.count == key.count { return key }
        let host = String(rest.prefix { $0 != "/" })
        return host == "index.docker.io" ? conventional : host
    }

    /// `REGISTRY/PATH` of an image's name; nil for `base` and images of this machine.
    private static func repository(_ image: String) -> String? {
        guard image != "base" else { return nil }
        for transport in ["oci:", "oci-archive:", "docker-archive:"] where image.hasPrefix(transport) { return nil }
        var rest = image.prefix { $0 != "@" }
        let last = rest.lastIndex(of: "/") ?? rest.startIndex
        if let colon = rest[last...].lastIndex(of: ":") { rest = rest[..<colon] }
        let first = rest.prefix { $0 != "/" }
        let isHost = first.count < rest.count && (first.contains(".") || first.contains(":") || first == "localhost")
        return isHost ? String(rest) : "\(conventional)/" + (rest.contains("/") ? rest : "library/\(rest)")
    }
}
