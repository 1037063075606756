import AegisChannel
import AegisCore
import AegisSandboxTypes
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

@testable import AegisBackends

struct OCIConfigTests {
    private static func config(_ kind: OCIRuntime.Kind) throws -> [String: Any] {
        let config = OCIConfig(
            kind: kind, hostname: "a\"b\n", layout: RunLayout(directory: "/run/aegis/n/i-1"), idBase: 5_000_000,
            cgroup: "/aegis-n/i-1", memory: 64 << 20,
            binds: [.init(source: "/run/aegis/n/i-1/m0", target: "/workspace", readOnly: true)])
        return try #require(
            try JSONSerialization.jsonObject(with: Data(config.encoded())) as? [String: Any])
    }

    @Test func theSandboxsOwnProcessHasExactlyWhatTheDecisionsSay() throws {
        let json = try Self.config(.namespaces)
        #expect(json["ociVersion"] as? String == "1.0.2")
        #expect(json["hostname"] as? String == "a\"b\n")
        let process = try #require(json["process"] as? [String: Any])
        #expect(process["args"] as? [String] == ["/.aegis/harness"])
        #expect((process["env"] as? [String])?.count == 1)
        #expect(process["noNewPrivileges"] as? Bool == true)
        let capabilities = try #require(process["capabilities"] as? [String: [String]])
        let expected = Set(
            "CHOWN DAC_OVERRIDE FOWNER FSETID SETUID SETGID SETPCAP KILL NET_BIND_SERVICE SYS_CHROOT SETFCAP"
                .split(separator: " ").map { "CAP_\($0)" })
        for set in ["bounding", "effective", "permitted"] { #expect(Set(capabilities[set] ?? []) == expected) }
        #expect(capabilities["inheritable"] == [] && capabilities["ambient"] == [])
    }

    @Test func mountsComeInAnOrderInWhichNoneHidesAnother() throws {
        let mounts = try #require(try Self.config(.namespaces)["mounts"] as? [[String: Any]])
        let targets = mounts.compactMap { $0["destination"] as? String }
        #expect(
            targets == [
                "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/tmp", "/run", "/.aegis/harness",
                "/workspace",
            ])
        let workspace = try #require(mounts.last)
        #expect(workspace["options"] as? [String] == ["bind", "nosuid", "nodev", "ro"])
        let sys = try #require(mounts.first { $0["destination"] as? String == "/sys" })
        #expect((sys["options"] as? [String])?.contains("ro") == true)
    }

    @Test func runcJoinsTheKeepersNamespacesAndRunscIsStartedInThem() throws {
        let runc = try #require(try Self.config(.namespaces)["linux"] as? [String: Any])
        let namespaces = try #require(runc["namespaces"] as? [[String: String]])
        #expect(
            Set(namespaces.compactMap { $0["type"] }) == ["pid", "mount", "ipc", "uts", "cgroup", "user", "network"])
        #expect(namespaces.first { $0["type"] == "user" }?["path"] == "@USERNS@")
        #expect(namespaces.first { $0["type"] == "network" }?["path"] == "@NETNS@")
        #expect(runc["cgroupsPath"] as? String == "/aegis-n/i-1")
        let maps = try #require(runc["uidMappings"] as? [[String: Int]])
        #expect(maps == [["containerID": 0, "hostID": 5_000_000, "size": 65_536]])
        let runsc = try #require(try Self.config(.userKernel)["linux"] as? [String: Any])
        #expect((runsc["namespaces"] as? [[String: String]])?.allSatisfy { $0["path"] == nil } == true)
        #expect(runsc["uidMappings"] == nil && runsc["cgroupsPath"] == nil)
    }

    @Test func theSameInputGivesTheSameBytes() throws {
        let layout = RunLayout(directory: "/r")
        func bytes() -> [UInt8] {
            OCIConfig(
                kind: .namespaces, hostname: "h", layout: layout, idBase: 1, cgroup: "/c", memory: 1, binds: []
            ).encoded()
        }
        #expect(bytes() == bytes())
    }
}

