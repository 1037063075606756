import AegisCapabilities
import AegisCore
import AegisIO
import AegisProxy
import AegisSecrets
import AegisTLS
import AegisWire

/// One request on its way: what is sent, and what its response is looked through for.
private struct Outgoing: Sendable {
    /// The head as it goes to the server.
    var head = ByteBuffer()
    var asksUpgrade = false
    let secrets: BrokeredSecrets?
    let asked: InspectedRequest
}

extension InspectConnection {
    /// How an exchange with the server ended.
    private enum Outcome {
        case done(keepAlive: Bool, reusable: Bool)
        /// The protocol had changed, and both sides have ended.
        case tunnelled
        /// The server had closed a kept connection, and the same can be asked again.
        case stale
        /// Nothing of a response was sent to the guest.
        case failed(AegisError)
        /// The response broke off, or the guest has gone.
        case broken
    }

    /// Passes a request on, and its response back.
    ///
    /// - Parameters:
    ///   - head: what was made of the head that lies in the buffer.
    ///   - secrets: what the response is looked through for.
    ///   - asked: the request, for events.
    /// - Returns: whether another request may follow.
    func relay(_ head: [UInt8], _ secrets: BrokeredSecrets?, _ asked: InspectedRequest) async -> Bool {
        var outgoing = Outgoing(secrets: secrets, asked: asked)
        // Read again: what goes out is what a server will read, secrets and all.
        var limits = inspector.limits.message
        limits.headerSection += 256 << 10
        limits.fields += 1
        var sent = HTTPRequestIndex(limits: limits)
        guard (try? sent.scan(head.span)) == true, sent.framing == index.framing else {
            return await fail(AegisError.failed("internal-error", "the request could not be written anew"))
        }
        var edits = ProxyEdits()
        edits.tellsClient = false
        var relayed = RelayedRequest(sent, in: head.span, edits)
        relayed.append(from: ByteBuffer(head), client: ProxyClient(address: ""), to: &outgoing.head)
        outgoing.asksUpgrade = relayed.asksUpgrade
        headIsGone = false
        uploadIsWhole = true
        uploadFailure = nil
        for isAgain in [false, true] {
            let server: InspectUpstream
            do { server = try await connected(fresh: isAgain) } catch { return await fail(error) }
            let outcome = await exchange(outgoing, over: server)
            if case .done(let keepAlive, true) = outcome {
                server.wasUsed = true
                headIsGone = false
                return keepAlive
            }
            server.stream.close()
            upstream = nil
            switch outcome {
            case .stale where !isAgain: continue
            case .done(let keepAlive, _):
                headIsGone = false
                return keepAlive
            case .failed(let error): return await fail(error, asked)
            case .stale: return await fail(AegisError.upstreamLost)
            case .tunnelled: return false
            case .broken:
                client.reset()
                return false
            }
        }
        return false
    }

    /// Answers for a server that did not; what was wrong with the request's body says more.
    private func fail(_ error: AegisError, _ asked: InspectedRequest) async -> Bool {
        switch uploadFailure {
        case .refused(let refusal): return await deny(refusal, asked)
        case .malformed(let error):
            await refuse(error)
            return false
        case .lost, .sink, nil: return await fail(error)
        }
    }

    /// The kept connection to the server, or a new one.
    private func connected(fresh: Bool) async throws -> InspectUpstream {
        if let known = failure {
            failure = nil
            throw known
        }
        // Servers end idle connections, also one that was made before the guest spoke; and not every request can be asked again.
        if !fresh, let upstream, upstream.below.peer == .open { return upstream }
        upstream?.stream.close()
        let made = InspectUpstream(
            try await inspector.connect(rules, speaking: ["http/1.1"]), inspector.limits.message)
        upstream = made
        return made
    }

    private static func malformed(_ error: HTTPError) -> AegisError { .malformed(error.message) }

    // MARK: The request

