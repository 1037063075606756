import AegisCore
package import AegisIO
package import AegisSandboxTypes
import LinuxSys

extension OCISandbox {
    /// How long freezing may take; a process in the middle of a long kernel call delays it.
    private static var freezeDeadline: Duration { .seconds(2) }
    /// gVisor gives the memory of a process that has ended back in the background, a little at a time.
    private static var squeezeDeadline: Duration { .seconds(3) }

    package func dial(_ port: UInt16, deadline: Duration) async throws -> FileStream {
        guard let network else { throw gone }
        let end = loop.clock.now.advanced(by: deadline)
        do throws(IOError) {
            do throws(IOError) { return try await connect("127.0.0.1", port, until: end) } catch {
                // A time-out is final; a refusal leaves others to be tried, and the first reason stands.
                guard error.kind != .timeout, error.kind != .cancelled else { throw error }
                if let stream = try? await connect("::1", port, until: end) { return stream }
                // One that listens on the address of its network only.
                for address in (try? NetworkNamespace.ownAddresses(in: .duplicating(network.raw))) ?? [] {
                    if let stream = try? await connect(address, port, until: end) { return stream }
                }
                throw error
            }
        } catch {
            if error.kind == .cancelled || Task.isCancelled { throw CancellationError() }
            if error.kind == .timeout {
                throw AegisError(.timeout, "port-timeout", "port \(port) of \(record.id) did not answer in time")
            }
            let isRefused = error.errno == .connectionRefused
            throw AegisError(
                .unavailable, "port-closed",
                isRefused
                    ? "nothing listens on port \(port) of \(record.id)"
                    : "port \(port) of \(record.id) cannot be reached: \(error)",
                hint: "servers must listen on 127.0.0.1, ::1 or all addresses inside")
        }
    }

    /// One attempt, from inside the sandbox's network.
    private func connect(
        _ text: String, _ port: UInt16, until end: LoopClock.Instant
    ) async throws(IOError) -> FileStream {
        let left = loop.clock.now.duration(to: end)
        guard let network, left > .zero, let address = SocketAddress(ip: text, port: port) else { throw .timeout }
        let socket: FileDescriptor
        do throws(Errno) {
            socket = try NetworkNamespace.streamSocket(in: .duplicating(network.raw), ipv6: text.contains(":"))
        } catch { throw .system(error, "entering the network of \(record.id)") }
        return try await Connect.socket(socket, to: address, on: loop, deadline: left)
    }

    private var gone: AegisError {
        .conflict("instance-stopped", "the sandbox \(record.id) has ended")
    }

    package func pause() async throws {
        guard ended.now == nil else { throw gone }
        do {
            try await setFrozen(true)
        } catch {
            // Half frozen is no state to leave a workload in.
            try? group.setFrozen(false)
            throw error
        }
    }

    package func resume() async throws {
        guard ended.now == nil else { throw gone }
        try await setFrozen(false)
    }

    private func setFrozen(_ frozen: Bool) async throws {
        let end = loop.clock.now.advanced(by: Self.freezeDeadline)
        var pause = Duration.microseconds(100)
        while true {
            // Its group's name is the next sandbox's of the instance too.
            guard ended.now == nil else { throw gone }
            // Version 1 gives up on processes that fork meanwhile: it is asked again each time.
            do throws(Errno) { try group.setFrozen(frozen) } catch {
                throw AegisError.failed(
                    frozen ? "pause-failed" : "resume-failed", "cannot change the freezer of \(record.id): \(error)")
            }
            if group.isFrozen == frozen { return }
            guard loop.clock.now < end else {
                throw AegisError(
                    .timeout, frozen ? "pause-failed" : "resume-failed",
                    "\(record.id) was not \(frozen ? "frozen" : "thawed") within \(Self.freezeDeadline)")
            }
            try await loop.clock.sleep(for: pause)
            pause = min(pause * 2, .milliseconds(10))
        }
    }

    package func reclaim(while wanted: @escaping @Sendable () -> Bool) async throws -> (before: UInt64, after: UInt64) {
        guard ended.now == nil, group.exists else { throw gone }
        let (before, first) = try await pushOut(while: wanted)
        var after = first
        guard Self.isWorthAnotherLook(moved: before - min(first, before), swap: SwapSpace.current()) else {
            return (before, after)
        }
        // Which pages are old the kernel judges by counters that it renews every two seconds: pages that were in use just before, or
        // that several processes share, it has only looked at so far, and takes when it is asked again. A busy machine is late with it.
        var fruitless = 0
        while after > Self.negligible, fruitless < 2 {
            do { try await loop.clock.sleep(for: .seconds(3)) } catch { break }
            guard wanted(), ended.now == nil, let now = try? await pushOut(while: wanted).after else { break }
            fruitless = now + Self.negligible < after ? 0 : fruitless + 1
            after = min(after, now)
        }
        return (before, after)
    }

    /// Whether the kernel may find more when it is asked again. Without swap only pages that a file backs can go, and where none of
    /// them went at first the rest has nowhere to go: others wait for their turn meanwhile.
    ///
    /// - Parameters:
    ///   - moved: bytes that went at first.
    ///   - swap: what the host has.
    /// - Returns: false when it cannot.
    static func isWorthAnotherLook(moved: UInt64, swap: SwapSpace) -> Bool { moved > negligible || swap != .none }

    /// As little as that is not worth another look.
    private static var negligible: UInt64 { 4 << 20 }

    /// Asks the kernel once, on a thread of its own.
    private func pushOut(while wanted: @escaping @Sendable () -> Bool) async throws -> (before: UInt64, after: UInt64) {
        let group = group
        // One at a time on the whole host: it is the kernel's work, and everybody's disk or processor.
        return try await Self.reclaiming.run {
            let result = await onOwnThread { () -> Result<(before: UInt64, after: UInt64), Errno> in
                let before = group.memoryInUse
                do throws(Errno) { try group.reclaim(while: wanted) } catch { return .failure(error) }
                return .success((before, group.memoryInUse))
            }
            return try result.get()
        }
    }
    private static let reclaiming = TurnLock()

    package func update(_ limits: Limits) async throws {
        try limits.validate()
        guard ended.now == nil else { throw gone }
        if limits.disk != nil || backend.disk.isLimited(record.id) {
            try await backend.disk.change(record.id, limit: limits.disk)
        }
        let resolved = backend.runtime.hostLimits(backend.cgroups.resolve(limits))
        let end = loop.clock.now.advanced(by: Self.squeezeDeadline)
        let group = group
        while true {
            // The kernel makes room while the call lasts: not on the loop's thread.
            let refusal = await onOwnThread { () -> Errno? in
                do throws(Errno) { try group.apply(resolved, lowering: true) } catch { return error }
                return nil
            }
            guard let refusal else { return }
            guard refusal == .busy else {
                throw AegisError.failed("update-failed", "cannot change the limits of \(record.id): \(refusal)")
            }
            guard ended.now == nil else { throw gone }
            guard loop.clock.now < end else {
                throw AegisError.conflict(
                    "memory-in-use",
                    "\(record.id) uses more than \(ByteSize(resolved.memory)) and cannot be squeezed below",
                    hint: "give it more, or stop something inside")
            }
            try await loop.clock.sleep(for: .milliseconds(50))
        }
    }

    package func usage() async throws -> Usage {
        guard group.exists else { throw gone }
        return group.usage()
    }
}
