// The small payloads. As in Messages.swift, a reader ignores what a newer peer appended.

/// The payload of `ack`; the frame's flags name the stream (0 stdin, 1 stdout, 2 stderr).
package struct Acknowledgement: Sendable, Equatable {
    /// Every byte below this offset was consumed.
    package var offset: UInt64
    /// Makes an acknowledgement.
    package init(offset: UInt64) { self.offset = offset }
    /// The payload.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u64(offset)
        return w.bytes
    }
    /// Reads the payload.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .ack)
        offset = try r.u64()
    }
}

/// The payload of `started`.
package struct ProcessStarted: Sendable, Equatable {
    /// The pid inside the sandbox.
    package var pid: UInt32
    /// Makes a record.
    package init(pid: UInt32) { self.pid = pid }
    /// The payload.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u32(pid)
        return w.bytes
    }
    /// Reads the payload.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .started)
        pid = try r.u32()
    }
}

/// The payload of `signal`; flag 1 of the frame addresses the process group.
package struct ProcessSignal: Sendable, Equatable {
    /// The flag of a frame that addresses the group.
    package static let groupFlag: UInt8 = 1
    /// The number of the signal (1 to 64).
    package var number: UInt8
    /// Makes a message.
    package init(number: UInt8) { self.number = number }
    /// The payload.
    package func encoded() -> [UInt8] { [number] }
    /// Reads the payload.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .signal)
        number = try r.u8()
        guard number >= 1 && number <= 64 else { throw ChannelError.malformed(type: FrameType.signal.rawValue) }
    }
}

/// The payload of `resize`.
package struct TerminalSize: Sendable, Equatable {
    package var columns: UInt16
    package var rows: UInt16
    /// Makes a message.
    package init(columns: UInt16, rows: UInt16) {
        self.columns = columns
        self.rows = rows
    }
    /// The payload.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u16(columns)
        w.u16(rows)
        return w.bytes
    }
    /// Reads the payload.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .resize)
        columns = try r.u16()
        rows = try r.u16()
    }
}

/// The payload of `shutdown`.
package struct Shutdown: Sendable, Equatable {
    /// Milliseconds between SIGTERM and SIGKILL.
    package var grace: UInt32
    /// Whether the harness stays when everything else has ended, for the files of the sandbox. A `health` that comes
    /// meanwhile is answered then.
    package var stays: Bool
    /// Makes a message.
    package init(grace: UInt32, stays: Bool = false) {
        self.grace = grace
        self.stays = stays
    }
    /// The payload.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u32(grace)
        w.u8(stays ? 1 : 0)
        return w.bytes
    }
    /// Reads the payload; a sender of before `stays` wants the harness to end.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .shutdown)
        grace = try r.u32()
        stays = r.remaining > 0 ? try r.u8() == 1 : false
    }
}

/// The payload of `attach`.
package struct Attach: Sendable, Equatable {
    /// The protocol version of the daemon.
    package var version: UInt16
    /// Makes a message.
    package init(version: UInt16 = Channel.version) { self.version = version }
    /// The payload.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u16(version)
        return w.bytes
    }
    /// Reads the payload.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .attach)
        version = try r.u16()
        guard version >= Channel.oldestVersion else { throw ChannelError.version(version) }
    }
}

/// How far a boot came.
package enum BootStep: UInt8, Sendable {
    /// The plan itself.
    case plan = 0
    /// User and network namespace.
    case namespaces = 1
    /// The mount steps.
    case mounts = 2
    /// Writing the runtime's configuration, starting the runtime and waiting for its end.
    case runtime = 3
    /// Waiting for the harness.
    case hello = 4
    /// Looking at the files in which a runtime looks up users, before it reads them.
    case accounts = 5
}

/// The payload of `bootFailed`.
package struct BootFailed: Sendable, Equatable {
    package var step: BootStep
    /// The errno of the step, 0 if there is none.
    package var errno: UInt32
    /// What failed, for people; ends with the tail of what the runtime said on stderr.
    package var text: [UInt8]
    /// Makes a record.
    package init(step: BootStep, errno: UInt32, text: [UInt8]) {
        self.step = step
        self.errno = errno
        self.text = text
    }
    /// The payload.
    package func encoded() -> [UInt8] {
        var w = FieldWriter()
        w.u8(step.rawValue)
        w.u32(errno)
        w.text(text)
        return w.bytes
    }
    /// Reads the payload.
    package init(decoding bytes: [UInt8]) throws(ChannelError) {
        var r = FieldReader(bytes, type: .bootFailed)
        guard let step = BootStep(rawValue: try r.u8()) else {
            throw ChannelError.malformed(type: FrameType.bootFailed.rawValue)
        }
        self.step = step
        errno = try r.u32()
        text = try r.text()
    }
}
