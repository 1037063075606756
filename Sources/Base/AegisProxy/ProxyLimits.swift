package import AegisWire

/// What a proxy allows its clients and remembers for them. Times are exact to one `tick`.
package struct ProxyLimits: Sendable, Equatable {
    /// Sizes of heads, chunk lines and trailers, in both directions.
    package var message: HTTPLimits
    /// Time from a connection, or from the first byte of a later request, to the end of the head.
    package var headTime = Duration.seconds(15)
    /// Time that a connection may stay open between requests.
    package var idleTime = Duration.seconds(75)
    /// After that time between requests a connection gives up its task.
    package var parkTime = Duration.milliseconds(400)
    /// Connections that may keep their tasks between requests until then; what more there are give them up at once,
    /// but for those that come back at once.
    package var waitingTasks = 128
    /// How long an exchange goes on for a client that has ended its side and to which nothing could be sent meanwhile: it
    /// may be one that waits for its answer (`nc`), or one that has gone, which only its own host knows.
    package var endedTime = Duration.seconds(10)
    /// When a request that the server's kernel has not taken by then is sent over another connection.
    package var unheardTime = Duration.seconds(1)
    /// Time for a client to take the last answer after we have given up reading what it sends.
    package var lingerTime = Duration.seconds(2)
    /// Client connections at the same time.
    package var connections = 20_000
    /// How long an unused connection to a server is kept.
    package var upstreamIdleTime = Duration.seconds(15)
    /// Unused connections kept for each server.
    package var upstreamIdle = 256
    /// Streams of one HTTP/2 connection at the same time.
    package var streams = 128
    /// Bytes that one direction of an HTTP/2 stream may be ahead of its receiver.
    package var streamWindow = 128 << 10
    /// The same for all streams of one HTTP/2 connection between two looks at it.
    package var connectionWindow = 1 << 20
    /// Bytes that HTTP/2 streams hold for slow receivers before whole connections have to wait for them.
    package var heldBytes = 64 << 20
    /// Time that an HTTP/2 connection may stay open without a stream.
    package var streamlessTime = Duration.seconds(1800)
    /// How often times are looked at, while there is a connection.
    package var tick = Duration.milliseconds(500)

    /// The limits that Aegis uses unless told otherwise; header sections up to 64 KiB, as servers commonly take them.
    package init() {
        message = HTTPLimits()
        message.startLine = 16 << 10
        message.headerSection = 64 << 10
    }
}

extension Duration {
    /// In nanoseconds, at least 0.
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        return UInt64(max(0, seconds)) * 1_000_000_000 + UInt64(max(0, attoseconds)) / 1_000_000_000
    }
}
