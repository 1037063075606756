internal import AegisCore
internal import AegisIO
internal import Synchronization

extension HTTPServerConnection {
    /// Takes requests one after the other until the connection cannot be used any more.
    func serve(_ handler: HTTPServer.Handler) async {
        var refused = false
        do throws(HTTPError) {
            while let start = try await nextRequest() {
                guard await serve(start, handler) else { break }
            }
        } catch {
            arm(nil)
            guard error.code != .closed, error.code != .cancelled else { return }
            await refuse(error.aegisError, status: error.status)
            refused = true
        }
        await linger(afterRefusal: refused)
    }

    /// The next request's head; nil when the client has ended the connection, or has sent nothing in time.
    private func nextRequest() async throws(HTTPError) -> HTTPRequestStart? {
        var armedForHead = false
        defer { state.withLock { $0.idle = false } }
        while true {
            enum Found { case start(HTTPRequestStart), wait(between: Bool), nothing }
            let found = try state.withLock { state throws(HTTPError) -> Found in
                if state.stopping { return .nothing }
                if let start = try Self.parseHead(&state) { return .start(start) }
                let between = state.parser.isBetweenRequests
                if state.ending != nil, between { return .nothing }
                state.idle = between
                return .wait(between: between)
            }
            switch found {
            case .start(let start):
                arm(nil)
                return start
            case .nothing:
                arm(nil)
                return nil
            case .wait(let between):
                let isFirst = state.withLock { $0.served } == 0
                if !armedForHead {
                    armedForHead = isFirst || !between
                    arm(armedForHead ? limits.headTime : limits.idleTime)
                }
                try await waitForInput()
            }
        }
    }

    private static func parseHead(_ state: inout State) throws(HTTPError) -> HTTPRequestStart? {
        while true {
            var cursor = 0
            let event = try state.parser.next(state.buffer.readable.span, &cursor)
            state.buffer.consume(cursor)
            switch event {
            case .head(let start):
                state.served += 1
                state.exchange = HTTPExchange(number: state.served, start: start)
                return start
            // The end of a request without a body, which nobody had to read.
            case .end: continue
            case .needMore, .body: return nil
            }
        }
    }

    /// Runs the handler for one request.
    ///
    /// - Returns: whether another request can follow.
    private func serve(_ start: HTTPRequestStart, _ handler: HTTPServer.Handler) async -> Bool {
        let (number, ended) = state.withLock { state in
            state.handlerRuns = true
            return (state.served, state.ending != nil)
        }
        if ended { room.set() }
        var failure: (any Error)?
        if start.head.method == .connect {
            failure = HTTPError(.unsupported, "this server is no proxy")
        } else {
            let request = HTTPServerRequest(
                head: start.head, peer: peer, wantsUpgrade: start.wantsUpgrade,
                body: HTTPRequestBody(connection: self, number: number))
            do {
                try await handler(request, HTTPResponseWriter(connection: self, number: number))
            } catch {
                failure = error
            }
        }
        let response = state.withLock { state in
            state.handlerRuns = false
            return state.exchange?.response
        }
        arm(nil)
        switch response {
        case .finished: return await finish()
        case Optional.none, .some(.none):
            if Task.isCancelled { return false }
            await answer(failure)
            return await finish()
        // Closing without the end of the body tells the client that it is not whole.
        case .started, .upgraded, .broken: return false
        }
    }

    /// Answers for a handler that did not.
    private func answer(_ failure: (any Error)?) async {
        let bodyFailure = state.withLock { $0.exchange?.bodyFailure }
        let error: AegisError
        var status: Int?
        var headers: HTTPHeaders = ["Content-Type": "application/json"]
        switch failure {
        case nil: error = .failed("no-answer", "the request was not answered")
        case let failure as HTTPError:
            error = failure.aegisError
            status = failure.status
        case let failure as HTTPRefusal:
            error = failure.error
            status = failure.status
            for field in failure.headers { headers.add(field.name, field.value) }
        case let failure as AegisError:
            error = failure
            if let bodyFailure, bodyFailure.aegisError == failure { status = bodyFailure.status }
        case .some(let failure): error = .failed("internal-error", String(describing: failure))
        }
        // When this cannot be sent either, the connection is closed and that is the answer.
        let head = HTTPResponseHead(status ?? error.kind.httpStatus, headers: headers)
        try? await respond(head, body: error.jsonBody, number: state.withLock { $0.served })
    }

