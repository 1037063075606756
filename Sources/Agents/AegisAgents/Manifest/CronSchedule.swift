package import AegisCore

/// When a scheduled agent is called: five fields as in crontab(5), in UTC, or `@every` and a length of time.
///
/// Minute, hour, day of the month, month, day of the week (0 and 7 are Sunday); `*`, numbers, `A-B`, `*/N`, `A-B/N` and lists with
/// commas; months and days by their English names, too. When both days are restricted, either is enough, as cron has it.
package struct CronSchedule: Sendable, Hashable, CustomStringConvertible {
    /// The text that it was read from, with single spaces.
    package let description: String
    private let minutes: Set<Int>
    private let hours: Set<Int>
    private let days: Set<Int>
    private let months: Set<Int>
    private let weekdays: Set<Int>
    private let eitherDay: Bool
    /// What lies between two calls where that is all that is said.
    private let interval: TimeSpan?

    /// What may lie between two calls of `@every`.
    package static let intervals = TimeSpan.seconds(1)...TimeSpan.seconds(366 * 86_400)

    private static let shorthands = [
        "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
        "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
    ]
    private static let monthNames = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ]
    private static let dayNames = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]

    /// Reads a schedule.
    ///
    /// - Throws: `invalid-argument` with the field at fault.
    package init(parsing text: String) throws(AegisError) {
        let source = Self.shorthands[text.lowercased()] ?? text
        let fields = source.split(separator: " ", omittingEmptySubsequences: true).map(String.init)
        if fields.first?.lowercased() == "@every" {
            let span = try Self.interval(fields.dropFirst())
            (interval, description) = (span, "@every \(span)")
            (minutes, hours, days, months, weekdays, eitherDay) = ([], [], [], [], [], false)
            return
        }
        interval = nil
        guard fields.count == 5 else {
            let near = nearest(text.lowercased(), in: Self.shorthands.keys.sorted())
            throw .usage(
                "'\(text)' is no schedule: it has \(fields.count) fields",
                hint: near.map { "did you mean '\($0)'?" }
                    ?? "write minute hour day month weekday, as in '*/15 9-17 * * mon-fri' (UTC), or '@every 90s'")
        }
        minutes = try Self.field(fields[0], "minute", 0...59)
        hours = try Self.field(fields[1], "hour", 0...23)
        days = try Self.field(fields[2], "day", 1...31)
        months = try Self.field(fields[3], "month", 1...12, names: Self.monthNames)
        weekdays = Set(try Self.field(fields[4], "weekday", 0...7, names: Self.dayNames).map { $0 % 7 })
        eitherDay = !fields[2].hasPrefix("*") && !fields[4].hasPrefix("*")
        description = fields.joined(separator: " ")
        guard next(after: Timestamp(milliseconds: 0)) != nil else {
            throw .usage("'\(text)' is a day that never comes", hint: "check the day and the month")
        }
    }

    private static func interval(_ words: ArraySlice<String>) throws(AegisError) -> TimeSpan {
        let hint = "write one length of time, \(intervals.lowerBound) to \(intervals.upperBound), as in '@every 90s'"
        guard let word = words.first, words.count == 1 else {
            throw .usage("'@every' has \(words.count) lengths of time", hint: hint)
        }
        let span = try TimeSpan(parsing: word)
        guard intervals.contains(span) else { throw .usage("'\(word)' is out of range", hint: hint) }
        return span
    }

    /// The first moment after one at which it is due: on the minute, or one interval later; nil when there is none within 9 years.
    package func next(after time: Timestamp) -> Timestamp? {
        if let interval { return Timestamp(milliseconds: time.milliseconds + interval.milliseconds) }
        var minute = (time.milliseconds / 60_000) + 1
        let last = minute + 9 * 366 * 1440
        while minute < last {
            let day = Int(minute / 1440)
            guard isDue(day: day) else {
                minute = Int64(day + 1) * 1440
                continue
            }
            let ofDay = Int(minute % 1440)
            guard hours.contains(ofDay / 60) else {
                minute += Int64(60 - ofDay % 60)
                continue
            }
            guard minutes.contains(ofDay % 60) else {
                minute += 1
                continue
            }
            return Timestamp(milliseconds: minute * 60_000)
        }
        return nil
    }

    private func isDue(day: Int) -> Bool {
        let (month, date) = Self.date(day)
        guard months.contains(month) else { return false }
        let (isDay, isWeekday) = (days.contains(date), weekdays.contains((day + 4) % 7))
        return eitherDay ? isDay || isWeekday : isDay && isWeekday
    }

    /// Month and day of the month of a number of days since 1970-01-01, by counting eras of 400 years from a first of March.
    private static func date(_ day: Int) -> (month: Int, date: Int) {
        let shifted = (day + 719_468) % 146_097
        let year = (shifted - shifted / 1460 + shifted / 36_524 - shifted / 146_096) / 365
        let ofYear = shifted - (365 * year + year / 4 - year / 100)
        let march = (5 * ofYear + 2) / 153
        return (march < 10 ? march + 3 : march - 9, ofYear - (153 * march + 2) / 5 + 1)
    }

    private static func field(
        _ text: String, _ what: String, _ range: ClosedRange<Int>, names: [String] = []
    ) throws(AegisError) -> Set<Int> {
        func bad(_ part: some StringProtocol) -> AegisError {
            .usage(
                "'\(part)' is no \(what) of a schedule",
                hint: "a \(what) is \(range.lowerBound) to \(range.upperBound), '*', a range as 1-5, or a step as */10")
        }
        func number(_ part: Substring) throws(AegisError) -> Int {
            if let index = names.firstIndex(of: part.lowercased()) { return index + range.lowerBound }
            guard part.utf8.allSatisfy({ (48...57).contains($0) }), let value = Int(part), range.contains(value) else {
                throw bad(part)
            }
            return value
        }
        var result: Set<Int> = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let halves = part.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            guard let base = halves.first else { throw bad(part) }
            var step = 1
            if halves.count == 2 {
                guard let given = Int(halves[1]), given > 0 else { throw bad(part) }
                step = given
            }
            let bounds: ClosedRange<Int>
            if base == "*" {
                bounds = range
            } else {
                let ends = base.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
                guard let first = ends.first else { throw bad(part) }
                let low = try number(first)
                let high = ends.count == 2 ? try number(ends[1]) : (halves.count == 2 ? range.upperBound : low)
                guard low <= high else { throw bad(part) }
                bounds = low...high
            }
            result.formUnion(stride(from: bounds.lowerBound, through: bounds.upperBound, by: step))
        }
        return result
    }
}
