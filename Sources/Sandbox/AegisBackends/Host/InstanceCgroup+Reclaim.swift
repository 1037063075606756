package import LinuxSys

extension InstanceCgroup {
    /// How much is asked for at a time, so that a sandbox that is wanted again waits for a small piece only.
    private static let piece: UInt64 = 32 << 20

    /// Bytes charged to the group now, page cache included.
    package var memoryInUse: UInt64 {
        let file = layout.version(of: "memory") == .v2 ? "memory.current" : "memory.usage_in_bytes"
        return folder("memory").flatMap { ControlFile.number("\($0)/\(file)") } ?? 0
    }

    /// Pushes out what can go: clean pages are dropped, others written to swap where the host has some. Blocks.
    ///
    /// - Parameter wanted: asked between pieces; version 1 knows one piece only.
    /// - Throws: what the kernel refused, other than to find anything more.
    package func reclaim(while wanted: () -> Bool) throws(Errno) {
        guard wanted() else { return }
        guard layout.version(of: "memory") == .v2 else {
            do { try write("memory", "memory.force_empty", "0") } catch {
                if error != .wouldBlock, error != .busy { throw error }
            }
            return
        }
        // A sandbox has no swap of its own while it runs (decision D38).
        do { try write("memory", "memory.swap.max", "max") } catch { if error != .noSuchFile { throw error } }
        defer { try? write("memory", "memory.swap.max", "0") }
        var left = memoryInUse
        while wanted(), left > 0 {
            do { try write("memory", "memory.reclaim", "\(Swift.min(left, Self.piece))") } catch {
                guard error == .wouldBlock else { throw error }
            }
            let now = memoryInUse
            // What is left does not go.
            guard now < left, left - now > 64 << 10 else { return }
            left = now
        }
    }
}
