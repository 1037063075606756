internal import AegisCore
internal import LinuxSys

/// What one root holds, as it was when it was looked through: before anybody is asked what may be used of it.
struct SkillScan: Sendable {
    let root: SkillRoot
    private(set) var skills: [Skill] = []
    private(set) var notices: [SkillNotice] = []
    private let limits: SkillLimits

    /// Looks through a root. Blocks on the disk.
    init(_ root: SkillRoot, limits: SkillLimits) {
        self.root = root
        self.limits = limits
        do throws(Errno) {
            if let folder = try SkillFolder.open(root) {
                try load(folder)
            } else if root.source == .configured {
                // Somebody has named it, so somebody expects it.
                broken(root.path, "there is no such folder")
            }
        } catch { broken(root.path, "it cannot be read: \(error)") }
    }

    private mutating func broken(_ path: String, _ message: String) {
        notices.append(SkillNotice(kind: .broken, path: path, message: message))
    }

    private mutating func load(_ folder: borrowing FileDescriptor) throws(Errno) {
        let names = try folder.entries(limit: limits.skills * 4).filter { $0.type == .directory }.map(\.name)
            .filter { !$0.hasPrefix(".") && $0 != "node_modules" }.sorted()
        if names.count > limits.skills { broken(root.path, "only the first \(limits.skills) skills are used") }
        let isOpen = SkillFolder.isOpen(try folder.status())
        var budget = limits.root
        for name in names.prefix(limits.skills) {
            do throws(AegisError) {
                guard var skill = try Self.skill(name, in: folder, root, limits, &budget) else { continue }
                skill.isOpen = skill.isOpen || isOpen
                skills.append(skill)
            } catch { broken("\(root.path)/\(name)", error.message) }
        }
    }

    /// Reads one folder; nil when it is no skill, for want of a SKILL.md.
    private static func skill(
        _ name: String, in root: borrowing FileDescriptor, _ place: SkillRoot, _ limits: SkillLimits,
        _ budget: inout Int
    ) throws(AegisError) -> Skill? {
        let folder = try open(name, in: root, limits)
        guard (try? folder.descriptor.status(of: SkillDocument.file)) != nil else { return nil }
        let (files, isOpen) = try folder.files(budget: &budget)
        guard let own = files.first(where: { $0.path == SkillDocument.file }) else { return nil }
        let bytes = try folder.read(SkillDocument.file, limit: limits.document)
        guard SkillHash.of(bytes) == own.hash else {
            throw AegisError(.conflict, "skill-invalid", "it is being changed just now")
        }
        let document = try SkillDocument(bytes, folder: name)
        return Skill(
            name: name, description: document.description, license: document.license,
            compatibility: document.compatibility, metadata: document.metadata, allowedTools: document.allowedTools,
            source: place.source, root: place, files: files.filter { $0 != own }, hash: SkillHash.of(files),
            isOpen: isOpen, document: own)
    }

    private static func open(
        _ name: String, in root: borrowing FileDescriptor, _ limits: SkillLimits
    ) throws(AegisError) -> SkillFolder {
        do throws(Errno) { return try SkillFolder(name, in: root, limits: limits) } catch {
            throw AegisError(.usage, "skill-invalid", "it cannot be opened: \(error)")
        }
    }
}
