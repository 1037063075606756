import AegisCore
import AegisIO
import AegisWire

extension ProxyConnection {
    /// How an exchange with a server ended.
    private enum Outcome {
        /// Request and response went through.
        case done(keepAlive: Bool, reusable: Bool)
        /// The protocol had changed, and both sides have ended.
        case tunnelled
        /// The server had closed a kept connection: nothing was heard on it, and the same can be asked again.
        case stale
        /// The server's queue of new connections was full; nobody has seen the request.
        case unheard
        /// Nothing of a response was sent to the client.
        case failed(AegisError)
        /// The request itself is at fault.
        case refused(HTTPError)
        /// The response broke off, or the client has gone.
        case broken
    }

    /// Passes the present request on, and its response back.
    ///
    /// - Returns: whether another request may follow.
    func relay(to target: any ProxyUpstream, _ edits: ProxyEdits) async -> Bool {
        var out = proxy.pools.takeBuffer()
        defer { proxy.pools.give(&out) }
        var fresh = false
        var repeats = 0
        headIsGone = false
        while true {
            let connection: UpstreamConnection
            if !fresh, let kept = target.takeKept() {
                connection = kept
            } else {
                do { connection = try await target.connect(fresh: fresh, for: self) } catch {
                    guard !isCut else { return false }
                    return await give(ProxyAnswer(failure: error, html: request.prefersHTML))
                }
            }
            guard !isCut else {
                target.finished(connection, reusable: false)
                return false
            }
            upstream = connection
            let outcome = await exchange(over: connection, edits, &out)
            upstream = nil
            if case .done(let keepAlive, let reusable) = outcome {
                target.finished(connection, reusable: reusable)
                return keepAlive
            }
            target.finished(connection, reusable: false)
            switch outcome {
            case .stale where !fresh: fresh = true
            case .unheard where repeats < Self.mostRepeats: repeats += 1
            case .unheard: return await fail(.unheard)
            case .stale: return await fail(.lost)
            case .failed(let error): return await fail(error)
            case .refused(let error):
                await refuse(error)
                return false
            case .tunnelled: return false
            case .broken, .done:
                // A client that cannot tell the end of the body from its breaking off must see the difference.
                stream.reset()
                return false
            }
        }
    }

    /// A second each.
    private static var mostRepeats: Int { 10 }

    /// Answers with an error; the head may have left the buffer.
    private func fail(_ error: AegisError) async -> Bool {
        await give(ProxyAnswer(failure: error, html: headIsGone ? prefersHTML : request.prefersHTML))
    }

    /// One attempt. The request stays in the buffer until it is certain that it need not be sent again.
    private func exchange(
        over connection: UpstreamConnection, _ edits: ProxyEdits, _ out: inout ByteBuffer
    ) async -> Outcome {
        let request = request
        out.removeAll()
        // Not before: as long as the last response is looked at, its fields would be copied.
        connection.index.reset()
        var head = RelayedRequest(request.index, in: request.buffer.readable.span, edits)
        head.append(from: request.buffer, client: request.client, to: &out)
        var body = BodyMover(
            request.index.framing, makesChunks: request.index.framing == .chunked, limits: limits,
            without: edits.requestFields)
        var used = request.index.length
        do throws(HTTPError) { try body.move(from: request.buffer, at: &used, into: &out) } catch {
            return .refused(error)
        }
        uploadIsWhole = body.isWhole
        // Nothing was sent when the very first bytes are refused: any request can be sent again.
        var sent = 0
        do throws(IOError) { sent = try connection.stream.writeNow(out.readable) ?? 0 } catch {
            if connection.wasUsed { return .stale }
        }
        out.consume(sent)
        connection.askedAt = connection.wasUsed ? nil : proxy.now
        guard !body.isWhole || !out.isEmpty else {
            return await finish(used, receive(from: connection, edits, head.asksUpgrade, &out))
        }
        prefersHTML = request.prefersHTML
        request.buffer.consume(used)
        headIsGone = true
        return await exchangeBothWays(over: connection, edits, head.asksUpgrade, body, &out)
    }