struct SeccompProfileTests {
    @Test(arguments: SeccompProfile.Architecture.allCases)
    func whatReachesTheKernelIsNotInTheList(_ architecture: SeccompProfile.Architecture) throws {
        let allowed = SeccompProfile.allowed(on: architecture)
        #expect(Set(allowed).count == allowed.count, "a name stands twice")
        let refused = """
            mount umount umount2 move_mount open_tree fsopen fsmount fspick mount_setattr pivot_root unshare setns clone3 clone
            socket personality init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct
            settimeofday clock_settime adjtimex clock_adjtime bpf perf_event_open userfaultfd keyctl add_key request_key
            io_uring_setup io_uring_enter io_uring_register open_by_handle_at name_to_handle_at fanotify_init fanotify_mark
            quotactl iopl ioperm syslog vhangup lookup_dcookie nfsservctl sethostname setdomainname move_pages migrate_pages
            pidfd_getfd process_madvise kcmp memfd_secret uselib ustat sysfs vm86 modify_ldt quotactl_fd
            """
        for name in refused.split(whereSeparator: \.isWhitespace) {
            #expect(!allowed.contains(String(name)), "\(name)")
        }
        #expect((250...330).contains(allowed.count), "\(allowed.count)")
        #expect(allowed.contains("epoll_wait") == (architecture == .intel64))
    }

    @Test func everythingElseFailsAndClonesMakeNoNamespaces() throws {
        let json = try #require(
            try JSONSerialization.jsonObject(with: Data(SeccompProfile.json(for: .intel64).bytes)) as? [String: Any])
        #expect(json["defaultAction"] as? String == "SCMP_ACT_ERRNO")
        #expect(json["architectures"] as? [String] == ["SCMP_ARCH_X86_64"])
        let rules = try #require(json["syscalls"] as? [[String: Any]])
        let clone = try #require(rules.first { $0["names"] as? [String] == ["clone"] })
        let condition = try #require((clone["args"] as? [[String: Any]])?.first)
        #expect(condition["value"] as? Int == 0x7E02_0000 && condition["valueTwo"] as? Int == 0)
        #expect(condition["op"] as? String == "SCMP_CMP_MASKED_EQ")
        let families = rules.filter { $0["names"] as? [String] == ["socket"] }
            .compactMap { ($0["args"] as? [[String: Any]])?.first?["value"] as? Int }
        #expect(families == [1, 2, 10, 16])
    }

    @Test(arguments: [false, true]) func clone3IsUnknownUnlessOnlyTheKernelCanSaySo(_ passing: Bool) throws {
        let bytes = SeccompProfile.json(for: .intel64, passingUnknown: passing).bytes
        let json = try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
        let rules = try #require(json["syscalls"] as? [[String: Any]])
        let rule = try #require(rules.first { $0["names"] as? [String] == ["clone3"] })
        #expect(rule["action"] as? String == (passing ? "SCMP_ACT_ALLOW" : "SCMP_ACT_ERRNO"))
        #expect(rule["errnoRet"] as? Int == (passing ? nil : 38))
    }
}

struct SetIDGuardTests {
    @Test(arguments: SeccompProfile.Architecture.allCases)
    func noCallSetsASetIDBit(_ architecture: SeccompProfile.Architecture) throws {
        let bytes = SeccompProfile.json(for: architecture, guardingSetID: true).bytes
        let json = try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
        let rules = try #require(json["syscalls"] as? [[String: Any]])
        var modes: [String: [[Int]]] = [:]
        for rule in rules {
            for name in try #require(rule["names"] as? [String]) {
                let arguments = rule["args"] as? [[String: Any]] ?? []
                modes[name, default: []].append(
                    arguments.flatMap {
                        [$0["index"] as? Int ?? -1, $0["value"] as? Int ?? -1, $0["valueTwo"] as? Int ?? -1]
                    })
            }
        }
        var expected: [String: [[Int]]] = [
            "fchmod": [[1, 0o6000, 0]], "fchmodat": [[2, 0o6000, 0]], "fchmodat2": [[2, 0o6000, 0]],
            "mknodat": [[2, 0o6000, 0]], "openat": [[3, 0o6000, 0], [2, 0o100 | 0o20_000_000, 0]],
        ]
        if architecture == .intel64 {
            expected["chmod"] = [[1, 0o6000, 0]]
            expected["creat"] = [[1, 0o6000, 0]]
            expected["mknod"] = [[1, 0o6000, 0]]
            expected["open"] = [[2, 0o6000, 0], [1, 0o100 | 0o20_000_000, 0]]
        }
        for (name, rule) in expected { #expect(modes[name] == rule, "\(name)") }
        let openat2 = rules.filter { ($0["names"] as? [String])?.contains("openat2") == true }
        #expect(openat2.count == 1 && openat2.first?["errnoRet"] as? Int == 38)
        // A filter that cannot say so does not let it through.
        let passing = SeccompProfile.json(for: architecture, passingUnknown: true, guardingSetID: true).bytes
        #expect(!String(decoding: passing, as: UTF8.self).contains("\"openat2\""))
        let all = Set(SeccompProfile.allowed(on: architecture)).subtracting(["openat2"])
        #expect(all.isSubset(of: modes.keys), "nothing else is lost")
    }

