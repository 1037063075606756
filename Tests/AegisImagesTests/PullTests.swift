import AegisCore
import AegisIO
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

@testable import AegisImages

struct PullTests {
    @Test(arguments: [false, true])
    func pullsLayersAndConfiguration(_ docker: Bool) async throws {
        try await withBench { bench in
            let layers = [
                TestImage.Layer(
                    tar: TarBuilder.make { $0.add("bin/sh", .file, "shell", mode: 0o755) }, compression: .gzip),
                TestImage.Layer(
                    tar: TarBuilder.make { $0.add("etc/motd", .file, "hello") }, compression: docker ? .gzip : .zstd),
            ]
            let config =
                #""Entrypoint":["/bin/sh"],"Cmd":["-c","true"],"Env":["PATH=/bin"],"User":"7:8","WorkingDir":"/w","ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGINT""#
            let image = try TestImage(layers, config: config, docker: docker)
            try bench.registry.push(image, "app:1")
            let resolved = try await bench.ensure("app:1")
            #expect(resolved.digest == image.id.description)
            #expect(resolved.manifestDigest == image.digest.description)
            #expect(resolved.layers.map(\.digest) == image.layers.map(\.description))
            #expect(text(resolved.layers[0], "bin/sh") == "shell" && text(resolved.layers[1], "etc/motd") == "hello")
            #expect(try resolved.config.commandLine(userCommand: []) == ["/bin/sh", "-c", "true"])
            #expect(resolved.config.user == "7:8" && resolved.config.workingDirectory == "/w")
            #expect(resolved.config.exposedPorts == ["80/tcp"] && resolved.config.stopSignal == "SIGINT")
            #expect(try leftovers(bench.store) == [])
        }
    }

    @Test func uncompressedLayersAndEmptyImages() async throws {
        try await withBench { bench in
            let plain = try TestImage.small("plain", compression: .none)
            try bench.registry.push(plain, "plain:1")
            #expect(text(try await bench.ensure("plain:1").layers[0], "file") == "plain")
            try bench.registry.push(try TestImage([]), "empty:1")
            #expect(try await bench.ensure("empty:1").layers.isEmpty)
        }
    }

    @Test func layersAreStoredOnceAndNotFetchedAgain() async throws {
        try await withBench { bench in
            let common = TestImage.Layer(tar: TarBuilder.make { $0.add("common", .file, "c") })
            let first = try TestImage([common])
            let second = try TestImage([common, TestImage.Layer(tar: TarBuilder.make { $0.add("more", .file, "m") })])
            try bench.registry.push(first, "first:1")
            try bench.registry.push(second, "second:1")
            let one = try await bench.ensure("first:1")
            // The registry no longer has the layer: only what is missing may be asked for.
            try bench.registry.forget(first.blobs[0].digest)
            let two = try await bench.ensure("second:1")
            #expect(two.layers.count == 2 && two.layers[0] == one.layers[0])
            #expect(text(two.layers[1], "more") == "m")
        }
    }

