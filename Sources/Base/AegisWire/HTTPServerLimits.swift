/// What a server allows its clients.
package struct HTTPServerLimits: Sendable, Equatable {
    /// Sizes of heads, chunk lines and trailers.
    package var message = HTTPLimits()
    /// Time from a connection or the first byte of a request to the end of its head.
    package var headTime = Duration.seconds(10)
    /// The longest pause while a body is read; for `collect` the time for all of it.
    package var bodyTime = Duration.seconds(60)
    /// Time that a connection may stay open between requests.
    package var idleTime = Duration.seconds(60)
    /// Time for a client to take the last answer after we have given up reading what it sends.
    package var lingerTime = Duration.seconds(2)
    /// How long a handler goes on for a client that sends no more and takes nothing meanwhile, where nobody can tell whether it waits
    /// for its answer or has gone.
    package var endedTime = Duration.seconds(10)
    /// How often a client that sends no more is looked for, while a handler works for it.
    package var endedTick = Duration.milliseconds(500)
    /// Bytes of a body that nobody read which are skipped to keep the connection; with more it closes.
    package var drain = 64 << 10
    /// Time for all of these bytes; a slower client loses the connection.
    package var drainTime = Duration.seconds(5)
    /// Bytes read ahead of the handler, for each connection.
    package var readAhead = 64 << 10
    /// Connections at the same time; further ones are answered with 503.
    package var connections = 1024

    /// The limits that Aegis uses unless told otherwise.
    package init() {}
}