    @Test func onlyWritableFoldersOfTheHostAreGuarded() throws {
        func spec(_ ownership: BootMount.Ownership, readOnly: Bool, allows: Bool = false) throws -> BootSpec {
            let source = SharedDescriptor(try FileDescriptor.open("/", [.pathOnly]))
            var spec = BootSpec(
                id: "i-1", hostname: "h", layers: [], writable: "/w",
                mounts: [
                    BootMount(source: source, target: "/x", readOnly: readOnly, isDirectory: true, ownership: ownership)
                ])
            spec.allowsSetID = allows
            return spec
        }
        let host = BootMount.Ownership.host(uid: 0, gid: 0, insideUID: 0, insideGID: 0, others: true)
        #expect(try spec(host, readOnly: false).guardsSetID)
        #expect(try !spec(host, readOnly: true).guardsSetID && !spec(.managed, readOnly: false).guardsSetID)
        #expect(try !spec(host, readOnly: false, allows: true).guardsSetID)
    }
}

struct BootPlannerTests {
    private static func planner(_ mounts: [BootPlanner.Mount] = []) -> BootPlanner {
        let layout = RunLayout(directory: "/run/aegis/n/i-1")
        return BootPlanner(
            id: "i-1", layout: layout,
            config: OCIConfig(
                kind: .namespaces, hostname: "h", layout: layout, idBase: 2_000_000, cgroup: "/c", memory: 1 << 30,
                binds: []), layerCount: 2, isNewLayer: true, isEphemeral: false, mounts: mounts,
            reservedBase: 1_000_000,
            runtime: ["/usr/sbin/runc"],
            cgroupProcs: [], deadline: .seconds(3))
    }

    @Test func aPlanSurvivesTheChannelAndNamesItsSourcesInOrder() throws {
        let owner = BootMount.Ownership.host(uid: 1234, gid: 5, insideUID: 10, insideGID: 0, others: true)
        let plan = try Self.planner([
            .init(target: "/a", readOnly: false, isDirectory: true, ownership: owner),
            .init(target: "/b", readOnly: true, isDirectory: true, ownership: owner),
            .init(target: "/c", readOnly: true, isDirectory: true, ownership: .managed),
        ]).plan()
        #expect(try BootPlan(decoding: plan.encoded()) == plan)
        #expect(plan.deadline == 3000)
        var sources: [UInt16] = []
        var maps: [UInt16] = []
        for case .idmapped(let source, let map, _, _) in plan.mounts {
            sources.append(source)
            maps.append(map)
        }
        #expect(sources == [5, 7, 8, 9, 10, 11])
        #expect(maps == [1, 0, 0, 2, 2, 0])
        #expect(plan.maps.count == 3)
        #expect(plan.maps[1].uids.last == IDRange(inside: 65_536, outside: 0, count: 1))
    }

    @Test func aMountTakesThePlaceOfOurFilesAndIsComparedWithTheImage() throws {
        func steps(_ targets: [String]) throws -> (files: [String], expected: [String]) {
            let mounts = targets.map {
                BootPlanner.Mount(target: $0, readOnly: true, isDirectory: true, ownership: .managed)
            }
            var (files, expected): ([String], [String]) = ([], [])
            for step in try Self.planner(mounts).plan().mounts {
                switch step {
                case .placeFile(_, let path, _, let replace):
                    #expect(replace)
                    files.append(String(decoding: path, as: UTF8.self))
                case .expect(_, let path, let isDirectory):
                    #expect(isDirectory)
                    expected.append(String(decoding: path, as: UTF8.self))
                default: break
                }
            }
            return (files, expected)
        }
        #expect(try steps([]) == (["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"], []))
        #expect(try steps(["//etc/hosts/"]) == (["/etc/hostname", "/etc/resolv.conf"], ["/etc/hosts"]))
        #expect(try steps(["/etc", "/etc/hosts"]) == ([], ["/etc"]))
        #expect(try steps(["/tmp/x", "/run/y/z", "/a", "/a/b", "/ab"]).expected == ["/a", "/ab"])
    }