    @Test func aLayerThatComesTwiceIsMountedOnce() async throws {
        try await withBench { bench in
            let a = TestImage.Layer(tar: TarBuilder.make { $0.add("a", .file) })
            let b = TestImage.Layer(tar: TarBuilder.make { $0.add("b", .file) })
            let image = try TestImage([a, b, a])
            try bench.registry.push(image, "twice:1")
            #expect(
                try await bench.ensure("twice:1").layers.map(\.digest)
                    == [image.layers[1], image.layers[0]].map(\.description))
        }
    }

    @Test func aLayerThatHidesAllCutsTheStack() async throws {
        try await withBench { bench in
            let image = try TestImage([
                TestImage.Layer(tar: TarBuilder.make { $0.add("old", .file) }),
                TestImage.Layer(tar: TarBuilder.make { $0.add(".wh..wh..opq", .file) }),
            ])
            try bench.registry.push(image, "cut:1")
            #expect(try await bench.ensure("cut:1").layers.map(\.digest) == [image.layers[1].description])
        }
    }

    @Test func directoriesThatALayerDoesNotDescribeKeepTheirAttributes() async throws {
        try await withBench { bench in
            let image = try TestImage([
                TestImage.Layer(
                    tar: TarBuilder.make {
                        $0.add("home", .directory, mode: 0o755)
                        $0.add("home/user", .directory, mode: 0o700, uid: 1000, gid: 1000, time: 1_234_567_890)
                        $0.add("tmp", .directory, mode: 0o1777)
                        $0.add("gone", .directory, mode: 0o700)
                    }),
                TestImage.Layer(
                    tar: TarBuilder.make {
                        $0.add("home/user/.profile", .file, "x", uid: 1000)
                        $0.add("tmp/x", .file)
                        $0.add(".wh.gone", .file)
                        $0.add("gone/again", .file)
                        $0.add("new/dir/x", .file)
                    }),
            ])
            try bench.registry.push(image, "implicit:1")
            let layers = try await bench.ensure("implicit:1").layers
            #expect(layers.count == 3)
            let top = try unwrap(layers.last, "layers")
            #expect(look(top, "home/user") == Seen(kind: .directory, mode: 0o700, uid: 1000, gid: 1000))
            #expect(look(top, "home")?.mode == 0o755)
            #expect(look(top, "tmp")?.mode == 0o1777)
            #expect(look(top, "gone") == nil && look(top, "new") == nil)
            let status = try Files.status("\(top.path)/home/user")
            #expect(status.modified == 1_234_567_890_000_000_000)
            // The same image again gives the same layer. Whoever resolved it lets go of it when the last task has ended.
            var isGone = false
            for _ in 0..<500 where !isGone {
                do {
                    _ = try await bench.store.delete(try bench.registry.reference("implicit:1"))
                    isGone = true
                } catch let error as AegisError where error.code == "image-in-use" {
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
            #expect(isGone)
        }
    }

    @Test func choosesThePlatformOfAList() async throws {
        try await withBench { bench in
            let right = try TestImage.small("right")
            let wrong = try TestImage(
                [TestImage.Layer(tar: TarBuilder.make { $0.add("file", .file, "wrong") })], architecture: "s390x")
            try bench.registry.push(right, "multi")
            try bench.registry.push(wrong, "multi")
            try bench.registry.store(
                manifest: TestImage.index([(wrong, "s390x"), (right, Platform.host.architecture)]), in: "multi",
                tag: "1")
            #expect(text(try await bench.ensure("multi:1").layers[0], "file") == "right")
            try bench.registry.store(manifest: TestImage.index([(wrong, "s390x")]), in: "multi", tag: "2")
            let error = await failure { try await bench.ensure("multi:2") }
            #expect(error?.code == "image-no-variant" && error?.message.contains("linux/s390x") == true)
            try bench.registry.push(wrong, "single:1")
            let single = await failure { try await bench.ensure("single:1") }
            #expect(single?.code == "image-no-variant" && single?.message.contains("linux/s390x") == true)
        }
    }

    @Test func policiesDecideWhenTheRegistryIsAsked() async throws {
        try await withBench { bench in
            let never = await failure { try await bench.ensure("app:1", .never) }
            #expect(never?.code == "image-not-here")
            let (old, new) = (try TestImage.small("old"), try TestImage.small("new"))
            try bench.registry.push(old, "app:1")
            #expect(try await bench.ensure("app:1").digest == old.id.description)
            try bench.registry.push(new, "app:1")
            #expect(try await bench.ensure("app:1").digest == old.id.description)
            #expect(try await bench.ensure("app:1", .never).digest == old.id.description)
            #expect(try await bench.ensure("app:1", .always).digest == new.id.description)
            #expect(try await bench.ensure("app:1").digest == new.id.description)
            // By digest the old one is still to be had.
            #expect(try await bench.ensure("app@\(old.digest)").digest == old.id.description)
            await bench.registry.stop()
            #expect(try await bench.ensure("app:1").digest == new.id.description)
            let away = await failure { try await bench.ensure("app:1", .always) }
            #expect(away?.code == "registry-unreachable", "\(String(describing: away))")
        }
    }

    @Test func localImagesNeedNoRegistry() async throws {
        try await withBench { bench in
            let image = try TestImage.small("local")
            try image.writeLayout(bench.directory.path("layout"))
            let reference = try ImageReference(parsing: "oci:\(bench.directory.path("layout"))")
            #expect(text(try await bench.store.ensure(reference).layers[0], "file") == "local")
            // An archive that only another user may read.
            let archive = bench.directory.path("image.tar")
            let origin = "oci:\(bench.directory.path("layout"))"
            try await command(["skopeo", "copy", "-q", origin, "docker-archive:\(archive):local/x:1"], on: bench.loop)
            try Files.setPermissions(archive, 0o600)
            try Files.setOwner(archive, user: 1234, group: 1234)
            let packed = try await bench.store.ensure(try ImageReference(parsing: "docker-archive:\(archive)"))
            #expect(packed.layers.map(\.digest) == image.layers.map(\.description))
            let missing = try ImageReference(parsing: "oci:\(bench.directory.path("nothing"))")
            #expect(await failure { try await bench.store.ensure(missing) }?.code == "image-not-found")
        }
    }
}

struct PullFailureTests {
    @Test func unknownImagesGetTheNearestTag() async throws {
        try await withBench { bench in
            try bench.registry.push(try TestImage.small("x"), "app:3.12-alpine")
            let tag = await failure { try await bench.ensure("app:3.12-alpin") }
            #expect(tag?.code == "image-not-found")
            #expect(tag?.hint == "did you mean '\(bench.registry.name("app:3.12-alpine"))'?")
            let name = await failure { try await bench.ensure("nothing:1") }
            #expect(name?.code == "image-not-found")
            #expect(try leftovers(bench.store) == [])
        }
    }

    @Test func aClosedPortIsAnUnreachableRegistry() async throws {
        try await withBench { bench in
            // An address of this machine, and a port, that nobody takes.
            let error = await failure { try await bench.store.ensure(try ImageReference(parsing: "127.7.7.7:1/x:1")) }
            #expect(error?.code == "registry-unreachable")
        }
    }

    @Test func damagedBlobsAreNoticed() async throws {
        try await withBench { bench in
            let image = try TestImage.small(String(repeating: "x", count: 5000))
            let blob = image.blobs[0]
            var flipped = blob.bytes
            flipped[flipped.count / 2] ^= 1
            for (name, bytes) in [
                ("flipped", flipped), ("short", Array(blob.bytes.dropLast(10))), ("long", blob.bytes + [0]),
            ] {
                try bench.registry.push(image, "\(name):1")
                try bench.registry.damage(blob.digest, bytes)
                let error = await failure { try await bench.ensure("\(name):1") }
                #expect(
                    error?.code == "digest-mismatch" || error?.code == "pull-failed",
                    "\(name): \(String(describing: error))")
                let listed = try await bench.store.list()
                #expect(try leftovers(bench.store) == [] && listed.isEmpty)
            }
        }
    }

    @Test func damagedManifestsAndConfigurationsAreNoticed() async throws {
        try await withBench { bench in
            let image = try TestImage.small("x")
            try bench.registry.push(image, "config:1")
            try bench.registry.damage(image.id, Array("{}".utf8))
            #expect(await failure { try await bench.ensure("config:1") } != nil)
            let other = try TestImage.small("y")
            try bench.registry.push(other, "manifest:1")
            try bench.registry.damage(other.digest, image.manifest)
            #expect(await failure { try await bench.ensure("manifest@\(other.digest)") } != nil)
            #expect(try await bench.store.list().isEmpty)
        }
    }

    @Test func layersThatAreNotWhatTheConfigurationSaysAreRefused() async throws {
        try await withBench { bench in
            let tar = TarBuilder.make { $0.add("f", .file, "x") }
            let image = try TestImage([TestImage.Layer(tar: tar, diff: Digest(of: [1]))])
            try bench.registry.push(image, "diff:1")
            let error = await failure { try await bench.ensure("diff:1") }
            #expect(error?.code == "digest-mismatch")
            #expect(try bench.store.directory.layerDigests().isEmpty)
        }
    }

    @Test func corruptCompressionIsACorruptLayer() async throws {
        try await withBench { bench in
            let tar = TarBuilder.make { $0.add("f", .file, String(repeating: "some text ", count: 5000)) }
            for compression in [Compression.gzip, .zstd] {
                // The digests fit: the image was pushed broken.
                var bytes = try compression.apply(tar)
                for i in bytes.count / 2..<bytes.count / 2 + 8 { bytes[i] ^= 0xff }
                let broken = TestImage.Layer(tar: bytes, compression: .none, diff: Digest(of: tar))
                try bench.registry.push(try TestImage([broken]), "\(compression):1")
                let error = await failure { try await bench.ensure("\(compression):1") }
                #expect(
                    error?.code == "corrupt-layer" || error?.code == "digest-mismatch", "\(String(describing: error))")
            }
        }
    }

    @Test func aFailureLeavesTheImageThatWasThere() async throws {
        try await withBench { bench in
            let good = try TestImage.small("good")
            try bench.registry.push(good, "app:1")
            _ = try await bench.ensure("app:1")
            let bad = try TestImage([TestImage.Layer(tar: TarBuilder.make { $0.add("../x", .file) })])
            try bench.registry.push(bad, "app:1")
            #expect(await failure { try await bench.ensure("app:1", .always) }?.code == "corrupt-layer")
            #expect(try await bench.ensure("app:1").digest == good.id.description)
        }
    }

    /// The password of both users is "secret".
    private static let users = "user:$2y$05$Ap4D6PBvWLGXOIyhJ1H5v.3imXNiA5Oa2b5I0sJwC3d.TPX4mLGJG\n"

    @Test func credentialsComeFromAuthFiles() async throws {
        let folder = try TemporaryDirectory()
        defer { withExtendedLifetime(folder) {} }
        var settings = testSettings()
        settings.environment["REGISTRY_AUTH_FILE"] = folder.path("auth.json")
        try Files.writeAtomically(folder.path("auth.json"), Array("{}".utf8))
        try await withBench(users: Self.users, settings: settings) { bench in
            try bench.registry.push(try TestImage.small("x"), "private:1")
            func login(_ pair: String) throws {
                let text = #"{"auths":{"127.0.0.1:\#(bench.registry.port)":{"auth":"\#(pair)"}}}"#
                try Files.writeAtomically(folder.path("auth.json"), Array(text.utf8))
            }
            #expect(await failure { try await bench.ensure("private:1") }?.code == "image-auth-required")
            try login("dXNlcjp3cm9uZw==")
            let wrong = await failure { try await bench.ensure("private:1") }
            #expect(wrong?.code == "image-auth-required" && wrong?.message.contains("does not accept") == true)
            try login("dXNlcjpzZWNyZXQ=")
            _ = try await bench.ensure("private:1")
        }
    }

    @Test func aNamedAuthFileThatIsMissingIsAnError() async throws {
        var settings = testSettings()
        settings.authFile = "/nonexistent/auth.json"
        try await withBench(settings: settings) { bench in
            #expect(await failure { try await bench.ensure("x:1") }?.code == "auth-file-unreadable")
        }
    }
}

struct ImageProgressTests {
    @Test func saysWhatGoesOn() {
        #expect("\(ImageProgress.downloading(bytes: 1_572_864, of: 3 << 20))" == "downloading 1.5 MiB of 3.0 MiB")
        #expect("\(ImageProgress.unpacking(layers: 1, of: 3))" == "unpacking 1 of 3 layers")
        #expect("\(ImageProgress.warning("x"))" == "warning: x")
    }

    @Test func aPullTellsItsStepsInOrder() async throws {
        try await withBench { bench in
            try bench.registry.push(try TestImage.small("x"), "app:1")
            let steps = Mutex<[ImageProgress]>([])
            let reference = try bench.registry.reference("app:1")
            _ = try await bench.store.ensure(
                reference, progress: { step in steps.withLock { $0.append(step) } })
            let seen = steps.withLock { $0 }
            #expect(seen.first == .resolving && seen.last == .ready)
            #expect(seen.contains(.unpacking(layers: 1, of: 1)))
        }
    }
}
