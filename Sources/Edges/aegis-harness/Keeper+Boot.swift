import AegisChannelEmbedded
import CHarness

/// What a keeper knows about the boot that it leads.
struct BootProgress {
    var step = BootStep.plan
    var runtime = 0
    var runtimeEnd: (code: UInt32, signal: UInt8)?
    /// The pipe on which the runtime, later the harness, says what went wrong.
    var errors: Int32 = -1
    /// The last of it.
    var tail: [UInt8] = []
    var errorBytes = 0
    var pidFile: [UInt8] = []
    var milliseconds: UInt32 = 0
    var startedAt: UInt64 = 0
    var namespacesAt: UInt64 = 0
    var mountsAt: UInt64 = 0
    var runtimeAt: UInt64 = 0
    var helloAt: UInt64 = 0
    /// Children that ended before it was known who they are.
    var strays: [(pid: Int, code: UInt32, signal: UInt8)] = []

    static let tailLimit = 2048
    /// What the sandbox may write to the keeper's log in all.
    static let errorLimit = 256 << 10
}

/// Why a step of a boot failed.
struct BootError: Error {
    let code: Int
    let text: [UInt8]
}

extension Keeper {
    /// Makes namespaces and mounts, and starts the runtime. The rest happens in `advance`.
    func startBoot(_ plan: BootPlan) {
        phase = .booting
        let now = ah_now_microseconds()
        boot.startedAt = now
        boot.milliseconds = plan.deadline
        deadline = now + UInt64(plan.deadline) * 1000
        do throws(BootError) {
            try boot(plan)
        } catch {
            fail(boot.step, error.code, error.text)
        }
    }

    private func boot(_ plan: BootPlan) throws(BootError) {
        let owner = try mappedRoot(plan)
        boot.step = .namespaces
        var user: Int32 = -1
        var network: Int32 = -1
        let uids = mapText(plan.uids)
        let gids = mapText(plan.gids)
        holder = try check(
            unsafe ah_make_namespaces(uids, gids, &user, &network), bytes("making the sandbox's namespaces"))
        defer {
            ah_close(user)
            ah_close(network)
        }
        boot.namespacesAt = ah_now_microseconds()
        boot.step = .mounts
        try mount(plan, user, owner)
        boot.step = .accounts
        try checkAccounts(plan)
        boot.mountsAt = ah_now_microseconds()
        boot.step = .runtime
        try startRuntime(plan, user, network, owner)
    }

    @discardableResult
    private func check(_ result: Int, _ what: [UInt8]) throws(BootError) -> Int {
        guard result < 0 else { return result }
        throw BootError(code: -result, text: what + bytes(": ") + errorText(-result))
    }

    /// The host's ids of the sandbox's root.
    private func mappedRoot(_ plan: BootPlan) throws(BootError) -> (uid: UInt32, gid: UInt32) {
        guard let uid = plan.uids.first(where: { $0.inside == 0 && $0.count > 0 })?.outside,
            let gid = plan.gids.first(where: { $0.inside == 0 && $0.count > 0 })?.outside
        else { throw BootError(code: Code.invalid, text: bytes("the plan does not map the sandbox's root")) }
        let texts = plan.runtime + plan.environment + plan.cgroupProcs + [plan.configPath, plan.pidFile]
        guard !haveNUL(texts) else { throw BootError(code: Code.invalid, text: bytes("a text of the plan has a NUL")) }
        return (uid, gid)
    }

    private func mapText(_ ranges: [IDRange]) -> [UInt8] {
        var text: [UInt8] = []
        for range in ranges {
            text += bytes(Int(range.inside)) + [0x20] + bytes(Int(range.outside)) + [0x20]
            text += bytes(Int(range.count)) + [0x0a]
        }
        return terminated(text)
    }

    // MARK: Mounts

    private func mount(_ plan: BootPlan, _ user: Int32, _ owner: (uid: UInt32, gid: UInt32)) throws(BootError) {
        // Descriptors belong to the daemon's mount namespace: only there can their trees be cloned.
        var trees: [Int32] = []
        defer { for tree in trees where tree >= 0 { ah_close(tree) } }
        for (number, step) in plan.mounts.enumerated() {
            trees.append(try clone(step, number, plan, user))
        }
        var last = Keeper.firstSource
        for step in plan.mounts {
            switch step {
            case .idmapped(let source, _, _, _), .bind(let source, _, _): last = max(last, Int32(source) + 1)
            default: break
            }
        }
        for source in Keeper.firstSource..<last where isSource(source, plan) { ah_close(source) }
        oldMounts = Int32(try check(ah_own_mounts(), bytes("making a mount namespace")))
        for (number, step) in plan.mounts.enumerated() { try attach(step, number, trees[number], owner) }
    }

