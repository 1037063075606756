import AegisCore
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisImages

/// Opens what its path does not forbid, as a user's rights do.
private func opener(denying part: String? = nil) -> LocalOpener {
    { path in
        if let part, path.contains(part) { throw AegisError(.denied, "path-denied", "'\(path)' is not yours") }
        do throws(Errno) { return try FileDescriptor.open(path, [.readOnly]) } catch {
            throw AegisError.notFound("path-not-found", "'\(path)': \(error)")
        }
    }
}

struct LocalCallerTests {
    /// Packs an image as an archive.
    private static func archive(_ content: String, at path: String, _ bench: Bench) async throws {
        let folder = bench.directory.path("layout-\(content)")
        try TestImage.small(content).writeLayout(folder)
        try? Files.removeTree(path)
        try await command(
            ["skopeo", "copy", "-q", "oci:\(folder)", "docker-archive:\(path):local/x:1"], on: bench.loop)
    }

    @Test func anImageIsOnlyForWhoMayReadItsFile() async throws {
        try await withBench { bench in
            let path = bench.directory.path("image.tar")
            try await Self.archive("mine", at: path, bench)
            let reference = try ImageReference(parsing: "docker-archive:\(path)")
            let owner = ImageCaller.user(1000, open: opener())
            #expect(text(try await bench.store.ensure(reference, for: owner).layers[0], "file") == "mine")
            for policy in PullPolicy.allCases {
                let other = ImageCaller.user(1000, open: opener(denying: "image.tar"))
                let error = await failure { try await bench.store.ensure(reference, policy: policy, for: other) }
                #expect(error?.code == "path-denied", "\(policy)")
            }
            #expect(
                text(try await bench.store.ensure(reference, policy: .never, for: owner).layers[0], "file") == "mine")
        }
    }

    @Test func aFileThatIsAnotherOrGoneIsNotAnsweredFromTheStore() async throws {
        try await withBench { bench in
            let path = bench.directory.path("image.tar")
            try await Self.archive("old", at: path, bench)
            let reference = try ImageReference(parsing: "docker-archive:\(path)")
            let caller = ImageCaller.user(1000, open: opener())
            let old = try Files.status(path)
            #expect(text(try await bench.store.ensure(reference, for: caller).layers[0], "file") == "old")
            // Of the same size, in the same file, and with its time set back.
            let (spare, bytes) = (bench.directory.path("spare"), try Files.read(path, limit: 1 << 20))
            try Files.writeAtomically(spare, bytes)
            try await Self.archive("new", at: path, bench)
            let fresh = try Files.read(path, limit: 1 << 20)
            #expect(fresh.count == bytes.count)
            try await command(["sh", "-c", "cat '\(path)' > '\(spare)'; touch -r /bin/sh '\(spare)'"], on: bench.loop)
            try await command(["mv", spare, path], on: bench.loop)
            #expect(try Files.status(path).size == old.size)
            #expect(text(try await bench.store.ensure(reference, for: caller).layers[0], "file") == "new")
            try Files.removeTree(path)
            for policy in PullPolicy.allCases {
                let error = await failure { try await bench.store.ensure(reference, policy: policy, for: caller) }
                #expect(error?.code == "image-not-found", "\(policy)")
            }
        }
    }

    @Test func whoMayReadAFolderMayNotReadAllInIt() async throws {
        try await withBench { bench in
            let path = bench.directory.path("layout")
            let image = try TestImage.small("parts")
            try image.writeLayout(path)
            let reference = try ImageReference(parsing: "oci:\(path)")
            let other = ImageCaller.user(1000, open: opener(denying: image.blobs[0].digest.hex))
            #expect(await failure { try await bench.store.ensure(reference, for: other) }?.code == "path-denied")
            let owner = ImageCaller.user(1000, open: opener())
            #expect(text(try await bench.store.ensure(reference, for: owner).layers[0], "file") == "parts")
            for policy in [PullPolicy.ifNotPresent, .always] {
                let error = await failure { try await bench.store.ensure(reference, policy: policy, for: other) }
                #expect(error?.code == "path-denied")
            }
            #expect(await failure { try await bench.store.ensure(reference, policy: .never, for: other) } != nil)
            let wrong = try ImageReference(parsing: "docker-archive:\(path)")
            #expect(await failure { try await bench.store.ensure(wrong, for: owner) }?.code == "image-not-found")
        }
    }

    @Test func onlyJobsThatComeToTheSameAreOne() async throws {
        let folder = try TemporaryDirectory()
        defer { withExtendedLifetime(folder) {} }
        try Files.writeAtomically(folder.path("a"), [1])
        let reference = try ImageReference(parsing: "docker-archive:\(folder.path("a"))")
        guard case .local(let name) = reference else { throw Missing(what: "a local image") }
        func key(_ standing: ImageCaller.Standing) async throws -> String {
            PullJob(
                reference: reference, standing: standing, source: try await LocalSource.open(name, opener())
            ).key
        }
        let first = try await key(.user)
        #expect(try await key(.user) == first)
        #expect(try await key(.administrator) != first)
        try Files.writeAtomically(folder.path("a"), [1])
        #expect(try await key(.user) != first)
    }
}