    private var limits: HTTPLimits { proxy.limits.message }

    /// Drops a request that was answered; one that is asked again, or answered with an error, stays.
    private func finish(_ used: Int, _ outcome: Outcome) -> Outcome {
        if case .done = outcome { request.buffer.consume(used) }
        return outcome
    }

    /// Sends the rest of a request while the response may already come.
    private func exchangeBothWays(
        over connection: UpstreamConnection, _ edits: ProxyEdits, _ asksUpgrade: Bool, _ body: BodyMover,
        _ out: inout ByteBuffer
    ) async -> Outcome {
        uploadIsWhole = false
        uploadIsAbandoned = false
        uploadFailure = nil
        var rest = proxy.pools.takeBuffer()
        swap(&rest, &out)
        defer { proxy.pools.give(&rest) }
        return await withTaskGroup(of: Void.self) { [rest] group in
            group.addTask { await self.upload(body, rest, to: connection) }
            var outcome = await receive(from: connection, edits, asksUpgrade, &out)
            if !uploadIsWhole {
                uploadIsAbandoned = true
                stream.interruptRead()
                connection.stream.close()
            }
            await group.waitForAll()
            if case .failed = outcome, case .malformed(let error)? = uploadFailure { outcome = .refused(error) }
            if case .failed = outcome, case .source? = uploadFailure { outcome = .broken }
            if case .done(true, _) = outcome, !uploadIsWhole {
                // The server has answered without the whole request; the rest of it is of no use to anybody.
                await linger()
                outcome = .done(keepAlive: false, reusable: false)
            }
            return outcome
        }
    }

    /// Sends the rest of the request. When it fails, the response tells more, if one comes.
    private func upload(_ body: BodyMover, _ first: ByteBuffer, to connection: UpstreamConnection) async {
        let request = request
        var body = body
        var out = first
        var buffer = ByteBuffer()
        swap(&buffer, &request.buffer)
        let failure = await body.run(from: stream, &buffer, to: connection.stream, &out, proxy.pools)
        swap(&buffer, &request.buffer)
        guard let failure else {
            uploadIsWhole = true
            return
        }
        guard !uploadIsAbandoned else { return }
        switch failure {
        case .sink: break
        case .source, .malformed:
            uploadFailure = failure
            // The server waits for bytes that will not come.
            connection.stream.close()
        }
    }

    // MARK: The response

    /// Reads the response and passes it on.
    private func receive(
        from connection: UpstreamConnection, _ edits: ProxyEdits, _ asksUpgrade: Bool, _ out: inout ByteBuffer
    ) async -> Outcome {
        let request = request
        let isHead = request.index.verb == .head
        while true {
            if let failure = await readHead(of: connection, isHead: isHead) { return failure }
            let response = RelayedResponse(
                index: connection.index, edits: edits, version: request.index.version, isHead: isHead)
            if connection.index.status == 101 {
                guard asksUpgrade else { return .failed(.badUpgrade) }
                response.append(from: connection.buffer, keepAlive: true, to: &out)
                connection.buffer.consume(connection.index.length)
                return await changeProtocol(connection, &out)
            }
            guard connection.index.status < 200 else { return await pass(response, of: connection, &out) }
            // Interim responses mean nothing to HTTP/1.0.
            if request.index.version == .http11 { response.append(from: connection.buffer, keepAlive: true, to: &out) }
            connection.buffer.consume(connection.index.length)
            connection.index.reset()
            guard await sendOut(&out) else { return .broken }
        }
    }

    /// Reads until a head is whole.
    ///
    /// - Returns: nil when it is.
    private func readHead(of connection: UpstreamConnection, isHead: Bool) async -> Outcome? {
        if connection.buffer.capacity == 0 { connection.buffer = proxy.pools.takeBuffer() }
        while true {
            do throws(HTTPError) {
                if !connection.buffer.isEmpty,
                    try connection.index.scan(connection.buffer.readable.span, isHead: isHead)
                {
                    return nil
                }
            } catch { return .failed(.malformed(error)) }
            var ended = false
            do throws(IOError) {
                ended = try await connection.stream.readPlainly(into: &connection.buffer, atMost: 64 << 10) == 0
                connection.askedAt = nil
            } catch {
                if connection.isUnheard { return .unheard }
                if stream.peer == .lost { return .broken }
                ended = true
            }
            guard ended else { continue }
            if connection.wasUsed, connection.buffer.isEmpty, connection.index.status == 0, mayAskAgain {
                return .stale
            }
            return .failed(.lost)
        }
    }

