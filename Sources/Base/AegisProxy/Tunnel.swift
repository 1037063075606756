package import AegisIO

/// Two streams joined: what comes from one leaves through the other, until both have ended.
package enum Tunnel {
    /// How often in a row a busy direction moves bytes before it lets others run.
    private static var streak: Int { 16 }
    /// The most bytes to ask the kernel for at once.
    private static var portion: Int { 1 << 20 }

    /// Relays both ways, through the kernel's pipes and not through this program's memory.
    ///
    /// A side that ends its writing ends the other's (half-close); a side that is reset resets the other. There is no
    /// idle limit. Both streams are closed when it returns, also when the task is cancelled.
    package static func relay(_ a: FileStream, _ b: FileStream, pools: ProxyPools) async {
        let whole = await withTaskGroup(of: Bool.self) { group in
            group.addTask { await pump(from: a, to: b, pools) }
            let there = await pump(from: b, to: a, pools)
            return await group.next() == true && there
        }
        if whole {
            a.close()
            b.close()
        } else {
            a.reset()
            b.reset()
        }
    }

    /// - Returns: whether the direction ended well; else both streams have been reset.
    private static func pump(from source: FileStream, to sink: FileStream, _ pools: ProxyPools) async -> Bool {
        do throws(IOError) {
            try await move(from: source, to: sink, pools)
            // Also when the other side has gone: then its direction tells.
            try sink.closeWrite()
            return true
        } catch {
            source.reset()
            sink.reset()
            return false
        }
    }

    private static func move(from source: FileStream, to sink: FileStream, _ pools: ProxyPools) async throws(IOError) {
        var turns = 0
        while true {
            let pipe = try pools.takePipe()
            guard let count = try source.splice(into: pipe, atMost: portion) else {
                pools.give(empty: pipe)
                try await source.waitUntilReadable()
                continue
            }
            if count > 0 { try await drain(pipe, count, to: sink) }
            pools.give(empty: pipe)
            if count == 0 { return }
            turns += 1
            if turns % streak == 0 { await Task.yield() }
        }
    }

    private static func drain(_ pipe: SplicePipe, _ count: Int, to sink: FileStream) async throws(IOError) {
        var left = count
        while left > 0 {
            if let sent = try sink.splice(from: pipe, count: left) {
                left -= sent
            } else {
                try await sink.waitUntilWritable()
            }
        }
    }

    /// Moves exactly so many bytes of a body.
    ///
    /// - Returns: nil when all went, else which side failed.
    static func move(
        _ count: Int, from source: FileStream, to sink: FileStream, pools: ProxyPools
    ) async -> BodyFailure? {
        var left = count
        var turns = 0
        while left > 0 {
            let pipe: SplicePipe
            let moved: Int
            do throws(IOError) {
                pipe = try pools.takePipe()
                guard let count = try source.splice(into: pipe, atMost: min(left, portion)) else {
                    pools.give(empty: pipe)
                    try await source.waitUntilReadable()
                    continue
                }
                moved = count
            } catch { return .source(error) }
            guard moved > 0 else { return .source(nil) }
            do throws(IOError) { try await drain(pipe, moved, to: sink) } catch { return .sink(error) }
            pools.give(empty: pipe)
            left -= moved
            turns += 1
            if turns % streak == 0 { await Task.yield() }
        }
        return nil
    }
}