    /// Makes the connection ready for the next request.
    private func finish() async -> Bool {
        let (keepAlive, ended) = state.withLock {
            ($0.exchange?.keepAlive ?? false, $0.exchange?.bodyEnded ?? false)
        }
        if !keepAlive || ended { return keepAlive }
        var skipped = 0
        var sink = ByteBuffer()
        // One time for all of it: a client may not hold the connection by a byte now and then.
        arm(limits.drainTime)
        defer { arm(nil) }
        while true {
            let served = state.withLock { $0.served }
            guard let count = try? await readBody(served, into: &sink, atMost: 16 << 10, timed: false) else {
                return false
            }
            if count == 0 { return true }
            sink.removeAll()
            skipped += count
            if skipped > limits.drain { return false }
        }
    }

    /// Answers what was not a request.
    func refuse(_ error: AegisError, status: Int) async {
        var head = HTTPResponseHead(status, headers: ["Content-Type": "application/json", "Connection": "close"])
        let body = error.jsonBody
        head.headers.add("Content-Length", String(body.count))
        var out: [UInt8] = []
        guard (try? head.encodeFields(into: &out)) != nil else { return }
        out += [ASCII.carriageReturn, ASCII.lineFeed] + body
        try? await send(out[...])
    }

    /// Gives the client time to read the last answer: closing with unread bytes would reset the connection.
    func linger(afterRefusal refused: Bool) async {
        let needed = state.withLock { state in
            // A client that was too slow is still there.
            if state.ending == .timeout { state.ending = nil }
            let unread = refused || state.upgraded || state.exchange?.bodyEnded == false || !state.buffer.isEmpty
            return state.ending == nil && unread
        }
        guard needed, !Task.isCancelled else { return }
        try? stream.closeWrite()
        arm(limits.lingerTime)
        while !Task.isCancelled {
            let done = state.withLock { state in
                state.buffer.removeAll()
                return state.ending != nil
            }
            if done { break }
            room.set()
            await input.wait()
        }
        arm(nil)
    }

    // MARK: The body of a request

    /// Reads bytes of the body of a request; 0 at its end.
    ///
    /// When `timed`, each wait has a time of its own; else the caller has set one for all.
    func readBody(
        _ number: Int, into buffer: inout ByteBuffer, atMost: Int, timed: Bool = true
    ) async throws(HTTPError) -> Int {
        try claimBody(number)
        defer { state.withLock { $0.bodyIsRead = false } }
        while true {
            switch try step(number, into: &buffer, atMost: max(1, atMost)) {
            case .proceed(let bytes): try await send(bytes[...])
            case .read(let count): return count
            case .wait:
                if timed { arm(limits.bodyTime) }
                do throws(HTTPError) {
                    try await waitForInput()
                } catch {
                    if error.code != .cancelled { state.withLock { $0.exchange?.failBody(error) } }
                    throw error
                }
                if timed { arm(nil) }
            }
        }
    }

    private enum BodyStep {
        case proceed([UInt8])
        case read(Int)
        case wait
    }

    private func claimBody(_ number: Int) throws(HTTPError) {
        try state.withLock { state throws(HTTPError) in
            guard state.exchange?.number == number else {
                throw HTTPError(.misuse, "the body was read after its request had ended")
            }
            guard !state.bodyIsRead else { throw HTTPError(.busy, "the body is being read by another task") }
            state.bodyIsRead = true
        }
    }

    private func step(_ number: Int, into buffer: inout ByteBuffer, atMost: Int) throws(HTTPError) -> BodyStep {
        let step = try state.withLock { state throws(HTTPError) -> BodyStep in
            if state.exchange?.bodyEnded != false { return .read(0) }
            if let failure = state.exchange?.bodyFailure { throw failure }
            if let interim = state.exchange?.takeContinue() { return .proceed(interim) }
            var cursor = 0
            do throws(HTTPError) {
                switch try state.parser.next(state.buffer.readable.span, &cursor, atMost: atMost) {
                case .needMore, .head:
                    state.buffer.consume(cursor)
                    return .wait
                case .body(let range):
                    buffer.move(range.count, after: range.lowerBound, from: &state.buffer)
                    state.exchange?.took(range.count)
                    return .read(range.count)
                case .end(let trailers):
                    state.buffer.consume(cursor)
                    state.exchange?.endBody(trailers)
                    return .read(0)
                }
            } catch {
                state.exchange?.failBody(error)
                throw error
            }
        }
        room.set()
        return step
    }
}