    private func exchange(_ outgoing: Outgoing, over server: InspectUpstream) async -> Outcome {
        let filter = outgoing.secrets.map { EncodedMaskStream($0.placeholders) }
        let body = FilteredBody(
            index.framing, makesChunks: index.framing == .chunked, filter: filter, limits: inspector.limits.message)
        guard !body.isWhole else {
            do throws(IOError) { try await server.stream.write(outgoing.head.readable) } catch {
                if server.wasUsed { return .stale }
            }
            let outcome = await receive(outgoing, from: server)
            if case .stale = outcome { return outcome }
            if !headIsGone, case .failed = outcome { return outcome }
            if !headIsGone { buffer.consume(index.length) }
            headIsGone = true
            return outcome
        }
        buffer.consume(index.length)
        headIsGone = true
        uploadIsWhole = false
        return await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.upload(body, outgoing.head, to: server) }
            var outcome = await receive(outgoing, from: server)
            // The response is over: what is left of the request is of no use.
            group.cancelAll()
            await group.waitForAll()
            if case .done = outcome, !uploadIsWhole {
                await linger()
                outcome = .done(keepAlive: false, reusable: false)
            }
            return outcome
        }
    }

    /// Sends the head and then the body as it comes, as long as no placeholder is in it.
    private func upload(_ body: FilteredBody, _ head: ByteBuffer, to server: InspectUpstream) async {
        var body = body
        var out = head
        do {
            while true {
                do throws(HTTPError) { try body.move(from: &buffer, into: &out) } catch {
                    throw UploadFailure.malformed(error)
                }
                guard body.hits == 0 else {
                    throw UploadFailure.refused(InspectRefusal(.misplaced("in the request's body")))
                }
                do throws(IOError) {
                    if !out.isEmpty { try await server.stream.write(out.readable) }
                } catch { throw UploadFailure.sink }
                out.removeAll()
                if body.isWhole { break }
                guard try await client.read(into: &buffer) > 0 else { throw UploadFailure.lost }
            }
            uploadIsWhole = true
        } catch {
            guard !Task.isCancelled else { return }
            let failure = (error as? UploadFailure) ?? .lost
            uploadFailure = failure
            // A server that takes no more may have answered; any other waits for what will not come.
            if case .sink = failure { return }
            server.stream.reset()
        }
    }

    // MARK: The response

    private func receive(_ outgoing: Outgoing, from server: InspectUpstream) async -> Outcome {
        let isHead = index.verb == .head
        while true {
            if let failure = await readHead(of: server, isHead: isHead) { return failure }
            let response = RelayedResponse(
                index: server.index, edits: ProxyEdits(), version: index.version, isHead: isHead)
            guard server.index.status < 200 else { return await pass(response, outgoing, of: server) }
            let isUpgrade = server.index.status == 101
            guard !isUpgrade || outgoing.asksUpgrade else {
                return .failed(Self.malformed(HTTPError(.malformed, "it changed the protocol without being asked")))
            }
            // Interim responses mean nothing to HTTP/1.0.
            if index.version == .http11 {
                var head = ByteBuffer()
                response.append(from: server.buffer, keepAlive: true, to: &head)
                guard await send(Self.masked(head, outgoing.secrets)) else { return .broken }
            }
            server.buffer.consume(server.index.length)
            server.index.reset()
            if isUpgrade { return await changeProtocol(outgoing, server) }
        }
    }

    /// Reads until a head is whole.
    ///
    /// - Returns: nil when it is.
    private func readHead(of server: InspectUpstream, isHead: Bool) async -> Outcome? {
        while true {
            do throws(HTTPError) {
                if !server.buffer.isEmpty, try server.index.scan(server.buffer.readable.span, isHead: isHead) {
                    return nil
                }
            } catch { return .failed(Self.malformed(error)) }
            let count = (try? await server.stream.read(into: &server.buffer, atMost: 64 << 10)) ?? 0
            guard count == 0 else { continue }
            let isUntouched = server.wasUsed && server.buffer.isEmpty && server.index.status == 0
            return isUntouched && mayAskAgain ? .stale : .failed(.upstreamLost)
        }
    }

    /// RFC 9110, 9.2.2: what may be repeated without asking, here only while no body has left.
    private var mayAskAgain: Bool {
        guard !headIsGone, index.framing == .none else { return false }
        switch index.verb {
        case .get, .head, .options, .trace, .put, .delete: return true
        case .post, .connect, .other: return false
        }
    }

    private static func masked(_ head: ByteBuffer, _ secrets: BrokeredSecrets?) -> ByteBuffer {
        guard let secrets else { return head }
        var mask = EncodedMaskStream(secrets.values)
        var out: [UInt8] = []
        mask.write(head.readable, into: &out)
        mask.finish(into: &out)
        return ByteBuffer(out)
    }

    private func send(_ bytes: ByteBuffer) async -> Bool {
        do throws(IOError) { try await client.write(bytes.readable) } catch { return false }
        return true
    }

    /// Passes a final response on, with the secrets' values masked.
    private func pass(_ response: RelayedResponse, _ outgoing: Outgoing, of server: InspectUpstream) async -> Outcome {
        let framing = server.index.framing
        let reusable = server.index.keepAlive
        if outgoing.secrets != nil, framing != .none, let coding = fieldText("content-encoding", of: server) {
            guard coding.lowercased() == "identity" || coding.isEmpty else {
                return .failed(.encoded(coding))
            }
        }
        let keepAlive = index.keepAlive && response.allowsNext && uploadFailure == nil
        var head = ByteBuffer()
        response.append(from: server.buffer, keepAlive: keepAlive, to: &head)
        var makesChunks = false
        if case .chunked = response.framing { makesChunks = true }
        let isLive = EncodedMaskStream.isLive(fieldText("content-type", of: server))
        let filter = outgoing.secrets.map { EncodedMaskStream($0.values, isLive: isLive) }
        var body = FilteredBody(framing, makesChunks: makesChunks, filter: filter, limits: inspector.limits.message)
        server.buffer.consume(server.index.length)
        server.index.reset()
        var out = Self.masked(head, outgoing.secrets)
        while true {
            do throws(HTTPError) { try body.move(from: &server.buffer, into: &out) } catch { return .broken }
            if !out.isEmpty {
                guard await send(out) else { return .broken }
                out.removeAll()
            }
            if body.isWhole { break }
            do throws(IOError) {
                if try await server.stream.read(into: &server.buffer) == 0 {
                    guard body.endsWithStream else { return .broken }
                    body.end(into: &out)
                }
            } catch { return .broken }
        }
        // `end` may have left something.
        if !out.isEmpty { guard await send(out) else { return .broken } }
        // Bytes behind the response were asked for by nobody.
        return .done(keepAlive: keepAlive, reusable: reusable && server.buffer.isEmpty && uploadIsWhole)
    }

    private func fieldText(_ name: StaticString, of server: InspectUpstream) -> String? {
        server.index.table.text(name, in: server.buffer.readable.span)
    }

    // MARK: Another protocol

    /// Joins both sides after `101`; values are still masked on their way to the guest.
    private func changeProtocol(_ outgoing: Outgoing, _ server: InspectUpstream) async -> Outcome {
        buffer.consume(index.length)
        headIsGone = true
        let early = buffer
        buffer.removeAll()
        let filter = outgoing.secrets.map { EncodedMaskStream($0.values, isLive: true) }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await Self.pump(early, from: self.client, to: server.stream, nil) }
            await Self.pump(server.buffer, from: server.stream, to: client, filter)
            await group.waitForAll()
        }
        return .tunnelled
    }

    private static func pump(
        _ early: ByteBuffer, from source: TLSStream, to sink: TLSStream, _ filter: EncodedMaskStream?
    ) async {
        var filter = filter
        var buffer = early
        do throws(IOError) {
            while true {
                var out: [UInt8] = []
                if filter != nil { filter?.write(buffer.readable, into: &out) } else { out = Array(buffer.readable) }
                buffer.removeAll()
                try await sink.write(out)
                guard try await source.read(into: &buffer) == 0 else { continue }
                out = []
                filter?.finish(into: &out)
                try await sink.write(out)
                return try await sink.end()
            }
        } catch {
            source.close()
            sink.close()
        }
    }
}