    @Test(arguments: [(0, 3), (10, 3), (65_535, 2)] as [(UInt32, Int)])
    func aHostFoldersMapIsCompleteAndWithoutOverlap(_ inside: UInt32, _ parts: Int) throws {
        let map = try Self.planner().hostMap(owner: 1234, inside: inside, others: true, target: "/w")
        #expect(map.count == (inside == 0 ? 2 : parts))
        #expect(map.reduce(0) { $0 + $1.count } == 65_536)
        #expect(map.contains(IDRange(inside: 1234, outside: 2_000_000 + inside, count: 1)))
        let outside = map.sorted { $0.outside < $1.outside }
        var next: UInt32 = 2_000_000
        for range in outside {
            #expect(range.outside == next)
            next += range.count
        }
    }

    @Test(arguments: [(0, 1000, 4), (1000, 0, 4), (5, 6, 4), (0, 65_535, 3), (7, 7, 1)] as [(UInt32, UInt32, Int)])
    func exchangedIdsAreEachOtherAndAllOthersThemselves(_ owner: UInt32, _ inside: UInt32, _ parts: Int) throws {
        let map = try Self.planner().exchangeMap(owner: owner, inside: inside)
        #expect(map.count == parts)
        func mapped(_ id: UInt32) -> UInt32? {
            map.first { $0.inside <= id && id - $0.inside < $0.count }.map { $0.outside + id - $0.inside }
        }
        for id: UInt32 in [0, 1, 4, 5, 6, 7, 8, 999, 1000, 1001, 65_534, 65_535] {
            let expected = id == owner ? inside : id == inside ? owner : id
            #expect(mapped(id) == 2_000_000 + expected)
        }
        #expect(map.reduce(0) { $0 + $1.count } == 65_536 && mapped(65_536) == nil)
        #expect(throws: AegisError.self) { _ = try Self.planner().exchangeMap(owner: 65_536, inside: 0) }
    }

    @Test func idsThatCannotBeToldApartAreRefused() {
        let planner = Self.planner()
        #expect(throws: AegisError.self) {
            _ = try planner.hostMap(owner: 1_000_005, inside: 0, others: true, target: "/w")
        }
        #expect(throws: AegisError.self) {
            _ = try planner.hostMap(owner: 1, inside: 65_536, others: true, target: "/w")
        }
    }
}

struct FrameScannerTests {
    @Test func wantedFramesAreFoundHoweverTheBytesAreSplit() throws {
        let stream =
            frame(.stdout, stream: 3, [UInt8](repeating: 7, count: 300)) + frame(.ended, [1, 2, 3]) + frame(.hello)
            + frame(.ended) + frame(.stderr, [UInt8](repeating: 0, count: 8))
        for size in [1, 2, 7, 8, 9, 100, stream.count] {
            var scanner = FrameScanner([.ended])
            var found: [[UInt8]] = []
            var at = 0
            while at < stream.count {
                try scanner.scan(stream[at..<min(at + size, stream.count)]) { found.append($1) }
                at += size
            }
            #expect(found == [[1, 2, 3], []], "pieces of \(size)")
            #expect(scanner.isAtBoundary)
        }
    }

    @Test func nonsenseIsAnError() {
        var scanner = FrameScanner([.ended])
        #expect(throws: ChannelError.self) { try scanner.scan([255, 0, 0, 0, 0, 0, 0, 0]) { _, _ in } }
    }
}

struct RuntimeFactsTests {
    @Test func versionsAndDatesAreReadFromWhatRuntimesPrint() {
        #expect(OCIRuntime.version(from: "runc version 1.1.5+ds1\ncommit: x") == "1.1.5+ds1")
        #expect(OCIRuntime.version(from: "runsc version 0.0~20221219.0\nspec: 1.0.2-dev\n") == "0.0~20221219.0")
        #expect(OCIRuntime.version(from: "crun version 1.8.1") == "1.8.1")
        #expect(OCIRuntime.version(from: "") == nil)
        #expect(OCIRuntime.date(inVersion: "0.0~20221219.0") == 1_671_408_000_000)
        #expect(OCIRuntime.date(inVersion: "release-20240229.0") == 1_709_164_800_000)
        #expect(OCIRuntime.date(inVersion: "1.1.5+ds1") == nil)
        #expect(OCIRuntime.date(inVersion: "20229999") == nil)
    }

