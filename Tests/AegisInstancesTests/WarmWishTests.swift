import AegisCore
import AegisSandboxTypes
import Testing

@testable import AegisInstances

@Suite struct WarmWishTests {
    private static let isolations = ["auto", "runsc", "runc"]

    private static let digest = "sha256:" + String(repeating: "0f", count: 32)

    @Test(arguments: [
        ("base", "base", nil), ("base@runc", "base", "runc"), ("base@auto", "base", nil),
        ("reg:5000/a/b:1@runsc", "reg:5000/a/b:1", "runsc"),
        ("a@\(WarmWishTests.digest)", "a@\(WarmWishTests.digest)", nil),
        ("a@\(WarmWishTests.digest)@runc", "a@\(WarmWishTests.digest)", "runc"),
        ("oci:/srv/c++/image", "oci:/srv/c++/image", nil),
    ]) func anImageMayNameItsIsolation(_ key: String, _ image: String, _ isolation: String?) throws {
        let wish = try WarmWish(key, count: 2, isolations: Self.isolations)
        #expect(wish.image == image && wish.isolation == isolation && wish.count == 2)
        #expect(wish.limits == Limits())
        // The same with limits, which come last.
        let limited = try WarmWish(key + "+memory=512Mi+cpus=0.5", count: 1, isolations: Self.isolations)
        #expect(limited.image == image && limited.isolation == isolation)
        #expect(limited.limits == Limits(cpus: 0.5, memory: ByteSize(512 << 20)))
    }

    @Test func everyLimitOfASandboxCanBeWished() throws {
        let wish = try WarmWish("base+pids=64+disk=1Gi+memory=16Mi+cpus=2", count: 1, isolations: Self.isolations)
        #expect(
            wish.limits == Limits(cpus: 2, memory: ByteSize(16 << 20), disk: ByteSize(1 << 30), pids: 64))
    }

    @Test(arguments: [
        ("base+mem=1Gi", "'mem' of 'base+mem=1Gi' is not a limit", "did you mean 'memory'?"),
        ("base+timeout=1s", "'timeout' of", "use cpus, memory, disk, pids"),
        ("base+memory=1Gi+memory=2Gi", "two limits 'memory'", "give each once"),
        ("base+memory=much", "'much' of", "+memory=512Mi"), ("base+memory=1Mi", "memory 1Mi is too small", "16Mi"),
        ("base+disk=1", "disk 1 is too small", "1Mi"), ("base+cpus=0", "cpus 0.0 is out of range", "0.01"),
        ("base+cpus=0x2", "'0x2' of", "+cpus=2"), ("base+cpus=", "'' of", "+cpus=2"),
        ("base+cpus=nan", "'nan' of", "+cpus=2"), ("base+pids=1.5", "'1.5' of", "+pids=256"),
        ("base+pids=3", "pids 3 is out of range", "4 to"), ("base+=1", "'' of 'base+=1' is not a limit", "use cpus"),
        // In other ways than with a + before each.
        ("base@runc:memory=512Mi,cpus=1", "is not an image reference", "base@runc+memory=512Mi"),
        ("base+memory=512Mi,cpus=1", "'512Mi,cpus=1' of", "each behind a +"),
        ("base+memory=512Mi@runc", "'512Mi@runc' of", "limits come last"),
        ("base+memory", "is not an image reference", "base@runc+memory=512Mi"),
        ("Base", "names are lower case", "did you mean 'base'?"),
    ]) func whatIsNoLimitIsRefused(_ key: String, _ said: String, _ hint: String) {
        let error = #expect(throws: AegisError.self) {
            try WarmWish(key, count: 1, isolations: ["auto", "runsc", "runc"])
        }
        #expect(
            error?.code == "invalid-argument" && error?.message.contains(said) == true, "\(String(describing: error))")
        #expect(error?.hint?.contains(hint) == true, "\(String(describing: error))")
    }

    @Test(arguments: [("", 1), ("@runc", 1), ("base@rumc", 1), ("base@", 1), ("base", -1), ("base", 65)])
    func whatIsNoWishIsRefused(_ key: String, _ count: Int) {
        #expect(throws: AegisError.self) { try WarmWish(key, count: count, isolations: Self.isolations) }
    }

    @Test func theKernelsWordOnMemoryIsRead() {
        let meminfo = "MemTotal:       2048 kB\nMemFree:  12 kB\nMemAvailable:   1024 kB\n"
        #expect(MemoryPressure.available(meminfo) == 1 << 20)
        #expect(MemoryPressure.available("MemTotal: 1 kB\n") == nil)
        let pressure =
            "some avg10=12.50 avg60=1.00 avg300=0.00 total=5\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=1\n"
        #expect(MemoryPressure.stall(pressure) == 12.5)
        #expect(MemoryPressure.stall("") == nil)
        #expect(MemoryPressure(reserve: 1 << 60).objection(for: 0)?.contains("are kept free") == true)
        #expect(MemoryPressure(reserve: 0).objection(for: .max)?.contains("available") == true)
    }
}
