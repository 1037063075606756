internal import AegisClient
package import AegisCore
package import AegisIO
internal import AegisJSON
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
    /// Where images without a registry in their name are.
    static let conventional = "docker.io"

    /// The credentials for an image.
    ///
    /// A file that was named, by `authfile` or `REGISTRY_AUTH_FILE`, is the only one; else the first that has some counts.
    ///
    /// - Parameters:
    ///   - image: as the caller wrote it; nil is `base`.
    ///   - authfile: the file that the caller named.
    ///   - caller: whose files are looked at.
    ///   - loop: where helper programs are waited for.
    ///   - patience: how long one of them may take.
    /// - Returns: nil when the image is of no registry, or no file has any for it.
    /// - Throws: `auth-file-unreadable` for a file that was named, `credential-helper-failed`.
    package static func find(
        image: String?, authfile: String?, _ caller: Caller, on loop: EventLoop, patience: Duration = .seconds(30)
    ) async throws(AegisError) -> RegistryCredentials? {
        guard let image, let name = repository(image) else { return nil }
        func helper(_ name: String, _ origin: String) -> CredentialHelper {
            CredentialHelper(name: name, origin: origin, caller: caller, loop: loop, patience: patience)
        }
        if let named = authfile ?? caller.variable("REGISTRY_AUTH_FILE").flatMap({ $0.isEmpty ? nil : $0 }) {
            return try await pick(name, try read(caller.absolute(named)), helper)
        }
        for path in places(caller) {
            guard let file = try? read(path), let found = try await pick(name, file, helper) else { continue }
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

    /// What a file has of credentials.
    private struct File {
        var path: String
        var auths: [(key: String, value: JSONValue)]
        /// Programs that keep those of some registries.
        var helpers: [(key: String, name: String)]
        /// The program that keeps all others.
        var store: String?

        /// Whether somebody has logged in to the registry, wherever the credentials are kept.
        func knows(_ registry: String) -> Bool { auths.contains { $0.key == registry || host($0.key) == registry } }
    }

    private static func read(_ path: String) throws(AegisError) -> File {
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
        var file = File(path: path, auths: [], helpers: [], store: json["credsStore"]?.text)
        if case .object(let auths)? = json["auths"] { file.auths = auths.map { ($0.name, $0.value) } }
        if case .object(let helpers)? = json["credHelpers"] {
            file.helpers = helpers.compactMap { helper in helper.value.text.map { (helper.name, $0) } }
        }
        return file
    }

    /// What a file has for a repository: of the program that keeps its registry's, of the most exact entry (its own, those
    /// of the paths above it, the registry's), of the program that keeps all.
    private static func pick(
        _ name: String, _ file: File, _ helper: (_ name: String, _ origin: String) -> CredentialHelper
    ) async throws(AegisError) -> RegistryCredentials? {
        let registry = name.prefix { $0 != "/" }.description
        if let kept = file.helpers.first(where: { $0.key == registry || host($0.key) == registry }) {
            let helper = helper(kept.name, "credHelpers of '\(file.path)'")
            if let found = try await helper.credentials(for: registry) { return found }
        }
        if let found = entry(name, file.auths) { return found }
        guard let store = file.store, !store.isEmpty else { return nil }
        let helper = helper(store, "credsStore of '\(file.path)'")
        // Nobody has logged in there, and the program is not on this machine: that is no reason to stop.
        guard helper.path != nil || file.knows(registry) else { return nil }
        return try await helper.credentials(for: registry)
    }

    private static func entry(_ name: String, _ entries: [(key: String, value: JSONValue)]) -> RegistryCredentials? {
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