    @Test func platformsComeFromTheFlagsThatAreThere() {
        let old =
            "  -platform string\n    \tspecifies which platform to use: ptrace (default), kvm. (default \"ptrace\")\n"
        let new = "  -platform string\n    \tspecifies which platform to use: systrap (default), ptrace, kvm.\n"
        #expect(OCIRuntime.platforms(fromHelp: old) == ["ptrace"])
        #expect(OCIRuntime.platforms(fromHelp: new) == ["systrap", "ptrace"])
        #expect(OCIRuntime.platforms(fromHelp: "nothing") == [])
    }

    @Test func flagsThatAVersionDoesNotKnowAreNotGiven() {
        let layout = RunLayout(directory: "/r")
        let facts = RuntimeFacts(path: "/usr/bin/runsc", version: "1", builtAt: 0)
        let plain = OCIRuntime.runsc.arguments(facts: facts, platform: "ptrace", layout: layout, id: "i-1")
        #expect(!plain.contains("--overlay2=none") && !plain.contains("--oci-seccomp"))
        #expect(plain.contains("--platform=ptrace") && plain.last == "i-1")
    }

    @Test func openFilesFollowWhatThisProcessMayGive() {
        let limits =
            "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 20000                files\n"
        #expect(HostIdentity.openFiles(status: "CapEff:\t000001ffffffffff\n", limits: limits) == 65_536)
        #expect(HostIdentity.openFiles(status: "CapEff:\t000001fffeffffff\n", limits: limits) == 20_000)
    }
}

struct ShimLayerTests {
    @Test func theLayerIsMadeOnceForEachVersionAndMendedWhenItIsDamaged() throws {
        let directory = try TemporaryDirectory()
        let program = directory.path("aegis-shim")
        func layers() throws -> [String] { try Files.list(directory.path("shims")).map(\.name) }
        func shim() throws -> String {
            try #require(try ShimLayer(program: program, folder: directory.path("shims")).layer())
        }
        #expect(try ShimLayer(program: program, folder: directory.path("shims")).layer() == nil)
        try Files.writeAtomically(program, [1, 2, 3])
        let first = try shim()
        #expect(try Files.read(first + "/.aegis/shim.so", limit: 10) == [1, 2, 3])
        #expect(try Files.read(first + "/etc/ld.so.preload", limit: 99) == Array("/.aegis/shim.so".utf8))
        for path in ["", "/etc", "/.aegis"] { #expect(try Files.status(first + path).permissions == 0o755) }
        for path in ["/etc/ld.so.preload", "/.aegis/shim.so"] {
            #expect(try Files.status(first + path).permissions == 0o644)
        }
        let inode = try Files.status(first).inode
        #expect(try shim() == first)
        #expect(try Files.status(first).inode == inode && layers().count == 1)
        try Files.writeAtomically(first + "/.aegis/shim.so", [])
        #expect(try shim() == first)
        #expect(try Files.read(first + "/.aegis/shim.so", limit: 10) == [1, 2, 3])
        #expect(try layers().count == 1)
        try Files.writeAtomically(program, [1, 2, 3, 4])
        #expect(try shim() != first)
        #expect(try layers().count == 2)
    }
}

/// Where memory may be pushed out to.
@Suite struct SwapSpaceTests {
    private static let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"

    @Test(
        arguments: [
            ("", .none), (head, .none), (head + "/dev/zram0 partition 1048572 0 100\n", .safe),
            (head + "/dev/dm-1 partition 999 0 -2\n", .safe),
            (head + "/dev/sda2 partition 999 0 -2\n", .clear(["/dev/sda2"])),
            (head + "/dev/zram0 partition 9 0 100\n/swapfile file 999 0 -2\n", .clear(["/swapfile"])),
            // A file that is named like an encrypted device is still a file.
            (head + "/dev/dm-1 file 999 0 -2\n", .clear(["/dev/dm-1"])),
        ] as [(String, SwapSpace)])
    func onlyZramAndEncryptedDevicesAreSafe(_ text: String, _ expected: SwapSpace) throws {
        let space = SwapSpace.parse(text) { $0 == "/dev/dm-1" }
        #expect(space == expected)
        if case .clear(let names) = expected {
            let error = #expect(throws: AegisError.self) { try space.checkSafe() }
            #expect(space.finding.status == "warning" && names.allSatisfy { space.finding.detail.contains($0) })
            #expect(error?.code == "swap-not-encrypted" && names.allSatisfy { error?.message.contains($0) == true })
        } else {
            try space.checkSafe()
            #expect(space.finding.status == "ok")
        }
    }
}
