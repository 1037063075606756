import AegisCore
import AegisTar
import AegisTestSupport

@testable import AegisConfig
@testable import AegisImages
@testable import AegisKits
@testable import AegisNetwork

/// Parsers of one message each.
extension FuzzTests {
    static let archives: [[UInt8]] = {
        func archive(_ entries: [(TarEntry, String)]) -> [UInt8] {
            entries.flatMap { entry, content -> [UInt8] in
                var entry = entry
                entry.size = UInt64(content.utf8.count)
                return TarWriter.header(for: entry) + Array(content.utf8)
                    + [UInt8](repeating: 0, count: TarWriter.padding(after: entry.size))
            } + [UInt8](repeating: 0, count: 1024)
        }
        func path(_ text: String) -> [UInt8] { Array(text.utf8) }
        return [
            archive([
                (TarEntry(path: path("d"), kind: .directory), ""),
                (TarEntry(path: path("d/f"), kind: .file), "content"),
                (TarEntry(path: path("d/l"), kind: .symbolicLink, linkTarget: path("f")), ""),
                (TarEntry(path: path("d/h"), kind: .hardLink, linkTarget: path("d/f")), ""),
            ]),
            // Names and numbers that only extended headers hold.
            archive([
                (TarEntry(path: path(String(repeating: "long/", count: 80) + "f"), kind: .file, user: 1 << 40), "x"),
                (
                    TarEntry(
                        path: path("l"), kind: .symbolicLink, linkTarget: path(String(repeating: "a", count: 200))), ""
                ),
            ]),
        ]
    }()

    static let yaml: FuzzTarget = {
        let samples = [
            "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: { name: n }\nspec:\n  instances: { max: 10 }\n",
            "a: &x [1, 2.5, true, ~]\nb: *x\nc: |\n  text\n  more\nd: \"\\u00e4\\n\"\n", "- a\n- {b: 'c', d: [e, f]}\n",
        ]
        return FuzzTarget(name: "YAML", samples: samples.map { Array($0.utf8) }) { input, _ in
            let first = Result { try YAML.parse(input, file: "f") }.map { "\(String(describing: $0))" }
            let second = Result { try YAML.parse(input, file: "f") }.map { "\(String(describing: $0))" }
            return "\(first)" == "\(second)" ? nil : "\(first), and then \(second)"
        } accepts: {
            (try? YAML.parse($0, file: "f")) != nil
        }
    }()

    /// What was said of a beginning is not taken back when more comes.
    static let clientHello = FuzzTarget(name: "TLS client hello", samples: hellos) { input, mutator in
        let whole = ClientHello.read(input[...])
        let early = ClientHello.read(input.prefix(mutator.below(input.count + 1)))
        return early == .incomplete || early == whole ? nil : "\(early) early, \(whole) in the end"
    } accepts: {
        if case .name = ClientHello.read($0[...]) { true } else { false }
    }

    private static let hellos: [[UInt8]] = {
        func vector(_ width: Int, _ bytes: [UInt8]) -> [UInt8] {
            (0..<width).reversed().map { UInt8(bytes.count >> ($0 * 8) & 0xff) } + bytes
        }
        return ["api.example", nil].map { name in
            var extensions: [UInt8] = [0, 23, 0, 0]
            if let name { extensions += [0, 0] + vector(2, vector(2, [0] + vector(2, Array(name.utf8)))) }
            let body =
                [3, 3] + [UInt8](repeating: 7, count: 32) + vector(1, [UInt8](repeating: 1, count: 32))
                + vector(2, [0x13, 1]) + vector(1, [0]) + vector(2, extensions)
            return [22, 3, 1] + vector(2, [1] + vector(3, body))
        }
    }()

    /// A question comes back in its answer as it was, with one record more at most.
    static let dns = FuzzTarget(
        name: "DNS questions",
        samples: [
            [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 97, 112, 105, 7, 101, 120, 97, 109, 112, 108, 101, 0, 0, 1, 0, 1],
            [0, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 97, 0, 0, 28, 0, 1, 0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0],
        ]
    ) { input, _ in
        do throws(DNSQuery.Problem) {
            let query = try DNSQuery(input[...])
            let answer = query.response(.address(0x0A00_0001))
            guard answer.count <= 512, answer.prefix(2) == input.prefix(2), answer[2] & 0x80 != 0 else {
                return "the answer is \(answer)"
            }
            return answer.count == query.response(.empty).count + 16 ? nil : "the record has another length"
        } catch {
            guard let answer = DNSQuery.response(to: error) else { return nil }
            return answer.count == 12 && answer.prefix(2) == input.prefix(2) ? nil : "the refusal is \(answer)"
        }
    } accepts: {
        (try? DNSQuery($0[...])) != nil
    }

    static let kit = FuzzTarget(
        name: "kit manifests",
        samples: [
            """
            apiVersion: aegis/v1
            kind: Kit
            metadata: { name: k, version: 1.0.0, description: d }
            spec:
              image: base
              command: [sh, /opt/kit/run.sh]
              env: { A: b }
              expose: ["8080:http,ui"]
              files: [{ from: run.sh, to: /opt/kit/run.sh }]
              secrets: [{ name: S, description: s }]
              hooks: { before: [{ run: [true], timeout: 5m }] }
              health: { path: /health, timeout: 60s }
              idle: { pause: 60s, stop: 30m }
              limits: { memory: 1Gi, pids: 256 }
            """
        ].map { Array($0.utf8) }
    ) { input, _ in
        // Whoever is refused is told where and what to do.
        do throws(AegisError) {
            _ = try KitManifest(input) { _ in true }
            return nil
        } catch { return error.message.isEmpty ? "refused without a word" : nil }
    } accepts: {
        (try? KitManifest($0) { _ in true }) != nil
    }

    static let manifest: FuzzTarget = {
        let digest = "sha256:" + String(repeating: "0f", count: 32)
        let blob = #"{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"\#(digest)","size":7}"#
        let samples = [
            #"{"schemaVersion":2,"config":\#(blob),"layers":[\#(blob),\#(blob)]}"#,
            #"{"schemaVersion":2,"manifests":[{"mediaType":"m","digest":"\#(digest)","size":1,"platform":{"os":"linux","architecture":"amd64"}}]}"#,
        ]
        return FuzzTarget(name: "image manifests", samples: samples.map { Array($0.utf8) }) { input, _ in
            guard case .image(let config, let layers) = try? Manifest(json: input, of: "r") else { return nil }
            let wrong = ([config] + layers).first { $0.size < 0 || !"\($0.digest)".hasPrefix("sha256:") }
            return wrong.map { "it has \($0)" }
        } accepts: {
            (try? Manifest(json: $0, of: "r")) != nil
        }
    }()
}
