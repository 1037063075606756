internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisSessions
internal import AegisWire

/// Joins a client's aegis-stream to a process: input one way, output the other, until the process or the client ends.
struct ProcessBridge: Sendable {
    /// How the joining ended.
    enum End: Sendable {
        case exited(Int32)
        /// The sandbox ended without an exit record.
        case lost
        case clientGone
    }

    let frames: FrameConnection
    let relay: ProcessRelay
    let watcher: UInt64
    /// Waits until input can be given; nil when the process never came up.
    let session: @Sendable () async -> HarnessSession?

    /// Runs both directions.
    func run() async -> End {
        await withTaskGroup(of: End?.self) { group in
            group.addTask { await output() }
            group.addTask {
                // The end of the client's frames is its end: a client that only closes its input sends a frame.
                try? await input()
                return .clientGone
            }
            let first = await group.next() ?? nil
            group.cancelAll()
            return first ?? .clientGone
        }
    }

    private func output() async -> End? {
        while let piece = await relay.next(watcher) {
            switch piece {
            case .bytes(let kind, let offset, let bytes):
                do { try await send(kind, bytes) } catch { return .clientGone }
                _ = offset
            case .exited(let end): return .exited(Int32(truncatingIfNeeded: end.code))
            case .lost: return .lost
            }
        }
        return nil
    }

    private func send(_ kind: OutputKind, _ bytes: ArraySlice<UInt8>) async throws {
        try await frames.write(kind == .stdout ? .stdout : .stderr, bytes)
    }

    private func input() async throws {
        let number = relay.number
        while let frame = try await frames.readFrame() {
            switch frame.kind {
            case .stdin:
                guard let session = await session() else { continue }
                // A process that does not read its input must not end the stream: what it cannot take is dropped.
                do { try await session.write(number, frame.payload[...]) } catch { continue }
                try await frames.write(.window(UInt32(frame.payload.count), of: .stdin))
                if frame.flags.contains(.end) { session.endInput(number) }
            case .resize:
                guard let size = frame.size, let session = await session() else { continue }
                session.resize(number, columns: size.columns, rows: size.rows)
            case .signal:
                guard let signal = frame.signalNumber, let session = await session() else { continue }
                session.signal(number, signal, group: false)
            case .ack:
                guard let offset = frame.offset, let subject = frame.flags.subject else { continue }
                switch subject {
                case .stdout: relay.consumed(watcher, .stdout, upTo: offset)
                case .stderr: relay.consumed(watcher, .stderr, upTo: offset)
                default: continue
                }
            case .window:
                // Credit for output: the relay's own bound, moved by acknowledgements, is the same 256 KiB.
                continue
            default: throw AegisError(.usage, "unexpected-frame", "a client does not send frames of kind \(frame.kind)")
            }
        }
    }
}
