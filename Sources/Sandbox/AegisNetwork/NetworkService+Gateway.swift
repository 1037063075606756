import AegisCore
import AegisIO
import LinuxSys

/// The namespaces of a node, and the rules in them.
extension NetworkService {
    /// Takes a namespace away; fine when it is gone.
    static func remove(_ path: String) throws(Errno) {
        guard Files.exists(path) else { return }
        // Its links and rules go with it.
        do throws(Errno) { try Mounts.unmount(path, detach: true) } catch {
            guard error == .invalidArgument else { throw error }
        }
        try Files.removeFile(path)
    }

    /// The namespace that is mounted on a file, made when it is not there.
    static func openOrMake(_ path: String) throws -> FileDescriptor {
        do throws(Errno) { return try KernelNetwork.openNamespace(path) } catch {
            guard error == .noSuchFile else { throw error }
        }
        try Files.makeDirectories(Files.split(path).directory, mode: 0o711)
        _ = try FileDescriptor.open(path, [.writeOnly, .create], mode: 0o600)
        return try KernelNetwork.makeNamespace(on: path)
    }

    /// Has the kernel take rules in a namespace, all of them or none.
    ///
    /// - Throws: `network-unavailable`.
    nonisolated func load(_ rules: String, in path: String) async throws {
        let spec = ProcessSpec(
            executable: try NetworkTools.nsenter(), arguments: ["nsenter", "--net=\(path)", "nft", "-f", "-"],
            environment: ["PATH=\(NetworkTools.path)"], workingDirectory: "/", newSession: true)
        let output: ProcessOutput
        do {
            output = try await runProcess(
                spec, input: Array(rules.utf8), deadline: .seconds(20), on: gate.loop)
        } catch {
            throw AegisError(
                .unavailable, "network-unavailable", "the rules of the network cannot be loaded: \(error)",
                hint: "install nftables and util-linux")
        }
        guard output.status.shellCode == 0 else {
            let text = String(decoding: output.stderr.prefix(400), as: UTF8.self)
            throw AegisError(
                .unavailable, "network-unavailable", "nft refuses the rules of the network: \(text)",
                hint: "install nftables; the kernel needs nf_tables with nat")
        }
    }
}
