import AegisCapabilities
import AegisCore
import AegisIO
import LinuxSys
import Synchronization

/// What an instance's questions for names are answered with.
extension Uplink {
    func answerQuestions() async {
        var memory = [UInt8](repeating: 0, count: 4096)
        while !Task.isCancelled {
            do throws(IOError) {
                let (count, address, port) = try questions.withDescriptor("reading a question") {
                    descriptor throws(Errno) in try descriptor.receiveDatagram(into: &memory)
                }
                guard let response = answer(memory[..<count]) else { continue }
                try questions.withDescriptor("answering") { descriptor throws(Errno) in
                    descriptor.sendDatagram(response, to: address, port)
                }
            } catch {
                if error.errno == .wouldBlock {
                    guard (try? await questions.waitUntilReadable()) != nil else { return }
                } else if error.kind != .system {
                    return
                }
            }
        }
    }

    func acceptConversations() async {
        await withDiscardingTaskGroup { group in
            while let client = try? await resolver.accept() {
                let hasRoom = state.withLock { state in
                    state.conversations += 1
                    return state.conversations <= Self.conversationLimit
                }
                guard hasRoom else {
                    state.withLock { $0.conversations -= 1 }
                    client.reset()
                    continue
                }
                group.addTask {
                    try? await withDeadline(.seconds(10), clock: self.gate.loop.clock) {
                        try await self.converse(client)
                    }
                    client.close()
                    self.state.withLock { $0.conversations -= 1 }
                }
            }
        }
    }

    /// Questions over TCP, each behind its length.
    private func converse(_ client: FileStream) async throws {
        var buffer = ByteBuffer()
        while try await client.readNext(into: &buffer, atMost: 4096) > 0 {
            while buffer.readableBytes >= 2 {
                let length = Int(buffer[0]) << 8 | Int(buffer[1])
                guard buffer.readableBytes >= length + 2 else { break }
                buffer.consume(2)
                guard let response = answer(buffer.take(length)[...]) else { return }
                try await client.write([UInt8(response.count >> 8), UInt8(response.count & 0xff)] + response[...])
            }
        }
    }

    /// The answer to a question; nil is silence.
    private func answer(_ bytes: ArraySlice<UInt8>) -> [UInt8]? {
        let query: DNSQuery
        do throws(DNSQuery.Problem) { query = try DNSQuery(bytes) } catch { return DNSQuery.response(to: error) }
        return query.response(answer(query))
    }

    private func answer(_ query: DNSQuery) -> DNSQuery.Answer {
        // What stands for a name has no name of its own, and asking for it is no attempt to get anywhere.
        if query.name.lowercased().hasSuffix(".arpa") { return .noSuchName }
        switch gate.groups.look(up: query.name, for: instance) {
        case .member(let address): return query.kind == .address ? .member(address) : .empty
        case .nobody: return .noSuchName
        case .unknown: break
        }
        guard let name = HostName(query.name), mayName(name) else {
            let text = printable(query.name)
            report(
                NetworkDenial(
                    instance, text, reason: "name-denied", "the name '\(text)' is not one that may be reached",
                    hint: "allow it with --allow \(text)"))
            return .noSuchName
        }
        guard query.kind == .address else { return .empty }
        if name == ProofTargets.controlName { return .address(AddressPlan.control) }
        let address: UInt32?
        do throws(Errno) { address = try self.address(of: name) } catch {
            gate.logger.error("a name cannot be written down", ("instance", instance), ("error", "\(error)"))
            return .failed
        }
        guard let address else {
            report(
                NetworkDenial(
                    instance, name.description, reason: "too-many-names",
                    "the name '\(name)' is refused: the instance has asked for \(SyntheticNames.limit) names, its limit"
                ))
            return .refused
        }
        return .address(address)
    }

    /// The address of a name, written down when it is new; nil when there are too many.
    private func address(of name: HostName) throws(Errno) -> UInt32? {
        try state.withLock { (state) throws(Errno) -> UInt32? in
            let before = state.names.count
            let address = state.names.address(of: name)
            guard state.names.count > before else { return address }
            do throws(Errno) { try record.writeAll(Array("\(name)\n".utf8)[...]) } catch {
                state.names.dropLast()
                throw error
            }
            return address
        }
    }

    /// Whether some live grant allows a connection to the name, to whatever port.
    private func mayName(_ name: HostName) -> Bool {
        let held = gate.grants.grants(of: holder)
        let now = Timestamp.now()
        return held.grants.contains { grant in
            guard case .network(let pattern) = grant.terms.capability, grant.standing.revoked == nil else {
                return false
            }
            if let expires = grant.standing.expires, expires <= now { return false }
            return pattern.matches(Destination(name, port: pattern.port ?? 443), tool: nil)
        }
    }
}
