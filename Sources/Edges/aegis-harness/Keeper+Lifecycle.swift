import AegisChannelEmbedded
import CHarness

extension Keeper {
    /// Takes the ends of children from the kernel.
    func reap() {
        ah_drain_signals(signals)
        var code: UInt32 = 0
        var signal: UInt8 = 0
        while true {
            let pid = unsafe ah_reap(&code, &signal)
            guard pid > 0 else { return }
            if pid == boot.runtime {
                boot.runtimeEnd = (code, signal)
                boot.runtimeAt = ah_now_microseconds()
                boot.runtime = 0
            } else if pid == sandbox.pid {
                sandbox.end = (code, signal)
            } else if pid == holder {
                holder = 0
            } else if phase == .booting {
                if boot.strays.count == 64 { boot.strays.removeFirst() }
                boot.strays.append((pid, code, signal))
            }
        }
    }

    /// Goes on where something has become possible.
    func advance() {
        let isLate = deadline.map { ah_now_microseconds() >= $0 } ?? false
        switch phase {
        case .waiting, .ended: break
        case .booting: advanceBoot(isLate)
        case .running:
            if sandbox.end != nil {
                deadline = nil
                phase = .ending
                advanceEnd()
            } else if isLate {
                deadline = nil
                if endReason.isEmpty { endReason = bytes("the harness closed its channel and did not end") }
                killSandbox()
            }
        case .ending, .failing: advanceEnd()
        case .failed: if isLate || (daemon < 0 && candidates.isEmpty && failure == nil) { ah_exit(0) }
        }
    }

    // MARK: Boot

    private func advanceBoot(_ isLate: Bool) {
        if let end = boot.runtimeEnd, sandbox.pid == 0 {
            guard end.code == 0 else {
                // Its last words may still be in the pipe.
                if boot.errors >= 0 { readErrors() }
                return fail(.runtime, 0, bytes("the runtime failed with exit code ") + bytes(Int(end.code)))
            }
            guard adopt() else { return }
            boot.step = .hello
        }
        if sandbox.pid != 0 && relay.isUp { return finishBoot() }
        if sandbox.pid != 0 && (harness < 0 || sandbox.end != nil) {
            // So may the sandbox's.
            if boot.errors >= 0 { readErrors() }
            let text = bytes("the sandbox ended before its harness said hello")
            return fail(.hello, 0, text + (sandbox.end.map { bytes(", exit code ") + bytes(Int($0.code)) } ?? []))
        }
        guard isLate else { return }
        let during = boot.step == .hello ? bytes("waiting for the harness") : bytes("waiting for the runtime")
        fail(
            boot.step, Code.timedOut, bytes("not up within ") + bytes(Int(boot.milliseconds)) + bytes(" ms: ") + during)
    }

    /// Finds the sandbox's first process, which must be a child of ours by now. `false`: the boot has failed.
    private func adopt() -> Bool {
        var text = [UInt8](repeating: 0, count: 16)
        let count = unsafe ah_read_file(terminated(boot.pidFile), &text, text.count)
        guard count > 0, let pid = number(text[..<count]), pid > 1 else {
            fail(.runtime, max(0, -count), bytes("the runtime left no usable pid in ") + boot.pidFile)
            return false
        }
        if let stray = boot.strays.first(where: { $0.pid == pid }) {
            sandbox.pid = pid
            sandbox.end = (stray.code, stray.signal)
            return true
        }
        let descriptor = ah_child_descriptor(Int32(truncatingIfNeeded: pid))
        guard descriptor >= 0 else {
            fail(.runtime, -descriptor, bytes("the runtime named process ") + bytes(pid) + bytes(", no child of ours"))
            return false
        }
        sandbox.pid = pid
        sandbox.descriptor = Int32(descriptor)
        return true
    }

    private func number(_ text: ArraySlice<UInt8>) -> Int? {
        var value = 0
        for byte in text {
            if byte == 0x0a { break }
            guard byte >= 0x30 && byte <= 0x39 && value < 1 << 24 else { return nil }
            value = value * 10 + Int(byte - 0x30)
        }
        return value
    }

    private func finishBoot() {
        phase = .running
        deadline = nil
        boot.strays = []
        boot.tail = []
        func span(_ from: UInt64, _ to: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: to > from ? to - from : 0) }
        let record = Booted(
            sandboxPid: UInt32(sandbox.pid), namespacePid: UInt32(holder),
            steps: [
                span(boot.startedAt, boot.namespacesAt), span(boot.namespacesAt, boot.mountsAt),
                span(boot.mountsAt, boot.runtimeAt), span(boot.runtimeAt, boot.helloAt),
            ]
        ).encoded()
        booted = record
        if daemon >= 0 { toDaemon.appendFrame(.booted, record) }
        if sandbox.end != nil || harness < 0 { advance() }
    }

    /// Ends a boot: everything that was made goes, then the daemon hears why.
    func fail(_ step: BootStep, _ code: Int, _ text: [UInt8]) {
        guard phase == .booting else { return }
        phase = .failing
        deadline = nil
        var words = text
        while boot.tail.last == 0x0a { boot.tail.removeLast() }
        if !boot.tail.isEmpty { words += bytes(": ") + boot.tail }
        log(bytes("the boot failed: ") + words)
        failure = BootFailed(step: step, errno: UInt32(truncatingIfNeeded: code), text: words)
        if boot.runtime > 1 { ah_signal_group(Int32(boot.runtime), 9) }
        advanceEnd()
    }

    // MARK: The end

    /// Kills the sandbox because a daemon asks for it.
    func kill() {
        requested = true
        switch phase {
        case .waiting: ah_exit(0)
        case .booting: fail(boot.step, 0, bytes("killed while it started"))
        case .running, .ending: killSandbox()
        default: break
        }
    }

    func killSandbox() {
        if sandbox.descriptor >= 0 && sandbox.end == nil { ah_kill_descriptor(sandbox.descriptor) }
    }

    func endRecord() -> SandboxEnded {
        SandboxEnded(
            code: sandbox.end?.code ?? 0, signal: sandbox.end?.signal ?? 0, requested: requested, reason: endReason)
    }

    /// Kills and reaps whatever is left (what was reparented comes with a signal of its own), drains the channel, and
    /// lets the namespaces go. A frozen process dies when the daemon thaws it; until then this waits.
    private func advanceEnd() {
        reap()
        // The namespaces' holder goes with the others: waiting for them first would be one more turn of the loop.
        if holder > 1 { ah_signal(Int32(holder), 9) }
        let others = ah_signal_children(9, Int32(holder))
        if others > 0 { return }
        if phase == .ending && harness >= 0 { return }
        reap()
        if holder > 1 { return }
        letGo()
        if phase == .ending {
            phase = .ended
            return
        }
        phase = .failed
        deadline = ah_now_microseconds() + Keeper.failureGrace
        sendFailure()
    }

    private func letGo() {
        if oldMounts >= 0 {
            let result = ah_leave_mounts(oldMounts)
            if result < 0 { log(bytes("leaving the mount namespace: ") + errorText(-result)) }
            ah_close(oldMounts)
            oldMounts = -1
        }
        if sandbox.descriptor >= 0 { ah_close(sandbox.descriptor) }
        sandbox.descriptor = -1
        if harness >= 0 { ah_close(harness) }
        harness = -1
        if sandboxEndOfChannel >= 0 { ah_close(sandboxEndOfChannel) }
        sandboxEndOfChannel = -1
        if boot.errors >= 0 { readErrors() }
        if boot.errors >= 0 { ah_close(boot.errors) }
        boot.errors = -1
    }
}
