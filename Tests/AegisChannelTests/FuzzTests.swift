import AegisChannel
import AegisTestSupport
import Testing

/// What a hostile or broken peer may send (decision D4): damaged frames are refused or are valid ones, and nothing traps.
@Suite struct ChannelFuzzTests {
    /// A message's decoder and encoder, and valid payloads.
    struct Format: Sendable, CustomTestStringConvertible {
        var name: String
        var samples: [[UInt8]]
        /// Decodes, encodes again; nil when the payload is refused.
        var again: @Sendable ([UInt8]) -> (bytes: [UInt8], isStable: Bool)?
        var testDescription: String { name }
    }

    static let formats: [Format] = [
        format([CodecTests.plan], BootPlan.init(decoding:), { $0.encoded() }),
        format(
            [
                StartProcess(
                    kind: .exec, arguments: [[0xff, 0, 65], []], environment: [Array("K=V".utf8)],
                    directory: Array("/".utf8), user: Array("1000:1000".utf8), terminal: true, columns: 120),
                StartProcess(kind: .task, arguments: [[65]], environment: [], directory: []),
            ], StartProcess.init(decoding:), { $0.encoded() }),
        format(
            [ProcessFailed(reason: .notExecutable, errno: 13, text: Array("no".utf8))],
            ProcessFailed.init(decoding:), { $0.encoded() }),
        format(
            [ProcessExited(code: 137, signal: 9, stdoutBytes: 1 << 40, stderrBytes: 3)],
            ProcessExited.init(decoding:), { $0.encoded() }),
        format([Hello(build: Array("1.0".utf8), quirks: 1)], Hello.init(decoding:), { $0.encoded() }),
        format(
            [
                KeeperState(
                    phase: .running, sandboxPid: 77,
                    processes: (1...3).map {
                        ProcessState(number: $0, stdinTaken: 1, stdoutAcknowledged: 2, stderrAcknowledged: 3)
                    })
            ], KeeperState.init(decoding:), { $0.encoded() }),
        format([Booted(sandboxPid: 5, namespacePid: 6, steps: [1, 2, 3])], Booted.init(decoding:), { $0.encoded() }),
        format(
            [SandboxEnded(code: 143, signal: 15, requested: true, reason: Array("why".utf8))],
            SandboxEnded.init(decoding:), { $0.encoded() }),
        format([Acknowledgement(offset: 1 << 60)], Acknowledgement.init(decoding:), { $0.encoded() }),
        format([ProcessStarted(pid: 5)], ProcessStarted.init(decoding:), { $0.encoded() }),
        format([ProcessSignal(number: 15)], ProcessSignal.init(decoding:), { $0.encoded() }),
        format([TerminalSize(columns: 80, rows: 24)], TerminalSize.init(decoding:), { $0.encoded() }),
        format([Shutdown(grace: 5000)], Shutdown.init(decoding:), { $0.encoded() }),
        format([Attach()], Attach.init(decoding:), { $0.encoded() }),
        format(
            [BootFailed(step: .mounts, errno: 20, text: Array("no".utf8))], BootFailed.init(decoding:),
            { $0.encoded() }),
    ]

    private static func format<Message: Equatable & Sendable>(
        _ samples: [Message], _ decode: @escaping @Sendable ([UInt8]) throws(ChannelError) -> Message,
        _ encode: @escaping @Sendable (Message) -> [UInt8]
    ) -> Format {
        Format(name: "\(Message.self)", samples: samples.map(encode)) { bytes in
            guard let value = try? decode(bytes) else { return nil }
            let encoded = encode(value)
            return (encoded, (try? decode(encoded)) == value)
        }
    }

    @Test(arguments: formats) func damagedMessagesAreRefusedOrValid(_ format: Format) {
        var mutator = Mutator(seed: 0xAE61_5000 + UInt64(format.name.utf8.reduce(0) { $0 + Int($1) }))
        let all = Self.formats.flatMap(\.samples)
        var accepted = 0
        for round in 0..<4000 {
            let bytes = mutator.mutate(mutator.pick(format.samples), others: all)
            guard let (encoded, isStable) = format.again(bytes) else { continue }
            accepted += 1
            // What was decoded came out of the bytes: no count made it larger than they are.
            // (A field that an older sender leaves out comes with one byte.)
            if !isStable || encoded.count > bytes.count + 1 {
                Issue.record("round \(round): \(bytes) became \(encoded)")
                return
            }
        }
        #expect(accepted > 0, "no damage was small enough: the test looks at the first check only")
    }

    @Test func damagedHeadersAreRefusedOrValid() {
        var mutator = Mutator(seed: 1)
        for _ in 0..<50_000 {
            var b = mutator.bytes(8)
            if mutator.below(4) > 0 { b[0] = mutator.pick([0, 1, 2, 3, 16, 17, 18, 26, 64, 66, 71]) }
            if mutator.below(4) > 0 { (b[4], b[5]) = (0, UInt8(mutator.below(5))) }
            guard let header = try? FrameHeader((b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7])) else { continue }
            var again: [UInt8] = []
            header.encode(into: &again)
            guard again == b, header.length <= UInt32(Channel.controlLimit) else {
                Issue.record("\(b) became \(again)")
                return
            }
        }
    }

    @Test func damagedTarHeadersAreRefusedOrValid() {
        var mutator = Mutator(seed: 2)
        let entry = TarEntry(
            path: Array("some/file".utf8), kind: .file, link: [], size: 12, mode: 0o644, uid: 1, gid: 2, modified: 3)
        let long = TarEntry(
            path: [UInt8](repeating: 97, count: 300), kind: .symlink, link: [UInt8](repeating: 98, count: 200), size: 0,
            mode: 0o777, uid: 1 << 30, gid: 2, modified: 1 << 40)
        let samples = [entry, long].map { $0.encoded() }
        for _ in 0..<4000 {
            var bytes = mutator.mutate(samples[mutator.below(2)], others: samples)
            bytes += [UInt8](repeating: 0, count: (Tar.block - bytes.count % Tar.block) % Tar.block)
            repairChecksums(&bytes, &mutator)
            var decoder = TarDecoder()
            for start in stride(from: 0, to: bytes.count, by: Tar.block) {
                guard let step = try? decoder.take(Array(bytes[start..<start + Tar.block])) else { break }
                guard case .entry(let found) = step else { continue }
                #expect(found.path.count <= Tar.extendedLimit && found.link.count <= Tar.extendedLimit)
            }
        }
    }

    /// Else the sum would catch nearly all damage before anything else sees it.
    private func repairChecksums(_ bytes: inout [UInt8], _ mutator: inout Mutator) {
        for start in stride(from: 0, to: bytes.count, by: Tar.block) where mutator.below(8) > 0 {
            var sum = 0
            for at in 0..<Tar.block { sum += (148..<156).contains(at) ? 32 : Int(bytes[start + at]) }
            let digits = Array(String(sum, radix: 8).utf8)
            let field = [UInt8](repeating: 48, count: max(0, 6 - digits.count)) + digits.suffix(6) + [0, 32]
            bytes.replaceSubrange(start + 148..<start + 156, with: field)
        }
    }
}