struct RegistryCallerTests {
    /// The password of the user is "secret".
    private static let users = "user:$2y$05$Ap4D6PBvWLGXOIyhJ1H5v.3imXNiA5Oa2b5I0sJwC3d.TPX4mLGJG\n"
    private static let user = ImageCaller.user(1000, open: opener())

    /// Runs `body` on a node that has credentials for `user`.
    private static func withCredentials(
        users: String?, _ body: @escaping @Sendable (Bench) async throws -> Void
    ) async throws {
        let folder = try TemporaryDirectory()
        defer { withExtendedLifetime(folder) {} }
        var settings = testSettings()
        let file = folder.path("auth.json")
        settings.authFile = file
        try await withBench(users: users, settings: settings) { bench in
            let login = #"{"auths":{"127.0.0.1:\#(bench.registry.port)":{"auth":"dXNlcjpzZWNyZXQ="}}}"#
            try Files.writeAtomically(file, Array(login.utf8))
            try await body(bench)
        }
    }

    /// Whoever has the digests of somebody's image has not the image: credentials of one's own prove nothing for others' parts.
    @Test func ownCredentialsGiveAnImageToTheirOwnerAlone() async throws {
        try await withBench(users: Self.users, settings: testSettings()) { bench in
            try bench.registry.push(try TestImage.small("x"), "private:1")
            let reference = try bench.registry.reference("private:1")
            let own = RegistryCredentials(
                registry: "127.0.0.1:\(bench.registry.port)", auth: "dXNlcjpzZWNyZXQ=", identityToken: nil)
            let one = ImageCaller.user(1, open: opener())
            let two = ImageCaller.user(2, open: opener())
            let ensure: @Sendable (ImageCaller, PullPolicy) async -> String? = { caller, policy in
                await failure { try await bench.store.ensure(reference, policy: policy, for: caller) }?.code
            }
            #expect(await ensure(one, .ifNotPresent) == "image-auth-required")
            #expect(await ensure(one.with(own), .ifNotPresent) == nil)
            #expect(await ensure(one, .never) == nil)
            #expect(await ensure(two, .never) == "image-private")
            #expect(await ensure(two, .ifNotPresent) == "image-private")
            #expect(await ensure(.node, .never) == nil)
            // One more who has credentials: both have it, nobody else.
            #expect(await ensure(two.with(own), .always) == nil)
            #expect(await ensure(one, .never) == nil)
            #expect(await ensure(two, .never) == nil)
            #expect(await ensure(ImageCaller.user(3, open: opener()), .never) == "image-private")
            // An administrator's pull by name makes it everybody's.
            #expect(await ensure(ImageCaller.publisher.with(own), .always) == nil)
            #expect(await ensure(ImageCaller.user(3, open: opener()), .never) == nil)
        }
    }

    @Test func jobsWithCredentialsAreSharedByThoseWhoHaveTheSame() throws {
        let reference = try ImageReference(parsing: "r.example/x:1")
        func key(_ user: UInt32, _ auth: String?) -> String {
            PullJob(
                reference: reference, standing: .user, user: user,
                credentials: auth.map { RegistryCredentials(registry: "r.example", auth: $0, identityToken: nil) }
            ).key
        }
        #expect(key(1, nil) == key(2, nil) && key(1, "YQ==") == key(1, "YQ=="))
        #expect(key(1, "YQ==") != key(2, "YQ==") && key(1, "YQ==") != key(1, "Yg==") && key(1, "YQ==") != key(1, nil))
        #expect(!key(1, "YQ==").contains("YQ=="))
    }

