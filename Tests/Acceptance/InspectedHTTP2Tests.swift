import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// HTTP/2 that is looked into: clients that others wrote inside, servers that others wrote outside (needs root and nf_tables).
@Suite(.serialized) struct InspectedHTTP2Tests {
    private static let attempts = """
        import os, ssl, sys, threading
        import grpc, httpx
        key = os.environ.get('KEY', '')
        def show(name, body):
            try: print(name, body(), flush=True)
            except Exception as error: print(name, type(error).__name__, error, flush=True)
        # A context with the instance's own authority: httpx brings its own list of others.
        web = httpx.Client(http2=True, timeout=20, verify=ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE']))
        trust = grpc.ssl_channel_credentials(open(os.environ['SSL_CERT_FILE'], 'rb').read())
        channel = grpc.secure_channel('grpc.example:443', trust)
        def get(path, **fields):
            answer = web.get('https://h2.example' + path, headers=fields)
            return f'{answer.http_version} {answer.status_code} {answer.text}'
        def call(*metadata, body=b'', method='/t.T/Describe'):
            try:
                answer, ended = channel.unary_unary(method).with_call(body, metadata=metadata, timeout=20)
                return answer.decode() + ' ' + dict(ended.trailing_metadata()).get('x-echo', '')
            except grpc.RpcError as error: return f'{error.code().name} {error.details()}'
        def both():
            stream = channel.stream_stream('/t.T/Both')(iter([b'x' * 100000] * 20), timeout=20)
            return sum(len(part) for part in stream)
        """

    @Test(arguments: backends) func clientsOfOthersUseASecret(_ backend: String) async throws {
        try await OutsideWorld.with(peers: true) { f in
            try await f.aegis("secret", "set", "KEY", "-", input: Array("real-value/123+x".utf8))
            let lines = """
                show('web', lambda: get('/v1/count', **{'x-api-key': key}))
                show('echo', lambda: 'real-value' in get('/v1/echo', **{'x-api-key': key}))
                show('query', lambda: get('/v1/count?k=' + key))
                show('path', lambda: get('/v2', **{'x-api-key': key}))
                show('call', lambda: call(('authorization', 'Bearer ' + key)))
                show('other', lambda: call(('x-other', key)))
                show('body', lambda: call(body=b'k=' + key.encode()))
                show('method', lambda: call(method='/u.U/Describe'))
                show('both', both)
                """
            let result = try await f.run(
                DaemonFixture.cli,
                ["run", "--name", "look-\(backend)", "--isolation", backend] + (try ServePeers.mounts()) + [
                    "--secret", "KEY@h2.example/v1", "--secret", "KEY@grpc.example/t.T", "--", "python3", "-c",
                    Self.attempts + "\n" + lines,
                ])
            try #require(result.code == 0, "\(result)")
            let answers = NetworkTests.answers(result.out)
            #expect(answers["web"]?.hasPrefix(#"HTTP/2 200 {"good": true"#) == true, "\(answers)")
            #expect(answers["echo"] == "False", "\(answers)")
            #expect(answers["query"]?.hasPrefix("HTTP/2 403") == true, "\(answers)")
            #expect(answers["query"]?.contains("secret-misplaced") == true, "\(answers)")
            #expect(answers["path"]?.contains("secret-not-bound") == true, "\(answers)")
            let stars = "Bearer " + String(repeating: "*", count: 16)
            #expect(answers["call"] == "True \(stars) \(stars)", "\(answers)")
            for (what, reason) in [
                ("other", "secret-misplaced"), ("body", "secret-misplaced"), ("method", "secret-not-bound"),
            ] {
                let answer = answers[what] ?? "-"
                #expect(answer.hasPrefix("PERMISSION_DENIED") && answer.contains(reason), "\(what): \(answer)")
            }
            #expect(answers["both"] == "2000000", "\(answers)")
            let events = try await f.succeed("events", "--output", "json").out
            #expect(events.contains("secret-not-bound") && events.contains("secret-misplaced"), "\(events)")
            #expect(events.contains("grpc.example") && !events.contains("real-value"))
        }
    }

    /// What is taken away ends a stream that goes on.
    @Test(arguments: backends) func aChangeOfTheNetworkEndsStreams(_ backend: String) async throws {
        try await OutsideWorld.with(peers: true) { f in
            let lines = """
                def endless():
                    yield b'first'
                    threading.Event().wait()
                stream = channel.stream_stream('/t.T/Both')(endless())
                show('open', lambda: next(stream).decode())
                def rest():
                    try: return next(stream)
                    except grpc.RpcError as error: return error.code().name
                show('cut', rest)
                show('again', lambda: call())
                os._exit(0)
                """
            let started = try await f.run(
                DaemonFixture.cli,
                ["run", "-d", "--name", "keep", "--isolation", backend] + (try ServePeers.mounts()) + [
                    "--allow", "grpc.example,inspect", "--", "python3", "-c", Self.attempts + "\n" + lines,
                ])
            try #require(started.code == 0, "\(started)")
            try await f.eventually("the stream is open") {
                try await f.succeed("logs", "keep").out.contains("open first")
            }
            try await f.succeed("instance", "network", "keep", "--allow", "web.example")
            try await f.eventually("the program has ended") {
                try await f.succeed("logs", "keep").out.contains("again ")
            }
            let log = try await f.succeed("logs", "keep").out
            #expect(log.contains("cut UNAVAILABLE") && log.contains("again UNAVAILABLE"), "\(log)")
        }
    }
}
