internal import AegisConfig

/// Reads the `budget_config` block of a manifest.
enum BudgetReader {
    /// Reads the block.
    ///
    /// - Parameter reader: its keys.
    /// - Returns: what it says; what is wrong with it is reported to the reader.
    static func read(_ reader: ConfigReader) -> AgentManifest.Budget {
        let money = reader.readIfPresent("max_usd", as: Double.self) {
            // Less than a millionth is nothing: money is counted in those.
            $0 >= 0.000001 && $0 <= 1_000_000 ? nil : "must be 0.000001 to 1000000"
        }
        // One of the two at least: a budget that limits nothing is a mistake.
        let tokens: BudgetTokens? =
            money == nil
            ? reader.require("max_tokens", placeholder: BudgetTokens(count: 1), check: BudgetTokens.problem)
            : reader.readIfPresent("max_tokens", check: BudgetTokens.problem)
        var budget = AgentManifest.Budget(maxTokens: tokens?.count)
        budget.maxMicroUSD = money.map { UInt64(($0 * 1_000_000).rounded()) }
        budget.resetPeriodSeconds = UInt64(
            reader.read(
                "reset_period_seconds", default: Int(budget.resetPeriodSeconds),
                check: ManifestReader.range(0...315_360_000)))
        return budget
    }
}

/// Tokens as limits of grants count them: `500k` is 500,000, `2M` is 2,000,000.
struct BudgetTokens: ConfigScalar {
    var count: UInt64

    init(count: UInt64) { self.count = count }

    static func problem(_ tokens: Self) -> String? { tokens.count > 0 ? nil : "must be at least 1" }

    /// What is wrong with a turn's limit; nil when nothing is.
    static func turnProblem(_ tokens: Self) -> String? {
        (1...1_000_000_000_000).contains(tokens.count) ? nil : "must be 1 to 1000000000000"
    }

    init?(configText text: String) {
        let factor: UInt64 = text.hasSuffix("k") || text.hasSuffix("K") ? 1000 : text.hasSuffix("M") ? 1_000_000 : 1
        let digits = factor == 1 ? text.replacing("_", with: "") : String(text.dropLast())
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }), let number = UInt64(digits),
            number <= 1_000_000_000_000
        else { return nil }
        count = number * factor
    }

    static var expectation: String { "a number of tokens (as 1000000, 500k or 2M)" }
    var configText: String { "\(count)" }
}
