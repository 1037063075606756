package import AegisCore
package import AegisSandboxTypes
import Synchronization

/// The backend that was chosen for an instance, and why.
package struct BackendChoice: Sendable {
    package var backend: any Backend
    package var grade: Grade
    /// With the reason why each stronger one was not chosen.
    package var detail: GradeDetail
}

/// All backends of this build: probes them and chooses among those that proved themselves.
package final class BackendSet: Sendable {
    /// Isolation technologies whose names users may know, and the grade that they would have.
    package static let otherReleases: [(name: String, grade: Grade)] = [
        ("qemu", .hardwareVM), ("firecracker", .hardwareVM), ("docker", .namespaces),
    ]
    /// How long one probe may take.
    package static let probeDeadline = Duration.seconds(10)

    private let backends: [any Backend]
    private let reports: Mutex<[String: Settlement<BackendReport?>]>

    /// A set, strongest first; among backends of one grade the earlier is preferred.
    package init(_ backends: [any Backend]) {
        self.backends = backends
        reports = Mutex([:])
    }

    /// The names that `--isolation` takes, `auto` first, strongest next.
    package var names: [String] { ["auto"] + backends.map(\.name) }

    /// The backend of a name, for adoption; nil when this build has none of that name.
    package func backend(_ name: String) -> (any Backend)? { backends.first { $0.name == name } }

    /// Probes every backend that was not probed yet, one after the other so that none slows another's canary down.
    package func probeAll() async { for backend in backends { _ = await report(of: backend) } }

    /// Probes those again that were too slow: a machine that starts has more to do than canaries.
    ///
    /// - Returns: whether one still is.
    package func probeLate() async -> Bool {
        var isLate = false
        for backend in backends {
            let known = reports.withLock { $0[backend.name] }
            guard let known, let report = known.now ?? nil, report.isLate else { continue }
            // What is known holds meanwhile: nobody waits for this.
            let again = await backend.probe(deadline: Self.probeDeadline)
            guard !Task.isCancelled else { return false }
            let settled = Settlement<BackendReport?>()
            settled.settle(again)
            reports.withLock { if $0[backend.name] === known { $0[backend.name] = settled } }
            isLate = isLate || again.isLate
        }
        return isLate
    }

    /// What each backend proved, in the set's order; probes those that nobody has probed yet.
    ///
    /// - Parameter fresh: probe all of them again.
    /// - Returns: a report for each backend.
    package func allReports(fresh: Bool = false) async -> [BackendReport] {
        if fresh { reports.withLock { $0 = [:] } }
        var all: [BackendReport] = []
        for backend in backends { all.append(await report(of: backend)) }
        return all
    }

    /// What is known now, in the set's order, without probing.
    package var knownReports: [BackendReport] {
        let known = reports.withLock { $0 }
        return backends.compactMap { known[$0.name]?.now ?? nil }
    }

    /// The report of a backend; whoever asks first probes, the others wait. A probe whose task was cancelled proves nothing:
    /// then the next one who asks, or waits, tries again.
    private func report(of backend: any Backend) async -> BackendReport {
        while true {
            let (settlement, isMine) = reports.withLock { reports -> (Settlement<BackendReport?>, Bool) in
                if let known = reports[backend.name] { return (known, false) }
                let fresh = Settlement<BackendReport?>()
                reports[backend.name] = fresh
                return (fresh, true)
            }
            if isMine {
                let report = await backend.probe(deadline: Self.probeDeadline)
                if Task.isCancelled {
                    reports.withLock { if $0[backend.name] === settlement { $0[backend.name] = nil } }
                    settlement.settle(nil)
                } else {
                    settlement.settle(report)
                }
                return report
            }
            if case .some(.some(let report)) = await settlement.value() { return report }
            guard !Task.isCancelled else { break }
        }
        var report = BackendReport(backend: backend.name, available: false, checkedAt: .now())
        report.reason = "the probe was cancelled"
        return report
    }

    /// Chooses the backend for a new instance.
    ///
    /// - Parameters:
    ///   - isolation: `auto` for the strongest one that proved itself, or a backend's name.
    ///   - minimum: the weakest acceptable grade.
    /// - Returns: the backend with its grade and what that stands on.
    /// - Throws: `invalid-argument` for an unknown name, `isolation-unavailable` when the named one (or any) does not work
    ///   here, `isolation-too-weak` when what there is stays below the minimum.
    package func choose(isolation: String = "auto", minimum: Grade? = nil) async throws(AegisError) -> BackendChoice {
        let choice = isolation == "auto" ? try await strongest() : try await named(isolation)
        guard let minimum, choice.grade < minimum else { return choice }
        let reasons = choice.detail.notChosen.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
        throw AegisError(
            .unavailable, "isolation-too-weak",
            "\(isolation == "auto" ? "the strongest isolation here" : "'\(isolation)'") is \(choice.grade.rawValue) "
                + "(\(choice.backend.name)), below the minimum \(minimum.rawValue)",
            hint: reasons.isEmpty ? "see 'aegis doctor'" : reasons.joined(separator: "; "))
    }

    private func strongest() async throws(AegisError) -> BackendChoice {
        var notChosen: [(name: String, grade: Grade?, reason: String)] = Self.otherReleases.map {
            ($0.name, $0.grade, "not in this release")
        }
        for backend in backends {
            let report = await report(of: backend)
            if let choice = choice(backend, report, notChosen) { return choice }
            notChosen.append((backend.name, report.grade, report.reason ?? "it did not work"))
        }
        let reasons = notChosen.filter { entry in backends.contains { $0.name == entry.name } }
            .map { "\($0.name): \($0.reason)" }
        throw AegisError(
            .unavailable, "isolation-unavailable", "no isolation works on this machine",
            hint: reasons.joined(separator: "; "))
    }

    private func named(_ name: String) async throws(AegisError) -> BackendChoice {
        guard let backend = backend(name) else {
            guard Self.otherReleases.contains(where: { $0.name == name }) else {
                let known = names + Self.otherReleases.map(\.name)
                throw .usage(
                    "'\(name)' is not an isolation",
                    hint: nearest(name, in: known).map { "did you mean '\($0)'?" }
                        ?? "isolations: \(names.joined(separator: ", "))")
            }
            throw AegisError(
                .unavailable, "isolation-unavailable", "isolation '\(name)' is not in this release",
                hint: await whatWorks())
        }
        let report = await report(of: backend)
        if let choice = choice(backend, report, []) { return choice }
        var hint = report.hint
        if hint == nil { hint = await whatWorks() }
        throw AegisError(
            .unavailable, "isolation-unavailable",
            "isolation '\(name)' is not available: \(report.reason ?? "its canary failed")", hint: hint)
    }

    private func choice(
        _ backend: any Backend, _ report: BackendReport, _ others: [(name: String, grade: Grade?, reason: String)]
    ) -> BackendChoice? {
        guard report.available, let grade = report.grade, var detail = report.detail else { return nil }
        for other in others {
            if let stronger = other.grade, stronger > grade { detail.notChosen[other.name] = other.reason }
        }
        return BackendChoice(backend: backend, grade: grade, detail: detail)
    }

    private func whatWorks() async -> String {
        let working = await allReports().filter(\.available).map(\.backend)
        return working.isEmpty
            ? "no isolation works here; see 'aegis doctor'" : "available here: \(working.joined(separator: ", "))"
    }
}
