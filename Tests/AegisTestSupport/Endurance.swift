import Foundation

/// The third tier: how long each of its parts goes on, and which are to be run.
package enum Endurance {
    private static let environment = ProcessInfo.processInfo.environment

    /// How many parts there are: the fuzzed parsers, and last the deaths of daemons, the days of use and the lives of agents.
    package static let parts = 31
    /// Seconds for each part: `AEGIS_ENDURANCE`, 60 unless told.
    package static let seconds = environment["AEGIS_ENDURANCE"].flatMap(Int.init) ?? 60
    /// What a failure printed, to see it again: `AEGIS_FUZZ_SEED`.
    package static let seed = environment["AEGIS_FUZZ_SEED"].flatMap { UInt64($0) }

    /// Whether a part is to be run: all are, unless `AEGIS_ENDURANCE_PART` names one. Any number is taken, for a rotation by days.
    package static func includes(_ part: Int) -> Bool {
        guard let wanted = environment["AEGIS_ENDURANCE_PART"].flatMap(Int.init) else { return true }
        return (wanted % parts + parts) % parts == part
    }
}
