import AegisTar
import AegisTestSupport
import AegisWire

/// What a parser made of a stream, in words that do not depend on how the stream was cut.
struct Transcript: Equatable, CustomStringConvertible {
    private(set) var lines: [String] = []
    private var body: [UInt8] = []
    private(set) var failed = false

    var description: String { lines.joined(separator: " | ") }

    mutating func say(_ line: String) {
        if !body.isEmpty { lines.append("\(body.count) bytes, \(body.reduce(UInt64(7)) { $0 &* 31 &+ UInt64($1) })") }
        body = []
        lines.append(line)
    }
    mutating func add(_ bytes: ArraySlice<UInt8>) { body += bytes }
    mutating func fail(_ error: any Error) { fail(saying: "\(error)") }
    mutating func fail(saying words: String) {
        say(words)
        failed = true
    }

    /// Feeds pieces to a parser that leaves the bytes to its caller.
    private static func feed(
        _ pieces: [[UInt8]], _ step: (_ bytes: [UInt8], _ cursor: inout Int, inout Transcript) throws -> Bool
    ) -> Transcript {
        var transcript = Transcript()
        var held: [UInt8] = []
        do {
            for piece in pieces {
                held += piece
                var cursor = 0
                while try step(held, &cursor, &transcript) {}
                held.removeFirst(cursor)
            }
        } catch { transcript.fail(error) }
        transcript.say("end")
        return transcript
    }

    static func requests(_ pieces: [[UInt8]]) -> Transcript {
        var parser = HTTPRequestParser()
        return feed(pieces) { bytes, cursor, transcript in
            switch try parser.next(bytes.span, &cursor) {
            case .needMore: return false
            case .head(let start): transcript.say("\(start)")
            case .body(let range): transcript.add(bytes[range])
            case .end(let trailers): transcript.say("trailers \(trailers)")
            }
            return true
        }
    }

    static func responses(_ pieces: [[UInt8]]) -> Transcript {
        var parser = HTTPResponseParser()
        parser.expect(.get)
        return feed(pieces) { bytes, cursor, transcript in
            switch try parser.next(bytes.span, &cursor) {
            case .needMore: return false
            case .head(let start):
                transcript.say("\(start)")
                // What follows belongs to somebody else.
                if start.isUpgrade { return false }
            case .body(let range): transcript.add(bytes[range])
            case .end(let trailers):
                transcript.say("trailers \(trailers)")
                parser.expect(.get)
            }
            return true
        }
    }

    static func streamFrames(_ pieces: [[UInt8]]) -> Transcript {
        var decoder = StreamFrameDecoder()
        return feed(pieces) { bytes, cursor, transcript in
            guard let frame = try decoder.frame(bytes.span, &cursor) else { return false }
            transcript.say("\(frame)")
            return true
        }
    }

    static func archive(_ pieces: [[UInt8]]) -> Transcript {
        var reader = TarReader()
        var transcript = Transcript()
        do {
            for piece in pieces {
                reader.feed(piece[...])
                while let event = try reader.next() {
                    if case .data(let bytes) = event { transcript.add(bytes) } else { transcript.say("\(event)") }
                }
            }
            try reader.finish()
        } catch { transcript.fail(error) }
        transcript.say("end")
        return transcript
    }
}

extension FuzzTarget {
    /// A parser of a stream: however its bytes are cut, it says the same.
    static func stream(
        _ name: String, _ samples: [[UInt8]], _ read: @escaping @Sendable ([[UInt8]]) -> Transcript
    ) -> FuzzTarget {
        FuzzTarget(name: name, samples: samples) { input, mutator in
            let whole = read([input])
            let cut = read(mutator.pieces(of: input))
            return whole == cut ? nil : "in one piece: \(whole)\nin several: \(cut)"
        } accepts: {
            !read([$0]).failed
        }
    }

    /// A parser of a text: what it took, written out, means the same.
    static func text<Value: Equatable & SendableMetatype>(
        _ name: String, _ samples: [String], _ parse: @escaping @Sendable (String) throws -> Value,
        _ write: @escaping @Sendable (Value) -> String
    ) -> FuzzTarget {
        FuzzTarget(name: name, samples: samples.map { Array($0.utf8) }) { input, _ in
            guard let value = try? parse(String(decoding: input, as: UTF8.self)) else { return nil }
            let written = write(value)
            let again = try? parse(written)
            return again == value
                ? nil : "\(value) is written '\(written)', which is read as \(again.map { "\($0)" } ?? "nothing")"
        } accepts: {
            (try? parse(String(decoding: $0, as: UTF8.self))) != nil
        }
    }
}