    private func isSource(_ descriptor: Int32, _ plan: BootPlan) -> Bool {
        plan.mounts.contains {
            switch $0 {
            case .idmapped(let source, _, _, _), .bind(let source, _, _): Int32(source) == descriptor
            default: false
            }
        }
    }

    private func name(_ number: Int, _ what: [UInt8]) -> [UInt8] {
        bytes("mount step ") + bytes(number + 1) + bytes(" (") + what + bytes(")")
    }

    /// A detached, restricted copy of the tree that a step mounts; -1 for steps that mount none.
    private func clone(_ step: MountStep, _ number: Int, _ plan: BootPlan, _ user: Int32) throws(BootError) -> Int32 {
        switch step {
        case .idmapped(let source, let map, let target, let readOnly):
            let what = name(number, bytes("idmapped ") + target)
            let tree = try cloneTree(source, recursive: false, what)
            do throws(BootError) {
                try idmap(tree, map, plan, user, what)
                try check(ah_restrict_tree(tree, readOnly ? 1 : 0, 0), what)
            } catch {
                ah_close(tree)
                throw error
            }
            return tree
        case .bind(let source, let target, let readOnly):
            let what = name(number, bytes("bind ") + target)
            let tree = try cloneTree(source, recursive: true, what)
            let result = ah_restrict_tree(tree, readOnly ? 1 : 0, 1)
            if result < 0 { ah_close(tree) }
            try check(result, what)
            return tree
        default: return -1
        }
    }

    private func cloneTree(_ source: UInt16, recursive: Bool, _ what: [UInt8]) throws(BootError) -> Int32 {
        guard Int32(source) >= Keeper.firstSource else {
            throw BootError(code: Code.invalid, text: what + bytes(": a source descriptor below 5"))
        }
        return Int32(try check(ah_clone_tree(Int32(source), recursive ? 1 : 0), what))
    }

    private func idmap(
        _ tree: Int32, _ map: UInt16, _ plan: BootPlan, _ user: Int32, _ what: [UInt8]
    ) throws(BootError) {
        if map == 0 {
            try check(ah_idmap_tree(tree, user), what)
            return
        }
        guard Int(map) < plan.maps.count else {
            throw BootError(code: Code.invalid, text: what + bytes(": no such map in the plan"))
        }
        let uids = mapText(plan.maps[Int(map)].uids)
        let gids = mapText(plan.maps[Int(map)].gids)
        let namespace = Int32(try check(unsafe ah_make_user_namespace(uids, gids), what))
        defer { ah_close(namespace) }
        try check(ah_idmap_tree(tree, namespace), what)
    }

    private func attach(
        _ step: MountStep, _ number: Int, _ tree: Int32, _ owner: (uid: UInt32, gid: UInt32)
    ) throws(BootError) {
        switch step {
        case .idmapped(_, _, let target, _):
            try check(unsafe ah_attach_tree(tree, terminated(target)), name(number, bytes("idmapped ") + target))
        case .bind(_, let target, _):
            try check(unsafe ah_attach_tree(tree, terminated(target)), name(number, bytes("bind ") + target))
        case .overlay(let lower, let upper, let work, let target, let isVolatile):
            let result = unsafe ah_mount_overlay(
                blob(lower), UInt32(lower.count), terminated(upper), terminated(work), terminated(target),
                isVolatile ? 1 : 0)
            try check(result, name(number, bytes("overlay ") + target))
        case .makeDirectory(let path):
            try check(
                unsafe ah_make_directories(terminated(path), owner.uid, owner.gid),
                name(number, bytes("folder ") + path))
        case .makeFile(let path):
            try check(
                unsafe ah_make_empty_file(terminated(path), owner.uid, owner.gid), name(number, bytes("file ") + path))
        case .placeFile(let root, let path, let content, let replace):
            // The layer may be full or odd by now: the sandbox starts with what it has.
            let result = unsafe ah_place_file(
                terminated(root), terminated(path), content, content.count, owner.uid, owner.gid, replace ? 1 : 0)
            guard result < 0 else { return }
            let line = name(number, bytes("file ") + path) + bytes(": ") + errorText(-result) + [0x0a]
            unsafe ah_log(line, line.count)
        case .expect(let root, let path, let isDirectory):
            try check(
                unsafe ah_expect_kind(terminated(root), terminated(path), isDirectory ? 1 : 0),
                name(number, bytes("target ") + path))
        }
    }

