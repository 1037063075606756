// swift-tools-version: 6.2
import PackageDescription

// One entry per target, floor by floor. The folder says the floor; aegis-lint checks the imports against this list.
// A target may import the floors below its own and, on its own floor, only what stands here.

/// Every Swift target of ours compiles with the same strict settings.
let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"), .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InferIsolatedConformances"), .enableUpcomingFeature("ImmutableWeakCaptures"),
    .strictMemorySafety(), .treatAllWarnings(as: .error), .treatWarning("DeprecatedDeclaration", as: .warning),
]
/// The harness and what it shares with the host: no runtime, no existentials, whole-module.
let embedded: [SwiftSetting] = [.enableExperimentalFeature("Embedded"), .unsafeFlags(["-wmo", "-Osize"])]

/// Programs that start often: without a dynamic loader a start takes 1 ms instead of 7.
let staticProgram: [SwiftSetting] = [.unsafeFlags(["-static-executable"], .when(configuration: .release))]
let staticLink: [LinkerSetting] = [
    .unsafeFlags(
        ["-static-executable", "-use-ld=lld", "-Xlinker", "--gc-sections", "-Xlinker", "-s"],
        .when(configuration: .release))
]
/// Programs that run long: with the runtime inside, calls of it need no detour through the loader's tables (the router is a tenth
/// faster), and the machine needs no Swift. Foundation's own libraries have to be named.
let ownRuntime: [LinkerSetting] = [
    .unsafeFlags(
        ["-static-stdlib", "-l_FoundationCollections", "-l_FoundationCShims", "-use-ld=lld"],
        .when(configuration: .release))
]

func library(_ floor: String, _ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Sources/\(floor)/\(name)", swiftSettings: strict)
}
func system(_ name: String, pkgConfig: String, package: String) -> Target {
    .systemLibrary(name: name, path: "Sources/Base/\(name)", pkgConfig: pkgConfig, providers: [.apt([package])])
}
func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, path: "Tests/\(name)", exclude: exclude, swiftSettings: strict)
}

