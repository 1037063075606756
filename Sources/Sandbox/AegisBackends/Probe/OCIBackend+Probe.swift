import AegisChannel
import AegisCore
import AegisIO
package import AegisSandboxTypes
import LinuxSys
import Synchronization

extension OCIBackend {
    /// A runtime older than this gets a warning: 18 months of 30.44 days, in milliseconds.
    private static var oldAge: Int64 { 18 * 2_630_016_000 }

    package func probe(deadline: Duration) async -> BackendReport {
        var report = BackendReport(backend: name, available: false, checkedAt: .now())
        report.grade = runtime.grade
        do {
            let facts = try await facts()
            let key = probeKey(facts)
            if let known = cache?.report(name, key: key) {
                quirks.withLock { $0 = known.quirks }
                return known.report
            }
            let began = loop.clock.now
            var platforms: [String?] = facts.platforms.map { $0 }
            if platforms.isEmpty { platforms = [nil] }
            var failure: (any Error)?
            for platform in platforms {
                let left = deadline - began.duration(to: loop.clock.now)
                guard left > .zero else { break }
                do {
                    let (latency, quirks) = try await canary(platform: platform, deadline: left)
                    self.quirks.withLock { $0 = quirks }
                    report.available = true
                    report.latencyMs = latency
                    report.detail = detail(facts, platform: platform, quirks: quirks)
                    cache?.keep(report, quirks: quirks, key: key)
                    return report
                } catch {
                    failure = error
                    if error is CancellationError { break }
                }
            }
            throw failure ?? IOError.timeout
        } catch let error as AegisError {
            report.isLate = error.kind == .timeout
            report.reason = error.message
            report.hint = error.hint ?? Self.hint(for: error.message)
        } catch let error as IOError where error.kind == .timeout {
            report.isLate = true
            report.reason = "its canary did not answer within \(deadline)"
        } catch {
            report.reason = "its canary failed: \(error)"
        }
        return report
    }

    /// What a report stands on; a change of any of it makes the canary run again.
    private func probeKey(_ facts: RuntimeFacts) -> String {
        func mark(_ path: String) -> String {
            (try? Files.status(path)).map { "\(path):\($0.modified):\($0.size)" } ?? path
        }
        return [
            mark(facts.path), mark(harnessPath), mark(shim.program), HostIdentity.kernel(), HostIdentity.bootID(),
            HostIdentity.confinement(), cgroups.layout.description, "\(idPool.reservedBase)", scratch,
        ].joined(separator: "|")
    }

    /// What people can do about failures that are known.
    static func hint(for reason: String) -> String? {
        if reason.contains("hybrid mode") {
            return "crun does not know the hybrid cgroup layout: boot with systemd.unified_cgroup_hierarchy=1"
        }
        if reason.contains("max_user_namespaces") || reason.contains("making the sandbox's namespaces") {
            return "allow user namespaces: sysctl user.max_user_namespaces=15000"
        }
        // Version 2 has no files for devices: runtimes load a program into the kernel, for which it asks for more.
        if reason.contains("BPF_CGROUP_DEVICE") {
            return "the daemon needs CAP_NET_ADMIN where cgroups are version 2, as deploy/aegis-sandbox.service has it"
        }
        if reason.contains("RLIM_MEMLOCK") {
            return "the daemon needs LimitMEMLOCK=infinity, as deploy/aegis-sandbox.service has it"
        }
        return nil
    }

    /// Boots a sandbox of nothing but the harness, runs the harness in it once more and looks at what it prints.
    ///
    /// - Returns: milliseconds from the start of the boot to the answer, and what the harness found odd inside.
    private func canary(platform: String?, deadline: Duration) async throws -> (latency: Double, quirks: UInt8) {
        let id = "probe-" + (try Random.hex(bytes: 6))
        let folder = "\(scratch)/\(id)"
        defer { try? Files.removeTree(folder) }
        try Files.makeDirectories(folder + "/empty", mode: 0o755)
        let spec = BootSpec(
            id: id, hostname: "probe", layers: [folder + "/empty"], writable: folder + "/layer",
            limits: Limits(memory: ByteSize(256 << 20), pids: 256), deadline: deadline, isEphemeral: true)
        let began = loop.clock.now
        let sandbox = try await boot(spec, platform: platform, quirks: 0) { _ in }
        let result: Result<(Double, UInt8), any Error>
        do {
            let (latency, quirks) = try await withDeadline(
                deadline - began.duration(to: loop.clock.now), clock: loop.clock
            ) {
                [self] in
                let quirks = try await ask(sandbox)
                return (began.duration(to: loop.clock.now), quirks)
            }
            let milliseconds =
                Double(latency.components.seconds) * 1000 + Double(latency.components.attoseconds) / 1e15
            result = .success((milliseconds, quirks))
        } catch {
            result = .failure(error)
        }
        await sandbox.kill()
        await sandbox.release()
        return try result.get()
    }

