import AegisCore
import Testing

@testable import AegisInstances

@Suite struct WarmWishTests {
    private static let isolations = ["auto", "runsc", "runc"]

    @Test(arguments: [
        ("base", "base", nil), ("base@runc", "base", "runc"), ("base@auto", "base", nil),
        ("reg:5000/a/b:1@runsc", "reg:5000/a/b:1", "runsc"), ("a@sha256:00ff", "a@sha256:00ff", nil),
        ("a@sha256:00ff@runc", "a@sha256:00ff", "runc"),
    ]) func anImageMayNameItsIsolation(_ key: String, _ image: String, _ isolation: String?) throws {
        let wish = try WarmWish(key, count: 2, isolations: Self.isolations)
        #expect(wish.image == image && wish.isolation == isolation && wish.count == 2)
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
