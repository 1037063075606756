import CLinux

/// Runs the program that talks to registries, confined: it sees the system's programs and settings read-only, one
/// directory of the store, and the network; it owns nothing else and can make no process of another user.
///
/// Arguments: the program's absolute path, then its arguments. Descriptors: 3 report, 4 the directory (found at
/// `directory` inside), 5 credentials if there are any (`credentials`), 6 an image of this machine (`source`).
enum FetchRole {
    /// Where the store's directory is inside.
    static let directory = "/tmp/pull"
    /// Where an image in a file or folder of this machine is inside.
    static let source = "/tmp/source"
    /// Certificates of more authorities, in the directory.
    static let authorities = "authorities"
    /// Where the registry credentials are inside.
    static let credentials = "/proc/self/fd/5"

    private static let readable = [
        "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/run/systemd/resolve", "/run/resolvconf",
        "/run/NetworkManager", "/var/lib/ca-certificates", "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random",
    ]
    private static let mostCredentials = 1 << 20

    /// Confines this process and becomes the program; returns only by throwing.
    static func run(_ arguments: [String]) throws(HelperFailure) {
        guard let program = arguments.first, program.hasPrefix("/") else {
            throw HelperFailure("pull-failed", "no program to fetch with")
        }
        let parent = al_confine_parent()
        let hasCredentials = arguments.contains(credentials)
        let hasSource = arguments.contains { $0.contains(":\(source)") }
        let keep: [Int32] = [0, 1, 2, 3, 4] + (hasCredentials ? [5] : []) + (hasSource ? [6] : [])
        try checked(unsafe al_confine_close_others(keep, keep.count), "closing descriptors")
        try checked(al_confine_close_on_exec(3), "closing descriptors")
        let namespace = try Confinement.userNamespace()
        let tree = Handle(try Confinement.mapped(4, in: namespace.raw, readOnly: false))
        al_tree_close(4)
        if hasCredentials {
            try checked(
                al_confine_private_copy(5, Confinement.firstID, mostCredentials, 5), "reading the registry credentials")
        }
        var origin: Int32 = -1
        if hasSource {
            origin = al_confine_mapped_tree(6, namespace.raw, 1)
            // A file system without id mapping still serves what everybody may read.
            if origin < 0 { origin = try checked(al_confine_mapped_tree(6, -1, 1), "opening the image") }
            al_tree_close(6)
        }
        try checked(al_confine_enter(namespace.raw, 0), "entering the user namespace")
        try checked(unsafe al_confine_cover("/tmp"), "making a place")
        try checked(unsafe al_confine_mount(tree.raw, directory), "mounting the directory")
        if origin >= 0 {
            try checked(unsafe al_confine_mount(origin, source), "mounting the image")
            al_tree_close(origin)
        }
        try checked(unsafe al_confine_working_directory(directory), "entering the directory")
        try guardFiles(tree.raw, hasSource ? readable + [source] : readable)
        try Confinement.set(
            Confinement.Limits(memory: 16 << 30, processor: 3600, fileSize: 64 << 30, files: 1024), processes: nil)
        // Reading another user's archive takes the right to; it counts on mapped mounts only.
        try checked(al_confine_keep_capabilities(hasSource ? 1 << 1 | 1 << 2 : 0), "giving up capabilities")
        try checked(al_confine_seal(parent), "sealing the helper")
        try SeccompFilter.load(.fetches)
        try become(program, arguments)
    }

    private static func guardFiles(_ tree: Int32, _ paths: [String]) throws(HelperFailure) {
        var texts = paths.map { cString($0.utf8) }
        let result = unsafe withPointers(&texts) { pointers in
            unsafe al_confine_landlock([tree], 1, pointers.map { unsafe UnsafePointer($0) }, paths.count)
        }
        try Confinement.landlock(result)
    }

    private static func become(_ program: String, _ arguments: [String]) throws(HelperFailure) {
        let environment = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=\(directory)",
            "TMPDIR=\(directory)",
            "XDG_RUNTIME_DIR=\(directory)", "LC_ALL=C",
            // The places where the program looks by itself, and ours; the bundle of the system counts beside them.
            "SSL_CERT_DIR=/etc/ssl/certs:/etc/pki/tls/certs:\(directory)/\(authorities)",
        ]
        var words = arguments.map { cString($0.utf8) }
        var variables = (environment + proxies()).map { cString($0.utf8) }
        let result = unsafe withPointers(&words) { argv in
            unsafe withPointers(&variables) { envp in
                unsafe al_confine_execute(cString(program.utf8), argv + [nil], envp + [nil])
            }
        }
        throw HelperFailure("pull-failed", "'\(program)' cannot be started (error \(-result))")
    }

    /// The proxy settings of the daemon's environment.
    private static func proxies() -> [String] {
        ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].compactMap { name in
            unsafe al_confine_environment(cString(name.utf8)).map { unsafe "\(name)=\(String(cString: $0))" }
        }
    }

    /// Pointers to C strings that live during `body`.
    private static func withPointers<T>(
        _ strings: inout [[CChar]], _ body: ([UnsafeMutablePointer<CChar>?]) -> T
    ) -> T {
        let copies: [UnsafeMutablePointer<CChar>?] = unsafe strings.map { text in
            let memory = UnsafeMutablePointer<CChar>.allocate(capacity: text.count)
            unsafe memory.initialize(from: text, count: text.count)
            return unsafe memory
        }
        // SAFETY: each copy was allocated above and is given back once.
        defer { unsafe copies.forEach { unsafe $0?.deallocate() } }
        return unsafe body(copies)
    }
}