let base: [Target] = [
    .target(name: "CLinux", path: "Sources/Base/CLinux"),
    .target(name: "CHarness", path: "Sources/Base/CHarness"),
    .target(
        name: "COpenSSL", path: "Sources/Base/COpenSSL",
        linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
    .target(name: "CNetlink", path: "Sources/Base/CNetlink"),
    system("CSQLite", pkgConfig: "sqlite3", package: "libsqlite3-dev"),
    system("CYaml", pkgConfig: "yaml-0.1", package: "libyaml-dev"),
    system("CSodium", pkgConfig: "libsodium", package: "libsodium-dev"),
    system("CXml2", pkgConfig: "libxml-2.0", package: "libxml2-dev"),
    system("CArchive", pkgConfig: "libarchive", package: "libarchive-dev"),
    system("CNghttp2", pkgConfig: "libnghttp2", package: "libnghttp2-dev"),
    system("CPcre2", pkgConfig: "libpcre2-8", package: "libpcre2-dev"),
    system("CCares", pkgConfig: "libcares", package: "libc-ares-dev"),
    system("CCurl", pkgConfig: "libcurl", package: "libcurl4-openssl-dev"),
    system("CSeccomp", pkgConfig: "libseccomp", package: "libseccomp-dev"),
    library("Base", "AegisCore"),
    library("Base", "LinuxSys", ["CLinux"]),
    library("Base", "AegisIO", ["LinuxSys", "CLinux", "AegisCore"]),
    library("Base", "AegisTLS", ["AegisIO", "LinuxSys", "COpenSSL", "AegisCore"]),
    library("Base", "AegisWire", ["AegisJSON", "AegisIO", "LinuxSys", "AegisCore"]),
    library("Base", "AegisProxy", ["AegisWire", "AegisIO", "LinuxSys", "CNghttp2", "AegisCore"]),
    library("Base", "AegisHTTPClient", ["AegisWire", "AegisIO", "LinuxSys", "CCurl", "AegisCore"]),
    library("Base", "AegisChannel"),
    library("Base", "AegisTar", ["LinuxSys", "AegisCore"]),
    library("Base", "AegisStore", ["CSQLite", "LinuxSys", "AegisCore"]),
    library("Base", "AegisConfig", ["CYaml", "AegisCore"]),
    library("Base", "AegisJSON"),
    library("Base", "AegisRegex", ["CPcre2"]),
    library("Base", "AegisHTML", ["CXml2"]),
]
let trust: [Target] = [
    library("Trust", "AegisSecrets", ["CSodium", "AegisStore", "AegisCore", "LinuxSys", "CLinux"]),
    library("Trust", "AegisAudit", ["CSodium", "AegisStore", "AegisJSON", "AegisIO", "LinuxSys", "AegisCore"]),
    library("Trust", "AegisCapabilities", ["AegisAudit", "AegisJSON", "AegisCore"]),
]
let sandbox: [Target] = [
    library("Sandbox", "AegisSandboxTypes", ["AegisCore"]),
    library("Sandbox", "AegisLogs", ["AegisSandboxTypes", "AegisIO", "LinuxSys", "CLinux", "AegisCore"]),
    library(
        "Sandbox", "AegisImages",
        [
            "AegisSandboxTypes", "AegisIO", "LinuxSys", "CLinux", "CArchive", "CSeccomp", "CSodium", "AegisHTML",
            "AegisCore",
        ]),
    library(
        "Sandbox", "AegisFiles",
        ["AegisCapabilities", "AegisRegex", "AegisSandboxTypes", "AegisTar", "AegisIO", "LinuxSys", "AegisCore"]),
    library(
        "Sandbox", "AegisBackends", ["AegisSandboxTypes", "AegisChannel", "AegisIO", "LinuxSys", "CLinux", "AegisCore"]),
    library(
        "Sandbox", "AegisSessions", ["AegisChannel", "AegisIO", "LinuxSys", "AegisCore"]),
    library(
        "Sandbox", "AegisNetwork",
        [
            "AegisBroker", "AegisCapabilities", "AegisTLS", "AegisProxy", "AegisSandboxTypes", "AegisIO", "LinuxSys",
            "CNetlink", "CCares", "AegisCore",
        ]),
    library(
        "Sandbox", "AegisInstances",
        [
            "AegisAudit", "AegisJSON", "AegisBroker", "AegisCapabilities", "AegisTLS", "AegisNetwork", "AegisBackends",
            "AegisImages",
            "AegisFiles",
            "AegisLogs", "AegisSessions", "AegisSandboxTypes",
            "AegisChannel", "AegisSecrets", "AegisStore", "AegisIO", "LinuxSys", "CLinux", "AegisCore",
        ]),
    library(
        "Sandbox", "AegisKits",
        [
            "AegisInstances", "AegisImages", "AegisFiles", "AegisSandboxTypes", "AegisCapabilities", "AegisConfig",
            "AegisTar", "AegisIO", "LinuxSys", "AegisCore",
        ]),
    library(
        "Sandbox", "AegisRouter",
        ["AegisSandboxTypes", "AegisProxy", "AegisWire", "AegisIO", "LinuxSys", "AegisCore"]),
    library(
        "Sandbox", "AegisBroker",
        [
            "AegisCapabilities", "AegisSecrets", "AegisTLS", "AegisProxy", "AegisWire", "AegisIO", "LinuxSys",
            "AegisCore",
        ]),
]
let agents: [Target] = [
    library("Agents", "AegisMemory", ["AegisStore", "AegisJSON", "AegisIO", "LinuxSys", "AegisCore"]),
    library("Agents", "AegisSkills", ["AegisConfig", "AegisStore", "LinuxSys", "CSodium", "AegisCore"]),
    library(
        "Agents", "AegisTools",
        [
            "AegisFiles", "AegisAudit", "AegisCapabilities", "AegisHTTPClient", "AegisWire", "AegisRegex", "AegisJSON",
            "AegisStore", "AegisIO", "LinuxSys", "CSodium", "AegisCore",
        ]),
    library(
        "Agents", "AegisMCP",
        [
            "AegisTools", "AegisAudit", "AegisHTTPClient", "AegisWire", "AegisSandboxTypes", "AegisStore",
            "AegisConfig",
            "AegisJSON", "AegisIO", "LinuxSys", "CSodium", "AegisCore",
        ]),
    library(
        "Agents", "AegisInference",
        [
            "AegisStore", "AegisConfig", "AegisHTTPClient", "AegisWire", "AegisIO", "AegisJSON", "LinuxSys", "CSodium",
            "AegisCore",
        ]),
    library(
        "Agents", "AegisAgents",
        [
            "AegisInference", "AegisTools", "AegisMemory", "AegisSkills", "AegisAudit", "AegisCapabilities",
            "AegisFiles", "AegisSandboxTypes", "AegisStore", "AegisConfig", "AegisJSON", "AegisIO", "AegisCore",
        ]),
]
let edges: [Target] = [
    library(
        "Edges", "AegisAPI",
        [
            "AegisAgents", "AegisMCP", "AegisTools", "AegisInference", "AegisMemory", "AegisSkills",
            "AegisCapabilities", "AegisConfig", "AegisJSON",
            "AegisKits", "AegisInstances", "AegisImages", "AegisFiles", "AegisLogs", "AegisSessions", "AegisBackends",
            "AegisAudit", "AegisSecrets",
            "AegisSandboxTypes", "AegisWire", "AegisTar", "AegisIO", "LinuxSys", "AegisCore", "AegisChannel",
        ]),
    library(
        "Edges", "AegisClient",
        ["AegisSandboxTypes", "AegisJSON", "AegisWire", "AegisTar", "AegisIO", "LinuxSys", "AegisCore"]),
    .executableTarget(
        name: "aegis",
        dependencies: [
            "AegisClient", "AegisSandboxTypes", "AegisJSON", "AegisWire", "AegisTar", "AegisIO", "LinuxSys", "CLinux",
            "AegisCore",
        ],
        path: "Sources/Edges/aegis", swiftSettings: strict + staticProgram, linkerSettings: staticLink),
    .executableTarget(
        name: "aegisd",
        dependencies: [
            "AegisAgents", "AegisMCP", "AegisInference", "AegisHTTPClient", "AegisTools", "AegisMemory", "AegisSkills",
            "AegisHTML", "AegisAPI", "AegisAudit", "AegisJSON", "AegisRouter", "AegisProxy", "AegisKits",
            "AegisInstances",
            "AegisNetwork", "AegisTLS", "AegisCapabilities",
            "AegisImages", "AegisFiles", "AegisLogs",
            "AegisSessions", "AegisChannel", "AegisBackends",
            "AegisSecrets", "AegisStore", "AegisConfig", "AegisWire", "AegisIO", "AegisSandboxTypes", "LinuxSys",
            "CLinux",
            "AegisCore",
        ],
        path: "Sources/Edges/aegisd", swiftSettings: strict, linkerSettings: ownRuntime),
    .target(
        name: "AegisChannelEmbedded", path: "Sources/Base/AegisChannelEmbedded", swiftSettings: embedded),
    .executableTarget(
        name: "aegis-harness", dependencies: ["AegisChannelEmbedded", "CHarness"],
        path: "Sources/Edges/aegis-harness", swiftSettings: embedded,
        linkerSettings: [
            .unsafeFlags([
                "-Xclang-linker", "-static", "-Xclang-linker", "-Wno-unused-command-line-argument", "-use-ld=lld",
                "-Xlinker", "--gc-sections", "-Xlinker", "-s",
            ])
        ]),
    // No program but a library that needs no other: SwiftPM knows executables that are linked in a way of their own.
    .executableTarget(
        name: "aegis-shim", path: "Sources/Edges/aegis-shim",
        cSettings: [
            .headerSearchPath("../../Base/CHarness"),
            .unsafeFlags(["-O2", "-ffreestanding", "-fPIC", "-fno-stack-protector"]),
        ],
        linkerSettings: [
            .unsafeFlags(
                ["-enable-experimental-feature", "Embedded", "-nostartfiles", "-use-ld=lld"]
                    + ["-shared", "-nostdlib", "-Wno-unused-command-line-argument"].flatMap { ["-Xclang-linker", $0] }
                    // Two segments: each is a system call at every start of a program.
                    + ["--gc-sections", "-s", "--no-rosegment", "-znorelro", "--build-id=none", "--hash-style=gnu"]
                    .flatMap { ["-Xlinker", $0] })
        ]),
]
let tools: [Target] = [
    .executableTarget(
        name: "aegis-bench",
        dependencies: [
            "AegisAgents", "AegisMemory", "AegisInference", "AegisTools", "AegisRouter", "AegisAudit",
            "AegisCapabilities", "AegisStore", "AegisConfig", "AegisWire", "AegisJSON", "AegisSandboxTypes", "AegisIO",
            "LinuxSys", "AegisCore",
        ],
        path: "Benchmarks/aegis-bench",
        swiftSettings: strict, linkerSettings: ownRuntime)
]
let testTargets: [Target] = [
    .target(
        name: "AegisTestSupport", dependencies: ["AegisCore", "LinuxSys", "AegisIO"], path: "Tests/AegisTestSupport",
        swiftSettings: strict),
    .target(
        name: "AegisAuditTestSupport", dependencies: ["AegisAudit", "AegisJSON", "AegisCore"],
        path: "Tests/AegisAuditTestSupport", swiftSettings: strict),
    tests("AegisCoreTests", ["AegisCore"]),
    tests("LinuxSysTests", ["LinuxSys", "CLinux"]),
    tests("AegisIOTests", ["AegisIO", "LinuxSys", "AegisCore", "AegisTestSupport"]),
    tests("AegisTLSTests", ["AegisTLS", "AegisIO", "LinuxSys", "AegisCore", "AegisTestSupport"]),
    tests("AegisWireTests", ["AegisWire", "AegisJSON", "AegisIO", "LinuxSys", "AegisCore", "AegisTestSupport"]),
    tests("AegisProxyTests", ["AegisProxy", "AegisWire", "AegisIO", "LinuxSys", "AegisCore", "AegisTestSupport"]),
    tests(
        "AegisHTTPClientTests",
        [
            "AegisHTTPClient", "AegisProxy", "AegisTLS", "AegisWire", "AegisIO", "LinuxSys", "AegisCore",
            "AegisTestSupport",
        ]),
    tests("AegisChannelTests", ["AegisChannel", "AegisTestSupport"]),
    tests("AegisTarTests", ["AegisTar", "LinuxSys", "AegisCore"]),
    tests("AegisStoreTests", ["AegisStore", "AegisCore", "AegisTestSupport"]),
    tests("AegisConfigTests", ["AegisConfig", "AegisCore"]),
    tests("AegisRegexTests", ["AegisRegex"]),
    tests(
        "AegisToolsTests",
        [
            "AegisTools", "AegisFiles", "AegisAudit", "AegisCapabilities", "AegisHTTPClient", "AegisRegex", "AegisJSON",
            "AegisStore", "AegisIO", "LinuxSys", "AegisCore", "AegisAuditTestSupport", "AegisTestSupport",
        ]),
    tests(
        "AegisMCPTests",
        [
            "AegisMCP", "AegisTools", "AegisFiles", "AegisAudit", "AegisCapabilities", "AegisHTTPClient", "AegisWire",
            "AegisStore", "AegisConfig", "AegisSandboxTypes", "AegisJSON", "AegisIO", "LinuxSys", "AegisCore",
            "AegisTestSupport",
        ], exclude: ["Peers"]),
    tests("AegisJSONTests", ["AegisJSON", "AegisCore", "AegisSandboxTypes"]),
    tests(
        "AegisAgentsTests",
        [
            "AegisAgents", "AegisInference", "AegisTools", "AegisMemory", "AegisSkills", "AegisAudit", "AegisFiles",
            "AegisCapabilities", "AegisSandboxTypes", "AegisStore", "AegisConfig", "AegisJSON", "AegisIO", "LinuxSys",
            "AegisCore", "AegisAuditTestSupport", "AegisTestSupport",
        ]),
    tests(
        "AegisInferenceTests",
        [
            "AegisInference", "AegisStore", "AegisConfig", "AegisHTTPClient", "AegisWire", "AegisJSON", "AegisIO",
            "LinuxSys", "AegisCore", "AegisTestSupport",
        ], exclude: ["Peers"]),
    tests(
        "AegisNetworkTests",
        [
            "AegisNetwork", "AegisCapabilities", "AegisSandboxTypes", "AegisIO", "LinuxSys", "AegisCore",
            "AegisTestSupport",
        ]),
    tests("AegisSecretsTests", ["AegisSecrets", "AegisStore", "LinuxSys", "AegisCore", "AegisTestSupport"]),
    tests(
        "AegisAuditTests",
        ["AegisAudit", "AegisStore", "AegisJSON", "AegisIO", "LinuxSys", "AegisCore", "AegisTestSupport"]),
    tests(
        "AegisCapabilitiesTests",
        ["AegisCapabilities", "AegisAudit", "AegisJSON", "AegisCore", "AegisAuditTestSupport", "AegisTestSupport"]),
    tests(
        "AegisMemoryTests", ["AegisMemory", "AegisStore", "AegisJSON", "AegisIO", "AegisCore", "AegisTestSupport"]),
    tests("AegisSkillsTests", ["AegisSkills", "AegisStore", "LinuxSys", "AegisCore", "AegisTestSupport"]),
    tests("AegisHTMLTests", ["AegisHTML"]),
    tests("AegisSandboxTypesTests", ["AegisSandboxTypes", "AegisCore"]),
    // What `aegisd --helper unpack` is in the product: the confined roles of AegisImages in a program of their own.
    .executableTarget(
        name: "aegis-images-helper", dependencies: ["AegisImages", "AegisIO"], path: "Tests/AegisImagesHelper",
        swiftSettings: strict),
    // Programs that tests kill, or run as another user.
    .executableTarget(
        name: "SandboxTestHelper", dependencies: ["AegisLogs", "AegisFiles", "LinuxSys", "AegisCore"],
        path: "Tests/SandboxTestHelper", swiftSettings: strict),
    tests(
        "AegisLogsTests",
        [
            "AegisLogs", "AegisSandboxTypes", "AegisIO", "LinuxSys", "AegisCore", "AegisTestSupport",
            "SandboxTestHelper",
        ]),
    tests(
        "AegisImagesTests",
        [
            "AegisImages", "AegisHTML", "aegis-images-helper", "AegisSandboxTypes", "AegisIO", "LinuxSys", "CLinux",
            "CArchive",
            "AegisCore", "AegisTestSupport",
        ]),
    tests(
        "AegisFilesTests",
        [
            "AegisFiles", "AegisCapabilities", "AegisRegex", "AegisTar", "AegisIO", "LinuxSys", "AegisCore",
            "AegisTestSupport", "SandboxTestHelper",
        ]),
    tests(
        "AegisBackendsTests",
        ["AegisBackends", "AegisSandboxTypes", "AegisChannel", "AegisIO", "LinuxSys", "AegisCore", "AegisTestSupport"]),
    tests("AegisHarnessTests", ["AegisChannel", "CHarness"]),
    tests(
        "AegisSessionsTests",
        [
            "AegisSessions", "AegisChannel", "AegisIO", "LinuxSys", "AegisCore", "AegisTestSupport",
        ]),
    tests(
        "AegisInstancesTests",
        [
            "AegisInstances", "AegisSessions", "AegisLogs", "AegisSandboxTypes", "AegisStore", "AegisIO", "AegisCore",
            "AegisTestSupport",
        ]),
    tests(
        "AegisKitsTests",
        ["AegisKits", "AegisSandboxTypes", "AegisTar", "AegisIO", "LinuxSys", "AegisCore", "AegisTestSupport"]),
    tests(
        "AegisRouterTests",
        [
            "AegisRouter", "AegisSandboxTypes", "AegisProxy", "AegisWire", "AegisIO", "LinuxSys", "AegisCore",
            "AegisTestSupport",
        ], exclude: ["Peers"]),
    tests(
        "AegisBrokerTests",
        [
            "AegisBroker", "AegisCapabilities", "AegisSecrets", "AegisTLS", "AegisProxy", "AegisWire", "AegisIO",
            "LinuxSys", "AegisCore", "AegisTestSupport",
        ], exclude: ["Peers"]),
    tests(
        "AegisClientTests",
        [
            "AegisClient", "AegisSandboxTypes", "AegisWire", "AegisTar", "AegisIO", "LinuxSys", "AegisCore",
            "AegisTestSupport",
        ]),
    tests(
        "AegisCLITests",
        [
            "aegis", "AegisClient", "AegisSandboxTypes", "AegisJSON", "AegisWire", "AegisTar", "AegisIO", "LinuxSys",
            "CLinux", "AegisCore", "AegisTestSupport",
        ], exclude: ["Snapshots"]),
    // Tier 3: runs for as long as it is told to, by `make test-all`.
    tests(
        "Endurance",
        [
            "AegisAgents", "AegisMCP", "AegisInference", "AegisTools", "AegisSkills", "AegisAudit", "AegisHTML",
            "AegisKits", "AegisImages", "AegisNetwork", "AegisCapabilities", "AegisSandboxTypes", "AegisConfig",
            "AegisStore", "AegisWire", "AegisIO", "AegisJSON", "AegisTar", "LinuxSys", "AegisCore", "AegisTestSupport",
        ]),
    tests("Acceptance", ["AegisIO", "LinuxSys", "AegisCore", "AegisSandboxTypes", "AegisTestSupport"]),
]

let package = Package(
    name: "aegis",
    targets: base + trust + sandbox + agents + edges + tools + testTargets,
    swiftLanguageModes: [.v6]
)