    /// A runtime outside of the sandbox opens these files whatever the user is, and would wait on a named pipe for ever.
    private func checkAccounts(_ plan: BootPlan) throws(BootError) {
        guard plan.entry == .byPath else { return }
        for step in plan.mounts {
            guard case .overlay(_, _, _, let target, _) = step else { continue }
            for name in [bytes("/etc/passwd"), bytes("/etc/group")]
            where unsafe ah_is_special_file(terminated(target), terminated(Array(name.dropFirst()))) != 0 {
                throw BootError(code: Code.invalid, text: name + bytes(" of its root file system is no regular file"))
            }
        }
    }

    // MARK: The runtime

    private func startRuntime(
        _ plan: BootPlan, _ user: Int32, _ network: Int32, _ owner: (uid: UInt32, gid: UInt32)
    ) throws(BootError) {
        let base = bytes("/proc/") + bytes(holder) + bytes("/ns/")
        var config = replacing(bytes("@USERNS@"), in: plan.config, by: base + bytes("user"))
        config = replacing(bytes("@NETNS@"), in: config, by: base + bytes("net"))
        let isInside = plan.entry == .inside
        // What the runtime reads inside, it reads as the sandbox's root.
        try check(
            unsafe ah_replace_file(
                terminated(plan.configPath), config, config.count, isInside ? owner.uid : 0, isInside ? owner.gid : 0),
            bytes("writing ") + plan.configPath)
        _ = unsafe ah_remove_file(terminated(plan.pidFile))
        boot.pidFile = plan.pidFile
        var errorWriter: Int32 = -1
        try check(unsafe ah_pipe(&boot.errors, &errorWriter), bytes("a pipe for the runtime"))
        ah_set_nonblocking(boot.errors)
        let arguments = blob(plan.runtime)
        let environment = blob(plan.environment)
        let cgroups = blob(plan.cgroupProcs)
        var pid = 0
        unsafe arguments.withUnsafeBytes { arguments in
            unsafe environment.withUnsafeBytes { environment in
                unsafe cgroups.withUnsafeBytes { cgroups in
                    var runtime = unsafe ah_runtime()
                    unsafe runtime.arguments = arguments.baseAddress
                    unsafe runtime.argument_count = UInt32(plan.runtime.count)
                    unsafe runtime.environment = environment.baseAddress
                    unsafe runtime.environment_count = UInt32(plan.environment.count)
                    unsafe runtime.cgroups = cgroups.baseAddress
                    unsafe runtime.cgroup_count = UInt32(plan.cgroupProcs.count)
                    unsafe runtime.channel = sandboxEndOfChannel
                    unsafe runtime.error = errorWriter
                    unsafe runtime.user_namespace = isInside ? user : -1
                    unsafe runtime.network_namespace = isInside ? network : -1
                    pid = unsafe ah_start_runtime(&runtime)
                }
            }
        }
        ah_close(errorWriter)
        ah_close(sandboxEndOfChannel)
        sandboxEndOfChannel = -1
        boot.runtime = try check(pid, bytes("starting the runtime"))
    }

    private func replacing(_ word: [UInt8], in text: [UInt8], by value: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(text.count + value.count)
        var at = 0
        while at < text.count {
            if text[at] == word[0] && text[at...].starts(with: word) {
                out += value
                at += word.count
            } else {
                out.append(text[at])
                at += 1
            }
        }
        return out
    }

    /// What the runtime and later the harness say on stderr: to the log, the last of it for the daemon.
    func readErrors() {
        var chunk = [UInt8](repeating: 0, count: 4096)
        let count = unsafe ah_read(boot.errors, &chunk, chunk.count)
        if count == -Code.again { return }
        if count > 0 {
            boot.errorBytes += count
            unsafe ah_log(chunk, count)
            boot.tail += chunk[..<count]
            if boot.tail.count > BootProgress.tailLimit {
                boot.tail.removeFirst(boot.tail.count - BootProgress.tailLimit)
            }
        }
        guard count <= 0 || boot.errorBytes > BootProgress.errorLimit else { return }
        ah_close(boot.errors)
        boot.errors = -1
    }
}
