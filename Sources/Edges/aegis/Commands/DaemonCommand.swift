internal import AegisCore
internal import AegisJSON
internal import CLinux
internal import LinuxSys

/// `aegis daemon`
enum DaemonCommand {
    static let command = Command(
        "daemon", "run the daemon in the foreground, for systemd",
        details: "The same as 'aegisd': everything after the options goes to it.",
        options: [
            Option("config", .value("FILE"), "the configuration file", completion: .files),
            Option(
                "ports", .value("auto"), "take free ports instead of the configured ones", completion: .words(["auto"])),
            UpCommand.warm,
        ],
        examples: [Example("in a unit file", "aegis daemon --config /etc/aegis/aegis-config.yaml")]
    ) { invocation, _ in
        let program = try program()
        let words = [program] + arguments(invocation)
        let failure = unsafe withCStrings(words) { unsafe al_replace_program(program, $0) }
        throw AegisError.failed("daemon-not-started", "\(program) cannot be started: \(failure)")
    }

    /// The daemon's binary beside this one.
    static func program() throws(AegisError) -> String {
        let own = (try? Files.readLink("/proc/self/exe")) ?? ""
        let path = Files.split(own).directory + "/aegisd"
        guard Files.exists(path) else {
            throw .failed(
                "daemon-not-found", "there is no aegisd at \(path)", hint: "aegis and aegisd belong into one folder")
        }
        return path
    }

    /// The options that are handed on.
    static func arguments(_ invocation: Invocation) -> [String] {
        let warm = invocation.all("warm").joined(separator: ",")
        return ["config", "ports"].flatMap { name in invocation[name].map { ["--\(name)", $0] } ?? [] }
            + (warm.isEmpty ? [] : ["--warm", warm])
    }

    /// Calls `body` with a NULL-ended array of C strings; the error of the call that returned.
    private static func withCStrings(
        _ words: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Int32
    ) -> Errno {
        let copies = unsafe words.map { word in
            let bytes = word.utf8CString
            let copy = UnsafeMutableBufferPointer<CChar>.allocate(capacity: bytes.count)
            _ = unsafe copy.initialize(from: bytes)
            return unsafe copy
        }
        defer { unsafe copies.forEach { unsafe $0.deallocate() } }
        var pointers = unsafe copies.map(\.baseAddress)
        unsafe pointers.append(nil)
        _ = unsafe body(pointers)
        return Errno.current
    }
}
