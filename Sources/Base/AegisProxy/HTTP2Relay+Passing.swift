import AegisCore
import AegisIO
import LinuxSys

extension HTTP2Relay {
    func start(_ exchange: HTTP2Exchange) {
        if let server, server.isUsable, target.isOpen { return send(exchange, server) }
        waiting[exchange.id] = exchange
        if let deadline = exchange.deadline {
            exchange.timer = scope.spawn("wait for a server") {
                let left = deadline &- min(deadline, SystemTime.monotonic)
                try? await self.proxy.loop.clock.sleep(for: .nanoseconds(Int64(clamping: left)))
                self.expire(exchange)
            }
        }
        guard !isConnecting else { return }
        isConnecting = true
        scope.spawn("connect to a server") { await self.connect() }
    }

    private func expire(_ exchange: HTTP2Exchange) {
        guard !Task.isCancelled, waiting.removeValue(forKey: exchange.id) != nil else { return }
        let cause = lateness.map { ": \($0.message)" } ?? ""
        answer(
            exchange,
            AegisError(
                .timeout, "port-not-ready",
                "the server in the sandbox was not ready within the call's own time\(cause)",
                hint: lateness?.hint))
    }

    /// Brings the server to the point where the waiting requests can go on, or tells all of them why not.
    private func connect() async {
        var failure: AegisError?
        do {
            try await target.ready()
            if server?.isUsable != true {
                let transport = try await target.dial()
                if link.isOver { transport.stream.close() } else { begin(transport) }
            }
        } catch {
            failure = (error as? AegisError) ?? AegisError(.failed, "internal-error", String(describing: error))
        }
        // A call with a time of its own waits that long, whatever the port's own limit says.
        let isLate = failure.map { ["port-not-ready", "wake-timeout"].contains($0.code) } ?? false
        lateness = isLate ? failure : nil
        let patient = isLate ? waiting.filter { $0.value.deadline != nil } : [:]
        isConnecting = !patient.isEmpty
        let all = waiting.values.filter { patient[$0.id] == nil }.sorted { $0.id < $1.id }
        waiting = patient
        for exchange in all {
            exchange.timer?.cancel()
            exchange.timer = nil
            if let server, failure == nil {
                send(exchange, server)
            } else {
                fail(exchange, failure ?? target.lost)
            }
        }
        if isConnecting { scope.spawn("connect to a server") { await self.connect() } }
    }

    private func begin(_ transport: HTTP2Transport) {
        guard let made = HTTP2Server(transport, self) else { return transport.stream.close() }
        server = made
        made.link.flush()
        scope.spawn("write to a server") { await made.link.write() }
        scope.spawn("read from a server") {
            let problem = await made.link.read { self.proxy.now }
            made.link.close(saying: problem != nil)
            self.lost(made, made.problem ?? problem)
        }
    }

    private func send(_ exchange: HTTP2Exchange, _ server: HTTP2Server) {
        guard policy == nil else {
            if !server.send(exchange, exchange.request) { fail(exchange, target.lost) }
            return
        }
        var timeout: String?
        if let deadline = exchange.deadline {
            let now = SystemTime.monotonic
            timeout = GRPC.timeout(deadline > now ? deadline - now : 1)
        }
        let request = exchange.request.request(of: client, timeout: timeout)
        if !server.send(exchange, request) { answer(exchange, target.lost) }
    }

    /// The server took no more requests on its connection: another one is made, once.
    func sendElsewhere(_ exchange: HTTP2Exchange) {
        guard exchanges[exchange.id] === exchange, !exchange.wasUnsent else { return fail(exchange, target.lost) }
        exchange.wasUnsent = true
        start(exchange)
    }

    /// A connection to the server is gone, with everything on it.
    private func lost(_ gone: HTTP2Server, _ problem: String?) {
        if server === gone { server = nil }
        let error = problem.map { target.malformed("it does not speak HTTP/2: \($0)") }
        for exchange in gone.takeAll() {
            exchange.isServerDone = true
            fail(exchange, error ?? target.lost)
        }
    }
}
