internal import AegisCore
package import AegisJSON

extension BudgetAccount {
    /// The account as reports show it; money in US dollars, as text so that nothing is rounded.
    package var json: JSONValue {
        func money(_ amount: Int) -> JSONValue { .string(dollars(amount)) }
        return [
            "owner": .string("\(owner)"), "parent": parent.map { .string("\($0)") } ?? .null,
            "limit": [
                "max_tokens": limit.maxTokens.map { .number($0) } ?? .null,
                "max_usd": limit.maxMicroUSD.map(money) ?? .null,
                "period": limit.period.milliseconds == 0 ? .null : .string("\(limit.period)"),
            ],
            "period_start": .string("\(periodStart)"),
            "used": ["tokens": .number(usedTokens), "usd": money(usedMicroUSD)],
            "reserved": ["tokens": .number(reservedTokens), "usd": money(reservedMicroUSD)],
            "total": [
                "input": .number(total.input), "output": .number(total.output), "cache_read": .number(total.cacheRead),
                "cache_write": .number(total.cacheWrite), "estimated": .bool(total.isEstimated),
                "usd": money(totalMicroUSD), "calls": .number(calls),
            ],
            "refusals": .number(refusals),
        ]
    }
}
