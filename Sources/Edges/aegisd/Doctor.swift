internal import AegisAudit
internal import AegisBackends
internal import AegisCore
internal import AegisIO
internal import AegisNetwork
internal import AegisSandboxTypes
internal import LinuxSys

/// Looks at what works on this machine, and says in a sentence each why the rest does not.
struct Doctor: Sendable {
    let backends: BackendSet
    let cgroups: CgroupManager
    let home: DaemonHome
    let witness: HeadWitness?
    let loop: EventLoop

    func report(fresh: Bool) async -> DoctorReport {
        let reports = await backends.allReports(fresh: fresh)
        let choice = try? await backends.choose()
        return DoctorReport(
            version: Build.version, kernel: kernel, backends: reports, auto: choice?.backend.name,
            checks: await checks(reports))
    }

    private var kernel: String {
        let text = (try? Files.read("/proc/sys/kernel/osrelease", limit: 256)) ?? []
        return String(decoding: text.filter { $0 > 32 }, as: UTF8.self)
    }

    private func checks(_ reports: [BackendReport]) async -> [DoctorCheck] {
        var checks: [DoctorCheck] = []
        checks.append(
            CurrentProcess.effectiveUser == 0
                ? DoctorCheck("privileges", "ok", "the daemon runs as root")
                : DoctorCheck(
                    "privileges", "warning", "the daemon does not run as root",
                    hint: "OCI backends need root in this release"))
        for (tool, package, use) in [
            ("skopeo", "skopeo", "pulling images"), ("mmdebstrap", "mmdebstrap", "building the base image"),
            ("mkfs.btrfs", "btrfs-progs", "limits of the writable layer (--disk)"),
        ] {
            let path = Files.findExecutable(tool, path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            checks.append(
                path.map { DoctorCheck(tool, "ok", $0) }
                    ?? DoctorCheck(
                        tool, "failed", "\(tool) is missing: \(use) will not work", hint: "apt install \(package)"))
        }
        checks += await NetworkTools.findings(node: home.node, on: loop)
        checks.append(SwapSpace.current().finding)
        checks.append(room)
        if let witness { checks.append(Self.finding(witness)) }
        if !reports.contains(where: \.available) {
            checks.append(DoctorCheck("isolation", "failed", "no backend works here", hint: "see the reasons above"))
        }
        return checks
    }

    /// Whether the server that keeps heads of the ledger does.
    private static func finding(_ witness: HeadWitness) -> DoctorCheck {
        let report = witness.report
        let counts =
            "\(report.taken) heads taken, \(report.failures) attempts failed, \(report.waiting) waiting, "
            + "\(report.dropped) dropped"
        guard let obstacle = report.obstacle else { return DoctorCheck("witness", "ok", "\(witness.name): \(counts)") }
        return DoctorCheck(
            "witness", "warning", "\(witness.name) takes no heads of the ledger: \(obstacle) (\(counts))",
            hint: "it is asked again, a minute apart at most; check audit.witness, witness_key and tls.ca_file")
    }

    private var room: DoctorCheck {
        guard let folder = try? FileDescriptor.open(home.path, [.readOnly, .directory]),
            let space = try? folder.freeSpace()
        else { return DoctorCheck("disk", "warning", "free space is not known") }
        let free = ByteSize((space.freeBytes >> 20) << 20)
        return space.freeBytes > 2 << 30
            ? DoctorCheck("disk", "ok", "\(free) free in \(home.path)")
            : DoctorCheck(
                "disk", "warning", "only \(free) free in \(home.path)",
                hint: "free some room: image layers and writable layers live there")
    }
}
