extension Hello {
    /// The payload of a `hello` frame.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u16(version)
        w.text(build)
        w.u8(quirks)
        return w.bytes
    }
    /// Reads the payload of a `hello` frame; a version that we cannot speak is an error.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .hello)
        version = try r.u16()
        guard version >= Channel.oldestVersion else { throw ChannelError.version(version) }
        build = try r.text()
        quirks = try r.u8()
    }
}

extension StartProcess {
    /// The payload of a `start` frame.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u8(kind.rawValue)
        w.u8((terminal ? 1 : 0) | (stdin ? 2 : 0) | (createDirectory ? 4 : 0))
        w.u16(columns)
        w.u16(rows)
        w.text(directory)
        w.text(user)
        w.texts(arguments)
        w.texts(environment)
        if limit > 0 { w.u32(limit) }
        return w.bytes
    }
    /// Reads the payload of a `start` frame.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .start)
        guard let kind = ProcessKind(rawValue: try r.u8()) else {
            throw ChannelError.malformed(type: FrameType.start.rawValue)
        }
        self.kind = kind
        let flags = try r.u8()
        terminal = flags & 1 != 0
        stdin = flags & 2 != 0
        createDirectory = flags & 4 != 0
        columns = try r.u16()
        rows = try r.u16()
        directory = try r.text()
        user = try r.text()
        arguments = try r.texts()
        environment = try r.texts()
        limit = r.remaining > 0 ? try r.u32() : 0
        guard !arguments.isEmpty else { throw ChannelError.malformed(type: FrameType.start.rawValue) }
    }
}

extension ProcessFailed {
    /// The payload of a `failed` frame.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u8(reason.rawValue)
        w.u32(errno)
        w.text(text)
        return w.bytes
    }
    /// Reads the payload of a `failed` frame.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .failed)
        reason = StartFailure(rawValue: try r.u8()) ?? .other
        errno = try r.u32()
        text = try r.text()
    }
}

extension ProcessExited {
    /// The payload of an `exited` frame.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u32(code)
        w.u8(signal)
        w.u64(stdoutBytes)
        w.u64(stderrBytes)
        return w.bytes
    }
    /// Reads the payload of an `exited` frame.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .exited)
        code = try r.u32()
        signal = try r.u8()
        stdoutBytes = try r.u64()
        stderrBytes = try r.u64()
    }
}

extension KeeperState {
    /// The payload of a `state` frame.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u16(version)
        w.u8(phase.rawValue)
        w.u32(sandboxPid)
        w.u16(UInt16(truncatingIfNeeded: processes.count))
        for process in processes {
            w.u16(process.number)
            w.u64(process.stdinTaken)
            w.u64(process.stdoutAcknowledged)
            w.u64(process.stderrAcknowledged)
        }
        return w.bytes
    }
    /// Reads the payload of a `state` frame.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .state)
        version = try r.u16()
        guard version >= Channel.oldestVersion else { throw ChannelError.version(version) }
        guard let phase = KeeperPhase(rawValue: try r.u8()) else {
            throw ChannelError.malformed(type: FrameType.state.rawValue)
        }
        self.phase = phase
        sandboxPid = try r.u32()
        let count = Int(try r.u16())
        processes = []
        for _ in 0..<count {
            processes.append(
                ProcessState(
                    number: try r.u16(), stdinTaken: try r.u64(), stdoutAcknowledged: try r.u64(),
                    stderrAcknowledged: try r.u64()))
        }
    }
}

extension Booted {
    /// The payload of a `booted` frame.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u32(sandboxPid)
        w.u32(namespacePid)
        w.u16(UInt16(truncatingIfNeeded: steps.count))
        for step in steps { w.u32(step) }
        return w.bytes
    }
    /// Reads the payload of a `booted` frame.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .booted)
        sandboxPid = try r.u32()
        namespacePid = try r.u32()
        let count = Int(try r.u16())
        steps = []
        for _ in 0..<count { steps.append(try r.u32()) }
    }
}

extension SandboxEnded {
    /// The payload of an `ended` frame.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u32(code)
        w.u8(signal)
        w.u8(requested ? 1 : 0)
        w.text(reason)
        return w.bytes
    }
    /// Reads the payload of an `ended` frame.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .ended)
        code = try r.u32()
        signal = try r.u8()
        requested = try r.u8() & 1 != 0
        reason = try r.text()
    }
}