    /// RFC 9110, 9.2.2: what may be repeated without asking, here only while no body has left.
    var mayAskAgain: Bool {
        guard !headIsGone, request.index.framing == .none else { return false }
        switch request.index.verb {
        case .get, .head, .options, .trace, .put, .delete: return true
        case .post, .connect, .other: return false
        }
    }

    /// Passes a final response on.
    private func pass(
        _ response: RelayedResponse, of connection: UpstreamConnection, _ out: inout ByteBuffer
    ) async -> Outcome {
        let keepAlive =
            request.index.keepAlive && response.allowsNext && !proxy.isStopping && uploadFailure == nil
        response.append(from: connection.buffer, keepAlive: keepAlive, to: &out)
        var makesChunks = false
        if case .chunked = response.framing { makesChunks = true }
        var body = BodyMover(
            connection.index.framing, makesChunks: makesChunks, limits: limits,
            without: response.edits.responseFields)
        var used = connection.index.length
        do throws(HTTPError) { try body.move(from: connection.buffer, at: &used, into: &out) } catch {
            return .failed(.malformed(error))
        }
        connection.buffer.consume(used)
        let reusable = connection.index.keepAlive
        if body.isWhole {
            guard await sendOut(&out) else { return .broken }
        } else if await body.run(from: connection.stream, &connection.buffer, to: stream, &out, proxy.pools) != nil {
            return .broken
        }
        noteProgress()
        // Bytes behind the response were asked for by nobody.
        let clean = connection.buffer.isEmpty
        if clean { proxy.pools.give(&connection.buffer) }
        return .done(keepAlive: keepAlive, reusable: reusable && clean && uploadIsWhole)
    }

    private func sendOut(_ out: inout ByteBuffer) async -> Bool {
        do throws(IOError) { try await stream.send(out.readable) } catch { return false }
        out.removeAll()
        return true
    }

    /// Joins both streams after `101`; what came early on either side goes first.
    private func changeProtocol(_ connection: UpstreamConnection, _ out: inout ByteBuffer) async -> Outcome {
        let request = request
        phase = .tunnel
        if !headIsGone { request.buffer.consume(request.index.length) }
        out.append(0..<connection.buffer.readableBytes, of: connection.buffer)
        guard await sendOut(&out) else { return .broken }
        if !request.buffer.isEmpty {
            do throws(IOError) { try await connection.stream.send(request.buffer.readable) } catch { return .broken }
        }
        proxy.pools.give(&request.buffer)
        proxy.pools.give(&connection.buffer)
        proxy.pools.give(&out)
        await Tunnel.relay(stream, connection.stream, pools: proxy.pools)
        return .tunnelled
    }
}

extension AegisError {
    fileprivate static let unheard = AegisError(
        .timeout, "port-timeout", "the server in the sandbox takes no more connections")
    fileprivate static let badUpgrade = AegisError(
        .failed, "backend-malformed", "the server in the sandbox changed the protocol without being asked")
    fileprivate static func malformed(_ error: HTTPError) -> AegisError {
        AegisError(.failed, "backend-malformed", "the server in the sandbox gave no valid answer: \(error.message)")
    }
}

extension ProxyAnswer {
    /// The answer when a server cannot be reached or gave none: 502, 503 or 504 with the cause.
    package init(failure: any Error, html: Bool) {
        let error = (failure as? AegisError) ?? AegisError(.failed, "internal-error", String(describing: failure))
        let status =
            switch error.kind {
            case .failed: 502
            case .timeout: 504
            default: 503
            }
        self.init(error, status: status, html: html)
    }
}
