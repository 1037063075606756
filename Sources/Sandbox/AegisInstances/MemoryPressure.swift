internal import AegisIO
internal import LinuxSys

/// Whether this machine has memory to spare for what nobody needs yet.
struct MemoryPressure: Sendable {
    /// Bytes that must stay available.
    var reserve: UInt64
    /// Percent of the last ten seconds in which some task waited for memory, above which nothing is made ahead.
    static let stalled = 10.0

    /// - Parameter more: bytes that are about to be used.
    /// - Returns: why there is no room; nil when there is.
    func objection(for more: UInt64) -> String? {
        let available = Self.available((try? Self.read("/proc/meminfo")) ?? "") ?? .max
        guard available > more, available - more >= reserve else {
            return "\(available >> 20) MiB of memory are available, \(reserve >> 20) MiB are kept free"
        }
        let stall = Self.stall((try? Self.read("/proc/pressure/memory")) ?? "") ?? 0
        return stall > Self.stalled ? "tasks wait for memory \(Int(stall)) % of the time" : nil
    }

    private static func read(_ path: String) throws(Errno) -> String {
        String(decoding: try Files.read(path, limit: 65_536), as: UTF8.self)
    }

    /// Bytes that can be had without swapping, from the text of `/proc/meminfo`.
    static func available(_ meminfo: String) -> UInt64? {
        for line in meminfo.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
            return line.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }.map { $0 << 10 }
        }
        return nil
    }

    /// `avg10` of the line `some`, in percent, from the text of `/proc/pressure/memory`.
    static func stall(_ text: String) -> Double? {
        for line in text.split(separator: "\n") where line.hasPrefix("some ") {
            for word in line.split(separator: " ") where word.hasPrefix("avg10=") { return Double(word.dropFirst(6)) }
        }
        return nil
    }

    /// Calls `body` whenever tasks have waited for memory for 200 ms within two seconds, until the task is cancelled; costs
    /// nothing in between. Returns at once on a kernel that does not tell.
    static func watch(on loop: EventLoop, _ body: () async -> Void) async {
        guard let file = try? FileDescriptor.open("/proc/pressure/memory", .readWrite),
            // Two seconds are the shortest that the kernel allows everybody; it wants the NUL.
            (try? file.writeAll(Array("some 200000 2000000\0".utf8)[...])) != nil,
            let stream = try? FileStream(file, on: loop)
        else { return }
        defer { stream.close() }
        // The file counts as readable from the beginning; what comes after is an event.
        guard (try? await stream.waitUntilReadable()) != nil else { return }
        while (try? await stream.waitUntilReadable()) != nil { await body() }
    }
}
