package import AegisCore

/// Which of a process's outputs, or Aegis itself.
package enum LogStream: UInt8, Sendable, CaseIterable {
    case stdout = 0
    case stderr = 1
    /// What Aegis says about the instance.
    case system = 2

    /// The word in a `LogRecord`.
    package var name: String {
        switch self {
        case .stdout: "stdout"
        case .stderr: "stderr"
        case .system: "system"
        }
    }
}

/// A process of an instance, as its log tells it from the others.
package struct LogProcess: Hashable, Sendable {
    /// The longest exec id, in bytes.
    package static let maximumIDLength = 64

    /// Which start of the instance it belongs to; see `InstanceLog.beginRun`.
    package var run: UInt32
    /// Nil for the instance's own command.
    package var execID: String?

    /// Names a process; an exec id above 64 bytes is cut.
    package init(run: UInt32, execID: String? = nil) {
        self.run = run
        self.execID = execID
    }

    /// The word in a `LogRecord`.
    package var source: String { execID == nil ? "server" : "exec" }
}

/// Why output is not in a log; the raw value is the word in a `LogRecord`.
enum LogGapReason: String, Sendable, Equatable {
    /// The oldest part was dropped before the reader came to it.
    case rotated
    /// It was never in the log: the disk was full, or writing failed in another way.
    case notWritten = "not-written"
    /// The file is damaged there.
    case damaged
}

/// How much of an instance's output is kept.
package struct LogLimits: Sendable, Equatable {
    /// All segments together never take more than this, in bytes.
    package var totalBytes: UInt64
    /// How many segments that is divided into; the oldest is dropped as a whole.
    package var segments: Int

    /// 64 MiB in 8 segments.
    package static let standard = LogLimits()

    /// Limits; the total is at least 64 KiB, the number of segments 2 to 64.
    package init(totalBytes: UInt64 = 64 << 20, segments: Int = 8) {
        self.totalBytes = max(totalBytes, 64 << 10)
        self.segments = min(max(segments, 2), 64)
    }

    var segmentBytes: UInt64 { totalBytes / UInt64(segments) }
    /// The longest piece of output in one record.
    var recordBytes: Int { Int(min(1 << 20, segmentBytes / 4)) }
}

/// Hides secrets in what is stored. A value per stream, so that it may remember what it has seen.
///
/// It may hold bytes back (the start of what could become a secret): those are not saved yet, `savedOffset` does not
/// count them, and a keeper sends them again after a crash. At most 64 KiB may be held.
package protocol LogMask: Sendable {
    /// Takes the next bytes and appends what may be stored.
    ///
    /// - Returns: how many of all bytes taken so far are held back now.
    mutating func push(_ bytes: Span<UInt8>, into out: inout [UInt8]) -> Int
    /// The stream ends (or has a hole): appends what was held back.
    mutating func flush(into out: inout [UInt8])
}

/// Something the caller should tell somebody about.
package enum LogEvent: Sendable, Equatable {
    /// Writing failed; said once, output is lost until `recovered`. The instance goes on.
    case failing(AegisError)
    /// Writing works again; so many bytes were lost.
    case recovered(lostBytes: UInt64)
}

/// The outcome of an append.
package struct LogSaved: Sendable, Equatable {
    /// The stream's offset up to which nothing need be sent again: acknowledge this.
    package var offset: UInt64
    package var event: LogEvent?
}

/// What a reader wants.
package struct LogQuery: Sendable, Equatable {
    /// Only lines that were completed at this time or later.
    package var since: Timestamp?
    /// Only the last so many records.
    package var tail: Int?
    /// Go on with what comes, until the log says that the instance has ended.
    package var follow: Bool

    /// Everything that is stored, unless said otherwise.
    package init(since: Timestamp? = nil, tail: Int? = nil, follow: Bool = false) {
        self.since = since
        self.tail = tail
        self.follow = follow
    }

    /// Reads `--since`: an RFC 3339 time, or a length of time before now.
    ///
    /// - Throws: `invalid-argument` with both forms.
    package static func since(parsing text: String, now: Timestamp) throws(AegisError) -> Timestamp {
        if let time = Timestamp(parsing: text) { return time }
        guard let span = try? TimeSpan(parsing: text) else {
            throw .usage(
                "'\(text)' is not a time",
                hint: "write an RFC 3339 time (2026-11-20T10:31:37Z) or how long ago (10m, 2h)")
        }
        return Timestamp(milliseconds: now.milliseconds - span.milliseconds)
    }
}