    /// Runs `/.aegis/harness --version` inside and waits for its end.
    ///
    /// - Returns: the quirks that the harness said hello with.
    private func ask(_ sandbox: any Sandbox) async throws -> UInt8 {
        let (_, stream) = try await sandbox.channel()
        let start = StartProcess(
            kind: .exec, arguments: [Array(OCIConfig.harnessPath.utf8), Array("--version".utf8)], environment: [],
            directory: [UInt8(ascii: "/")])
        try await stream.write(frame(.start, stream: 2, start.encoded()))
        var buffer = ByteBuffer()
        var scanner = FrameScanner([.hello, .failed, .exited, .stdout])
        var quirks: UInt8 = 0
        var printed: [UInt8] = []
        var outcome: Result<Void, any Error>?
        while outcome == nil {
            guard try await stream.read(into: &buffer, atMost: 65_536) > 0 else { break }
            try scanner.scan(buffer.readable) { header, payload in
                switch header.type {
                case .hello: quirks = (try? Hello(decoding: payload))?.quirks ?? 0
                case .stdout: printed += payload.dropFirst(8)
                case .failed:
                    let text = (try? ProcessFailed(decoding: payload)).map { String(decoding: $0.text, as: UTF8.self) }
                    outcome = .failure(CanaryFailure(text: text ?? "it could not run a program"))
                case .exited:
                    let code = (try? ProcessExited(decoding: payload))?.code ?? 255
                    let ok = code == 0 && printed.starts(with: "aegis-harness".utf8)
                    outcome =
                        ok ? .success(()) : .failure(CanaryFailure(text: "a program in it ended with code \(code)"))
                default: break
                }
            }
            buffer.removeAll()
        }
        guard let outcome else { throw CanaryFailure(text: "it ended while a program ran in it") }
        try outcome.get()
        return quirks
    }

    private func detail(_ facts: RuntimeFacts, platform: String?, quirks: UInt8) -> GradeDetail {
        var warnings: [String] = []
        let age = Timestamp.now().milliseconds - facts.builtAt
        if age > Self.oldAge {
            warnings.append(
                "\(name) \(facts.version) is \(age / 2_630_016_000) months old; newer versions close known holes")
        }
        if quirks & Hello.refusesNoAutomount != 0 {
            warnings.append(
                Files.exists(shim.program)
                    ? "its kernel refuses AT_NO_AUTOMOUNT: programs of glibc images get a library that leaves it out"
                    : "its kernel refuses AT_NO_AUTOMOUNT: 'ls' and 'stat' of coreutils 9 fail inside, for \(shim.program) is missing"
            )
        }
        if runtime.kind == .userKernel {
            if platform == "ptrace" { warnings.append("platform ptrace: slow system calls") }
            warnings.append("the host's network stack serves the sandbox's loopback")
            if !facts.hasSeccompFlag { warnings.append("this version cannot filter system calls inside") }
        }
        return GradeDetail(
            runtime: name, version: facts.version, platform: platform, networkStack: "host",
            kernel: runtime.kind == .userKernel ? "gvisor" : HostIdentity.kernel(), userNamespace: true,
            cgroup: cgroups.layout.description,
            seccomp: runtime.kind == .userKernel && !facts.hasSeccompFlag
                ? "the runtime's own" : "default-deny, \(SeccompProfile.allowed(on: .current).count) calls",
            warnings: warnings)
    }

    /// Why a canary that was up did not do what it should.
    private struct CanaryFailure: Error, CustomStringConvertible {
        var text: String
        var description: String { text }
    }
}
