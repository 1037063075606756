internal import Glibc

/// A wall-clock time with millisecond precision, written as RFC 3339 in UTC.
package struct Timestamp: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    package var milliseconds: Int64
    /// Makes a time from milliseconds since the Unix epoch.
    package init(milliseconds: Int64) { self.milliseconds = milliseconds }

    /// The time of the host's clock.
    package static func now() -> Timestamp {
        var time = timespec()
        _ = unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }

    /// How long it is after another time; less than nothing when it is before that.
    package func since(_ earlier: Timestamp) -> Duration { .milliseconds(milliseconds - earlier.milliseconds) }

    /// `2026-11-20T10:31:37.042Z`
    package var description: String { String(decoding: utf8, as: UTF8.self) }

    /// The 24 bytes of the RFC 3339 form, made without allocation of a string.
    package var utf8: [UInt8] {
        let days = floorDiv(milliseconds, 86_400_000)
        var rest = milliseconds - days * 86_400_000
        let (year, month, day) = civil(days: days)
        var out = [UInt8](repeating: 0, count: 24)
        func put(_ value: Int64, _ at: Int, _ width: Int) {
            var value = value
            for i in stride(from: at + width - 1, through: at, by: -1) {
                out[i] = UInt8(truncatingIfNeeded: 48 + value % 10)
                value /= 10
            }
        }
        put(year, 0, 4)
        out[4] = 45
        put(month, 5, 2)
        out[7] = 45
        put(day, 8, 2)
        out[10] = 84
        put(rest / 3_600_000, 11, 2)
        rest %= 3_600_000
        out[13] = 58
        put(rest / 60_000, 14, 2)
        rest %= 60_000
        out[16] = 58
        put(rest / 1000, 17, 2)
        out[19] = 46
        put(rest % 1000, 20, 3)
        out[23] = 90
        return out
    }

    /// Reads RFC 3339 with optional fraction and `Z` or a numeric offset; nil when it is none.
    package init?(parsing text: String) {
        let s = Array(text.utf8)
        func number(_ from: Int, _ count: Int) -> Int64? {
            guard from + count <= s.count else { return nil }
            var value: Int64 = 0
            for byte in s[from..<from + count] {
                guard (48...57).contains(byte) else { return nil }
                value = value * 10 + Int64(byte - 48)
            }
            return value
        }
        guard s.count >= 20, s[4] == 45, s[7] == 45, s[10] == 84 || s[10] == 116 || s[10] == 32, s[13] == 58,
            s[16] == 58,
            let year = number(0, 4), let month = number(5, 2), (1...12).contains(month),
            let day = number(8, 2), (1...31).contains(day), let hour = number(11, 2), hour < 24,
            let minute = number(14, 2), minute < 60, let second = number(17, 2), second < 61
        else { return nil }
        var at = 19
        var millis: Int64 = 0
        if s[at] == 46 {
            at += 1
            var scale: Int64 = 100
            while at < s.count, (48...57).contains(s[at]) {
                millis += Int64(s[at] - 48) * scale
                scale /= 10
                at += 1
            }
        }
        guard at < s.count else { return nil }
        var offset: Int64 = 0
        if s[at] == 90 || s[at] == 122 {
            guard at + 1 == s.count else { return nil }
        } else {
            guard s[at] == 43 || s[at] == 45, at + 6 == s.count, s[at + 3] == 58, let h = number(at + 1, 2),
                let m = number(at + 4, 2)
            else { return nil }
            offset = (h * 60 + m) * (s[at] == 45 ? -1 : 1)
        }
        let seconds =
            days(year: year, month: month, day: day) * 86400 + hour * 3600 + minute * 60 + second - offset * 60
        milliseconds = seconds * 1000 + millis
    }

    package static func < (a: Timestamp, b: Timestamp) -> Bool { a.milliseconds < b.milliseconds }
}

extension Timestamp: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let time = Timestamp(parsing: text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is not an RFC 3339 time")
        }
        self = time
    }
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

private func floorDiv(_ a: Int64, _ b: Int64) -> Int64 { a >= 0 ? a / b : -((-a + b - 1) / b) }

/// Days since the epoch of a proleptic Gregorian date, counted in 400-year eras that start in March.
private func days(year: Int64, month: Int64, day: Int64) -> Int64 {
    let y = month <= 2 ? year - 1 : year
    let era = floorDiv(y, 400)
    let yearOfEra = y - era * 400
    let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
}

private func civil(days: Int64) -> (year: Int64, month: Int64, day: Int64) {
    let z = days + 719_468
    let era = floorDiv(z, 146_097)
    let dayOfEra = z - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
}