    @Test func theNodesCredentialsAreItsAdministrators() async throws {
        try await Self.withCredentials(users: Self.users) { bench in
            try bench.registry.push(try TestImage.small("x"), "private:1")
            let reference = try bench.registry.reference("private:1")
            let ensure: @Sendable (ImageCaller, PullPolicy) async -> AegisError? = { caller, policy in
                await failure { try await bench.store.ensure(reference, policy: policy, for: caller) }
            }
            let denied = await ensure(Self.user, .ifNotPresent)
            #expect(denied?.code == "image-auth-required" && denied?.hint?.contains("image pull") == true)
            #expect(await ensure(.node, .ifNotPresent) == nil)
            for policy in PullPolicy.allCases {
                let error = await ensure(Self.user, policy)
                #expect(error?.code == "image-private" && error?.hint?.contains("image pull") == true, "\(policy)")
            }
            // An administrator shares it; a later pull of the same image does not take that back.
            #expect(await ensure(.publisher, .ifNotPresent) == nil)
            #expect(await ensure(Self.user, .ifNotPresent) == nil)
            #expect(await ensure(.node, .always) == nil)
            #expect(await ensure(Self.user, .never) == nil)
            try bench.registry.push(try TestImage.small("y"), "private:1")
            #expect(await ensure(.node, .always) == nil)
            #expect(await ensure(Self.user, .never)?.code == "image-private")
        }
    }

    @Test func whatARegistryGivesToAnyoneIsForEverybody() async throws {
        try await Self.withCredentials(users: nil) { bench in
            try bench.registry.push(try TestImage.small("x"), "public:1")
            let reference = try bench.registry.reference("public:1")
            _ = try await bench.store.ensure(reference)
            #expect(await failure { try await bench.store.ensure(reference, policy: .never, for: Self.user) } != nil)
            _ = try await bench.store.ensure(reference, for: Self.user)
            #expect(await failure { try await bench.store.ensure(reference, policy: .never, for: Self.user) } == nil)
        }
    }

    @Test func whoKnowsTheDigestsOfAnImageHasNotTheImage() async throws {
        try await Self.withCredentials(users: nil) { bench in
            let image = try TestImage.small("secret")
            try bench.registry.push(image, "private:1")
            _ = try await bench.ensure("private:1")
            // The same manifest under a name of the attacker's; the registry has no part of the image any more.
            try bench.registry.store(manifest: image.manifest, in: "evil", tag: "1")
            for blob in image.blobs { try bench.registry.forget(blob.digest) }
            let reference = try bench.registry.reference("evil:1")
            #expect(await failure { try await bench.store.ensure(reference, for: Self.user) } != nil)
            #expect(await failure { try await bench.store.ensure(reference, for: .publisher) } != nil)
            // Nor with the configuration in hand.
            try bench.registry.store(image.id, image.blobs[1].bytes, in: "evil")
            #expect(await failure { try await bench.store.ensure(reference, for: Self.user) } != nil)
            let folder = bench.directory.path("layout")
            try image.writeLayout(folder)
            try Files.writeAtomically("\(folder)/blobs/sha256/\(image.blobs[0].digest.hex)", [])
            let local = try ImageReference(parsing: "oci:\(folder)")
            #expect(await failure { try await bench.store.ensure(local, for: Self.user) } != nil)
            #expect(try leftovers(bench.store) == [])
        }
    }

    @Test func withoutCredentialsEverythingIsForEverybody() async throws {
        try await withBench { bench in
            try bench.registry.push(try TestImage.small("x"), "app:1")
            let held = try await bench.ensure("app:1")
            let reference = try bench.registry.reference("app:1")
            #expect(try await bench.store.ensure(reference, policy: .never, for: Self.user).digest == held.digest)
            // Who has just pulled an image is no use of it.
            #expect(try await bench.store.info(held, inUse: [])?.inUse == false)
            #expect(try await bench.store.info(held, inUse: [held.digest])?.inUse == true)
        }
    }
}
